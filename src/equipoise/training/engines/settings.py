"""What an engine of several processes is told. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How searchers and learner work together.

    Attributes:
        searchers: processes that draw, at least 1.
        ahead: most batches that may be drawn or under way beyond the one that is trained on: about the largest
            staleness in steps; 0: searchers wait for each step's weights.
        barrier: each step's batch is drawn in equal parts by all searchers with that step's weights, and nothing is
            drawn meanwhile; the result is then a function of the seed alone.
        patience: seconds that one batch may take before its searcher counts as hung.
        address: of a Ray cluster; "": one is started on this machine, bound to the loopback alone.
        reward_workers: processes that call the reward; 0: each searcher calls it itself.
        reward_timeout: seconds that a call of the reward may take there.
        reward_attempts: calls before the run stops.

    Raises:
        ValueError: a number out of its range.
    """

    searchers: int = 1
    ahead: int = 1
    barrier: bool = False
    patience: float = 600.0
    address: str = ""
    reward_workers: int = 0
    reward_timeout: float = 60.0
    reward_attempts: int = 4

    def __post_init__(self) -> None:
        if self.searchers < 1 or self.ahead < 0 or self.reward_workers < 0 or self.reward_attempts < 1:
            raise ValueError(
                f"searchers {self.searchers}, ahead {self.ahead}, reward_workers {self.reward_workers}, "
                f"reward_attempts {self.reward_attempts}: at least 1, 0, 0 and 1 were expected"
            )
        if not self.patience > 0 or not self.reward_timeout > 0:
            raise ValueError(
                f"patience {self.patience} s, reward_timeout {self.reward_timeout} s: positive seconds were expected"
            )
