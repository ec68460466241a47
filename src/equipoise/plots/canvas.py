"""What every figure shares: matplotlib on demand, colours that the colour-blind tell apart, and files of a figure.

Figures are matplotlib's objects, never pyplot's, so that drawing one changes nothing for anybody else.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#24292f"
"""Of all that is no data; in a page it becomes the page's own text colour, light or dark."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Source: Okabe and Ito 2008, "Color universal design", without black and yellow."""

DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1, 1.5), (5, 2, 1, 2))
"""Of lines, in points: one round of colours each."""

_SETTINGS: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.formatter.limits": (-3, 4),
    "axes.formatter.use_mathtext": False,
    "axes.grid": False,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "figure.facecolor": "white",
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "legend.fontsize": 9,
    "savefig.bbox": None,
    "svg.fonttype": "path",
    "svg.hashsalt": "equipoise",
    "text.color": INK,
    "text.usetex": False,
    "xtick.color": INK,
    "xtick.labelsize": 9,
    "ytick.color": INK,
    "ytick.labelsize": 9,
}


@contextmanager
def style() -> Iterator[None]:
    """The house's settings of matplotlib, for as long as the block lasts.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("figures need matplotlib: pip install 'equipoise[plots]'") from error
    with matplotlib.rc_context(_SETTINGS):
        yield


def blank(width: float, height: float) -> Figure:
    """An empty figure, in inches, whose parts make room for each other."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def line_style(place: int) -> tuple[str, tuple[float, ...]]:
    """Colour and dashes of the run at that place: 24 that differ, then the first again."""
    return COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]


def grid(axes: Axes) -> None:
    """Faint lines behind the data."""
    axes.set_axisbelow(True)
    axes.grid(True, color=INK, alpha=0.15, linewidth=0.6)


def legend_below(figure: Figure, handles: list[Any], names: list[str]) -> None:
    """A legend under the axes; the names are shown as they are, no mathematics read into them."""
    columns = 1 if max(map(len, names)) > 20 else 2
    place = {"loc": "outside lower left", "ncols": columns, "frameon": False, "handlelength": 2.6}
    legend = figure.legend(handles, ["."] * len(names), **place)
    for line in legend.get_lines():
        line.set_marker("")
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(shortened(name))


def legend_rows(names: list[str]) -> int:
    """How many lines `legend_below` takes."""
    return len(names) if max(map(len, names)) > 20 else (len(names) + 1) // 2


def shortened(name: str, longest: int = 44) -> str:
    """A name that fits a legend: its middle left out where it is long."""
    kept = longest // 2
    return name if len(name) <= longest else f"{name[:kept]}…{name[-kept:]}"


def png(figure: Figure, *, dpi: int = 200) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    _save(figure, buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure, *, key: str, title: str) -> str:
    """The figure as an element of a page: transparent, its ink the page's text colour, its ids beginning with `key`.

    Equal figures give equal text.

    Args:
        figure: drawn by this room.
        key: different for each figure of a page, letters and digits.
        title: escaped, for those who do not see the figure.
    """
    buffer = io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    _save(figure, buffer, format="svg", dpi=200, transparent=True, metadata=nothing)
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :].replace(INK, "currentColor").replace("xlink:href", "href")
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"| version="[^"]*"', "", text)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{key}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{key}-", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{title}"', 1).strip()


def _save(figure: Figure, buffer: io.BytesIO, **how: Any) -> None:
    with style(), warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box: no reason to speak on standard error.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, **how)
