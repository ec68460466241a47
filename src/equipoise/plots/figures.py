"""Figures of plain data: records and tensors in, a matplotlib `Figure` out, nothing shown and nothing written.

Save one by `figure.savefig("name.png")`; a notebook displays one that ends a cell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor

from equipoise.plots.canvas import INK, blank, grid, legend_below, legend_rows, line_style, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Records = Sequence[Mapping[str, Any]]
"""A run's records in the order of steps: each has "step", and metrics by name."""

LABELS = {
    "total_variation": "total variation (0 to 1)",
    "l1": "L1, sum over objects (0 to 2)",
    "modes_held": "modes held",
    "modes_found": "modes found while training",
    "mode_total_variation": "shares of modes: total variation",
    "eubo": "evidence upper bound (nats)",
    "log_z": "log Z (nats)",
    "mean_reward": "mean reward",
    "sampled_accuracy": "share of right responses",
    "mean_log_reward": "mean log-reward of a batch (nats)",
    "residual_mean_square": "mean squared residual (nats²)",
}
"""What an axis says of a metric; another metric's own name is its label."""

FEW = 40
"""Records up to which each is marked by a dot."""

SPARSE = 500
"""Dots up to which a scatter draws them large; beyond, they are small and let each other show."""


def learning_curves(
    runs: Mapping[str, Records],
    metric: str = "total_variation",
    *,
    exact: str | None = None,
    log: bool = False,
    line: str = "exact",
) -> Figure:
    """One metric of several runs, over optimiser steps.

    Args:
        runs: records by the run's name. A record in which the metric is absent, or not a finite number, is
            passed over.
        metric: its name in the records.
        exact: name of the metric's exact value in the records; each value that it has is a dashed horizontal line.
        line: what the dashed line is called.
        log: whether the vertical axis is logarithmic, if any value is positive; the others are then left out.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no run has the metric.

    Example:
        >>> records = [{"step": 0, "total_variation": 0.8}, {"step": 50, "total_variation": 0.1}]
        >>> figure = learning_curves({"first": records}, "total_variation", log=True)
        >>> figure.axes[0].get_ylabel()
        'total variation (0 to 1)'
    """
    drawn = {name: series(records, metric) for name, records in runs.items()}
    if not any(drawn.values()):
        known = sorted({key for records in runs.values() for record in records for key in record})
        raise ValueError(f"no run has the metric '{metric}'; there are: {', '.join(known) or 'none'}")
    positive = [value for points in drawn.values() for _, value in points if value > 0]
    log = log and bool(positive)
    with style():
        names = [name for name, points in drawn.items() if points]
        figure = blank(4.2, 2.7 + 0.2 * legend_rows([*names, line]))
        axes = figure.add_subplot()
        grid(axes)
        axes.set(xlabel="optimiser steps", ylabel=LABELS.get(metric, metric), yscale="log" if log else "linear")
        axes.yaxis.label.set_parse_math(False)
        count_steps(axes)
        if log:
            number_decades(axes, math.log10(max(positive) / min(positive)))
        handles = [_curve(axes, place, points) for place, points in enumerate(drawn.values()) if points]
        lines = [] if exact is None else _exact_lines(axes, runs, drawn, exact)
        legend_below(figure, [*handles, *lines[:1]], [*names, *[line][: len(lines)]])
    return figure


def heat_maps(target: Tensor, model: Tensor, *, columns: int = 3) -> Figure:
    """Two distributions over a two-dimensional grid, and their difference.

    Args:
        target: (side, side) probabilities of the target; entry [i, j] belongs to the point x = (i, j), i running to
            the right and j upwards.
        model: (side, side) those of the sampler, on the same colour scale.
        columns: panels side by side: 3, or 1 for a narrow page.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: shapes that differ or are not two-dimensional, or another number of columns.

    Example:
        >>> target = torch.full((8, 8), 1 / 64)
        >>> figure = heat_maps(target, target)
        >>> [axes.get_title() for axes in figure.axes[:3]]
        ['target', 'sampler', 'sampler − target']
    """
    if target.dim() != 2 or target.shape != model.shape:
        given = f"{tuple(target.shape)} and {tuple(model.shape)}"
        raise ValueError(f"target and model have shapes {given}: the same two dimensions were expected")
    if columns not in (1, 3):
        raise ValueError(f"columns is {columns}: 3 panels side by side, or 1, were expected")
    target, model = target.detach().double().cpu(), model.detach().double().cpu()
    difference = model - target
    most = max(float(target.max()), float(model.max()))
    span = float(difference.abs().max()) or 1.0
    panels = (("target", target, "viridis", 0.0, most), ("sampler", model, "viridis", 0.0, most))
    with style():
        figure = blank(9.4, 2.85) if columns == 3 else blank(3.6, 8.6)
        axes = figure.subplots(1 if columns == 3 else 3, columns, squeeze=False).flatten().tolist()
        last = ("sampler − target", difference, "RdBu_r", -span, span)
        images = [_map(place, *panel) for place, panel in zip(axes, (*panels, last), strict=True)]
        for place in axes[::columns]:
            place.set_ylabel("x₂")
        figure.set_layout_engine("constrained", wspace=0.06)
        figure.colorbar(images[0], ax=axes[:2], label="probability")
        figure.colorbar(images[2], ax=axes[2], label="difference of probability")
    return figure


