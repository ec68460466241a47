"""The figures that runs offer, with what to say of them: the one place where a domain adds its own.

`OFFERS` holds functions of an opened run. Each returns what it can draw of that run, looking at what the run is made
of, and nothing where the run is of another kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from equipoise.discrete.environments.hypergrid import Hypergrid
from equipoise.discrete.judge import Judge
from equipoise.plots import figures
from equipoise.plots.images import image_grids
from equipoise.plots.points import point_panels
from equipoise.plots.records import RunRecord
from equipoise.recipes.configuration import PATHS
from equipoise.recipes.digits import ImagesRun
from equipoise.recipes.discrete import DiscreteRun
from equipoise.recipes.gaussians import PointsRun
from equipoise.recipes.molecules import MoleculesRun, reward_at
from equipoise.recipes.runs import StoredRun
from equipoise.sampling.rollouts import Rollouts
from equipoise.training.loop import generator
from equipoise.training.terms import Term

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWN = 1000
"""Trajectories of which residuals are shown."""

DOTS = 4000
"""Objects that a scatter shows at most."""


@dataclass(frozen=True)
class Exhibit:
    """A figure, and what is said of it.

    Attributes:
        name: of its file, without the ending.
        title: a few words.
        caption: what is seen, and what a perfect sampler would show; plain text.
        figure: the figure.
        narrow: the same for a narrow page, where that needs another arrangement.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    narrow: Figure | None = None


@dataclass(frozen=True)
class Curve:
    """A metric whose curve is shown, with the name of its dashed line, scale, title, caption, and what that line is."""

    metric: str
    exact: str | None
    log: bool
    title: str
    caption: str
    line: str = "exact"


CURVES = (
    Curve(
        "total_variation",
        None,
        True,
        "Total variation",
        "Exact total variation between each run's sampler and its target, on a logarithmic scale: half the sum over "
        "all objects of the absolute difference of their probabilities. A perfect sampler would fall to 0.",
    ),
    Curve(
        "mode_total_variation",
        "mode_total_variation_floor",
        True,
        "Shares of the modes",
        "Total variation between the shares of each run's points near each mode (and near none) and the ideal "
        "target's, on a logarithmic scale; dashed: a perfect sampler with as many points. A tuned sampler is held to "
        "its prior times the reward, which need not be the ideal target: see target_mode_total_variation.",
        "floor of a perfect sampler",
    ),
    Curve(
        "eubo",
        "elbo",
        False,
        "Evidence upper bound",
        "Mean log-weight of trajectories of the target; dashed: each run's last evidence lower bound. log Z lies "
        "between; a perfect sampler would close the gap. A sampler that misses a mode shows it here, and in no lower "
        "bound.",
        "last evidence lower bound",
    ),
    Curve(
        "log_z",
        "log_z_exact",
        False,
        "log Z",
        "Each run's estimate of log Z, the logarithm of its target's total mass; dashed: the exact value. A perfect "
        "sampler would end on its target's line. A run that estimates log Z from its batches shows its sampler's "
        "evidence lower bound, which is never above the line.",
    ),
    Curve(
        "mean_reward",
        "mean_reward_exact",
        False,
        "Mean reward",
        "Exact mean of the reward under each run's sampler; dashed: under its target. A perfect sampler would end on "
        "its target's line: below it good objects are drawn too rarely, above it too often.",
    ),
    Curve(
        "sampled_accuracy",
        "sampled_accuracy_prior",
        False,
        "Right answers by chance",
        "Share of drawn responses to the test's problems that are right; dashed: that of the model with which "
        "post-training began. A perfect sampler would end where its target does, which is below 1: the prior times "
        "exp(score / alpha).",
        "the model that it began with",
    ),
    Curve(
        "staleness",
        "kl_behaviour",
        False,
        "Staleness",
        "Mean age in steps of the rows of each record's batch; dashed: the KL, in nats, from who drew the batch to the "
        "model, at the end. On-policy training has age 0.",
        "KL from who drew, at the end",
    ),
    Curve(
        "queue",
        None,
        False,
        "Queue",
        "Batches that were delivered and not yet trained on. A queue that stays full waits for the learner; one that "
        "stays empty for searchers.",
    ),
    Curve(
        "searcher_rows_per_second",
        None,
        False,
        "Searchers' rate",
        "Trajectories that all searchers delivered in a second.",
    ),
    Curve(
        "learner_idle",
        "searchers_idle",
        False,
        "Idle time",
        "Share of the time in which the learner waited for searchers; dashed: the last share in which searchers "
        "waited for leave to draw. What waits most is not what limits the run.",
        "searchers, at the end",
    ),
)
"""The learning curves, where the runs have their metrics."""


