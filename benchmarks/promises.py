"""What the tests say about every promise of docs/reliability.md: `python benchmarks/promises.py --json promises.json`.

Runs the tests that stand for a promise and prints one row for each: how many cases were tried (a test with parameters
is one case for each of them, a property-based test one case however many examples it draws), and what became of them.
`benchmarks/reliability.py --merge promises.json` takes the rows.
"""

from __future__ import annotations

import argparse
import collections
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]

PROMISES: dict[str, dict[str, tuple[str, ...]]] = {
    "formats, depths and containers": {
        "audio/test_reader.py": (
            "test_lossless_files_come_back",
            "test_lossy_files_keep_their_length",
            "test_what_soundfile_lacks_is_read_too",
        ),
        "audio/test_decoders.py": (
            "test_lossless_formats_come_back_sample_by_sample",
            "test_codecs_keep_every_sample_in_its_place",
            "test_the_audio_of_a_video_is_read",
        ),
    },
    "any length, from one sample up (property-based)": {
        "audio/test_decoders.py": ("test_any_length_comes_back",),
        "test_separator.py": ("test_every_short_length_comes_back_and_adds_up",),
    },
    "wav beyond 4 GB becomes RF64": {
        "audio/test_encoding.py": (
            "test_a_wav_beyond_4_gb_becomes_rf64_whatever_its_length_was_thought_to_be",
        ),
    },
    "rates and channels": {
        "test_separator.py": (
            "test_other_rates_add_up",
            "test_the_rate_of_a_signal_does_not_change_its_stems",
            "test_what_the_model_does_not_reach_goes_to_one_stem",
            "test_more_channels_are_separated_in_pairs",
            "test_mono_equals_each_channel_of_dual_mono",
        ),
        "audio/test_resample.py": ("test_impossible_rates_are_refused",),
    },
    "unicode, spaces, quotes, dashes, long names": {
        "audio/test_reader.py": ("test_any_name_is_read",),
        "test_cli.py": (
            "test_names_of_all_kinds_stay_one_line",
            "test_a_name_longer_than_any_file_system_takes_is_one_line",
        ),
    },
    "stdin and stdout": {
        "test_cli.py": ("test_one_stem_goes_through_pipes", "test_stdin_can_be_written_to_files_too"),
        "audio/test_reader.py": ("test_a_wav_written_to_a_pipe_is_whole",),
    },
    "truncated and damaged files": {
        "audio/test_decoders.py": (
            "test_what_a_cut_file_still_holds_is_read_and_the_loss_is_told",
            "test_what_follows_damage_keeps_its_place",
            "test_damage_in_the_last_pages_of_an_ogg_file_is_told",
            "test_a_flac_frame_with_a_wrong_checksum_is_silent_and_all_others_are_exact",
            "test_bytes_that_an_mp3_lost_are_told",
            "test_files_joined_end_to_end_are_read_to_the_last",
            "test_a_size_that_its_writer_never_filled_in_is_no_loss",
        ),
        "test_separator.py": ("test_a_file_that_ends_early_is_separated_and_the_loss_is_told",),
    },
    "streaming gives what the whole gives; chunk and block length do not matter": {
        "separation/test_estimation.py": ("test_chunks_give_what_the_whole_gives",),
        "test_separator.py": ("test_chunks_equal_the_whole", "test_the_cut_into_blocks_does_not_matter"),
        "test_library.py": ("test_nothing_depends_on_how_the_work_is_cut",),
    },
    "no half file under a final name, finished files intact": {
        "test_atomic.py": (
            "test_only_what_a_killed_process_left_is_swept_up",
            "test_a_file_appears_complete_or_not_at_all",
        ),
        "audio/test_outputs.py": (
            "test_without_commit_nothing_stays",
            "test_a_failure_at_the_end_spares_the_old_files",
            "test_the_samples_that_reached_the_disk_are_counted",
        ),
        "test_separator.py": (
            "test_a_failure_half_way_leaves_nothing",
            "test_a_nan_late_in_the_file_leaves_nothing",
            "test_an_input_is_never_overwritten",
        ),
        "test_cli.py": ("test_an_interrupt_keeps_what_is_finished_and_leaves_no_half_files",),
    },
    "written stems null, read back": {
        "audio/test_encoding.py": ("test_rounded_stems_add_up_to_the_rounded_sum",),
        "audio/test_outputs.py": ("test_integer_stems_of_a_signal_on_their_grid_null_completely",),
        "audio/test_verify.py": (
            "test_stems_of_every_depth_null",
            "test_a_gain_that_keeps_stems_below_full_scale_is_told_and_undone",
        ),
        "test_separator.py": (
            "test_written_stems_null_against_the_file",
            "test_two_stems_are_one_stem_and_the_rest",
            "test_a_stem_beyond_full_scale_lowers_all_and_says_so",
        ),
    },
    "lossy outputs tell rate and error": {
        "audio/test_verify.py": ("test_lossy_stems_tell_their_rate_and_error",),
        "audio/test_outputs.py": ("test_a_codec_without_the_rate_gets_its_next_higher_one",),
        "test_separator.py": ("test_opus_says_that_it_changed_the_rate",),
    },
    "tags are carried over": {"audio/test_tags.py": ("",)},
    "batches: folders, patterns, manifests, names, existing results": {
        "batch/test_jobs.py": ("",),
        "test_cli.py": (
            "test_bad_inputs_get_one_line_each_and_the_good_ones_are_done",
            "test_same_named_inputs_do_not_overwrite_each_other",
            "test_existing_results_are_skipped_or_stop_or_give_way",
            "test_inputs_come_from_lists_folders_and_patterns",
        ),
        "test_separator.py": (
            "test_only_a_result_of_the_same_model_and_settings_is_skipped",
            "test_a_half_written_result_is_made_again_with_the_same_bytes",
            "test_a_cut_stem_is_made_again",
            "test_what_an_input_lacked_is_not_forgotten_when_skipped",
        ),
    },
    "reports": {
        "batch/test_report.py": ("",),
        "test_cli.py": ("test_the_report_has_what_proves_a_result",),
    },
    "processes and Ray": {"batch/test_workers.py": ("",)},
    "library: progress, cancellation, threads, arrays, batches, live streams": {
        "test_library.py": (
            "test_progress_rises_to_one_and_tells_the_time_left",
            "test_returning_false_cancels_and_leaves_nothing",
            "test_what_the_callback_raises_passes_through",
            "test_a_batch_is_its_items_and_stays_as_it_was",
            "test_threads_share_a_separator",
            "test_a_live_stream_keeps_its_latency",
        ),
        "test_separator.py": (
            "test_arrays_keep_their_kind_type_and_content",
            "test_wrong_arrays_are_refused",
        ),
    },
    "the same input gives the same bytes": {
        "test_separator.py": ("test_the_same_input_gives_the_same_bytes",),
        "audio/test_encoding.py": ("test_the_same_samples_give_the_same_bytes",),
    },
    "hostile model folders": {"test_checkpoint.py": ("",), "test_pretrained.py": ("trick", "never_leaves")},
    "hostile audio": {
        "audio/test_reader.py": (
            "test_bad_files_give_one_line_that_names_them",
            "test_a_header_that_promises_terabytes_costs_nothing",
            "test_a_file_that_swells_beyond_measure_is_refused",
        ),
    },
    "templates and links cannot leave the output folder": {
        "audio/test_outputs.py": (
            "test_templates_that_are_wrong_or_leave_the_folder_are_refused",
            "test_a_track_cannot_leave_the_folder_either",
            "test_a_link_does_not_lead_out_of_the_folder",
            "test_a_link_that_leads_in_a_circle_is_no_folder",
        ),
    },
    "files that change or vanish while they are read": {
        "audio/test_reader.py": (
            "test_a_file_that_changes_while_it_is_read_is_told",
            "test_a_file_that_vanishes_while_it_is_read_is_read_to_its_end",
        ),
    },
    "a device without memory": {"test_library.py": ("device_without_memory", "device_with_no_memory")},
}
"""Promise -> file of tests -> beginnings or parts of the names of the tests that stand for it."""


