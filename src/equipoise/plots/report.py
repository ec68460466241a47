"""The report: one HTML page of a set of runs, whole in one file, for a browser, a phone or an archive."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise.plots.canvas import shortened
from equipoise.plots.exhibits import Exhibit, curves_of
from equipoise.plots.files import exhibits_of
from equipoise.plots.page import Cell, document, folded, gallery, pairs, swatch, table, text
from equipoise.plots.records import RunRecord, read_runs
from equipoise.training.folder import write_whole

FIGURES: tuple[tuple[str, Callable[[Mapping[str, Any]], str | None]], ...] = (
    ("total variation", lambda last: _shown(last, "total_variation")),
    ("log Z error (nats)", lambda last: _shown(last, "log_z_error", "+#.4g")),
    ("mean reward (exact)", lambda last: _beside(last, "mean_reward", "mean_reward_exact")),
    (
        "modes, TV (floor)",
        lambda last: _beside(last, "mode_total_variation", "mode_total_variation_floor"),
    ),
    ("off modes", lambda last: _shown(last, "off_mode_mass")),
    ("Wasserstein (floor)", lambda last: _beside(last, "wasserstein2", "wasserstein2_floor")),
    ("ELBO (EUBO), nats", lambda last: _beside(last, "elbo", "eubo")),
    ("greedy accuracy (before)", lambda last: _beside(last, "greedy_accuracy", "greedy_accuracy_prior")),
    ("sampled accuracy (before)", lambda last: _beside(last, "sampled_accuracy", "sampled_accuracy_prior")),
    ("learner idle (searchers)", lambda last: _beside(last, "learner_idle", "searchers_idle")),
)
"""Columns of the table of runs, by what a run's last record has; one that no run has is left out."""


def write_report(paths: Sequence[Path], out: Path) -> list[str]:
    """Writes the page of these runs.

    Args:
        paths: run folders. One that is no run, or has no checkpoint, is listed with the reason.
        out: the file; one that is there is replaced.

    Returns:
        A warning for each thing that could not be read.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: none of the folders holds a run, or `out` is a folder.
        OSError: the file cannot be written.

    Example:
        >>> write_report([Path("nowhere")], Path("report.html"))
        Traceback (most recent call last):
        ValueError: 'nowhere' holds no run: no config.yaml in it
    """
    if out.is_dir():
        raise ValueError(f"'{out}' is a folder: a file was expected, for example {out / 'report.html'}")
    runs = read_runs(paths)
    shown = [exhibits_of(run) for run in runs]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, page(runs, shown).encode("utf-8", "backslashreplace"))
    return [f"{run.name}: {problem}" for run, (_, problems) in zip(runs, shown, strict=True) for problem in problems]


def page(runs: Sequence[RunRecord], shown: Sequence[tuple[Sequence[Exhibit], Sequence[str]]]) -> str:
    """The page of runs and, for each, its figures and what is amiss with it."""
    title = f"Equipoise: {len(runs)} runs" if len(runs) > 1 else f"Equipoise: run {runs[0].name}"
    readable = [run for run in runs if run.readable]
    curves = curves_of(readable)
    body = [
        f"<h1>{text(title)}</h1>",
        f"<p>{_sentence(readable)}</p>",
        "<h2>Runs</h2>",
        _table(runs, readable),
    ]
    body += ["<h2>Learning curves</h2>", gallery(curves, key="c")] if curves else []
    for place, (run, (exhibits, problems)) in enumerate(zip(runs, shown, strict=True)):
        body += _section(run, place, exhibits, problems)
    return document(title, body)


def _sentence(runs: Sequence[RunRecord]) -> str:
    tasks = sorted({str(run.config.get("task", "?")) for run in runs})
    what, of = (
        ("a sampler", "distribution it was") if len(runs) == 1 else (f"{len(runs)} samplers", "distributions they were")
    )
    return (
        f"How close {what}, trained on {text(' and '.join(tasks))}, came to the {of} to draw from: a perfect "
        "sampler has total variation 0, log Z error 0, and the exact mean reward; of sampled figures, their floors."
    )


def _table(runs: Sequence[RunRecord], readable: Sequence[RunRecord]) -> str:
    columns = [entry for entry in FIGURES if any(entry[1](run.last) is not None for run in readable)] or FIGURES[:1]
    heads = ("run", "task", "residual / loss / log Z / source", "steps", "seed", *(head for head, _ in columns))
    numbers = {"steps", "seed", *(head for head, _ in columns), "CPU seconds"}
    cells = [(head, "number" if head in numbers else "") for head in (*heads, "CPU seconds", "state")]
    drawn = {run.name: place for place, run in enumerate(readable)}
    rows: list[list[Cell]] = []
    for place, run in enumerate(runs):
        if run.readable:
            name = f'{swatch(drawn[run.name])}<a href="#run-{place}">{text(shortened(run.name, 24))}</a>'
            rows.append([(name, ""), *_cells(run, [shown for _, shown in columns])])
        else:
            rows.append([(text(shortened(run.name, 24)), ""), (text("; ".join(run.problems)), "words alarm")])
    return table(cells, rows, label="Table of runs")


def _cells(run: RunRecord, columns: Sequence[Callable[[Mapping[str, Any]], str | None]]) -> list[Cell]:
    config, last = run.config, run.last
    named = [config.get(name) for name in ("residual", "loss", "log_z", "source")]
    if named[0] is None and config.get("method"):  # a method without a residual
        named = [config["method"], named[-1]]
    choices = "\u00a0/ ".join(map(_or_dash, named))
    figures = [
        text(_or_dash(config.get("steps"))),
        text(_or_dash(config.get("seed"))),
        *(shown(last) or "–" for shown in columns),
        _number((run.done or {}).get("cpu_seconds"), ".1f"),
    ]
    first = [(text(_or_dash(config.get("task"))), ""), (text(choices), "words")]
    return [*first, *((cell, "number") for cell in figures), (text(_state(run)), "")]


def _section(run: RunRecord, place: int, exhibits: Sequence[Exhibit], problems: Sequence[str]) -> list[str]:
    if not run.readable:
        return []
    parts = [
        f'<section id="run-{place}">',
        f"<h2>Run {text(run.name)}</h2>",
        f'<p class="quiet">{text(_state(run))}; folder {text(run.path)}</p>',
        *(f'<p class="alarm">{text(problem)}</p>' for problem in problems),
        folded("Complete configuration", pairs(_plain(run.config), label="Configuration")),
    ]
    if run.environment:
        parts.append(folded("What it ran on", pairs(_plain(run.environment), label="What it ran on")))
    if exhibits:
        parts.append(gallery(exhibits, key=f"r{place}"))
    return [*parts, "</section>"]


def _state(run: RunRecord) -> str:
    if run.done is not None:
        return "done"
    return f"at step {run.last['step']}" if run.metrics else "no record yet"


def _plain(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Values as YAML would have them, on one line each."""
    return [
        (name, value if isinstance(value, str) else json.dumps(value, default=str)) for name, value in values.items()
    ]


def _shown(last: Mapping[str, Any], name: str, form: str = "#.4g") -> str | None:
    return _number(last[name], form) if name in last else None


def _beside(last: Mapping[str, Any], name: str, other: str) -> str | None:
    return f"{_number(last[name])} ({_number(last.get(other))})" if name in last else None


def _number(value: object, form: str = "#.4g") -> str:
    """By default with four digits; a dash where there is no number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "–"
    return f"{value:{form}}".rstrip(".").replace("-", "−")


def _or_dash(value: object) -> str:
    return "–" if value is None else str(value)
