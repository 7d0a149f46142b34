"""A report as tables."""

import pytest

from sepvae.evaluation.tables import show


def test_no_table_is_cut_in_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    sources = [f"a source with a long name {k}" for k in range(20)]
    scores = {"si_sdr": 1.0, "si_sdr_improvement": 2.0, "windows": 3}
    by_source = dict.fromkeys(sources, scores)
    method = {"sources": by_source, "mean": scores, "tracks": {"song": by_source}}
    show({"model": "m", "dataset": "d", "sources": sources, "methods": {"model": method}, "leakage_db": {}})
    lines = capsys.readouterr().out.splitlines()
    for table in ("model", "song"):
        assert any(table in line for line in lines)
    assert sum(all(source in line for source in sources) for line in lines) == 2