def run_tests(files: list[str]) -> dict[str, list[tuple[str, str]]]:
    """Run files of tests.

    Returns:
        For every file the names of its cases and their outcomes: passed, failed or skipped.
    """
    found: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="sepvae-promises-") as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-m",
            "",
            "-o",
            "junit_family=xunit1",
            f"--junitxml={report}",
        ]
        subprocess.run([*command, *(f"tests/{file}" for file in files)], cwd=ROOT, check=False)
        for case in ElementTree.parse(report).iter("testcase"):
            kinds = {child.tag for child in case}
            outcome = (
                "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
            )
            found[case.attrib["file"].removeprefix("tests/")].append((case.attrib["name"], outcome))
    return found


def rows_of(found: dict[str, list[tuple[str, str]]]) -> list[dict[str, object]]:
    """One row for every promise; a name that no test has counts as failed."""
    rows = []
    for promise, files in PROMISES.items():
        counts: collections.Counter[str] = collections.Counter()
        for file, names in files.items():
            for name in names:
                outcomes = [outcome for test, outcome in found[file] if name in test]
                counts.update(outcomes or ["failed"])
        happened = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
        rows.append({"case": f"tests: {promise}", "tried": counts.total(), "happened": happened})
    return rows


def main() -> None:
    """Run the tests and print the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    options = parser.parse_args()
    rows = rows_of(run_tests(sorted({file for files in PROMISES.values() for file in files})))
    for row in rows:
        print(f"{row['case']}: {row['happened']}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    sys.exit(any("failed" in str(row["happened"]) for row in rows))


if __name__ == "__main__":
    main()
