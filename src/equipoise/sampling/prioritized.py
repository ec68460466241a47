"""Prioritised replay training: half of what is replayed from the best objects seen, half from the others."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.contracts import Sampler, Source
from equipoise.sampling.replay import Replay
from equipoise.trajectories import Trajectories


class PercentileReplay(Replay):
    """A replay whose draws are split at a percentile of the rewards that it holds.

    Of m replayed rows, round(fraction * m) are drawn uniformly from the rows with log R at or above the percentile, the
    others uniformly from those at or below it, all with replacement. Rows tied at the percentile belong to both.

    Source: Shen et al. 2023, "Towards understanding and improving GFlowNet training", arXiv:2305.07170, section 4.1
    and appendix B: the best 10 % make up half of a replayed batch, and each object is kept once, its path drawn anew
    from the backward policy.

    Args:
        inner: source of new trajectories.
        fresh: share of a draw that comes from `inner`, in [0, 1]; the paper's rounds of 16 new and 16 replayed rows
            are 0.5.
        capacity: most rows that are stored.
        percentile: of the stored rewards, where the best begin, in (0, 1); the paper's 0.9.
        fraction: share of the replayed rows that comes from the best, in [0, 1]; the paper's 0.5.
        again: draws a path to each stored object anew; None: whole trajectories are stored.

    Raises:
        ValueError: arguments out of range; in `draw`, as for `Replay`.

    Example:
        >>> from equipoise.discrete.environments.hypergrid import Hypergrid, corners
        >>> from equipoise.discrete.policies.mlp import MLP
        >>> from equipoise.discrete.sampler import DiscreteSampler
        >>> from equipoise.sampling.rollouts import Rollouts
        >>> grid = Hypergrid(dim=2, side=8)
        >>> sampler = DiscreteSampler(grid, MLP(grid.features, (32,), {"forward": grid.actions}))
        >>> rollouts = Rollouts(sampler, corners(8))
        >>> replay = PercentileReplay(rollouts, fresh=0.5, capacity=1000, fraction=1.0, again=sampler)
        >>> generator = torch.Generator().manual_seed(0)
        >>> first = replay.draw(64, generator)  # nothing is stored yet: all are new
        >>> drawn = replay.draw(8, generator)
        >>> bool(drawn.log_reward[4:].min() >= first.log_reward.quantile(0.5))
        True

    Use it where good objects are rare among what is drawn. A fraction near 1 forgets the rest of the space, whose mass
    then goes astray.
    """

    def __init__(
        self,
        inner: Source,
        *,
        fresh: float,
        capacity: int,
        percentile: float = 0.9,
        fraction: float = 0.5,
        again: Sampler | None = None,
    ) -> None:
        if not 0.0 < percentile < 1.0 or not 0.0 <= fraction <= 1.0:
            raise ValueError(
                f"percentile {percentile}, fraction {fraction}: inside (0, 1), and in [0, 1], were expected"
            )
        # A path is kept with its object where it is not drawn anew: then each is a row of its own.
        super().__init__(inner, fresh=fresh, capacity=capacity, again=again, distinct=again is not None)
        self.percentile, self.fraction = percentile, fraction

    def _replayed(self, groups: int, generator: torch.Generator) -> Trajectories:
        best, others = split_at(self._log_rewards(), self.percentile)
        count = round(self.fraction * groups)
        rows = self._read(torch.cat([_drawn(best, count, generator), _drawn(others, groups - count, generator)]))
        return rows if self.again is None else self.again.sample_to(rows, generator=generator)

    def _log_rewards(self) -> Tensor:
        held = self._slots.numbers(("log_reward",), torch.arange(len(self)))
        assert held is not None
        return held


def split_at(value: Tensor, percentile: float) -> tuple[Tensor, Tensor]:
    """Places of the values at or above a percentile, and of those at or below it; neither is ever empty.

    Args:
        value: (n,), n at least 1.
        percentile: in (0, 1).

    Example:
        >>> best, others = split_at(torch.tensor([5.0, 1.0, 3.0, 4.0, 2.0]), 0.75)
        >>> best.tolist(), others.tolist()
        ([0, 3], [1, 2, 3, 4])
    """
    least = value.kthvalue(1 + int(percentile * (len(value) - 1))).values
    return (value >= least).nonzero()[:, 0], (value <= least).nonzero()[:, 0]


def _drawn(places: Tensor, n: int, generator: torch.Generator) -> Tensor:
    return places[torch.randint(len(places), (n,), generator=generator)]
