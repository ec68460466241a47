"""Local search: objects are taken apart by a few steps of the backward policy, and rebuilt by the forward one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from equipoise.contracts import ON_POLICY, Behaviour, Reward, Sampler, Source
from equipoise.sampling.rollouts import rewarded
from equipoise.trajectories import Scores, Trajectories, concatenate

Accept = Callable[[Tensor, Tensor], Tensor]
"""(gain, uniform) -> (n,) bool: gain is log R' - log R, and for Metropolis-Hastings the log-ratio of the proposals."""


class LocalSearch:
    """A source that draws n / (rounds + 1) objects from another and searches around them for as many rounds.

    A round draws a path back from each object x, keeps all but its last `steps` steps, and completes it to x'. Every
    proposal is given to the training, accepted or not; what is accepted is where the next round begins. Each proposal
    costs a call of the reward, so that a draw of n costs n, as rollouts do.

    `deterministic` accepts where R(x') > R(x). `metropolis_hastings` accepts with probability
    min(1, R(x') q(x|x') / (R(x) q(x'|x))), q(x'|x) the backward steps' probability times the forward ones', of the
    paths that were drawn: then the objects' stationary law is R / Z, whatever the policies are.

    Source: Kim et al. 2024, "Local search GFlowNets", arXiv:2310.02710 (7 rounds). Their stochastic filter takes
    Barker's probability, a / (1 + a), where this takes min(1, a); both leave the same law.

    Args:
        inner: source of the objects it begins with: rollouts.
        sampler: takes apart and rebuilds.
        reward: (objects, context) -> (n,) log-reward.
        rounds: of search, at least 1.
        steps: taken back, at least 1; from shorter paths, all.
        accept: "deterministic" or "metropolis_hastings".
        beta: exponent of the reward in the acceptance.
        behaviour: exploration while rebuilding, by the sampler's version; deterministic search alone.

    Raises:
        ValueError: arguments out of range; in `draw`, as for `Rollouts`.

    Example:
        >>> from equipoise.discrete.environments.hypergrid import Hypergrid, corners
        >>> from equipoise.discrete.policies.mlp import MLP
        >>> from equipoise.discrete.sampler import DiscreteSampler
        >>> from equipoise.sampling.rollouts import Rollouts
        >>> grid, reward = Hypergrid(dim=2, side=8), corners(8)
        >>> sampler = DiscreteSampler(grid, MLP(grid.features, (32,), {"forward": grid.actions}))
        >>> search = LocalSearch(Rollouts(sampler, reward), sampler, reward, rounds=3, steps=2)
        >>> len(search.draw(16, torch.Generator().manual_seed(0)))
        16

    Use it where good objects lie near one another. Deterministic search does not preserve the target's proportions: it
    shapes what is trained on, never what is trained towards.
    """

    def __init__(
        self,
        inner: Source,
        sampler: Sampler,
        reward: Reward,
        *,
        rounds: int = 7,
        steps: int = 4,
        accept: str = "deterministic",
        beta: float = 1.0,
        behaviour: Callable[[int], Behaviour] = lambda version: ON_POLICY,
    ) -> None:
        if rounds < 1 or steps < 1:
            raise ValueError(f"rounds {rounds}, steps {steps}: at least 1 of each was expected")
        if accept not in ACCEPT:
            raise ValueError(f"accept is '{accept}': one of {', '.join(ACCEPT)} was expected")
        self.inner, self.sampler, self.reward = inner, sampler, reward
        self.rounds, self.steps, self.accept, self.beta, self.behaviour = rounds, steps, accept, beta, behaviour
        # Proposals have no values that the inner source fixes on its own rows.
        self.provides = frozenset[str]()

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """n trajectories: the beginnings first, then the proposals, round by round."""
        now = replace(self.inner.draw(-(-n // (self.rounds + 1)), generator), fixed={})
        parts, left = [now], n - len(now)
        while left:
            now, proposed = self._round(now[torch.arange(min(left, len(now)))], generator)
            parts.append(proposed)
            left -= len(proposed)
        return concatenate(parts)

    def _round(self, now: Trajectories, generator: torch.Generator) -> tuple[Trajectories, Trajectories]:
        """One proposal for each row; where the search goes on, and the proposals."""
        walked = self.sampler.sample_to(now, generator=generator)
        keep = (walked.length - self.steps).clamp(min=0)
        exact = self.accept == "metropolis_hastings"
        behaviour = ON_POLICY if exact else self.behaviour(int(self.sampler.version))
        found = self.sampler.sample(
            len(now), context=now.context, behaviour=behaviour, start=walked, keep=keep, generator=generator
        )
        log_reward = rewarded(self.reward, found.objects, now.context, len(now)).float()
        found = replace(found, log_reward=log_reward, group=now.group, fixed={})
        assert now.log_reward is not None
        gain = self.beta * (log_reward - now.log_reward)
        if exact:
            gain = gain + self._log_proposals(walked, found, keep)
        taken = ACCEPT[self.accept](gain, torch.rand(len(now), generator=generator))
        order = torch.where(taken, torch.arange(len(now)) + len(now), torch.arange(len(now)))
        return concatenate([walked, found])[order], found

    @torch.no_grad()
    def _log_proposals(self, walked: Trajectories, found: Trajectories, keep: Tensor) -> Tensor:
        """log q(x|x') - log q(x'|x) of the drawn paths, (n,); -inf where the way back cannot be proposed."""
        needs = frozenset({"log_pf", "log_pb"})
        old, new = self.sampler.score(walked, needs), self.sampler.score(found, needs)
        back = _after(new, "log_pb", keep) + _after(old, "log_pf", keep)
        there = _after(old, "log_pb", keep) + _after(new, "log_pf", keep)
        # From x' as many steps are taken back: they reach the same state only where the paths are of one length.
        same = (found.length - self.steps).clamp(min=0) == keep
        return torch.where(same, back - there, -torch.inf)

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """The inner source is told; proposals are rows of nobody."""
        self.inner.observe(trajectories, residual)

    def state_dict(self) -> dict[str, Any]:
        return {"inner": self.inner.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.inner.load_state_dict(state["inner"])


def better(gain: Tensor, uniform: Tensor) -> Tensor:
    """Whether the reward is larger."""
    return gain > 0


def metropolis(gain: Tensor, uniform: Tensor) -> Tensor:
    """Whether uniform < min(1, exp(gain)).

    Example:
        >>> metropolis(torch.tensor([0.0, -1.0, -torch.inf]), torch.tensor([0.999, 0.36, 0.0])).tolist()
        [True, True, False]
    """
    return uniform < gain.exp()


ACCEPT: dict[str, Accept] = {"deterministic": better, "metropolis_hastings": metropolis}


def _after(scores: Scores, name: str, keep: Tensor) -> Tensor:
    """The sum of a score over the steps that were not kept, (n,)."""
    value = scores.get(name).double()
    return (value * (torch.arange(value.shape[1]) >= keep[:, None])).sum(1)
