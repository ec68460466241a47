"""Figures of small data: what is drawn, what is refused, and what a name may hold."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from equipoise.plots import canvas, figures


def records(*values: float, exact: float = 3.0) -> list[dict[str, float]]:
    return [{"step": 10 * place, "log_z": value, "log_z_exact": exact} for place, value in enumerate(values)]


def heights(figure: Figure) -> list[list[float]]:
    return [np.asarray(line.get_ydata()).tolist() for line in figure.axes[0].get_lines()]


def test_a_learning_curve_draws_every_run_and_its_exact_value() -> None:
    figure = figures.learning_curves({"a": records(0.0, 2.0), "b": records(1.0)}, "log_z", exact="log_z_exact")
    assert heights(figure) == [[0.0, 2.0], [1.0], [3.0, 3.0]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "exact"]


def test_each_exact_value_has_its_line() -> None:
    runs = {"a": records(0.0), "b": records(0.0, exact=7.0), "c": records(0.0)}
    figure = figures.learning_curves(runs, "log_z", exact="log_z_exact")
    assert sorted(heights(figure)[3:]) == [[3.0, 3.0], [7.0, 7.0]]


def test_a_run_keeps_its_colour_where_another_lacks_the_metric() -> None:
    figure = figures.learning_curves({"a": [{"step": 0}], "b": records(1.0, 2.0)}, "log_z")
    (line,) = figure.axes[0].get_lines()
    assert line.get_color() == canvas.COLOURS[1]


def test_values_that_are_no_finite_numbers_are_passed_over() -> None:
    broken = [{"step": 0, "loss": float("nan")}, {"step": 1, "loss": "many"}, {"loss": 1.0}, {"step": 3, "loss": 2}]
    assert figures.series(broken, "loss") == [(3.0, 2.0)]
    with pytest.raises(ValueError, match="no run has the metric 'log_z'; there are: loss, step"):
        figures.learning_curves({"a": broken}, "log_z")


def test_a_logarithmic_axis_is_linear_where_nothing_is_positive() -> None:
    perfect = [{"step": 0, "total_variation": 0.0}, {"step": 1, "total_variation": 0.0}]
    assert figures.learning_curves({"a": perfect}, log=True).axes[0].get_yscale() == "linear"
    assert figures.learning_curves({"a": records(1.0)}, "log_z", log=True).axes[0].get_yscale() == "log"


@pytest.mark.parametrize("name", ["$\\bad{", "_hidden", "<script>alert(1)</script>", "-->", "名前", "x" * 300])
def test_any_name_can_stand_in_a_legend(name: str) -> None:
    figure = figures.learning_curves({name: records(1.0, 2.0)}, "log_z")
    assert figure.legends[0].get_texts()[0].get_text() == canvas.shortened(name)
    assert canvas.png(figure).startswith(b"\x89PNG")
    drawn = canvas.svg(figure, key="k", title="title")
    assert "script" not in drawn
    assert "<!--" not in drawn


def test_thirty_runs_are_told_apart_and_fit_their_figure() -> None:
    figure = figures.learning_curves({f"run {n}": records(1.0, float(n)) for n in range(24)}, "log_z")
    styles = {(line.get_color(), line.get_linestyle(), str(line._dash_pattern)) for line in figure.axes[0].get_lines()}  # pyright: ignore[reportAttributeAccessIssue]
    assert len(styles) == 24
    figure.draw_without_rendering()
    axes, legend = figure.axes[0].get_tightbbox(), figure.legends[0].get_window_extent()
    assert axes is not None
    assert axes.height > 150
    assert legend.y1 <= axes.y0
    assert legend.y0 >= 0


def test_heat_maps_put_the_first_coordinate_to_the_right_and_share_a_scale() -> None:
    target = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    model = torch.tensor([[0.0, 0.2], [0.3, 0.5]])
    for columns in (1, 3):
        axes = figures.heat_maps(target, model, columns=columns).axes
        images = [place.get_images()[0] for place in axes[:3]]
        assert torch.allclose(torch.tensor(images[0].get_array().tolist()), target.T)  # pyright: ignore[reportOptionalMemberAccess]
        assert images[0].get_clim() == images[1].get_clim() == (0.0, 0.5)
        assert images[2].get_clim() == pytest.approx((-0.1, 0.1))


def test_equal_heat_maps_have_a_difference_of_zero() -> None:
    figure = figures.heat_maps(torch.full((3, 3), 1 / 9), torch.full((3, 3), 1 / 9))
    low, high = figure.axes[2].get_images()[0].get_clim()
    assert low < 0 < high


@pytest.mark.parametrize("shape", [(4,), (2, 3)])
def test_heat_maps_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shapes .*: the same two dimensions were expected"):
        figures.heat_maps(torch.zeros(shape), torch.zeros(4))


def test_heat_maps_stand_in_three_columns_or_in_one() -> None:
    with pytest.raises(ValueError, match="columns is 2"):
        figures.heat_maps(torch.ones(2, 2), torch.ones(2, 2), columns=2)


def test_a_scatter_takes_even_ranks_and_both_ends() -> None:
    value = torch.randperm(1001, generator=torch.Generator().manual_seed(0)).double()
    chosen = value[figures.even_ranks(value, 11)]
    assert chosen.tolist() == [100.0 * n for n in range(11)]
    assert len(figures.even_ranks(value, 5000)) == 1001


def test_a_scatter_leaves_out_what_is_never_drawn() -> None:
    log_model = torch.tensor([-1.0, float("-inf"), -2.0])
    figure = figures.probability_scatter(torch.tensor([-1.0, -1.0, -1.5]), log_model)
    assert figure.axes[0].collections[0].get_offsets().tolist() == [[-1.5, -2.0], [-1.0, -1.0]]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match="no object has a finite log-probability"):
        figures.probability_scatter(torch.zeros(2), torch.full((2,), float("-inf")))
    with pytest.raises(ValueError, match="was expected of both"):
        figures.probability_scatter(torch.zeros(2), torch.zeros(3))


def test_a_histogram_counts_every_residual() -> None:
    residual = torch.randn(500, generator=torch.Generator().manual_seed(0))
    bars = figures.residual_histogram(residual).axes[0].patches
    assert sum(bar.get_height() for bar in bars) == 500  # pyright: ignore[reportAttributeAccessIssue]
    for wrong in (torch.zeros(0), torch.tensor([0.0, float("nan")])):
        with pytest.raises(ValueError, match="at least one was expected, all of them finite"):
            figures.residual_histogram(wrong)


def test_a_perfect_sampler_has_one_bar() -> None:
    bars = figures.residual_histogram(torch.zeros(10)).axes[0].patches
    assert [bar.get_height() for bar in bars if bar.get_height()] == [10.0]  # pyright: ignore[reportAttributeAccessIssue]


def test_drawing_leaves_no_trace_in_matplotlib() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    canvas.svg(figures.residual_histogram(torch.randn(10)), key="k", title="t")
    assert dict(matplotlib.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()


def test_an_svg_is_for_one_page_among_others() -> None:
    drawn = [
        canvas.svg(figures.residual_histogram(torch.ones(3)), key=key, title="a &amp; b") for key in ("a", "b", "a")
    ]
    assert drawn[0] == drawn[2]
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in drawn]
    assert ids[0]
    assert not ids[0] & ids[1]
    targets = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', drawn[0]))
    assert {name or other for name, other in targets} <= ids[0]
    assert 'aria-label="a &amp; b"' in drawn[0]
    assert "currentColor" in drawn[0]
    assert canvas.INK not in drawn[0]
    assert "http" not in drawn[0]


def test_without_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"^figures need matplotlib: pip install 'equipoise\[plots\]'$"):
        figures.residual_histogram(torch.zeros(3))