def curves_of(runs: Sequence[RunRecord]) -> list[Exhibit]:
    """The learning curves of runs, all runs in one figure each.

    Raises:
        ImportError: matplotlib is not installed.
    """
    records = {run.name: run.metrics for run in runs}
    return [
        Exhibit(
            curve.metric,
            curve.title,
            curve.caption,
            figures.learning_curves(records, curve.metric, exact=curve.exact, log=curve.log, line=curve.line),
        )
        for curve in CURVES
        if any(figures.series(metrics, curve.metric) for metrics in records.values())
    ]


def figures_of(run: StoredRun) -> list[Exhibit]:
    """All that a run's sampler, at its last checkpoint, offers to be seen.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the run's reward or sampler gives values that cannot be drawn.
    """
    return [exhibit for offer in OFFERS for exhibit in offer(run)]


def distribution(run: StoredRun) -> list[Exhibit]:
    """Target and sampler over a space that can be listed: heat maps of a two-dimensional grid, else a scatter."""
    if not isinstance(run.built, DiscreteRun):
        return []
    environment, judge = run.built.sampler.environment, run.built.judge
    if not isinstance(judge, Judge):
        return []
    log_target, model = torch.log_softmax(judge.log_target, 0), judge.distribution()
    if isinstance(environment, Hypergrid) and environment.dim == 2:
        return [_grid(log_target.exp().view(environment.side, -1), model.view(environment.side, -1))]
    return [_scatter(log_target, model.log())]


def points(run: StoredRun) -> list[Exhibit]:
    """Samples in the plane: of the prior, of the sampler, and of the mixture that it is held to."""
    built = run.built
    if not isinstance(built, PointsRun):
        return []
    noise, mixture = generator(run.config.seed, "figures"), built.judge.mixture
    before = {} if built.sampler.prior is None else {"prior": built.sampler.prior.sample(DRAWN, generator=noise)}
    drawn = {**before, "sampler": built.sampler.sample(DRAWN, generator=noise)}
    samples = {name: entry.objects for name, entry in drawn.items() if isinstance(entry.objects, Tensor)}
    samples["ideal target"] = mixture.sample(DRAWN, noise)
    caption = (
        f"{DRAWN:,} points of each, seed fixed; circles are the target's modes. A perfect sampler could not be told "
        "from the ideal target; a tuned one also keeps what its prior puts between the modes."
    )
    figure, narrow = point_panels(samples, mixture.means), point_panels(samples, mixture.means, columns=1)
    return [Exhibit("points", "Samples", caption, figure, narrow)]


def images(run: StoredRun) -> list[Exhibit]:
    """Images of the prior, of the sampler, and of the exact target."""
    built = run.built
    if not isinstance(built, ImagesRun):
        return []
    noise, judge = generator(run.config.seed, "figures"), built.judge
    drawn = {"sampler": built.sampler.sample(64, generator=noise).objects}
    caption = "64 images that the sampler draws, seed fixed."
    if judge.prior is not None:
        before = judge.prior.sample(64, generator=noise).objects
        drawn = {"prior": before, **drawn, "prior x R^beta": judge.target_images(64)}
        caption = (
            "64 images each, seed fixed: of the prior, of the sampler tuned from it, and of the exact target, drawn "
            f"from the prior in proportion to the reward to the power {judge.beta:g}. A perfect sampler's could not be "
            "told from the target's."
        )
    shown = {name: entry for name, entry in drawn.items() if isinstance(entry, Tensor)}
    return [Exhibit("images", "Images", caption, image_grids(shown), image_grids(shown, columns=1))]


def residuals(run: StoredRun) -> list[Exhibit]:
    """The residuals of trajectories drawn from the sampler itself, for each term of the loss that has them."""
    if not run.config.choices()[0]:  # a method without residuals
        return []
    terms = run.loop.run.terms
    found = [(term, _residual(run, term)) for term in terms]
    return [
        _histogram(value, "" if len(terms) == 1 else term.name, mean_of_steps=not _of_whole_path(run))
        for term, value in found
        if value is not None
    ]


