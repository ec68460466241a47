"""Contract: a replay gives back what it was given, by priority, in whole groups, and resumes bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from equipoise.contracts import Source
from equipoise.discrete.environments.hypergrid import Hypergrid, corners
from equipoise.discrete.environments.strings import PrependAppendStrings
from equipoise.discrete.policies.mlp import MLP
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.sampling.replay import Priority, Replay, reward_priority, uniform
from equipoise.sampling.rollouts import Rollouts
from equipoise.trajectories import Columns, Fixed, Trajectories, ends, from_bytes, to_bytes
from sampling.streams import Stream, everything, filled, insert, numbers, points, replayed, seeded


def assert_follows(count: Tensor, weight: Tensor) -> None:
    """Chi-square against expected counts: mean dof, variance 2 dof; 5 standard deviations are let through."""
    expected = weight.double() / weight.sum() * count.sum()
    inside = expected > 0
    assert not count[~inside].any()
    dof = int(inside.sum()) - 1
    statistic = float(((count - expected)[inside] ** 2 / expected[inside]).sum())
    assert statistic < dof + 5 * (2 * dof) ** 0.5


@pytest.mark.parametrize("priority", [uniform, reward_priority])
def test_draws_follow_the_priorities(priority: Priority) -> None:
    replay, _ = filled(60, priority=priority)
    drawn = numbers(replayed(replay, 30_000))
    assert_follows(drawn.bincount(minlength=60), priority(points(torch.arange(60)), None))


def test_a_group_is_drawn_whole_by_the_mean_of_its_rows() -> None:
    replay, _ = filled(60, priority=reward_priority, group_size=3)
    drawn = replayed(replay, 30_000)
    rows = numbers(drawn).view(-1, 3)
    assert torch.equal(rows, rows[:, :1] + torch.arange(3)) and not (rows[:, 0] % 3).any()
    assert torch.equal(drawn.group.view(-1, 3), (rows // 3 % 7))
    weight = reward_priority(points(torch.arange(60)), None).view(-1, 3).mean(1)
    assert_follows((rows[:, 0] // 3).bincount(minlength=20), weight)


def test_a_loss_gives_the_rows_that_it_saw_new_priorities() -> None:
    def surprise(rows: Trajectories, residual: Tensor | None) -> Tensor:
        return torch.ones(len(rows)) if residual is None else residual.abs()

    replay, _ = filled(40, priority=surprise)
    seen = replay.draw(40, seeded(1))
    assert len(seen.key.unique()) < 40
    residual = -torch.rand(40, generator=seeded(2))
    replay.observe(seen, residual)
    weight = torch.ones(40)
    for row, value in zip(numbers(seen).tolist(), residual.tolist(), strict=True):
        weight[row] = -value  # the last of a row's residuals counts
    assert_follows(numbers(replayed(replay, 30_000)).bincount(minlength=40), weight)


def test_new_rows_come_first_and_the_rest_from_the_store() -> None:
    stream = Stream(points)
    replay = Replay(stream, fresh=0.25, capacity=100)
    assert numbers(replay.draw(8, seeded())).tolist() == list(range(8))  # nothing to draw from yet
    drawn = replay.draw(10, seeded(1))  # wants 8 of the store, which holds 8
    assert numbers(drawn)[:2].tolist() == [8, 9] and (numbers(drawn)[2:] < 10).all()
    assert torch.equal(drawn.key, numbers(drawn)) and len(replay) == 10
    replay.draw(15, seeded())  # wants 11 of the store, which holds 10
    assert len(replay) == stream.count == 25


def test_the_oldest_groups_are_overwritten_and_keys_are_never_used_twice() -> None:
    replay, stream = filled(12, capacity=11, group_size=2)  # room for five groups
    insert(replay, 4)
    assert len(replay) == 10
    drawn = replayed(replay, 1000)
    assert set(numbers(drawn).tolist()) == set(range(6, 16))
    assert torch.equal(drawn.key, numbers(drawn))
    assert insert(replay, 24).key.tolist() == list(range(16, 40))  # more than there is room for
    assert set(numbers(replayed(replay, 1000)).tolist()) == set(range(30, 40))
    assert stream.count == 40


def test_renewed_values_are_kept_by_key() -> None:
    replay, _ = filled(9, capacity=9, rows=everything)
    drawn = replayed(replay, 64)
    value = drawn.key[:, None] + torch.arange(drawn.steps) / 8
    version = torch.where(drawn.key % 3 == 0, -1, 5)
    replay.observe(replace(drawn, fixed={"log_prior": Fixed(value, version)}), None)
    again = replayed(replay, 64, seed=2)
    held = again.fixed["log_prior"]
    assert torch.equal(held.version, torch.where(again.key % 3 == 0, -1, 5))
    inside = (torch.arange(again.steps) < again.length[:, None]) & (again.key % 3 > 0)[:, None]
    assert torch.equal(held.value[inside], (again.key[:, None] + torch.arange(again.steps) / 8)[inside])
    assert set(again.fixed) == {"log_guide", "log_reward_state", "log_prior"}
    insert(replay, 5)
    replay.observe(replace(drawn, fixed={"log_prior": Fixed(value, version + 1)}), None)  # keys below 5 are gone
    last = replayed(replay, 64, seed=3)
    assert (last.key >= 5).all()
    expected = torch.where(last.key > 8, -1, torch.where(last.key == 6, 0, 6))
    assert torch.equal(last.fixed["log_prior"].version, expected)


def test_values_renewed_for_short_rows_alone_are_padded_to_the_others() -> None:
    replay, _ = filled(9, rows=everything)
    drawn = replayed(replay, 64)
    short = drawn[drawn.length < 4]
    replay.observe(replace(short, fixed={"log_prior": Fixed(torch.ones((len(short), short.steps)), short.key)}), None)
    older = Fixed(torch.zeros((len(drawn), drawn.steps)), torch.where(drawn.length < 4, drawn.key - 1, -1))
    replay.observe(replace(drawn, fixed={"log_prior": older}), None)  # of an older version or absent: not kept
    again = replay.draw(9, seeded(2))
    held = again.fixed["log_prior"]
    assert torch.equal(held.version, torch.where(again.length < 4, again.key, -1))
    assert held.value.shape == again.path["action"].shape
    assert torch.equal(held.value[:, :3], (again.length < 4).float()[:, None].expand(-1, 3)) and again.steps > 3
    assert not held.value[:, 3:].any()


def test_all_rows_reach_the_inner_source_under_its_own_keys() -> None:
    replay, stream = filled(6, capacity=4)
    rows = replayed(replay, 4)[torch.tensor([0, 1, 2, 3, 0])]
    strange = replace(rows, key=torch.tensor([-1, 0, 3, 5, 6]))  # nobody's, overwritten, stored, stored, not given yet
    residual = torch.rand(5)
    replay.observe(strange, residual)
    told, told_residual = stream.told[-1]
    assert told.key.tolist() == [-1, -1, 1003, 1005, -1]
    assert torch.equal(numbers(told), numbers(rows)) and told_residual is residual


def test_replays_nest() -> None:
    inner, stream = filled(40, capacity=50, priority=reward_priority)
    outer = Replay(inner, fresh=1.0, capacity=20)
    drawn = outer.draw(30, seeded(1))
    assert drawn.key.tolist() == list(range(30))
    outer.observe(drawn, None)
    assert torch.equal(stream.told[-1][0].key[10:], numbers(drawn)[10:] + 1000)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=8), st.integers(1, 12), st.integers(0, 99))
def test_rows_come_out_as_they_went_in_however_wide(batches: list[int], capacity: int, seed: int) -> None:
    replay, stream = filled(batches[0], rows=everything, capacity=capacity)
    for n in batches[1:]:
        insert(replay, n)
    drawn = replayed(replay, 3, seed)
    first = [sum(batches[:i]) for i in range(len(batches) + 1)]
    for row in range(min(3, len(drawn))):
        number = int(drawn.key[row])
        assert number >= stream.count - capacity
        batch = max(i for i in range(len(batches)) if first[i] <= number)
        inserted = everything(torch.arange(first[batch], first[batch + 1]))[torch.tensor([number - first[batch]])]
        assert_same_row(drawn[torch.tensor([row])], replace(inserted, key=torch.tensor([number])))


def place_of(rows: Trajectories) -> Tensor:
    columns: Any = rows.context
    return columns["deep"]["place"]


def assert_same_row(found: Trajectories, row: Trajectories) -> None:
    assert torch.equal(found.group, row.group % 7)
    place, original = place_of(found), place_of(row)
    assert torch.equal(place[..., : original.shape[-1]], original) and not place[..., original.shape[-1] :].any()
    for name in set(found.fixed) - set(row.fixed):
        assert found.fixed[name].version.tolist() == [-1] and not found.fixed[name].value.any()
    fixed = {name: found.fixed[name] for name in row.fixed}
    same = replace(found, group=row.group, context=None, fixed=fixed)
    assert to_bytes(vars(same)) == to_bytes(vars(replace(row, context=None)))


def grid(seed: int = 0) -> DiscreteSampler:
    torch.manual_seed(seed)
    environment = Hypergrid(dim=2, side=6)
    return DiscreteSampler(environment, MLP(environment.features, (16,), {"forward": environment.actions}))


def grouped_stream() -> Replay:
    return Replay(Stream(everything, 2), fresh=0.5, capacity=9, priority=reward_priority_of_residual, group_size=2)


def reward_priority_of_residual(rows: Trajectories, residual: Tensor | None) -> Tensor:
    return torch.full((len(rows),), 0.5) if residual is None else residual.square()


def nested_rollouts() -> Replay:
    sampler = grid()
    inner = Replay(Rollouts(sampler, corners(6)), fresh=0.7, capacity=30, again=sampler, distinct=True)
    return Replay(inner, fresh=0.5, capacity=10, again=sampler, priority=reward_priority)


@pytest.mark.parametrize("make", [grouped_stream, nested_rollouts])
@pytest.mark.parametrize("before", [0, 1, 4, 9])
def test_a_resumed_replay_goes_on_bit_for_bit(make: Callable[[], Replay], before: int) -> None:
    replay, generator = make(), seeded()

    def advance(source: Source, generator: torch.Generator) -> Trajectories:
        drawn = source.draw(8, generator)
        value = torch.rand((8, drawn.steps), generator=generator)
        fixed = {**drawn.fixed, "log_prior": Fixed(value, torch.full((8,), int(value[0, 0] * 3)))}
        source.observe(replace(drawn, fixed=fixed), torch.rand(8, generator=generator))
        return drawn

    for _ in range(before):
        advance(replay, generator)
    resumed, other = make(), seeded()
    resumed.load_state_dict(from_bytes(to_bytes(replay.state_dict())))
    other.set_state(generator.get_state())
    for _ in range(8):
        assert to_bytes(advance(replay, generator)) == to_bytes(advance(resumed, other))
    assert to_bytes(replay.state_dict()) == to_bytes(resumed.state_dict())


def test_paths_drawn_again_end_in_the_stored_objects() -> None:
    environment = PrependAppendStrings(letters=3, length=4)
    sampler = DiscreteSampler(environment, MLP(environment.features, (8,), {"forward": environment.actions}))

    def reward(objects: Columns, context: Columns) -> Tensor:
        assert isinstance(objects, Tensor)
        return objects.sum(1).float()

    replay = Replay(Rollouts(sampler, reward), fresh=1.0, capacity=50, again=sampler)
    first = insert(replay, 50)
    sampler.version += 3
    drawn = replayed(replay, 400)
    rows = drawn.key
    assert isinstance(drawn.objects, Tensor) and isinstance(first.objects, Tensor) and first.log_reward is not None
    assert torch.equal(drawn.objects, first.objects[rows])
    assert torch.equal(environment.objects(drawn.path["state"][torch.arange(400), drawn.length]), drawn.objects)
    assert drawn.log_reward is not None and torch.equal(drawn.log_reward, first.log_reward[rows])
    assert (drawn.version == 3).all()
    assert (drawn.path["action"] != first.path["action"][rows]).any()


def test_what_a_source_fixes_is_promised_only_with_the_path_it_belongs_to() -> None:
    assert Replay(Stream(points), fresh=0.5, capacity=9).provides == {"log_reward_state"}
    assert Replay(Stream(points), fresh=0.5, capacity=9, again=grid()).provides == frozenset()


@pytest.mark.parametrize("kind", ["numbers", "strings", "both"])
def test_distinct_objects_are_stored_once(kind: str) -> None:
    def rows(number: Tensor) -> Trajectories:
        place = number // 100 * 100 + number % 10  # ten objects to a hundred numbers
        tensor, names = place[:, None].expand(-1, int(number[0]) % 3 + 1), tuple(map(str, place.tolist()))
        tensor = tensor * torch.eye(1, tensor.shape[1], dtype=torch.int64)  # padded as it happens
        objects: dict[str, Columns] = {"numbers": tensor, "strings": names, "both": {"a": tensor, "b": names}}
        return ends(objects[kind], log_reward=number.float())

    stream = Stream(rows, group_size=1000)
    replay = Replay(stream, fresh=1.0, capacity=12, distinct=True)
    keys = torch.cat([replay.draw(7, seeded()).key for _ in range(4)])
    assert keys.tolist() == [*range(10), *[-1] * 18] and len(replay) == 10
    stream.count = 100
    assert replay.draw(10, seeded()).key.tolist() == [*range(10, 20)]
    stream.count = 1  # objects 0 to 7 have been overwritten
    assert replay.draw(10, seeded()).key.tolist() == [*range(20, 27), -1, -1, 27]
    stream.group_size, stream.count = 1, 7  # the same objects of another group
    assert replay.draw(3, seeded()).key.tolist() == [-1, 28, 29]


class Short(Stream):
    """Draws one row too few."""

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        return super().draw(n - 1, generator)


def refused(change: Callable[[Trajectories], Any], **options: Any) -> None:
    Replay(Stream(lambda number: change(points(number))), fresh=1.0, capacity=9, **options).draw(6, seeded())


def test_what_cannot_be_honoured_is_an_error() -> None:
    for fresh in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="fresh is"):
            Replay(Stream(points), fresh=fresh, capacity=9)
    for size in (0, 10):
        with pytest.raises(ValueError, match=f"group_size {size} and capacity 9"):
            Replay(Stream(points), fresh=0.5, capacity=9, group_size=size)
    with pytest.raises(ValueError, match="use groups of one"):
        Replay(Stream(points), fresh=0.5, capacity=9, group_size=3, distinct=True)
    for n in (0, 4):
        with pytest.raises(ValueError, match=f"{n} trajectories were asked for"):
            Replay(Stream(points), fresh=0.5, capacity=9, group_size=3).draw(n, seeded())
    with pytest.raises(ValueError, match=r"with {'capacity': 9, .* this one has {'capacity': 8, "):
        Replay(Stream(points), fresh=0.5, capacity=8).load_state_dict(filled(3, capacity=9)[0].state_dict())


def test_rows_that_cannot_be_stored_are_an_error() -> None:
    with pytest.raises(ValueError, match="gave no log_reward"):
        refused(lambda rows: replace(rows, log_reward=None))
    with pytest.raises(ValueError, match="drew 5 rows where 6 were asked for"):
        Replay(Short(points), fresh=1.0, capacity=9).draw(6, seeded())
    with pytest.raises(ValueError, match=r"rows 2 to 3 have the groups \[0, 1\]"):
        Replay(Stream(points, 3), fresh=1.0, capacity=9, group_size=2).draw(6, seeded())
    replay, _ = filled(3)
    replay.inner = Stream(lambda number: replace(points(number), context=number))
    with pytest.raises(ValueError, match="'context' is a tensor of 1 dimensions; the rows before had None"):
        insert(replay, 3)
    replay.inner = Stream(lambda number: ends({"a": number}, log_reward=number.float()))
    with pytest.raises(ValueError, match=r"other columns than the rows before: objects, objects\.a"):
        insert(replay, 3)


@pytest.mark.parametrize("wrong", [-0.5, float("nan"), float("inf")])
def test_a_priority_that_cannot_be_one_is_named(wrong: float) -> None:
    def priority(rows: Trajectories, residual: Tensor | None) -> Tensor:
        return torch.where(numbers(rows) == 4, wrong, 1.0)

    with pytest.raises(ValueError, match=f"priority of row 4 is {wrong}"):
        refused(lambda rows: rows, priority=priority)


def test_priorities_of_another_shape_or_all_zero_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"returned \(6, 1\) for 6 rows"):
        refused(lambda rows: rows, priority=lambda rows, residual: torch.ones((6, 1)))
    replay, _ = filled(6, priority=lambda rows, residual: torch.zeros(len(rows)))
    with pytest.raises(ValueError, match=r"sum to 0\.0"):
        replay.draw(3, seeded())
