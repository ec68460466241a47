"""Replay: trajectories of another source, kept, and drawn again by a priority.

Off-policy training is what a balance residual allows: it is zero on every trajectory once the sampler is right, so
any source that covers the space will do. Rows lie in preallocated slots as a ring of groups, the oldest overwritten
when it is full; a tree of sums draws groups in time logarithmic in their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from equipoise.contracts import Sampler, Source
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
from equipoise.sampling.store import Name, Slots, SumTree, leaves, nested
from equipoise.trajectories import Fixed, Trajectories, concatenate

Priority = Callable[[Trajectories, Tensor | None], Tensor]
"""(rows, residual) -> (n,), finite and not negative; the residual is None when rows are inserted, before any loss."""


def uniform(trajectories: Trajectories, residual: Tensor | None = None) -> Tensor:
    """1 for every row, (n,).

    Example:
        >>> from equipoise.trajectories import ends
        >>> uniform(ends(("a", "b"))).tolist()
        [1.0, 1.0]
    """
    return torch.ones(len(trajectories), dtype=torch.float64)


def reward_priority(trajectories: Trajectories, residual: Tensor | None = None) -> Tensor:
    """R(x), (n,): rows are drawn in proportion to their reward, before beta.

    For rewards that span many orders of magnitude this draws the best row alone; give a priority of your own, such as
    `lambda rows, residual: (0.1 * rows.log_reward).exp()`.

    Example:
        >>> from equipoise.trajectories import ends
        >>> reward_priority(ends(("a", "b"), log_reward=torch.tensor([0.0, 1.0]))).tolist()
        [1.0, 2.718281828459045]
    """
    assert trajectories.log_reward is not None
    return trajectories.log_reward.double().exp()


class Replay:
    """A source that keeps what another source draws, and mixes it with what it drew before.

    Of n trajectories, round(fresh * n) (in whole groups) are drawn from `inner` and stored; the others are drawn from
    the store, with replacement, with probability proportional to the priority of their group: the mean over its rows.
    As long as fewer groups are stored than are wanted from the store, all come from `inner`. An insert costs time in
    proportion to its rows, a draw in proportion to its rows times log(stored).

    Rows come out with a `key` of the replay's own, never used twice; `observe` knows them by it, computes their
    priorities again, and keeps the `fixed` values that were renewed. All rows are passed on to `inner` with the keys
    that `inner` gave them (-1 where the row has been overwritten since).

    Use it where rewards are dear or modes are rarely met again. Too small a share of fresh rows trains on few objects,
    and a share that rounds to none stores none; where log Z is estimated within groups of a batch, give `group_size`.

    Source: Lin 1992, "Self-improving reactive agents based on reinforcement learning, planning and teaching"; Shen et
    al. 2023, "Towards understanding and improving GFlowNet training", arXiv:2305.07170 (stored objects whose paths are
    drawn again from the backward policy).

    Args:
        inner: source of new trajectories.
        fresh: share of a draw that comes from `inner`, in [0, 1].
        capacity: most rows that are stored, in whole groups.
        again: draws a path to each stored object anew (`sample_to`), so that objects alone are stored; None: whole
            trajectories are stored, with their `fixed` values, and given as they are. What `inner` puts into `fixed`
            goes with a path, so that it is in `provides` only where `again` is None.
        priority: (rows, residual) -> (n,), finite and not negative; computed when rows are inserted (residual None)
            and after each loss that saw them. `uniform`, `reward_priority`, or a function of your own.
        group_size: rows of a group, consecutive in a draw and equal in `group`; inserted, drawn and overwritten whole.
        distinct: store an object (of one `group` id) once only, as it was first met; needs groups of one. Rows that
            repeat a stored object come out with key -1.

    Raises:
        ValueError: arguments out of range; in `draw`, an n that is not a multiple of `group_size`, rows of `inner`
            without a log_reward or of broken groups, a priority of the wrong shape, negative or not finite (names the
            row), or only priorities of 0.

    Example:
        >>> from equipoise.discrete.environments.hypergrid import Hypergrid, corners
        >>> from equipoise.discrete.policies.mlp import MLP
        >>> from equipoise.discrete.sampler import DiscreteSampler
        >>> from equipoise.sampling.rollouts import Rollouts
        >>> grid = Hypergrid(dim=2, side=8)
        >>> sampler = DiscreteSampler(grid, MLP(grid.features, (32,), {"forward": grid.actions}))
        >>> rollouts = Rollouts(sampler, corners(8))
        >>> replay = Replay(rollouts, fresh=0.5, capacity=1000, again=sampler, priority=reward_priority)
        >>> generator = torch.Generator().manual_seed(0)
        >>> replay.draw(4, generator).key.tolist()
        [0, 1, 2, 3]
        >>> drawn = replay.draw(4, generator)
        >>> len(drawn), drawn.key[:2].tolist(), bool((drawn.key[2:] < 6).all())
        (4, [4, 5], True)
    """

    def __init__(
        self,
        inner: Source,
        *,
        fresh: float,
        capacity: int,
        again: Sampler | None = None,
        priority: Priority = uniform,
        group_size: int = 1,
        distinct: bool = False,
    ) -> None:
        _check_arguments(fresh, capacity, group_size, distinct)
        self.inner, self.fresh, self.again, self.priority = inner, fresh, again, priority
        self.group_size, self.capacity = group_size, capacity // group_size * group_size
        provides: frozenset[str] = getattr(inner, "provides", frozenset())
        self.provides = provides if again is None else frozenset[str]()
        self.next_key = 0
        self._slots, self._tree = Slots(self.capacity), SumTree(torch.zeros(0))
        self._steps_more: dict[Name, int] = {}
        self._seen: set[bytes] | None = set() if distinct else None

    def __len__(self) -> int:
        """Rows stored."""
        return min(self.next_key, self.capacity)

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """n trajectories, the new ones first."""
        size = self.group_size
        if n < 1 or n % size:
            raise ValueError(f"{n} trajectories were asked for: a positive multiple of group_size, {size}, is expected")
        groups = n // size
        fresh = round(self.fresh * groups)
        if len(self) // size < groups - fresh:
            fresh = groups
        parts = []
        if fresh:
            parts.append(self._inserted(self.inner.draw(fresh * size, generator), fresh * size))
        if fresh < groups:
            parts.append(self._replayed(groups - fresh, generator))
        return concatenate(parts)

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """Renews the priorities and fixed values of stored rows, and passes all rows on to the inner source."""
        stored = (trajectories.key >= max(0, self.next_key - self.capacity)) & (trajectories.key < self.next_key)
        places = stored.nonzero()[:, 0]
        slots = trajectories.key[places] % self.capacity
        if len(places) and (self.priority is not uniform or (self.again is None and trajectories.fixed)):
            last = places[last_places(slots)]
            self._renew(trajectories[last], None if residual is None else residual[last])
        key = torch.full_like(trajectories.key, -1)
        inner = self._slots.numbers(("inner_key",), slots)
        if inner is not None:
            key[places] = inner
        self.inner.observe(replace(trajectories, key=key), residual)

    def state_dict(self) -> dict[str, Any]:
        """Stored rows, priorities, the next key (which tells the ring's position), and the inner source's state."""
        return {
            "inner": self.inner.state_dict(),
            "settings": self._settings(),
            "next_key": self.next_key,
            "slots": self._slots.state_dict(len(self)),
            "weights": self._tree.weights[: len(self) // self.group_size],
            "steps_more": nested(self._steps_more),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where `state_dict` was called.

        Raises:
            ValueError: the state is that of a replay with other settings.
        """
        if state["settings"] != self._settings():
            raise ValueError(f"the state is of a replay with {state['settings']}; this one has {self._settings()}")
        self.inner.load_state_dict(state["inner"])
        self.next_key = state["next_key"]
        self._slots.load_state_dict(state["slots"])
        self._tree = SumTree(state["weights"])
        self._steps_more = dict(leaves(state["steps_more"]))
        if self._seen is not None:
            self._seen = set(self._digests_in(torch.arange(len(self))))

    def _settings(self) -> dict[str, int | bool]:
        """What the meaning of a state depends on."""
        kept = {"capacity": self.capacity, "group_size": self.group_size}
        return kept | {"distinct": self._seen is not None, "whole": self.again is None}

    def _inserted(self, rows: Trajectories, n: int) -> Trajectories:
        """Stores rows of the inner source; the same rows with their keys."""
        _check_rows(rows, n, self.group_size)
        digest = None if self._seen is None else digests_of(rows.objects, rows.group)
        new = torch.arange(n) if digest is None else self._unseen(digest)
        key = torch.full((n,), -1, dtype=torch.int64)
        key[new] = torch.arange(self.next_key, self.next_key + len(new))
        keyed = replace(rows, key=key)
        kept = new[-self.capacity :]
        if len(kept):
            stored = keyed if len(kept) == n else keyed[kept]
            more = {"inner_key": rows.key[kept], "priority": self._priorities(stored, None)}
            self._store(stored, more if digest is None else more | {"digest": digest[kept]})
            self.next_key += len(new)
        return keyed

    def _store(self, rows: Trajectories, more: dict[str, Tensor]) -> None:
        slots = rows.key % self.capacity
        columns = columns_of(rows, self.again is None) | more
        check_names(columns, self._slots.columns)
        self._steps_more |= steps_more(rows, columns)
        if self._seen is not None:
            self._seen.difference_update(self._digests_in(slots[slots < len(self)]))
        self._slots.write(slots, columns)
        if self._seen is not None:
            self._seen.update(self._digests_in(slots))
        if self._slots.size > len(self._tree) * self.group_size:
            self._tree = self._tree.extended(self._slots.size // self.group_size)
        self._weigh(slots)

    def _replayed(self, groups: int, generator: torch.Generator) -> Trajectories:
        """Whole groups drawn from the store."""
        total = self._tree.total
        if not 0.0 < total < math.inf:
            raise ValueError(f"the priorities of all stored rows sum to {total}: a positive finite sum was expected")
        drawn = self._tree.draw(torch.rand(groups, dtype=torch.float64, generator=generator))
        rows = self._read((drawn[:, None] * self.group_size + torch.arange(self.group_size)).flatten())
        return rows if self.again is None else self.again.sample_to(rows, generator=generator)

    def _read(self, slots: Tensor) -> Trajectories:
        length = self._slots.numbers(("length",), slots)
        steps = 0 if length is None else int(length.max())
        columns = self._slots.read(slots, widths={name: steps + more for name, more in self._steps_more.items()})
        age = torch.div(self.next_key - 1 - slots, self.capacity, rounding_mode="floor")
        return record_of(columns, slots + age * self.capacity, steps)

    def _renew(self, rows: Trajectories, residual: Tensor | None) -> None:
        """Takes over priorities and fixed values of rows that are stored, no row twice."""
        slots = rows.key % self.capacity
        if self.again is None:
            for name, kept in rows.fixed.items():
                self._renew_fixed(rows, slots, name, kept)
        if self.priority is not uniform:
            self._slots.amend(slots, {"priority": self._priorities(rows, residual)})
            self._weigh(slots)

    def _renew_fixed(self, rows: Trajectories, slots: Tensor, name: str, kept: Fixed) -> None:
        held = self._slots.numbers(("fixed", name, "version"), slots)
        newer = kept.version + 1 > (0 if held is None else held)
        if newer.any():
            columns = {"fixed": {name: fixed_columns(Fixed(kept.value[newer], kept.version[newer]))}}
            self._steps_more |= steps_more(rows, columns)
            self._slots.amend(slots[newer], columns)

    def _priorities(self, rows: Trajectories, residual: Tensor | None) -> Tensor:
        value = self.priority(rows, residual)
        if not isinstance(value, Tensor) or value.shape != (len(rows),):
            given = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"the priority returned {given} for {len(rows)} rows: a tensor ({len(rows)},) expected")
        wrong = ~((value >= 0) & (value < math.inf))
        if wrong.any():
            row = int(wrong.int().argmax())
            raise ValueError(f"the priority of row {row} is {float(value[row])}: finite and at least 0 was expected")
        return value.detach().double()

    def _weigh(self, slots: Tensor) -> None:
        """Gives the tree the priorities of the groups in which these slots lie."""
        groups = torch.unique_consecutive(slots // self.group_size)
        rows = groups[:, None] * self.group_size + torch.arange(self.group_size)
        priority = self._slots.numbers(("priority",), rows.flatten())
        assert priority is not None
        self._tree.update(groups, priority.view(rows.shape).mean(1))

    def _unseen(self, digest: Tensor) -> Tensor:
        """Places of the rows whose object is not stored, each object once."""
        first: dict[bytes, int] = {}
        for place, one in enumerate(split_digests(digest)):
            first.setdefault(one, place)
        return torch.tensor([place for one, place in first.items() if one not in (self._seen or ())], dtype=torch.int64)

    def _digests_in(self, slots: Tensor) -> list[bytes]:
        digest = self._slots.numbers(("digest",), slots)
        return [] if digest is None else split_digests(digest)


def _check_arguments(fresh: float, capacity: int, group_size: int, distinct: bool) -> None:
    if not 0.0 <= fresh <= 1.0:
        raise ValueError(f"fresh is {fresh}: the share of new rows, between 0 and 1, was expected")
    if not 1 <= group_size <= capacity:
        raise ValueError(f"group_size {group_size} and capacity {capacity}: 1 <= group_size <= capacity was expected")
    if distinct and group_size > 1:
        raise ValueError(f"distinct with group_size {group_size}: a group is stored whole; use groups of one")


def _check_rows(rows: Trajectories, n: int, group_size: int) -> None:
    if len(rows) != n:
        raise ValueError(f"the inner source drew {len(rows)} rows where {n} were asked for")
    if rows.log_reward is None:
        raise ValueError("the inner source gave no log_reward: a source calls the reward before it gives rows away")
    groups = rows.group.reshape(-1, group_size)
    broken = (groups != groups[:, :1]).any(1)
    if broken.any():
        first = int(broken.int().argmax()) * group_size
        shown, last = groups[first // group_size].tolist(), first + group_size - 1
        raise ValueError(f"rows {first} to {last} have the groups {shown}: one and the same was expected")
