"""Judging a sampler of images by a classifier that it never saw: classes, distance to data, diversity, log Z."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from equipoise.contracts import Reward
from equipoise.diffusion.digits import CLASSES, Judge
from equipoise.diffusion.sampler import DiffusionSampler
from equipoise.evaluation.bounds import eubo, importance, systematic
from equipoise.evaluation.populations import cosine_diversity, frechet_distance, shares, weighted_shares
from equipoise.trajectories import Trajectories

BOUNDED = 500
"""Paths that log Z is bounded from: each costs a pass of model and prior over all steps."""


class ImageJudge:
    """Figures of a sampler of images, sampled with seeds of its own: judging changes no run.

    Where there is a prior, the exact target is prior x R^beta: each class's share in it is estimated by self-normalised
    importance sampling from the prior. What a learned prior misses is not the fine-tuning's fault.

    Args:
        sampler: has `sample`; judged as it is at each call.
        judge: the classifier that judges.
        images: real images, (n, ...), and their `labels`, (n,).
        labels: of the real images.
        classes: that the target asks for; all: the sampler is a prior.
        prior: that is tuned or guided; None: there is none.
        reward: log R.
        beta: its exponent.
        log_z: the run's own estimate of log Z; None: it has none, and the ELBO stands for it.
        points: images drawn from the sampler at a call.
        prior_points: drawn from the prior, once.
        seed: of everything drawn here.
    """

    def __init__(
        self,
        sampler: Any,
        judge: Judge,
        images: Tensor,
        labels: Tensor,
        *,
        classes: Sequence[int],
        prior: DiffusionSampler | None,
        reward: Reward,
        beta: float,
        log_z: Callable[[], float] | None = None,
        points: int = 1000,
        prior_points: int = 4000,
        seed: int = 0,
    ) -> None:
        self.sampler, self.judge, self.images, self.labels = sampler, judge, images, labels
        self.classes, self.prior, self.reward, self.beta, self.log_z = list(classes), prior, reward, beta, log_z
        self.points, self.prior_points, self.seed = points, prior_points, seed

    @torch.no_grad()
    def figures(self) -> dict[str, float]:
        """The figures of the sampler as it is now.

        `judged_in_target`: share that the judge puts in the target's classes. `share_c`: of each class;
        `target_share_c` of prior x R^beta, with its standard error. `class_factor`: the largest ratio, either way up,
        of a target class's share to that; `class_total_variation`: half the sum of the differences of all. `frechet`:
        to real images of the target's classes; `frechet_floor`: of as many drawn from these themselves, with
        replacement; `target_frechet`: of prior x R^beta; `prior_frechet`: the prior's to all real images, mean over
        samples of that size. `diversity`: mean of 1 - cosine over pairs, of the judge's features; `diversity_real`.
        `mean_log_reward`: E[log R].
        """
        drawn = self.drawn()
        images = drawn.objects
        assert isinstance(images, Tensor)
        features = self.judge.embed(images)
        share = shares(self.judge(images).argmax(1), CLASSES)
        found = {
            "judged_in_target": float(share[self.classes].sum()),
            "frechet": frechet_distance(features, self._real),
            "frechet_floor": self._floor,
            "diversity": cosine_diversity(features),
            "diversity_real": cosine_diversity(self._real),
        }
        if self.prior is not None:
            found |= {"mean_log_reward": float(self.reward(images, None).mean())}
            found |= self._against_target(share) | self._bounds(drawn)
            found |= {"prior_frechet": self._prior_frechet, "target_frechet": self._target_frechet}
        return found | {f"share_{digit}": value for digit, value in enumerate(share.tolist())}

    def drawn(self) -> Trajectories:
        """The images of a call."""
        return self.sampler.sample(self.points, generator=self._generator(0))

    def target_images(self, n: int) -> Tensor:
        """n images of the exact target: of the prior's, taken in proportion to R^beta.

        Raises:
            ValueError: there is no prior.
        """
        objects = self._prior_paths.objects
        assert isinstance(objects, Tensor)
        return objects[systematic(self._prior_weight, n, self._generator(3))]

    def _against_target(self, share: Tensor) -> dict[str, float]:
        target, error = self._target_shares
        chosen = share[self.classes].clamp(min=0.5 / self.points) / target[self.classes]
        found = {
            "class_factor": float(torch.maximum(chosen, 1 / chosen).max()),
            "class_total_variation": float((share - target).abs().sum()) / 2,
            "target_judged_in_target": float(target[self.classes].sum()),
        }
        for digit in range(CLASSES):
            found[f"target_share_{digit}"] = float(target[digit])
            found[f"target_share_{digit}_error"] = float(error[digit])
        return found

    def _bounds(self, drawn: Trajectories) -> dict[str, float]:
        """Bounds of log Z; what is guided has no path's probability, and none."""
        if not isinstance(self.sampler, DiffusionSampler):
            return {}
        found = importance(self._log_weight(drawn[torch.arange(min(BOUNDED, self.points))]))
        rows = systematic(self._prior_weight, BOUNDED, self._generator(3))
        found["eubo"] = eubo(self._log_weight(self._prior_paths[rows]))
        found["log_z"] = found["elbo"] if self.log_z is None else self.log_z()
        weight = self._prior_weight
        found["target_log_z"] = float(torch.logsumexp(weight, 0) - torch.tensor(float(len(weight))).log())
        return found

    def _log_weight(self, trajectories: Trajectories) -> Tensor:
        scores = self.sampler.score(trajectories, frozenset({"log_pf"}))
        target = self.beta * self.reward(trajectories.objects, None).double()
        return target - scores.get("log_pf").sum(1, dtype=torch.float64)

    @cached_property
    def _real(self) -> Tensor:
        """Features of the real images of the target's classes."""
        return self.judge.embed(self.images[torch.isin(self.labels, torch.tensor(self.classes))])

    @cached_property
    def _floor(self) -> float:
        rows = torch.randint(len(self._real), (4, self.points), generator=self._generator(1))
        return sum(frechet_distance(self._real[chosen], self._real) for chosen in rows) / len(rows)

    @cached_property
    def _prior_paths(self) -> Trajectories:
        if self.prior is None:
            raise ValueError("this sampler has no prior: it is one")
        return self.prior.sample(self.prior_points, generator=self._generator(4))

    @cached_property
    def _prior_weight(self) -> Tensor:
        return self.beta * self.reward(self._prior_paths.objects, None).double()

    @cached_property
    def _target_shares(self) -> tuple[Tensor, Tensor]:
        objects = self._prior_paths.objects
        assert isinstance(objects, Tensor)
        return weighted_shares(self.judge(objects).argmax(1), self._prior_weight, CLASSES)

    @cached_property
    def _prior_frechet(self) -> float:
        objects = self._prior_paths.objects
        assert isinstance(objects, Tensor)
        blocks = self.judge.embed(objects).split(self.points)
        whole = [block for block in blocks if len(block) == self.points]
        real = self.judge.embed(self.images)
        return sum(frechet_distance(block, real) for block in whole) / len(whole)

    @cached_property
    def _target_frechet(self) -> float:
        return frechet_distance(self.judge.embed(self.target_images(self.points)), self._real)

    def _generator(self, place: int) -> torch.Generator:
        return torch.Generator().manual_seed(1_000_003 * self.seed + place)