def probability_scatter(log_target: Tensor, log_model: Tensor, *, most: int = 4000) -> Figure:
    """Each object's log-probability under the sampler against that under the target, with the diagonal.

    Args:
        log_target: (objects,) log p_target(x), nats, normalised.
        log_model: (objects,) log p_model(x), nats. Objects where either is not finite are left out.
        most: dots drawn: of more objects, as many at even ranks of their target probability are taken, the least and
            the most probable among them.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: shapes that differ, or no object with finite values.

    Example:
        >>> log_target = torch.log_softmax(torch.linspace(0, 3, 50), 0)
        >>> probability_scatter(log_target, log_target).axes[0].get_xlabel()
        'log target probability (nats)'
    """
    if log_target.dim() != 1 or log_target.shape != log_model.shape:
        given = f"{tuple(log_target.shape)} and {tuple(log_model.shape)}"
        raise ValueError(f"log_target and log_model have shapes {given}: (objects,) was expected of both")
    both = torch.stack([log_target.detach().double().cpu(), log_model.detach().double().cpu()])
    both = both[:, torch.isfinite(both).all(0)]
    if not both.shape[1]:
        raise ValueError("no object has a finite log-probability under both target and model")
    across, up = both[:, even_ranks(both[0], most)].tolist()
    low, high = float(both.min()), float(both.max())
    margin = 0.04 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    with style():
        figure = blank(4.2, 4.0)
        axes = figure.add_subplot()
        grid(axes)
        axes.plot(limits, limits, color=INK, linewidth=1, dashes=(5, 2), zorder=3)
        size, alpha = (18, 0.7) if len(across) <= SPARSE else (9, 0.35)
        axes.scatter(across, up, s=size, color=line_style(0)[0], alpha=alpha, linewidths=0, rasterized=True)
        axes.set(xlim=limits, ylim=limits, aspect="equal")
        axes.set(xlabel="log target probability (nats)", ylabel="log sampler probability (nats)")
    return figure


def residual_histogram(residual: Tensor, *, bins: int = 40) -> Figure:
    """How the residuals of trajectories spread around 0, where those of a perfect sampler lie.

    Args:
        residual: (n,) log model minus log target, nats.
        bins: of equal width, from the least to the largest.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no residuals, or one that is not finite.

    Example:
        >>> figure = residual_histogram(torch.randn(1000, generator=torch.Generator().manual_seed(0)))
        >>> figure.axes[0].get_ylabel()
        'trajectories'
    """
    residual = residual.detach().double().cpu().flatten()
    if not len(residual) or not torch.isfinite(residual).all():
        raise ValueError(f"residual holds {len(residual)} values: at least one was expected, all of them finite")
    with style():
        from matplotlib.ticker import MaxNLocator

        figure = blank(4.2, 3.0)
        axes = figure.add_subplot()
        grid(axes)
        axes.hist(residual.tolist(), bins=bins, color=line_style(0)[0], alpha=0.85)
        axes.axvline(0.0, color=INK, linewidth=1, dashes=(5, 2))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.set(xlabel="residual: log model − log target (nats)", ylabel="trajectories")
    return figure


def series(records: Records, metric: str) -> list[tuple[float, float]]:
    """(step, value) of the records in which the metric is a finite number.

    Example:
        >>> series([{"step": 0}, {"step": 5, "loss": 2.0}, {"step": 10, "loss": float("nan")}], "loss")
        [(5.0, 2.0)]
    """
    pairs = [(record.get("step"), record.get(metric)) for record in records]
    return [(float(step), float(value)) for step, value in pairs if _is_number(step) and _is_number(value)]


def even_ranks(value: Tensor, most: int) -> Tensor:
    """The places of at most `most` entries, at even ranks from the least to the largest."""
    order = value.argsort(stable=True)
    if len(order) <= most:
        return order
    return order[torch.linspace(0, len(order) - 1, most, dtype=torch.float64).round().long()]


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _curve(axes: Axes, place: int, points: list[tuple[float, float]]) -> Any:
    colour, dashes = line_style(place)
    steps, values = zip(*points, strict=True)
    marker = "." if len(points) <= FEW else None
    (line,) = axes.plot(steps, values, color=colour, dashes=dashes or (None, None), linewidth=1.6, marker=marker)
    return line


def _exact_lines(
    axes: Axes, runs: Mapping[str, Records], drawn: Mapping[str, list[tuple[float, float]]], exact: str
) -> list[Any]:
    found = [series(runs[name], exact) for name, points in drawn.items() if points]
    values = {f"{points[-1][1]:.9g}": points[-1][1] for points in found if points}
    return [axes.axhline(value, color=INK, linewidth=1, dashes=(5, 2), zorder=1.5) for value in values.values()]


def count_steps(axes: Axes) -> None:
    """Whole steps on the horizontal axis, thousands as k."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def number_decades(axes: Axes, decades: float) -> None:
    """Plain numbers on a logarithmic axis, more of them where it spans little."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0,), numticks=10))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _map(axes: Axes, title: str, values: Tensor, colours: str, low: float, high: float) -> Any:
    from matplotlib.ticker import MaxNLocator

    image = axes.imshow(values.T.tolist(), origin="lower", cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axes.set(title=title, xlabel="x₁")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    return image
