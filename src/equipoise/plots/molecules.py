"""Figures of molecules: a grid of the best, and the routes that make them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from equipoise.molecules.chemistry import rdkit_chem
from equipoise.molecules.routes_text import Route
from equipoise.plots.canvas import INK, blank, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def molecule_grid(smiles: Sequence[str], labels: Sequence[str], *, columns: int = 4) -> Figure:
    """Molecules as drawn, each above its label.

    Args:
        smiles: at least one.
        labels: one a molecule.
        columns: molecules side by side.

    Raises:
        ImportError: matplotlib or rdkit is not installed.
        ValueError: no molecule.

    Example:
        >>> molecule_grid(["CCO", "c1ccccc1"], ["ethanol", "benzene"]).axes[1].get_title()
        'benzene'
    """
    if not smiles:
        raise ValueError("no molecule to draw")
    columns = min(columns, len(smiles))
    rows = math.ceil(len(smiles) / columns)
    with style():
        figure = blank(2.3 * columns, 2.2 * rows)
        axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
        for place, text, label in zip(axes, smiles, labels, strict=False):
            place.imshow(picture(text), interpolation="antialiased")
            place.set_title(label, parse_math=False, fontsize=9)
        for place in axes:
            place.set_axis_off()
    return figure


def route_rows(routes: Sequence[Route], labels: Sequence[str], *, most: int = 3) -> Figure:
    """Routes, a row each: first block, then for each reaction the added block over an arrow, and the product.

    Args:
        routes: at least one.
        labels: one a route.
        most: reactions shown of each, the last ones.

    Raises:
        ImportError: matplotlib or rdkit is not installed.
        ValueError: no route.

    Example:
        >>> from equipoise.molecules.routes_text import Step
        >>> route = Route("CN", (Step(0, 1, "CC(=O)O", "CNC(C)=O"),), "CNC(C)=O")
        >>> len(route_rows([route], ["R 0.5"]).axes)
        3
    """
    if not routes:
        raise ValueError("no route to draw")
    wide = 1 + 2 * min(most, max(len(route.steps) for route in routes))
    with style():
        figure = blank(1.9 * wide, 2.05 * len(routes))
        axes = figure.subplots(len(routes), wide, squeeze=False)
        for row, (route, label) in enumerate(zip(routes, labels, strict=True)):
            begin = route.steps[-most - 1].product if len(route.steps) > most else route.block
            cells: list[tuple[str, str]] = [(begin, label)]
            for step in route.steps[-most:]:
                added = "+ block, " if step.block else ""
                cells += [(step.block, f"{added}template {step.template}"), (step.product, "gives")]
            for place, (text, title) in zip(axes[row], cells, strict=False):
                if text:
                    place.imshow(picture(text), interpolation="antialiased")
                place.set_title(title, parse_math=False, fontsize=8, color=INK)
            for place in axes[row]:
                place.set_axis_off()
    return figure


def picture(smiles: str, *, side: int = 360) -> Any:
    """A molecule as drawn by rdkit: (side, side, 3) values from 0 to 1."""
    chem = rdkit_chem()
    import matplotlib.image
    from rdkit.Chem.Draw import rdMolDraw2D

    drawer = rdMolDraw2D.MolDraw2DCairo(side, side)
    drawer.drawOptions().padding = 0.08
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, chem.MolFromSmiles(smiles))
    drawer.FinishDrawing()
    return matplotlib.image.imread(io.BytesIO(drawer.GetDrawingText()), format="png")
