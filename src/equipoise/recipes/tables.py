"""The table of an experiment: every run's figures, and beside them the paper's, the exact ones and a perfect sampler's.

Imports no torch until a run's folder is read.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVALUATION = "evaluation.json"
"""Of a run's folder: what its task says at the end, where an experiment asks for more than records have."""

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Compared:
    """A figure that has a row of its own for each run.

    Attributes:
        heading: what it is called.
        exact: name of the figure that is the exact value of this one, of the same sampler.
        perfect: what a perfect sampler would have: a figure's name, or a number.
    """

    heading: str
    exact: str | None = None
    perfect: str | float | None = None


Published = Mapping[str, Mapping[str, tuple[float, ...]]]
"""What a paper printed: by run and by figure, the value, and its spread where it has one."""


Derived = Mapping[str, Callable[[Sequence[Record]], float | None]]
"""Figures by name, each a function of a run's records in order; None where it has none."""


def write_table(
    found: Mapping[str, Sequence[Path]],
    out: Path,
    *,
    figures: Mapping[str, str],
    compared: Mapping[str, Compared],
    published: Published,
    derived: Derived | None = None,
) -> None:
    """Writes `table.json`, every figure of every finished run, and `table.md`: mean over seeds, ± standard deviation.

    Args:
        found: folders of finished runs by label.
        out: folder of the two files.
        figures: columns of a table with one row a run: names of figures, with a heading each.
        compared: figures of a table with one row a run and figure; where there are some, it takes the other's place.
        published: the papers' values, for that table.
        derived: figures of all of a run's records, such as the step at which something was first reached.
    """
    rows = {label: [_last(path, derived or {}) for path in paths] for label, paths in found.items()}
    (out / "table.json").write_text(json.dumps(rows, indent=1) + "\n")
    lines = compared_lines(rows, compared, published) if compared else run_lines(rows, figures)
    (out / "table.md").write_text("\n".join(lines) + "\n")


def run_lines(rows: Mapping[str, Sequence[Record]], figures: Mapping[str, str]) -> list[str]:
    """A table with one row a run.

    Example:
        >>> print(*run_lines({"tb": [{"l1": 0.5, "cpu_seconds": 9.0}]}, {"l1": "L1"}), sep="\\n")
        | run | seeds | L1 | CPU s |
        |---|---|---|---|
        | tb | 1 | 0.500 | 9 |
    """
    lines = [f"| run | seeds | {' | '.join(figures.values())} | CPU s |", f"|---|---|{'---|' * len(figures)}---|"]
    for label, records in rows.items():
        cells = [_cell(records, name) for name in (*figures, "cpu_seconds")]
        lines.append(f"| {label} | {len(records)} | {' | '.join(cells)} |")
    return lines


def compared_lines(
    rows: Mapping[str, Sequence[Record]], compared: Mapping[str, Compared], published: Published
) -> list[str]:
    """A table with one row a run and figure; a figure that a run does not have has no row.

    Example:
        >>> compared = {"seen": Compared("L1, sampled", exact="l1", perfect="floor")}
        >>> rows = {"tb": [{"seen": 0.3, "l1": 0.25, "floor": 0.1, "cpu_seconds": 9.0}]}
        >>> print(*compared_lines(rows, compared, {"tb": {"seen": (0.2, 0.01)}}), sep="\\n")
        | run | figure | paper | ours | ratio | exact | perfect sampler | seeds | CPU s |
        |---|---|---|---|---|---|---|---|---|
        | tb | L1, sampled | 0.200 ± 0.010 | 0.300 | 1.50 | 0.250 | 0.100 | 1 | 9 |
    """
    heads = ("run", "figure", "paper", "ours", "ratio", "exact", "perfect sampler", "seeds", "CPU s")
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for label, records in rows.items():
        present = {name: figure for name, figure in compared.items() if _numbers(records, name)}
        for place, (name, figure) in enumerate(present.items()):
            values = _numbers(records, name)
            printed = published.get(label, {}).get(name, ())
            cells = [
                " ± ".join(map(_shown, printed)),
                _cell(records, name),
                f"{statistics.fmean(values) / printed[0]:.2f}" if printed else "",
                "" if figure.exact is None else _cell(records, figure.exact),
                _cell(records, figure.perfect) if isinstance(figure.perfect, str) else _shown(figure.perfect),
                str(len(values)) if len(values) == len(records) else f"{len(values)} of {len(records)}",
                "" if place else _cell(records, "cpu_seconds"),
            ]
            lines.append(f"| {label} | {figure.heading} | {' | '.join(cells)} |")
    return lines


def _last(path: Path, derived: Derived) -> dict[str, Any]:
    """The last record of a finished run, what it took, what its task said at the end, and what its records say."""
    from equipoise.training.folder import RunFolder

    more = path / EVALUATION
    asked = json.loads(more.read_text()) if more.exists() else {}
    records = RunFolder(path).metrics()
    found = {name: figure(records) for name, figure in derived.items()}
    return {**records[-1], **found, **json.loads((path / "DONE").read_text()), **asked}


def _numbers(records: Sequence[Record], name: str) -> list[float]:
    values = [record.get(name) for record in records]
    return [value for value in values if value is not None and math.isfinite(value)]


def _cell(records: Sequence[Record], name: str) -> str:
    values = _numbers(records, name)
    if not values:
        return ""
    mean = _shown(statistics.fmean(values))
    return f"{mean} ± {_shown(statistics.stdev(values))}" if max(values) > min(values) else mean


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3f}"
