"""Staleness by a virtual clock: lag k is exactly k, searchers deliver when they are due, work in flight is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from equipoise.contracts import Source
from equipoise.sampling.delayed import Delayed, Searchers
from equipoise.trajectories import Trajectories, ends, from_bytes, to_bytes
from sampling.streams import seeded


class Clocked:
    """Stamps rows with the version of a sampler that is trained once after each draw."""

    provides = frozenset[str]()

    def __init__(self) -> None:
        self.version, self.count = 0, 0

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        rows = ends(torch.rand((n, 1), generator=generator), log_reward=torch.zeros(n))
        self.count += n
        return Trajectories(**{**vars(rows), "version": torch.full((n,), self.version)})

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """Nothing is kept."""

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


def staleness(source: Source, clocked: Clocked, n: int, steps: int) -> list[list[int]]:
    """How old each row of each draw is; the version rises after every draw."""
    generator, found = seeded(), []
    for step in range(steps):
        clocked.version = step
        found.append((step - source.draw(n, generator).version).tolist())
    return found


@pytest.mark.parametrize("lag", [0, 1, 5])
def test_a_lag_of_k_is_exactly_k(lag: int) -> None:
    clocked = Clocked()
    found = staleness(Delayed(clocked, lag), clocked, 3, 20)
    assert found == [[min(step, lag)] * 3 for step in range(20)]


def test_lag_zero_is_the_inner_source() -> None:
    plain, delayed = Clocked(), Clocked()
    one, other = seeded(), seeded()
    source = Delayed(delayed, 0)
    for _ in range(5):
        assert to_bytes(plain.draw(4, one)) == to_bytes(source.draw(4, other))
    assert torch.equal(one.get_state(), other.get_state())


@pytest.mark.parametrize(("count", "period", "lag"), [(1, 1, 3), (1, 4, 0), (2, 4, 0), (4, 4, 2), (3, 5, 1)])
@pytest.mark.parametrize("staggered", [True, False])
def test_searchers_deliver_what_is_due(count: int, period: int, lag: int, staggered: bool) -> None:
    clocked = Clocked()
    source = Searchers(clocked, count, period=period, lag=lag, staggered=staggered)
    steps = 6 * (period + lag)
    found = staleness(source, clocked, 2 * count, steps)
    settled = [entry for ages in found[2 * (period + lag) :] for entry in ages]
    assert min(settled) == lag and max(settled) == lag + period - 1
    for age in range(lag, lag + period):  # every age is as frequent as the others
        assert abs(settled.count(age) / len(settled) - 1 / period) < 0.12
    if staggered and count == period:
        assert all(sorted(set(ages)) == list(range(lag, lag + period)) for ages in found[2 * (period + lag) :])


def test_one_searcher_that_pulls_every_tick_is_a_plain_lag() -> None:
    first, second = Clocked(), Clocked()
    assert staleness(Searchers(first, 1, lag=3), first, 2, 12) == staleness(Delayed(second, 3), second, 2, 12)


def source_of(kind: str, clocked: Clocked) -> Source:
    return Delayed(clocked, 3) if kind == "delayed" else Searchers(clocked, 2, period=4, lag=1)


@pytest.mark.parametrize("kind", ["delayed", "searchers"])
def test_work_in_flight_is_part_of_the_state(kind: str) -> None:
    clocked = Clocked()
    source, generator = source_of(kind, clocked), seeded()
    for step in range(7):
        clocked.version = step
        source.draw(4, generator)
    saved = from_bytes(to_bytes({"source": source.state_dict(), "generator": generator.get_state()}))
    again, other = Clocked(), seeded()
    resumed = source_of(kind, again)
    resumed.load_state_dict(saved["source"])
    other.set_state(saved["generator"])
    for step in range(7, 20):
        clocked.version = again.version = step
        assert to_bytes(source.draw(4, generator)) == to_bytes(resumed.draw(4, other))
    assert clocked.count == again.count


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="lag is -1"):
        Delayed(Clocked(), -1)
    with pytest.raises(ValueError, match="0 searchers"):
        Searchers(Clocked(), 0)
    with pytest.raises(ValueError, match="period 0"):
        Searchers(Clocked(), 1, period=0)
    with pytest.raises(ValueError, match="a multiple of their number"):
        Searchers(Clocked(), 3).draw(4, seeded())
    source = Delayed(Clocked(), 1)
    source.draw(4, seeded())
    with pytest.raises(ValueError, match="4 are in flight"):
        source.draw(5, seeded())
    with pytest.raises(ValueError, match="this one has"):
        source.load_state_dict(Delayed(Clocked(), 2).state_dict())
