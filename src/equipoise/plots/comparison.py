"""The figure of an experiment: what the first seed's samplers draw, a panel a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from equipoise.plots.canvas import png
from equipoise.plots.images import image_grids
from equipoise.plots.points import point_panels
from equipoise.plots.records import reason
from equipoise.recipes.digits import ImagesRun
from equipoise.recipes.gaussians import PointsRun
from equipoise.recipes.runs import StoredRun, open_run
from equipoise.training.folder import write_whole
from equipoise.training.loop import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_comparison(found: Mapping[str, Sequence[Path]], out: Path) -> tuple[Path | None, list[str]]:
    """Writes `out`/samples.png: the first finished run of each label; the file, and what could not be drawn.

    Raises:
        ImportError: matplotlib is not installed.
    """
    runs: dict[str, StoredRun] = {}
    problems = []
    for label, paths in found.items():
        done = [path for path in paths if (path / "DONE").exists()]
        try:
            if done:
                runs[label] = open_run(done[0])
        except (OSError, ValueError, RuntimeError) as error:
            problems.append(f"no samples of '{label}': {reason(error)}")
    figure = next((figure for draw in PICTURES if (figure := draw(runs)) is not None), None)
    if figure is None:
        return None, problems
    path = out / "samples.png"
    write_whole(path, png(figure))
    return path, problems


def points(runs: Mapping[str, StoredRun]) -> Figure | None:
    """Of runs on points in the plane."""
    built = {label: run.built for label, run in runs.items() if isinstance(run.built, PointsRun)}
    if not built:
        return None
    drawn = {label: _drawn(run) for label, run in built.items()}
    return point_panels(drawn, list(built.values())[-1].judge.mixture.means)


def images(runs: Mapping[str, StoredRun]) -> Figure | None:
    """Of runs on images; last the exact target of the last run that has one."""
    built = {label: run.built for label, run in runs.items() if isinstance(run.built, ImagesRun)}
    if not built:
        return None
    drawn = {label: _drawn(run, 36) for label, run in built.items()}
    tuned = [run for run in built.values() if run.judge.prior is not None]
    if tuned:
        drawn["prior x R^beta"] = tuned[-1].judge.target_images(36)
    return image_grids(drawn, side=6, columns=4)


def _drawn(run: PointsRun | ImagesRun, n: int = 1500) -> Tensor:
    objects = run.sampler.sample(n, generator=generator(run.config.seed, "figures")).objects
    assert isinstance(objects, Tensor)
    return objects


PICTURES: tuple[Callable[[Mapping[str, StoredRun]], Figure | None], ...] = (points, images)
"""What is asked, in this order; a domain appends its own."""
