"""A report as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

_ORDER = ("static EQ", "model", "frozen", "mask net")

FILE_WIDTH = 10_000
"""Characters of a line in a file or a pipe, so that no table is cut there."""


def show(report: Mapping[str, Any]) -> None:
    """Print what a report says.

    Args:
        report: the result of `evaluate`.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=FILE_WIDTH)
    sources: Sequence[str] = report["sources"]
    title = f"{report['model']} on {report['dataset']}"
    tables = [
        _by_method(report, f"{title}: SI-SDR improvement, dB"),
        _by_track(report, f"{title}: SI-SDR (improvement), dB"),
    ]
    if "bss_eval" in report:
        tables.append(_bss(report["bss_eval"], f"{title}: BSSEval v4, dB"))
    if report["leakage_db"]:
        tables.append(_leakage(report["leakage_db"], f"{title}: stems that should be silent"))
    if report.get("solos"):
        tables.append(
            _solos(report["solos"], sources, f"{title}: ELBO of solos under every VAE, nats per bin")
        )
    if report.get("gates"):
        tables.append(_gates(report["gates"], f"{title}: gates"))
    for table in tables:
        console.print(table)


def _by_method(report: Mapping[str, Any], title: str) -> Table:
    methods = report["methods"]
    rates = (report.get("solos") or {}).get("rate_kbit_s", {})
    table = _table(title, ["", *report["sources"], "mean", *(["kbit/s per source"] if rates else [])])
    for label in [
        *(name for name in _ORDER if name in methods),
        *(name for name in methods if name not in _ORDER),
    ]:
        method = methods[label]
        cells = [_number(method["sources"][source]["si_sdr_improvement"]) for source in report["sources"]]
        cells.append(_number(method["mean"]["si_sdr_improvement"]))
        rate = rates.get(label.removeprefix("VAE oracle, "))
        if rates:
            cells.append(_mean_rate(rate.values()) if rate else "")
        table.add_row(label, *cells, style="bold" if label == "model" else None)
    return table


def _by_track(report: Mapping[str, Any], title: str) -> Table:
    table = _table(title, ["track", *report["sources"]])
    for name, scores in report["methods"]["model"]["tracks"].items():
        cells = [scores[source] for source in report["sources"]]
        table.add_row(
            name,
            *(
                f"{_number(cell['si_sdr'])} ({_number(cell['si_sdr_improvement'])})"
                if cell["windows"]
                else "-"
                for cell in cells
            ),
        )
    return table


def _bss(found: Mapping[str, Any], title: str) -> Table:
    keys = ("sdr", "sir", "sar", "isr")
    table = _table(title, ["", *(key.upper() for key in keys)])
    for label, scores in [*found["sources"].items(), ("mean", found["mean"])]:
        table.add_row(label, *(_number(scores[key]) for key in keys))
    return table


def _leakage(found: Mapping[str, Any], title: str) -> Table:
    table = _table(title, ["source", "tracks without it", "level under the mixture, dB"])
    for source, scores in found.items():
        table.add_row(source, str(len(scores["tracks"])), _number(scores["mean"]))
    return table


def _solos(found: Mapping[str, Any], sources: Sequence[str], title: str) -> Table:
    table = _table(
        title, ["solos of", *(f"VAE {source}" for source in sources), "clips given to their own VAE"]
    )
    for source in sources:
        row = found["elbo_nats_per_bin"][source]
        known = [value for value in row.values() if value is not None]
        cells = [
            _number(row[name], 3) + ("*" if known and row[name] == max(known) else "") for name in sources
        ]
        rate = found["classification_rate"].get(source)
        table.add_row(source, *cells, "-" if rate is None else f"{100 * rate:.0f} %")
    return table


def _gates(found: Mapping[str, Any], title: str) -> Table:
    table = _table(title, ["gate", "value", "wanted", "", "meaning"])
    for name, gate in found.items():
        verdict = "passed" if gate["passed"] else "missed"
        table.add_row(name, _number(gate["value"]), f">= {gate['wanted']:g}", verdict, gate["meaning"])
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _mean_rate(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.2f}" if known else ""
