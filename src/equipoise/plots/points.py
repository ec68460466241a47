"""Figures of samples in the plane."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from equipoise.plots.canvas import COLOURS, INK, blank, shortened, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def point_panels(
    samples: Mapping[str, Tensor], modes: Tensor, *, columns: int = 4, limit: float = 14.0, most: int = 1500
) -> Figure:
    """Samples in the plane, a panel each on one scale, with the modes of the target circled.

    Args:
        samples: (n, 2) points by the panel's title.
        modes: (modes, 2) centres of the circles.
        columns: panels side by side.
        limit: of both axes.
        most: points drawn in each panel, the first ones; the share that lies outside is said in its corner.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no panel, or points that are not (n, 2).

    Example:
        >>> import torch
        >>> figure = point_panels({"prior": torch.randn(100, 2)}, torch.zeros(1, 2))
        >>> figure.axes[0].get_title()
        'prior'
    """
    wrong = [title for title, points in samples.items() if points.dim() != 2 or points.shape[1] != 2]
    if wrong or not samples:
        raise ValueError(f"panels {wrong or 'none'}: at least one sample of points (n, 2) was expected")
    columns = min(columns, len(samples))
    rows = math.ceil(len(samples) / columns)
    with style():
        figure = blank(2.35 * columns, 2.55 * rows)
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flatten().tolist()
        for place, (title, points) in zip(axes, samples.items(), strict=False):
            shown = points[:most].double().cpu()
            place.scatter(*modes.double().T.tolist(), s=190, facecolors="none", edgecolors=INK, linewidths=0.7)
            across, up = shown.T.tolist()
            place.scatter(across, up, s=3, color=COLOURS[0], alpha=0.4, linewidths=0, rasterized=True)
            place.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
            place.set_xticks([-10, 0, 10])
            place.set_yticks([-10, 0, 10])
            place.set_title(shortened(title, 30), parse_math=False)
            outside = float((points.abs() > limit).any(1).double().mean())
            if outside:
                place.text(0.02, 0.02, f"{100 * outside:.1f} % outside", transform=place.transAxes, fontsize=8)
        for place in axes[len(samples) :]:
            place.set_axis_off()
    return figure
