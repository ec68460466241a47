"""Staleness by a virtual clock: what asynchronous searchers would have delivered, in one process, from a seed.

A draw is one tick. Work is drawn when its searcher pulls weights, and delivered when it is due, so that work in flight
is trajectories: no copy of weights is kept, and a checkpoint holds it like anything else.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from equipoise.contracts import Source
from equipoise.trajectories import Trajectories, concatenate


class Delayed:
    """A source whose draws come `lag` draws later: every batch is exactly `lag` optimiser steps old.

    At the first draw the lag + 1 batches that are due up to then are all drawn, with the weights of the beginning, so
    that the first `lag` deliveries are 0, 1, ... steps old. With lag 0 it is the inner source.

    Source: the constant off-policyness of prime-rl, with which Bartoldson et al., 2025, arXiv 2503.18929, section 6,
    trained TBA'.

    Args:
        inner: draws.
        lag: draws between drawing and delivery, not negative.

    Raises:
        ValueError: a negative lag; in `draw`, another number of trajectories than before.

    Example:
        >>> from equipoise.sampling.given import Data
        >>> source = Delayed(Data(torch.arange(8.0)[:, None]), lag=2)
        >>> len(source.draw(4, torch.Generator().manual_seed(0))), len(source.flight)
        (4, 2)
    """

    def __init__(self, inner: Source, lag: int) -> None:
        if lag < 0:
            raise ValueError(f"lag is {lag}: a number of steps, at least 0, was expected")
        self.inner, self.lag = inner, lag
        self.flight: list[Trajectories] = []
        self.provides: frozenset[str] = getattr(inner, "provides", frozenset())

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """The batch that was drawn `lag` draws ago."""
        while len(self.flight) <= self.lag:
            self.flight.append(self.inner.draw(n, generator))
        delivered = self.flight.pop(0)
        if len(delivered) != n:
            raise ValueError(f"{n} trajectories were asked for, and {len(delivered)} are in flight: ask for as many")
        return delivered

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """The inner source is told, as late as its rows came."""
        self.inner.observe(trajectories, residual)

    def state_dict(self) -> dict[str, Any]:
        """The inner source's state, and the work in flight."""
        return {"inner": self.inner.state_dict(), "flight": list(self.flight), "lag": self.lag}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where `state_dict` was called.

        Raises:
            ValueError: the state is that of another lag.
        """
        _same({"lag": self.lag}, state)
        self.inner.load_state_dict(state["inner"])
        self.flight = list(state["flight"])


class Searchers:
    """Several virtual searchers, which pull weights every `period` ticks, one after another, and work between pulls.

    At each tick every searcher delivers n / count trajectories. What it will deliver until its next pull is drawn at
    the pull, with the weights of then, and is under way for `lag` ticks; so a delivery is between lag and
    lag + period - 1 steps old, and searchers that are out of step with each other have different ages. One searcher
    with period 1 is `Delayed`.

    Source: the searchers of Bartoldson et al., 2025, arXiv 2503.18929, section 4, whose pulls all come at once.

    Args:
        inner: draws for all of them.
        count: searchers, at least 1.
        period: ticks between two pulls of a searcher, at least 1.
        lag: ticks that work is under way, not negative.
        staggered: searcher i pulls i * period / count ticks after the first; else all pull at once.

    Raises:
        ValueError: numbers out of range; in `draw`, an n that `count` does not divide.

    Example:
        >>> from equipoise.sampling.given import Data
        >>> source = Searchers(Data(torch.arange(8.0)[:, None]), count=2, period=4)
        >>> len(source.draw(4, torch.Generator().manual_seed(0)))
        4
    """

    def __init__(self, inner: Source, count: int, *, period: int = 1, lag: int = 0, staggered: bool = True) -> None:
        if count < 1 or period < 1 or lag < 0:
            raise ValueError(
                f"{count} searchers, period {period}, lag {lag}: at least 1 searcher, period 1 and lag 0 were expected"
            )
        self.inner, self.count, self.period, self.lag, self.staggered = inner, count, period, lag, staggered
        self.clock = 0
        self.flight: list[list[Trajectories]] = [[] for _ in range(count)]
        self.provides: frozenset[str] = getattr(inner, "provides", frozenset())

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """One delivery of every searcher, in their order."""
        if n % self.count or not n:
            raise ValueError(f"{n} trajectories of {self.count} searchers: a multiple of their number was expected")
        delivered = [self._delivery(searcher, n // self.count, generator) for searcher in range(self.count)]
        self.clock += 1
        return concatenate(delivered)

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """The inner source is told, as late as its rows came."""
        self.inner.observe(trajectories, residual)

    def state_dict(self) -> dict[str, Any]:
        """The clock, the inner source's state, and the work in flight of each searcher."""
        flight = [list(work) for work in self.flight]
        return {"inner": self.inner.state_dict(), "clock": self.clock, "flight": flight, **self._settings()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where `state_dict` was called.

        Raises:
            ValueError: the state is that of searchers with other settings.
        """
        _same(self._settings(), state)
        self.inner.load_state_dict(state["inner"])
        self.clock = state["clock"]
        self.flight = [list(work) for work in state["flight"]]

    def _delivery(self, searcher: int, n: int, generator: torch.Generator) -> Trajectories:
        work = self.flight[searcher]
        phase = searcher * self.period // self.count if self.staggered else 0
        if self.clock == 0:  # what comes until the first pull is drawn with the weights of the beginning
            work.extend(self.inner.draw(n, generator) for _ in range(self.lag + phase))
        if (self.clock - phase) % self.period == 0 and self.clock >= phase:
            work.extend(self.inner.draw(n, generator) for _ in range(self.period))
        return work.pop(0)

    def _settings(self) -> dict[str, Any]:
        return {"count": self.count, "period": self.period, "lag": self.lag, "staggered": self.staggered}


def _same(settings: dict[str, Any], state: dict[str, Any]) -> None:
    given = {name: state.get(name) for name in settings}
    if given != settings:
        raise ValueError(f"the state is of a source with {given}; this one has {settings}")
