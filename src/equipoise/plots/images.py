"""Figures of images: grids of samples, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from equipoise.plots.canvas import blank, shortened, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def image_grids(samples: Mapping[str, Tensor], *, side: int = 8, columns: int = 3) -> Figure:
    """The first side x side images of each sample, a panel each.

    Args:
        samples: (n, 1, height, width) by the panel's title, -1 white to 1 black; fewer than side^2 leave a panel's rest
            white.
        side: images of a panel's row and column.
        columns: panels side by side.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no panel, or images that are not (n, 1, height, width).

    Example:
        >>> figure = image_grids({"prior": torch.rand(64, 1, 8, 8)})
        >>> figure.axes[0].get_title()
        'prior'
    """
    wrong = [title for title, images in samples.items() if images.dim() != 4 or images.shape[1] != 1]
    if wrong or not samples:
        raise ValueError(f"panels {wrong or 'none'}: at least one sample of images (n, 1, height, width) was expected")
    columns = min(columns, len(samples))
    rows = math.ceil(len(samples) / columns)
    with style():
        figure = blank(2.6 * columns, 2.85 * rows)
        axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
        for place, (title, images) in zip(axes, samples.items(), strict=False):
            place.imshow(_tiled(images, side).numpy(), cmap="gray_r", vmin=-1, vmax=1, interpolation="nearest")
            place.set_title(shortened(title, 30), parse_math=False)
        for place in axes:
            place.set_axis_off()
    return figure


def _tiled(images: Tensor, side: int) -> Tensor:
    """side x side images as one, a pixel of white between them."""
    shown = torch.full((side * side, *images.shape[2:]), -1.0)
    shown[: len(images)] = images[: side * side, 0].cpu()
    framed = torch.nn.functional.pad(shown, (1, 1, 1, 1), value=-1.0)
    height, width = framed.shape[1:]
    return framed.view(side, side, height, width).transpose(1, 2).reshape(side * height, side * width)
