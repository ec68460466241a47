"""An experiment's curves: each figure by step, a panel a figure and group of runs, a line a method over its seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from equipoise.plots.canvas import blank, grid, legend_below, legend_rows, line_style, png, style
from equipoise.plots.figures import LABELS, Records, count_steps, number_decades, series
from equipoise.training.folder import RunFolder, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOGARITHMIC = frozenset({"total_variation", "l1"})
COUNTS = frozenset({"modes_held", "modes_found"})
ACROSS = {"modes_found": "trajectories"}
"""Figures that are drawn over another than the step, where the records have that."""

Panel = Mapping[str, Sequence[Records]]
"""Runs' records by the name of the line, one a seed."""


def write_curves(found: Mapping[str, Sequence[Path]], out: Path, names: Sequence[str]) -> Path | None:
    """Writes `out`/curves.png: the figures `names` of these runs, by step; None where no run has any of them.

    A label "group, line" is a line of that group's panels; without a comma all runs are one group.

    Args:
        found: folders of finished runs by label.
        out: folder of the file.
        names: of the figures.

    Raises:
        ImportError: matplotlib is not installed.
    """
    groups: dict[str, dict[str, list[Records]]] = {}
    for label, paths in found.items():
        group, _, line = label.rpartition(", ")
        groups.setdefault(group, {})[line] = [RunFolder(path).metrics() for path in paths]
    panels = {
        (group, name): lines
        for name in names
        for group, lines in groups.items()
        if any(series(records, name) for runs in lines.values() for records in runs)
    }
    if not panels:
        return None
    path = out / "curves.png"
    write_whole(path, png(curve_panels(panels)))
    return path


def curve_panels(panels: Mapping[tuple[str, str], Panel], *, columns: int = 3) -> Figure:
    """A panel for each group and figure: the mean over seeds as a line, the least and the largest as its shade.

    Args:
        panels: runs by line, by (title, figure).
        columns: panels side by side, at most.

    Raises:
        ImportError: matplotlib is not installed.

    Example:
        >>> records = [{"step": 0, "l1": 1.0}, {"step": 10, "l1": 0.1}]
        >>> figure = curve_panels({("8^4", "l1"): {"tb": [records], "db": [records, records]}})
        >>> figure.axes[0].get_title(), len(figure.axes[0].lines)
        ('8^4', 2)
    """
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    with style():
        from matplotlib.lines import Line2D

        figure = blank(3.1 * columns, 2.6 * rows + 0.2 * legend_rows(names))
        places = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
        for axes in places[len(panels) :]:
            axes.set_axis_off()
        for axes, ((title, figure_name), lines) in zip(places, panels.items(), strict=False):
            _panel(axes, title, figure_name, {names.index(name): runs for name, runs in lines.items()})
        handles = [Line2D([], [], color=line_style(place)[0], linewidth=1.6) for place in range(len(names))]
        for place, handle in enumerate(handles):
            handle.set_dashes(line_style(place)[1] or (None, None))
        legend_below(figure, handles, names)
    return figure


def _panel(axes: Axes, title: str, name: str, lines: Mapping[int, Sequence[Records]]) -> None:
    grid(axes)
    across, positive = ACROSS.get(name, "step"), list[float]()
    if not any(across in record for runs in lines.values() for records in runs for record in records):
        across = "step"
    for place, runs in lines.items():
        colour, dashes = line_style(place)
        steps, values = _by_step([series(_over(records, across), name) for records in runs])
        if not steps:
            continue
        mean = [sum(column) / len(column) for column in values]
        axes.plot(steps, mean, color=colour, dashes=dashes or (None, None), linewidth=1.6)
        positive += [value for value in mean if value > 0]
        if len(runs) > 1:
            axes.fill_between(steps, list(map(min, values)), list(map(max, values)), color=colour, alpha=0.2, lw=0)
    axes.set(xlabel="optimiser steps" if across == "step" else across, ylabel=LABELS.get(name, name))
    axes.set_title(title, parse_math=False)
    count_steps(axes)
    if name in LOGARITHMIC and positive:
        axes.set_yscale("log")
        number_decades(axes, math.log10(max(positive) / min(positive)))
    else:
        if axes.dataLim.ymin >= 0:  # energies may be below 0
            axes.set_ylim(bottom=0)
        axes.locator_params(axis="y", integer=name in COUNTS)


def _over(records: Records, across: str) -> Records:
    """The records with another figure in the step's place."""
    return records if across == "step" else [{**record, "step": record.get(across)} for record in records]


def _by_step(runs: Sequence[Sequence[tuple[float, float]]]) -> tuple[list[float], list[list[float]]]:
    """The steps that all runs have, and their values at each."""
    shared = [dict(points) for points in runs]
    steps = [step for step, _ in runs[0] if all(step in points for points in shared)] if runs else []
    return steps, [[points[step] for points in shared] for step in steps]
