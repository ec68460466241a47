"""Replay for groups: groups of one condition, each object once, recent rows, priorities, capacity, the journal."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from equipoise.sampling.group_replay import Capacity, GroupReplay
from equipoise.sampling.journal import Journal
from equipoise.sampling.priorities import recency, softmax_reward, uniform_rows
from equipoise.trajectories import Fixed, Trajectories, ends, from_bytes, to_bytes
from sampling.streams import Stream, everything, seeded


class Answers:
    """Rows of `conditions` conditions in turn; each condition's objects are numbers below `variety`."""

    provides = frozenset[str]()

    def __init__(self, conditions: int = 4, size: int = 4, variety: int = 1000) -> None:
        self.conditions, self.size, self.variety, self.count = conditions, size, variety, 0
        self.told: list[Trajectories] = []

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        number = torch.arange(self.count, self.count + n)
        self.count += n
        objects = torch.randint(self.variety, (n, 1), generator=generator)
        rows = ends(objects, group=number // self.size % self.conditions, log_reward=objects[:, 0].float() / 10)
        return replace(rows, version=number, key=number + 5000)

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        self.told.append(trajectories)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


def value(rows: Trajectories) -> list[int]:
    assert isinstance(rows.objects, Tensor)
    return rows.objects[:, 0].tolist()


def test_groups_are_of_one_condition_and_without_a_row_twice() -> None:
    replay = GroupReplay(Answers(), group_size=4)
    generator = seeded()
    for _ in range(10):
        drawn = replay.draw(8, generator)
        for group in drawn.group.view(2, 4):
            assert (group == group[0]).all()
        assert len(drawn.key.unique()) == 8
        assert [int(row) for row in (drawn.log_reward * 10).round()] == value(drawn)  # type: ignore[operator]
    assert len(replay) == 80


def test_an_object_is_stored_once_for_a_condition_as_it_was_drawn_last() -> None:
    replay, generator = GroupReplay(Answers(conditions=2, variety=3), group_size=2), seeded(1)
    for _ in range(20):
        replay.draw(8, generator)
    assert len(replay) == 6
    drawn = replay.draw(8, seeded(2))
    for group in (0, 1):
        rows = drawn[drawn.group == group]
        assert len(set(value(rows))) == len(set(rows.key.tolist()))
    assert int(drawn.version.min()) > 8 * 15, "older drawings of an object should have made room"


def test_rows_are_drawn_again_only_where_there_are_fewer_than_a_group_needs() -> None:
    replay = GroupReplay(Answers(conditions=1, variety=3), group_size=8, fresh=32)
    counted = Counter(value(replay.draw(8, seeded(3))))
    assert set(counted) == {0, 1, 2} and sum(counted.values()) == 8


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_recent_rows_come_with_their_probability(share: float) -> None:
    replay = GroupReplay(Answers(conditions=40), group_size=4, fresh=16, most_on_policy=share)
    generator, recent, total = seeded(), 0, 0
    replay.fresh = 160  # every condition is stored before counting
    replay.draw(16, generator)
    replay.fresh = 16
    for _ in range(200):
        last = replay.next_key
        drawn = replay.draw(16, generator)
        groups = drawn.key.view(4, 4)
        recent += int((groups >= last).all(1).sum())
        total += 4
    # Rows of the store are recent too by chance, the less the more is stored: at most one in ten.
    deviation = 4 * math.sqrt(0.25 / total)
    assert share - deviation <= recent / total <= share + (1 - share) * 0.1 + deviation


def test_a_sync_brings_what_its_period_needs() -> None:
    answers = Answers()
    replay = GroupReplay(answers, group_size=4, fresh=8, period=3)
    counts = []
    for _ in range(7):
        replay.draw(4, seeded())
        counts.append(answers.count)
    assert counts == [24, 24, 24, 48, 48, 48, 72]


def frequencies(replay: GroupReplay, draws: int) -> Counter[int]:
    replay.period = 10**9  # no more syncs
    generator, found = seeded(5), Counter[int]()
    for _ in range(draws):
        found.update(value(replay.draw(2, generator)))
    return found


def test_the_softmax_of_the_reward_draws_by_it() -> None:
    inverse = 0.5
    stream = Answers(conditions=1, size=4, variety=40)
    replay = GroupReplay(
        stream, group_size=2, fresh=64, most_on_policy=0.0, priority=softmax_reward(10 * inverse), period=10**6
    )
    replay.inner = _Few()
    found = frequencies(replay, 4000)
    weight = {number: math.exp(inverse * number) for number in range(3)}
    total = sum(weight.values())
    # Two of three without replacement: the chance to be first, plus that to be second after each other one.
    for number in range(3):
        first = weight[number] / total
        second = sum(weight[other] / total * weight[number] / (total - weight[other]) for other in range(3)) - first * (
            weight[number] / (total - weight[number])
        )
        assert abs(found[number] / 4000 - (first + second)) < 0.035


class _Few(Answers):
    """Three objects of one condition, whose log-rewards are 0, 0.1 and 0.2."""

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        objects = torch.arange(3)[:, None]
        return ends(objects, group=torch.zeros(3, dtype=torch.int64), log_reward=objects[:, 0].float() / 10)


def test_recency_prefers_what_came_last_and_uniform_does_not() -> None:
    counts = []
    for priority in (recency(1.0), uniform_rows):
        replay = GroupReplay(_Few(), group_size=2, fresh=3, most_on_policy=0.0, priority=priority)
        counts.append(frequencies(replay, 2000))
    assert counts[0][0] < 0.75 * counts[0][1] < counts[0][2]
    assert max(counts[1].values()) < 1.1 * min(counts[1].values())


def test_capacity_is_kept_for_each_condition_and_in_all() -> None:
    replay = GroupReplay(Answers(conditions=5), group_size=2, fresh=20, capacity=Capacity(each=6, total=24))
    generator = seeded()
    for _ in range(30):
        drawn = replay.draw(10, generator)
        assert len(replay) <= 24
        assert all(len(keys) <= 6 for keys in replay._groups.values())
        assert int(drawn.key.min()) >= replay.next_key - 100, "the oldest make room"
    assert len(replay) == 24


def test_a_condition_of_one_object_is_drawn_only_where_there_is_no_other() -> None:
    class Lopsided(Answers):
        def draw(self, n: int, generator: torch.Generator) -> Trajectories:
            group = torch.tensor([0] + [1] * (n - 1))
            objects = torch.arange(n)[:, None]
            return ends(objects, group=group, log_reward=torch.zeros(n))

    replay = GroupReplay(Lopsided(), group_size=2, fresh=5)
    assert {int(group) for _ in range(10) for group in replay.draw(4, seeded()).group} == {1}


def test_what_was_renewed_is_kept_by_key_and_the_inner_source_is_told() -> None:
    answers = Answers()
    replay = GroupReplay(answers, group_size=4)
    drawn = replay.draw(8, seeded())
    values = drawn.key.double() + 0.5
    renewed = replace(drawn, fixed={"log_guide": Fixed(values, torch.full((8,), 3))})
    replay.observe(renewed, torch.zeros(8))
    replay.period = 10**9
    replay.most_on_policy = 0.0
    again = replay.draw(16, seeded(1))
    kept = again.fixed["log_guide"]
    known = torch.isin(again.key, drawn.key)
    assert known.any()
    assert torch.equal(kept.version >= 0, known)
    assert torch.equal(kept.value[known], again.key[known].double() + 0.5)
    assert torch.equal(answers.told[0].key, drawn.version + 5000)


def taken_up(replay: GroupReplay, options: dict[str, Any], generator: torch.Generator) -> tuple[GroupReplay, Any]:
    saved = from_bytes(to_bytes({"replay": replay.state_dict(), "generator": generator.get_state()}))
    resumed, other = GroupReplay(Stream(everything, 4), **options), seeded()
    resumed.load_state_dict(saved["replay"])
    other.set_state(saved["generator"])
    return resumed, other


def test_a_replay_that_is_taken_up_goes_on_bit_for_bit(tmp_path: Path) -> None:
    options: dict[str, Any] = {"group_size": 4, "fresh": 12, "period": 2, "capacity": Capacity(each=9, total=40)}
    journal = Journal(tmp_path / "journal")
    replay, generator = GroupReplay(Stream(everything, 4), journal=journal, **options), seeded()
    for _ in range(11):
        replay.draw(8, generator)
    resumed, other = taken_up(replay, options, generator)
    for _ in range(12):
        first, second = replay.draw(8, generator), resumed.draw(8, other)
        assert to_bytes(first) == to_bytes(second)
        for store, rows in ((replay, first), (resumed, second)):
            store.observe(rows, None)
    assert to_bytes({**replay.state_dict(), "counts": 0}) == to_bytes({**resumed.state_dict(), "counts": 0})


def test_a_run_in_one_process_cuts_the_journal_where_it_is_taken_up(tmp_path: Path) -> None:
    options: dict[str, Any] = {"group_size": 4, "fresh": 8}
    journal = Journal(tmp_path / "journal")
    replay, generator = GroupReplay(Stream(everything, 4), journal=journal, **options), seeded()
    for _ in range(3):
        replay.draw(8, generator)
    state, blob = from_bytes(to_bytes(replay.state_dict())), generator.get_state()
    for _ in range(4):
        replay.draw(8, generator)
    whole = journal.path.read_bytes()
    resumed, other = GroupReplay(Stream(everything, 4), journal=journal, **options), seeded()
    resumed.load_state_dict(state)
    other.set_state(blob)
    assert journal.path.read_bytes() == whole[: state["counts"][2]]
    for _ in range(4):
        resumed.draw(8, other)
    assert journal.path.read_bytes() == whole


def test_a_crash_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    options: dict[str, Any] = {"group_size": 4, "fresh": 8}
    journal = Journal(tmp_path / "journal")
    replay, generator = GroupReplay(Stream(everything, 4), journal=journal, **options), seeded()
    for _ in range(3):
        replay.draw(8, generator)
    state = from_bytes(to_bytes(replay.state_dict()))
    for _ in range(4):
        replay.draw(8, generator)
    with journal.path.open("ab") as file:
        file.write(b"EQPJ" + (10**6).to_bytes(8, "little") + b"cut short")
    for known, lost in ((state, 32), (None, 56)):
        resumed = GroupReplay(Stream(everything, 4), journal=journal, **options)
        assert resumed.recover(known) == lost
        assert len(resumed) == len(replay) and resumed.next_key == replay.next_key
        one, other = seeded(7), seeded(7)
        replay.period = resumed.period = 10**9
        replay.draws = resumed.draws = 1
        mine, theirs = replay.draw(16, one), resumed.draw(16, other)
        assert to_bytes(mine) == to_bytes(theirs)
    assert journal.end == journal.path.stat().st_size


def test_a_changed_byte_ends_a_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    stream = Stream(everything)
    offsets = [journal.append(stream.draw(3, seeded())) for _ in range(3)]
    blob = bytearray(journal.path.read_bytes())
    blob[offsets[1] + 40] ^= 1
    journal.path.write_bytes(bytes(blob))
    assert [offset for _, offset in journal.records()] == offsets[:2]
    assert journal.end == offsets[1]
    assert list(Journal(tmp_path / "none").records()) == []


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"group_size": 1}, "at least 2 rows"),
        ({"period": 0}, "period 0"),
        ({"fresh": 0}, "fresh 0"),
        ({"most_on_policy": 1.5}, "most_on_policy is 1.5"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        GroupReplay(Answers(), **{"group_size": 4, **options})


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="positive multiple of group_size"):
        GroupReplay(Answers(), group_size=4).draw(6, seeded())
    with pytest.raises(ValueError, match="each <= total"):
        Capacity(each=10, total=5)
    with pytest.raises(ValueError, match="half_life is 0"):
        recency(0.0)
    replay = GroupReplay(_Few(), group_size=2, fresh=3, most_on_policy=0.0, priority=lambda reward, age: reward / 0)
    with pytest.raises(ValueError, match="finite log-weights were expected"):
        replay.draw(2, seeded())
    with pytest.raises(ValueError, match="no journal to recover from"):
        replay.recover()
    state = GroupReplay(_Few(), group_size=2).state_dict()
    with pytest.raises(ValueError, match="this one has"):
        GroupReplay(_Few(), group_size=3).load_state_dict(state)
