"""Judging a diffusion sampler of points: bounds of log Z, and how it divides over the modes of its target."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property

import torch
from torch import Tensor

from equipoise.contracts import Reward
from equipoise.diffusion.sampler import DiffusionSampler
from equipoise.diffusion.targets import Mixture
from equipoise.evaluation.bounds import eubo, importance, systematic
from equipoise.evaluation.modes import (
    histogram_distance,
    histogram_floor,
    mode_histogram,
    nearest_mode,
    shares,
    wasserstein2,
)
from equipoise.trajectories import Trajectories, ends

PAIRS = 1000
"""Points of each sample in a Wasserstein distance: its cost grows with their cube."""


class PointJudge:
    """Figures of a diffusion sampler of points, sampled with seeds of its own: judging changes no run.

    Where the sampler has a prior, its exact target is prior x R^beta, of which importance sampling from the prior gives
    the share of each mode, log Z and trajectories: a learned prior is not the ideal mixture, and what it misses is not
    the fine-tuning's fault. From scratch the target is the mixture, and its trajectories are bridges to exact points.

    Args:
        sampler: judged as it is at each call.
        mixture: the ideal target, whose modes are counted.
        reward: log R.
        beta: its exponent.
        log_z: the run's own estimate of log Z; None: it has none, and the ELBO stands for it.
        points: drawn from the sampler at a call.
        prior_points: drawn from the prior, once.
        radius: beyond which a point belongs to no mode.
        seed: of everything drawn here.
    """

    def __init__(
        self,
        sampler: DiffusionSampler,
        mixture: Mixture,
        reward: Reward,
        beta: float,
        log_z: Callable[[], float] | None,
        *,
        points: int = 4000,
        prior_points: int = 20_000,
        radius: float = 2.0,
        seed: int = 0,
    ) -> None:
        self.sampler, self.mixture, self.reward, self.beta, self.log_z = sampler, mixture, reward, beta, log_z
        self.points, self.prior_points, self.radius, self.seed = points, prior_points, radius, seed

    def figures(self) -> dict[str, float]:
        """The figures of the sampler as it is now.

        `elbo`, `log_z_importance`, `ess` (a share) and `eubo` bound log Z; `log_z` is the run's own. `off_mode_mass` is
        the share of points farther than the radius from every mode of the mixture; `mode_total_variation` compares the
        modes' shares, and that mass, with the mixture's. Both also of the exact target (`target_...`, with standard
        errors), where there is a prior. Floors are those of a perfect sampler with as many points.
        """
        drawn = self.drawn()
        log_weight = self._log_weight(drawn)
        found = importance(log_weight)
        found["eubo"] = eubo(self._log_weight(self._target_paths))
        found["log_z"] = found["elbo"] if self.log_z is None else self.log_z()
        found |= self.mode_figures(drawn)
        if self.sampler.prior is not None:
            found |= self._of_target
        return found

    def drawn(self) -> Trajectories:
        """The points of a call, on-policy."""
        return self.sampler.sample(self.points, generator=self._generator(0))

    def mode_figures(self, drawn: Trajectories) -> dict[str, float]:
        """What needs points alone: modes, mass off them, distance to the mixture, with floors."""
        points = drawn.objects
        assert isinstance(points, Tensor)
        share = mode_histogram(points, self.mixture.means, self.radius)
        return {
            "mode_total_variation": histogram_distance(share, self._ideal),
            "mode_total_variation_floor": _mode_floor(self.mixture, self.radius, len(points)),
            "off_mode_mass": float(share[-1]),
            "wasserstein2": wasserstein2(points[:PAIRS], self._exact(1, min(PAIRS, len(points)))),
            "wasserstein2_floor": _wasserstein_floor(self.mixture, min(PAIRS, len(points))),
        }

    @torch.no_grad()
    def _log_weight(self, trajectories: Trajectories) -> Tensor:
        """Minus the log-ratio."""
        needs = frozenset({"log_pf"} if self.sampler.prior is not None else {"log_pf", "log_pb"})
        scores = self.sampler.score(trajectories, needs)
        target = self.beta * self.reward(trajectories.objects, trajectories.context).double()
        backward = 0.0 if scores.log_pb is None else scores.log_pb.sum(1, dtype=torch.float64)
        return target + backward - scores.get("log_pf").sum(1, dtype=torch.float64)

    @cached_property
    def _target_paths(self) -> Trajectories:
        """Trajectories of the exact target: of the prior, taken in proportion to R^beta; else bridges to its points."""
        if self.sampler.prior is None:
            bridged = ends(self._exact(2, self.points))
            return self.sampler.sample_to(bridged, generator=self._generator(3))
        rows = systematic(self._prior_weight, self.points, self._generator(3))
        return self._prior_paths[rows]

    @cached_property
    def _prior_paths(self) -> Trajectories:
        assert self.sampler.prior is not None
        return self.sampler.prior.sample(self.prior_points, generator=self._generator(4))

    @cached_property
    def _prior_weight(self) -> Tensor:
        return self.beta * self.reward(self._prior_paths.objects, None).double()

    @cached_property
    def _of_target(self) -> dict[str, float]:
        """The exact target's own figures, by self-normalised importance sampling; errors by the bootstrap."""
        points, weight = self._prior_paths.objects, self._prior_weight
        assert isinstance(points, Tensor)
        modes = len(self.mixture.means)
        place = nearest_mode(points, self.mixture.means, self.radius)

        def figures(rows: Tensor) -> Tensor:
            share = shares(place[rows], modes, weight[rows].softmax(0))
            log_z = torch.logsumexp(weight[rows], 0) - torch.tensor(float(len(rows))).log()
            return torch.stack([torch.tensor(histogram_distance(share, self._ideal)), share[-1], log_z])

        n, generator = len(points), self._generator(5)
        again = torch.stack([figures(torch.randint(n, (n,), generator=generator)) for _ in range(50)])
        names = ("target_mode_total_variation", "target_off_mode_mass", "target_log_z")
        found = dict(zip(names, figures(torch.arange(n)).tolist(), strict=True))
        found |= {f"{name}_error": error for name, error in zip(names, again.std(0).tolist(), strict=True)}
        return found | {"target_ess": importance(weight)["ess"]}

    @property
    def _ideal(self) -> Tensor:
        return self.mixture.shares(self.radius)

    def _exact(self, place: int, n: int) -> Tensor:
        return self.mixture.sample(n, self._generator(100 + place))

    def _generator(self, place: int) -> torch.Generator:
        return torch.Generator().manual_seed(1_000_003 * self.seed + place)


@cache
def _mode_floor(mixture: Mixture, radius: float, n: int) -> float:
    return histogram_floor(mixture.shares(radius), n)


@cache
def _wasserstein_floor(mixture: Mixture, n: int, pairs: int = 4) -> float:
    """Mean distance of two exact samples of n."""
    samples = [mixture.sample(n, torch.Generator().manual_seed(seed)) for seed in range(2 * pairs)]
    return sum(wasserstein2(*samples[2 * i : 2 * i + 2]) for i in range(pairs)) / pairs
