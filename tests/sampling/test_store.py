"""The sum tree against a list, and what a replay's inserts and draws cost as the store grows."""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from equipoise.sampling.replay import Replay, reward_priority
from equipoise.sampling.store import FAN, Slots, SumTree
from equipoise.trajectories import Trajectories, ends

Changes = list[dict[int, int]]
CHANGES = st.lists(st.dictionaries(st.integers(0, 299), st.integers(0, 9), min_size=1, max_size=40), max_size=4)
WEIGHTS = st.lists(st.sampled_from([0.0, 5e-324, 1e-300, 1e-16, 0.1, 1.0, 3.0, 1e16, 1e300]), min_size=1, max_size=99)
UNIFORMS = st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20)


@given(st.integers(1, 300), st.integers(0, 300), CHANGES, UNIFORMS)
def test_the_tree_draws_as_a_running_sum_does(leaves: int, more: int, changes: Changes, at: list[float]) -> None:
    # Whole numbers add up exactly in any order, so that the two must agree to the last leaf.
    tree, naive = SumTree(torch.zeros(leaves)), [0] * leaves
    for change in [{0: 1}, *changes]:
        inside = {leaf: weight for leaf, weight in change.items() if leaf < leaves}
        tree.update(torch.tensor([*inside], dtype=torch.int64), torch.tensor([*inside.values()], dtype=torch.float64))
        for leaf, weight in inside.items():
            naive[leaf] = weight
    tree = tree.extended(leaves + more)
    assert len(tree) == leaves + more and tree.total == sum(naive)
    if sum(naive):
        drawn = tree.draw(torch.tensor(at, dtype=torch.float64)).tolist()
        running = [sum(naive[: leaf + 1]) for leaf in range(leaves)]
        assert drawn == [next(leaf for leaf in range(leaves) if running[leaf] > u * sum(naive)) for u in at]


@given(WEIGHTS, UNIFORMS)
@example([3.0, *[0.0] * (FAN - 1), 2.0**53 + 4, *[0.0] * (FAN - 2)], [])  # 2^53 + 6 less 3 is rounded to 2^53 + 4
def test_a_leaf_of_weight_0_is_never_drawn_whatever_the_rounding(weights: list[float], at: list[float]) -> None:
    weight = torch.tensor([*weights, 1e-3], dtype=torch.float64)
    last = math.nextafter(1.0, 0.0)
    assert (weight[SumTree(weight).draw(torch.tensor([*at, 0.0, last], dtype=torch.float64))] > 0).all()


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=600), st.randoms(use_true_random=False))
def test_the_sums_do_not_depend_on_the_order_of_updates(weights: list[float], random: Any) -> None:
    weight, order = torch.tensor(weights, dtype=torch.float64), list(range(len(weights)))
    random.shuffle(order)
    tree = SumTree(torch.zeros(len(weights)))
    for part in torch.tensor(order).split(7):
        tree.update(part, weight[part])
    assert torch.equal(tree.nodes, SumTree(weight).nodes)


@pytest.mark.parametrize("leaves", [1, 100, 10_000, 1_000_000])
def test_an_update_changes_one_node_a_level_and_levels_are_logarithmic(leaves: int) -> None:
    tree = SumTree(torch.ones(leaves))
    assert len(tree.levels) <= max(1, math.ceil(math.log(leaves, FAN)))
    assert len(tree.nodes) < 1.1 * leaves + FAN * len(tree.levels)
    before = tree.nodes.clone()
    tree.update(torch.tensor([leaves - 1]), torch.tensor([3.0], dtype=torch.float64))
    assert int((tree.nodes != before).sum()) == len(tree.levels)


def allocated(slots: Slots) -> Tensor:
    column: Any = slots.columns[("x",)]
    return column.values


def test_slots_are_made_by_doubling_and_no_wider_than_twice_what_is_used() -> None:
    slots, made = Slots(1000), []
    for first in range(0, 1000, 10):
        slots.write(torch.arange(first, first + 10), {"x": torch.ones((10, first // 10 + 1))})
        made.append((slots.size, allocated(slots).shape[1]))
    assert len(set(size for size, _ in made)) == 8 and made[-1][0] == 1000  # 10, 20, ..., 640, 1000
    assert len(set(width for _, width in made)) == 8 and made[-1][1] == 128
    assert slots.read(torch.tensor([0, 999]))["x"].sum(1).tolist() == [1.0, 100.0]


class Ends:
    """A source of the same end points at every call."""

    def __init__(self, n: int) -> None:
        generator = torch.Generator().manual_seed(0)
        objects = torch.randint(4, (n, 32), generator=generator)
        self.rows = ends(objects, log_reward=torch.randn(n, generator=generator))

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        return self.rows[torch.arange(n)]

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def test_the_cost_of_an_insert_and_of_a_draw_hardly_grows_with_the_store() -> None:
    # 256 times the rows. Measured ratios are about 1; copying or summing the store would make them 30 and more.
    small, large = costs(2**10), costs(2**18)
    for few, many in zip(small, large, strict=True):
        assert many < 6 * few


def costs(stored: int) -> list[float]:
    """Median CPU seconds of an insert into a full store, and of a draw from it, 64 rows each."""
    replay = Replay(Ends(stored), fresh=1.0, capacity=stored, priority=reward_priority)
    generator, found = torch.Generator().manual_seed(0), []
    replay.draw(stored, generator)
    for replay.fresh in (1.0, 0.0):
        times = []
        for _ in range(60):
            began = time.process_time()
            replay.draw(64, generator)
            times.append(time.process_time() - began)
        found.append(statistics.median(times))
    return found
