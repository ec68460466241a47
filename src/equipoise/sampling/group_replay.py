"""Replay for groups: what was drawn for each condition (a prompt), stored apart, and drawn again in whole groups.

Where log Z is the batch's own, rows of one condition belong together, and what they share is the condition, not the
batch in which they were drawn: a group is put together anew each time, of rows of any age.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from equipoise.contracts import Source
from equipoise.sampling.journal import Journal
from equipoise.sampling.priorities import GroupPriority, uniform_rows
from equipoise.sampling.rows import (
    check_names,
    columns_of,
    digests_of,
    fixed_columns,
    last_places,
    record_of,
    split_digests,
    steps_more,
)
from equipoise.sampling.store import Name, Slots, leaves, nested
from equipoise.trajectories import Fixed, Trajectories


@dataclass(frozen=True)
class Capacity:
    """Most rows that are stored: for one condition, and in all; the oldest make room.

    Source: Bartoldson et al., 2025, arXiv 2503.18929: 100 a prompt in the published code; 10^5 in all for red-teaming.
    """

    each: int = 100
    total: int = 100_000

    def __post_init__(self) -> None:
        if not 1 <= self.each <= self.total:
            raise ValueError(f"capacity {self.each} of a group, {self.total} in all: 1 <= each <= total was expected")


class GroupReplay:
    """A source that stores what another draws, by condition, and gives whole groups of it.

    Every `period` draws, `fresh` rows times the period are drawn from `inner` and stored: a sync, as searchers and
    trainer have it in TBA. A draw of n then takes n / group_size conditions. For each, with probability
    `most_on_policy`, it is one that the last sync brought rows of, and those rows are drawn; else it is any that is
    stored, and its rows are drawn by the priority. Conditions are drawn without replacement as long as there are any;
    rows likewise, and where there are fewer than the group needs, all of them and the rest with replacement.

    An object is stored once for each condition, as it was drawn last; a condition with one object alone teaches a
    batch's own log Z nothing, and is drawn only where there is no other.

    Rows come out with a `key` of their own; `observe` keeps the `fixed` values that were renewed, such as the
    reference's log-probabilities after a reset, and passes all rows on to `inner`.

    Source: Bartoldson et al., 2025, "Trajectory Balance with Asynchrony", arXiv 2503.18929, section 4.

    Args:
        inner: source of new rows, in groups or not; `group` says to which condition a row belongs.
        group_size: K, rows of a condition in a batch, at least 2.
        fresh: rows drawn from `inner` for each draw; None: as many as are drawn.
        period: draws between two syncs, at least 1.
        most_on_policy: m, probability of a condition's most recent rows, in [0, 1].
        priority: log-weights of the rows of a condition (`sampling.priorities`).
        capacity: of a condition and in all.
        journal: to which rows are written before they are used; None: nothing is written.

    Raises:
        ValueError: arguments out of range; in `draw`, an n that is not a multiple of `group_size`, or rows of `inner`
            without a log_reward.

    Example:
        >>> from equipoise.sampling.given import Data
        >>> from equipoise.trajectories import ends
        >>> class Pairs(Data):
        ...     def draw(self, n, generator):
        ...         objects = torch.rand((n, 1), generator=generator)
        ...         return ends(objects, group=torch.arange(n) // 4, log_reward=objects[:, 0])
        >>> replay = GroupReplay(Pairs(torch.zeros(1, 1)), group_size=4, most_on_policy=0.5)
        >>> drawn = replay.draw(8, torch.Generator().manual_seed(0))
        >>> [int(count) for count in drawn.group.unique(return_counts=True)[1]], len(replay)
        ([4, 4], 8)

    Use it where rewards or responses are dear. What it draws is off-policy, which a balance residual allows and a
    policy gradient does not.
    """

    def __init__(
        self,
        inner: Source,
        *,
        group_size: int,
        fresh: int | None = None,
        period: int = 1,
        most_on_policy: float = 0.5,
        priority: GroupPriority = uniform_rows,
        capacity: Capacity | None = None,
        journal: Journal | None = None,
    ) -> None:
        _check(group_size, fresh, period, most_on_policy)
        self.inner, self.group_size, self.fresh, self.period = inner, group_size, fresh, period
        self.most_on_policy, self.priority = most_on_policy, priority
        self.capacity, self.journal = capacity or Capacity(), journal
        self.provides: frozenset[str] = getattr(inner, "provides", frozenset())
        self.draws, self.next_key, self.offset = 0, 0, 0
        self._forget()

    def __len__(self) -> int:
        """Rows stored."""
        return len(self._slot)

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """n rows, the groups one after another."""
        if n < 1 or n % self.group_size:
            raise ValueError(
                f"{n} trajectories were asked for: a positive multiple of group_size, {self.group_size}, is expected"
            )
        if self.draws % self.period == 0:
            self._sync((self.fresh or n) * self.period, generator)
        self.draws += 1
        recent = torch.rand(n // self.group_size, generator=generator) < self.most_on_policy
        keys: list[int] = []
        for group, from_recent in self._conditions(recent, generator):
            keys += self._rows(self._recent[group] if from_recent else self._groups[group], from_recent, generator)
        return self._read(torch.tensor(keys, dtype=torch.int64))

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """Keeps the fixed values that were renewed, and passes all rows on to the inner source."""
        slots = torch.tensor([self._slot.get(key, -1) for key in trajectories.key.tolist()], dtype=torch.int64)
        places = (slots >= 0).nonzero()[:, 0]
        if len(places) and trajectories.fixed:
            last = places[last_places(slots[places])]
            for name, kept in trajectories[last].fixed.items():
                self._renew(trajectories[last], slots[last], name, kept)
        key = torch.full_like(trajectories.key, -1)
        inner = self._slots.numbers(("inner_key",), slots[places])
        if inner is not None:
            key[places] = inner
        self.inner.observe(replace(trajectories, key=key), residual)

    def state_dict(self) -> dict[str, Any]:
        """Stored rows and their order, the last sync's, the counts, the journal's offset and the inner state."""
        recent = [key for keys in self._recent.values() for key in keys]
        return {
            "inner": self.inner.state_dict(),
            "settings": self._settings(),
            "counts": [self.draws, self.next_key, self.offset],
            "slots": self._slots.state_dict(self._slots.size),
            "keys": torch.tensor(list(self._slot), dtype=torch.int64),
            "places": torch.tensor(list(self._slot.values()), dtype=torch.int64),
            "free": torch.tensor(self._free, dtype=torch.int64),
            "recent": torch.tensor(recent, dtype=torch.int64),
            "steps_more": nested(self._steps_more),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where `state_dict` was called; what the journal holds beyond is dropped, for it is drawn again.

        Raises:
            ValueError: the state is that of a replay with other settings.
        """
        self._load(state)
        if self.journal is not None:
            self.journal.cut(self.offset)

    def recover(self, state: dict[str, Any] | None = None) -> int:
        """Takes up at a state, or empty, and stores what the journal holds beyond it: nothing acknowledged is lost.

        For an engine whose searchers run on and will not draw the same again.

        Args:
            state: of `state_dict`; None: there is none.

        Returns:
            The rows that the journal held beyond the state.

        Raises:
            ValueError: no journal, or a state with other settings.
        """
        if self.journal is None:
            raise ValueError("this replay has no journal to recover from: give it one when it is made")
        if state is not None:
            self._load(state)
        found = 0
        for rows, offset in self.journal.records(self.offset):
            self._store(rows)
            self.offset, found = offset, found + len(rows)
        self.journal.cut(self.offset)
        return found

    def _forget(self) -> None:
        self._slots = Slots(self.capacity.total)
        self._slot: dict[int, int] = {}  # by key, the oldest first
        self._free: list[int] = []
        self._used = 0
        self._groups: dict[int, list[int]] = {}  # keys by condition, the oldest first
        self._recent: dict[int, list[int]] = {}
        self._group_of: dict[int, int] = {}
        self._digest: dict[int, bytes] = {}
        self._seen: dict[bytes, int] = {}
        self._steps_more: dict[Name, int] = {}

    def _sync(self, n: int, generator: torch.Generator) -> None:
        rows = self.inner.draw(n, generator)
        if rows.log_reward is None:
            raise ValueError("the inner source gave no log_reward: a source calls the reward before it gives rows away")
        if self.journal is not None:
            self.offset = self.journal.append(rows)
        self._store(rows)

    def _store(self, rows: Trajectories) -> None:
        digest = digests_of(rows.objects, rows.group)
        whole = split_digests(digest)
        last = {one: place for place, one in enumerate(whole)}  # of equal rows of one sync the last counts
        placed: dict[int, int] = {}  # key to row
        for place in sorted(last.values()):
            self._admit(whole[place], int(rows.group[place]))
            placed[self.next_key - 1] = place
        alive = {key: place for key, place in placed.items() if key in self._slot}
        chosen = torch.tensor(list(alive.values()), dtype=torch.int64)
        stored = rows[chosen]
        columns = columns_of(stored, True) | {"inner_key": stored.key, "digest": digest[chosen]}
        check_names(columns, self._slots.columns)
        self._steps_more |= steps_more(stored, columns)
        self._slots.write(torch.tensor([self._slot[key] for key in alive], dtype=torch.int64), columns)
        self._recent = {}
        for key in alive:
            self._recent.setdefault(self._group_of[key], []).append(key)

    def _admit(self, digest: bytes, group: int) -> None:
        if digest in self._seen:
            self._drop(self._seen[digest])
        if len(self._groups.get(group, ())) == self.capacity.each:
            self._drop(self._groups[group][0])
        key = self.next_key
        self.next_key += 1
        self._take(key, self._free.pop() if self._free else self._new_slot(), digest, group)

    def _take(self, key: int, slot: int, digest: bytes, group: int) -> None:
        self._slot[key], self._digest[key], self._group_of[key] = slot, digest, group
        self._seen[digest] = key
        self._groups.setdefault(group, []).append(key)

    def _new_slot(self) -> int:
        if len(self._slot) >= self.capacity.total:
            self._drop(next(iter(self._slot)))
            return self._free.pop()
        self._used += 1
        return self._used - 1

    def _drop(self, key: int) -> None:
        self._free.append(self._slot.pop(key))
        digest, group = self._digest.pop(key), self._group_of.pop(key)
        if self._seen.get(digest) == key:
            del self._seen[digest]
        self._groups[group].remove(key)
        if not self._groups[group]:
            del self._groups[group]

    def _conditions(self, recent: Tensor, generator: torch.Generator) -> list[tuple[int, bool]]:
        """A condition for each coin, and whether its recent rows are drawn."""
        count = int(recent.sum())
        several = sorted(group for group, keys in self._recent.items() if len(keys) > 1)
        if not several:  # the last sync brought no group: all come from the store
            count = 0
        stored = sorted(group for group, keys in self._groups.items() if len(keys) > 1) or sorted(self._groups)
        from_recent = [(group, True) for group in _without_replacement(several, count, generator)]
        return from_recent + [(group, False) for group in _without_replacement(stored, len(recent) - count, generator)]

    def _rows(self, keys: Sequence[int], recent: bool, generator: torch.Generator) -> list[int]:
        """group_size keys of one condition."""
        weights = torch.zeros(len(keys), dtype=torch.float64) if recent else self._weights(keys)
        if len(keys) >= self.group_size:
            # The largest of log-weights plus Gumbel noise are a draw without replacement by the weights.
            noise = torch.rand(len(keys), dtype=torch.float64, generator=generator).clamp(min=1e-300)
            chosen = (weights - (-noise.log()).log()).topk(self.group_size).indices.tolist()
        else:
            more = torch.multinomial(weights.softmax(0), self.group_size - len(keys), True, generator=generator)
            chosen = [*range(len(keys)), *more.tolist()]
        return [keys[place] for place in chosen]

    def _weights(self, keys: Sequence[int]) -> Tensor:
        slots = torch.tensor([self._slot[key] for key in keys], dtype=torch.int64)
        log_reward = self._slots.numbers(("log_reward",), slots)
        assert log_reward is not None
        weights = self.priority(log_reward, self.next_key - 1 - torch.tensor(keys, dtype=torch.int64))
        if weights.shape != (len(keys),) or not bool(torch.isfinite(weights).all()):
            raise ValueError(f"the priority gave {weights} for {len(keys)} rows: finite log-weights were expected")
        return weights.double()

    def _read(self, keys: Tensor) -> Trajectories:
        slots = torch.tensor([self._slot[key] for key in keys.tolist()], dtype=torch.int64)
        length = self._slots.numbers(("length",), slots)
        steps = 0 if length is None else int(length.max())
        columns = self._slots.read(slots, widths={name: steps + more for name, more in self._steps_more.items()})
        return record_of(columns, keys, steps)

    def _renew(self, rows: Trajectories, slots: Tensor, name: str, kept: Fixed) -> None:
        held = self._slots.numbers(("fixed", name, "version"), slots)
        newer = kept.version + 1 > (0 if held is None else held)
        if newer.any():
            columns = {"fixed": {name: fixed_columns(Fixed(kept.value[newer], kept.version[newer]))}}
            self._steps_more |= steps_more(rows, columns)
            self._slots.amend(slots[newer], columns)

    def _load(self, state: dict[str, Any]) -> None:
        if state["settings"] != self._settings():
            raise ValueError(f"the state is of a replay with {state['settings']}; this one has {self._settings()}")
        self.inner.load_state_dict(state["inner"])
        self._forget()
        self.draws, self.next_key, self.offset = state["counts"]
        self._slots.load_state_dict(state["slots"])
        self._steps_more = dict(leaves(state["steps_more"]))
        slots = state["places"]
        digest, group = (self._slots.numbers((name,), slots) for name in ("digest", "group"))
        if digest is not None and group is not None:
            named = zip(state["keys"].tolist(), slots.tolist(), split_digests(digest), group.tolist(), strict=True)
            for key, slot, one, condition in named:
                self._take(key, slot, one, condition)
        self._free = state["free"].tolist()
        self._used = len(slots) + len(self._free)
        for key in state["recent"].tolist():
            self._recent.setdefault(self._group_of[key], []).append(key)

    def _settings(self) -> dict[str, Any]:
        """What the meaning of a state depends on."""
        capacity = [self.capacity.each, self.capacity.total]
        return {"group_size": self.group_size, "period": self.period, "capacity": capacity}


def _without_replacement(groups: list[int], count: int, generator: torch.Generator) -> list[int]:
    """`count` of them in random order; all come once before one comes again."""
    chosen: list[int] = []
    while len(chosen) < count:
        chosen += [groups[place] for place in torch.randperm(len(groups), generator=generator).tolist()]
    return chosen[:count]


def _check(group_size: int, fresh: int | None, period: int, most_on_policy: float) -> None:
    if group_size < 2:
        raise ValueError(f"group_size is {group_size}: at least 2 rows of a condition were expected")
    if period < 1 or (fresh is not None and fresh < 1):
        raise ValueError(f"period {period} and fresh {fresh}: at least 1 was expected of each")
    if not 0.0 <= most_on_policy <= 1.0:
        raise ValueError(f"most_on_policy is {most_on_policy}: a probability between 0 and 1 was expected")
