"""What every task can be told of the engine that runs it. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import tyro

Engine = Literal["inline", "ray"]


@dataclass(frozen=True)
class Processes:
    """The settings of the engine; `--engine`, `--searchers` and `--address` are flags of every task."""

    engine: Annotated[Engine, tyro.conf.Suppress] = "inline"
    """what runs searchers and trainer: 'inline', one process; 'ray', processes of this machine or of a cluster"""
    searchers: Annotated[int, tyro.conf.Suppress] = 1
    """ray: processes that draw"""
    address: Annotated[str, tyro.conf.Suppress] = ""
    """ray: of a cluster (default: one is started on this machine, on the loopback alone)"""
    lag: Annotated[int, tyro.conf.Suppress] = 0
    """ray: batches that may be drawn ahead, about the largest staleness (0: as many as searchers)"""
    barrier: Annotated[bool, tyro.conf.Suppress] = False
    """ray: all searchers draw a part of each batch with the weights of its step, and nothing meanwhile"""
    patience: Annotated[float, tyro.conf.Suppress] = 600.0
    """ray: seconds at one batch after which a searcher counts as hung, and is replaced"""
    reward_workers: Annotated[int, tyro.conf.Suppress] = 0
    """ray: processes that call the reward, each object once, kept on disk (0: searchers call it)"""
    reward_timeout: Annotated[float, tyro.conf.Suppress] = 60.0
    """ray: seconds that such a call may take"""
    reward_attempts: Annotated[int, tyro.conf.Suppress] = 4
    """ray: calls of a reward that fails or does not answer, before the run stops"""

    virtual: ClassVar[bool] = False  # whether engine 'inline' has virtual searchers and a lag

    def check_engine(self, batch: int) -> None:
        """Raises a ValueError for settings that do not fit the engine."""
        if self.engine == "ray":
            if self.barrier and batch % self.searchers:
                raise ValueError(f"batch {batch} by {self.searchers} searchers with a barrier: a multiple is expected")
            return
        if self.address or self.barrier or self.reward_workers:
            raise ValueError("address, barrier and reward_workers go with --engine ray")
        if not self.virtual and (self.searchers > 1 or self.lag):
            raise ValueError(f"searchers {self.searchers}, lag {self.lag}: this task has them with --engine ray alone")
