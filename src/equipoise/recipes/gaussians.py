"""The 25-Gaussians task: the illustrative example of relative trajectory balance, with its RL baselines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from equipoise.contracts import Reward
from equipoise.diffusion.judge import PointJudge
from equipoise.diffusion.networks import DriftMLP
from equipoise.diffusion.processes import brownian
from equipoise.diffusion.sampler import DiffusionSampler
from equipoise.diffusion.targets import NINE, TWENTY_FIVE, posterior_reward
from equipoise.recipes.diffusion import as_text, join, take_prior
from equipoise.recipes.diffusion_configuration import Gaussians25
from equipoise.recipes.rewards import own_reward, wrapped
from equipoise.sampling.given import Data
from equipoise.sampling.rollouts import rewarded
from equipoise.training.loop import Run

VARIANCE = 5.0
"""sigma^2 of the process, as published."""


@dataclass(frozen=True)
class PointsRun:
    """A run on points in the plane, and what its task is made of."""

    config: Gaussians25
    run: Run
    sampler: DiffusionSampler
    reward: Reward
    judge: PointJudge

    def check(self) -> None:
        """Calls the reward on points of the prior's modes, so that a wrong one is found before anything is written."""
        points = TWENTY_FIVE.sample(64, torch.Generator().manual_seed(0))
        rewarded(self.reward, points, None, len(points))

    def prepare(self, folder: Path | None) -> None:
        """Takes the prior, or trains it."""
        take_prior(self.sampler, self.config, folder)

    def evaluate(self) -> dict[str, float]:
        """Sampled figures of the sampler as it is now, with their floors."""
        return self.run.evaluate()

    def summary(self) -> list[str]:
        """What matters of the figures, in words."""
        found = self.evaluate()
        lines = [
            f"modes: total variation {found['mode_total_variation']:.3f} "
            f"(a perfect sampler: {found['mode_total_variation_floor']:.3f}), "
            f"{100 * found['off_mode_mass']:.1f} % off them",
            f"Wasserstein distance {found['wasserstein2']:.2f} (a perfect sampler: {found['wasserstein2_floor']:.2f})",
        ]
        if "elbo" in found:
            lines.append(f"log Z from {found['elbo']:.3f} (ELBO) to {found['eubo']:.3f} (EUBO)")
        return lines

    def table(self, n: int, generator: torch.Generator) -> str:
        """n points drawn on-policy, as tab-separated text: object, log_reward."""
        points = self.sampler.sample(n, generator=generator).objects
        assert isinstance(points, Tensor)
        log_reward = self.reward(points, None)
        lines = [f"{shown}\t{value:.6g}" for shown, value in zip(as_text(points), log_reward.tolist(), strict=True)]
        return "\n".join(["object\tlog_reward", *lines, ""])


def gaussians25(config: Gaussians25, reward: Callable[..., Tensor] | None = None) -> PointsRun:
    """A run on the 25 Gaussians.

    Source: Venkatraman et al., 2024, arXiv 2405.20971, appendix C.

    Raises:
        ValueError: choices that do not fit together.
    """
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    process = brownian(config.time_steps, VARIANCE)
    network = DriftMLP(process, dimensions=2)
    prior = None if config.from_scratch else DiffusionSampler(process, network, (2,)).frozen()
    sampler = DiffusionSampler(
        process,
        network,
        (2,),
        prior=prior,
        subsample=config.subsample,
        keep_behaviour=config.method in ("reinforce_weighted", "ppo"),
    )
    score = _reward(config, reward)
    mixture = TWENTY_FIVE if config.method == "likelihood" else NINE
    judges: list[PointJudge] = []

    def evaluate(log_z: Callable[[], float] | None) -> Callable[[], dict[str, float]]:
        judges.append(PointJudge(sampler, mixture, score, config.beta, log_z))
        if config.method == "likelihood":
            return lambda: judges[0].mode_figures(judges[0].drawn())
        return judges[0].figures

    data = Data(lambda n, generator: TWENTY_FIVE.sample(n, generator))
    run = join(config, sampler, score, data=data, evaluate=evaluate)
    return PointsRun(config, run, sampler, score, judges[0])


def _reward(config: Gaussians25, given: Callable[..., Tensor] | None) -> Reward:
    if given is not None:
        return wrapped(given)
    if config.reward != "posterior":
        return own_reward(config.reward)
    return wrapped(NINE.log_prob if config.choices()[0] == "trajectory" else posterior_reward)