def molecules(run: StoredRun) -> list[Exhibit]:
    """The best of 256 molecules that the sampler draws, and the routes of the first four."""
    if not isinstance(run.built, MoleculesRun):
        return []
    from equipoise.plots.molecules import molecule_grid, route_rows

    routes, value = run.built.drawn(256, generator(run.config.seed, "figures"))
    best: dict[str, tuple[Any, float]] = {}
    for route, number in sorted(zip(routes, value.tolist(), strict=True), key=lambda pair: -pair[1]):
        best.setdefault(route.product, (route, number))
    best.pop("", None)
    chosen = list(best.values())[:12]
    if not chosen:
        return []
    names, labels = [route.product for route, _ in chosen], [f"R = {reward_at(number):.3f}" for _, number in chosen]
    ways = [route for route, _ in chosen[:4]]
    caption = "The 12 best different molecules of 256 that the sampler draws, seed fixed, with their reward."
    made = "How the first four are made: the first block, each added block with the template's number, each product."
    return [
        Exhibit(
            "molecules", "Molecules", caption, molecule_grid(names, labels), molecule_grid(names, labels, columns=2)
        ),
        Exhibit("routes", "Routes", made, route_rows(ways, labels[:4]), route_rows(ways, labels[:4], most=1)),
    ]


OFFERS: tuple[Callable[[StoredRun], list[Exhibit]], ...] = (distribution, points, images, molecules, residuals)
"""What is asked of a run, in this order."""


def _grid(target: Tensor, model: Tensor) -> Exhibit:
    off = float((model - target).abs().max())
    caption = (
        "Exact probability of each point of the grid under the target and under the sampler, on one colour scale, and "
        f"their difference, which is at most {off:.2g} where the target's largest probability is "
        f"{float(target.max()):.2g}. Red: drawn too often; blue: too rarely. A perfect sampler would show the target's "
        "map twice, and a difference of 0 everywhere."
    )
    wide, narrow = figures.heat_maps(target, model), figures.heat_maps(target, model, columns=1)
    return Exhibit("heat_maps", "Target beside sampler", caption, wide, narrow)


def _scatter(log_target: Tensor, log_model: Tensor) -> Exhibit:
    n = len(log_target)
    shown = f"{n:,}" if n <= DOTS else f"{DOTS:,} of {n:,}, at even ranks of the target's probability"
    never = int((~torch.isfinite(log_model)).sum())
    missing = f" The sampler gives probability 0 to {never:,} objects, which are not shown." if never else ""
    caption = (
        f"Exact log-probability of objects ({shown}) under the sampler against that under the target. A perfect "
        "sampler would put every dot on the dashed diagonal; dots above it are drawn too often, dots below too "
        f"rarely.{missing}"
    )
    figure = figures.probability_scatter(log_target, log_model, most=DOTS)
    return Exhibit("probabilities", "Sampler against target", caption, figure)


def _histogram(residual: Tensor, term: str, *, mean_of_steps: bool) -> Exhibit:
    mean, deviation = _mean_and_deviation(residual.double())
    each = " A trajectory's residual is the weighted mean of those of its steps." if mean_of_steps else ""
    caption = (
        f"Residuals of {len(residual):,} trajectories drawn from the sampler without exploration, seed fixed.{each} "
        f"Their mean is {mean} nats and their standard deviation {deviation} nats. A perfect sampler would show one "
        "bar at 0, the dashed line."
    )
    title = f"Residuals of term {term}" if term else "Residuals"
    return Exhibit(f"residuals-{term}" if term else "residuals", title, caption, figures.residual_histogram(residual))


@torch.no_grad()
def _residual(run: StoredRun, term: Term) -> Tensor | None:
    """Of `DRAWN` trajectories from the term's sampler, without exploration; None where the term has none."""
    if "denoising" in term.needs:  # a likelihood of data
        return None
    source: Any = run.loop.run.sources[term.source]
    while hasattr(source, "inner"):  # a source that wraps another adds no condition of its own
        source = source.inner
    rollouts = Rollouts(
        term.sampler,
        run.built.reward,
        conditions=getattr(source, "conditions", None),
        state_reward=getattr(source, "state_reward", None),
    )
    noise, each = generator(run.config.seed, "figures"), getattr(rollouts.conditions, "responses", 1)
    drawn = term.sampler.renew(rollouts.draw(max(DRAWN // each, 1) * each, noise))
    scores = term.sampler.score(drawn, term.needs & term.sampler.offers, generator=noise)
    return term.loss(drawn, scores, run.loop.step).residual


def _of_whole_path(run: StoredRun) -> bool:
    return run.config.choices()[0] in PATHS


def _mean_and_deviation(value: Tensor) -> tuple[str, str]:
    """In figures: the deviation with three digits, the mean with as many decimals."""
    mean, deviation = float(value.mean()), float(value.std(unbiased=False))
    decimals = min(max(2 - math.floor(math.log10(deviation)), 0), 12) if deviation > 0 else 3
    shown = f"{mean:.{decimals}f}"
    sign = "−" if float(shown) < 0 else ""
    return sign + shown.lstrip("-"), f"{deviation:.{decimals}f}"
