"""What a sampler over a space that cannot be listed is held to: figures of its own samples, and of log p(x)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.contracts import Reward
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.evaluation.best import best_figures
from equipoise.evaluation.bounds import importance
from equipoise.evaluation.likelihoods import Likelihood, correlations, log_probability
from equipoise.sampling.rollouts import rewarded
from equipoise.trajectories import Columns, Trajectories, rows_of


@dataclass(frozen=True)
class SampledJudge:
    """Sampled figures of a sampler against R^beta, or against its prior times R^beta.

    The same draws at every call, so that records can be compared.

    Attributes:
        sampler: over any environment.
        reward: log R.
        beta: the reward's exponent.
        log_z: the run's own estimate of log Z as it is now; None: the ELBO is given.
        known: what is known of the target without a list, when it is asked: `log_z_exact`, `mean_reward_exact`.
        n: trajectories drawn for a record.
        draws: trajectories an object for log p(x), where it has more than one.
        seed: of the draws.
    """

    sampler: DiscreteSampler
    reward: Reward
    beta: float
    log_z: Callable[[], float] | None = None
    known: Callable[[], Mapping[str, float]] = dict
    n: int = 256
    draws: int = 10
    seed: int = 0

    def check(self) -> None:
        """Calls the reward on objects of the sampler as it is, so that a wrong one is found before anything is written.

        Raises:
            ValueError: a reward off its contract.
        """
        self.rewarded(self._drawn(self.n).objects)

    def rewarded(self, objects: Columns) -> Tensor:
        """(n,) log R, held to its contract."""
        return rewarded(self.reward, objects, None, rows_of(objects)).double()

    @torch.no_grad()
    def figures(self) -> dict[str, float]:
        """Bounds of log Z and rewards of `n` trajectories drawn on-policy.

        Returns:
            elbo, log_z_importance and ess, 1 for a perfect sampler (`evaluation.bounds.importance`); log_z;
            mean_reward, mean_log_reward. None of them sees what the sampler never draws. And what is known of the
            target, with log_z_error.
        """
        drawn = self._drawn(self.n)
        reference = "log_pb" if self.sampler.prior is None else "log_prior"
        scores = self.sampler.score(drawn, frozenset({"log_pf", reference}))
        log_reward = self.rewarded(drawn.objects)
        log_ratio = scores.get("log_pf").double().sum(1) - scores.get(reference).double().sum(1)
        found = importance(self.beta * log_reward - log_ratio)
        log_z = found["elbo"] if self.log_z is None else self.log_z()
        known = self.known()
        error = {"log_z_error": log_z - known["log_z_exact"]} if "log_z_exact" in known else {}
        return {
            **found,
            "log_z": log_z,
            **known,
            **error,
            "mean_reward": float(log_reward.exp().mean()),
            "mean_log_reward": float(log_reward.mean()),
        }

    def log_probability(self, states: Tensor) -> Tensor:
        """(n,) log p of the objects at terminal states: exact on a tree, else from `draws` trajectories each."""
        return self._likelihood(self.sampler.environment.objects(states)).log_p

    def summary(self) -> list[str]:
        """What matters of the figures, in words."""
        found = self.figures()
        return [
            f"log Z {found['log_z']:.5f}, at least {found['elbo']:.5f} by the ELBO",
            f"effective share of the sample {found['ess']:.3f}, of 1",
            f"mean reward {found['mean_reward']:.5f}",
        ]

    def correlations(self, objects: Columns) -> dict[str, float]:
        """How log p goes with the target over a set of objects (`evaluation.likelihoods.correlations`)."""
        return correlations(self._likelihood(objects), self.beta * self.rewarded(objects))

    def best(self, show: Callable[[Columns], list[str]], *, n: int = 2048, k: int = 100) -> dict[str, float]:
        """The k best of n on-policy samples (`evaluation.best`), with the share of the n that are different."""
        objects = self._drawn(n).objects
        words = show(objects)
        return {**best_figures(words, self.rewarded(objects), k=k), "unique": len(set(words)) / n}

    def _drawn(self, n: int) -> Trajectories:
        return self.sampler.sample(n, generator=torch.Generator().manual_seed(self.seed))

    def _likelihood(self, objects: Columns) -> Likelihood:
        draws = 1 if self.sampler.environment.back_actions == 1 else self.draws
        return log_probability(self.sampler, objects, draws=draws, generator=torch.Generator().manual_seed(self.seed))
