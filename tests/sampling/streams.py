"""A source that draws new rows for ever, each a function of its number, and replays filled from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from equipoise.sampling.replay import Replay
from equipoise.trajectories import Fixed, Trajectories, concatenate, ends


class Stream:
    """A source of new rows, each a function of its number; notes what it is told."""

    provides = frozenset({"log_reward_state"})

    def __init__(self, rows: Callable[[Tensor], Trajectories], group_size: int = 1) -> None:
        self.rows, self.group_size, self.count = rows, group_size, 0
        self.told: list[tuple[Trajectories, Tensor | None]] = []

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        number = torch.arange(self.count, self.count + n)
        self.count += n
        return replace(self.rows(number), group=number // self.group_size % 7, key=number + 1000)

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        self.told.append((trajectories, residual))

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


def points(number: Tensor) -> Trajectories:
    """End points: the object is the row's number, R is number mod 5."""
    return ends(number[:, None], log_reward=(number % 5).double().log().clamp(min=-1e9).float())


def everything(number: Tensor) -> Trajectories:
    """Whole trajectories with every kind of column; lengths and widths vary with the row's number."""
    n, steps, wide = len(number), int(number.max()) % 9 + 1, int(number.max()) * 7 % 11 + 1
    inside = (torch.arange(steps) < (number % 9 + 1)[:, None]).long()
    length = inside.sum(1)
    kept = {} if int(number[0]) % 2 else {"log_guide": Fixed(number / 2, number % 3)}
    return Trajectories(
        path={
            "state": torch.nn.functional.pad(inside * number[:, None], (0, 1))[..., None].expand(-1, -1, 2),
            "action": inside * number[:, None],
        },
        length=length,
        objects={"word": tuple(f"é{row}" * (row % 3) for row in number.tolist()), "none": None},
        context={"deep": {"place": number[:, None, None] * torch.ones((n, 2, wide))}},
        group=number,
        log_reward=number.float(),
        version=number * 2,
        key=number,
        fixed={**kept, "log_reward_state": Fixed((number[:, None] * inside).float(), number % 4)},
    )


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def filled(n: int, **options: Any) -> tuple[Replay, Stream]:
    """A replay into which a stream's first n rows were inserted, and that then draws from its store alone."""
    stream = Stream(options.pop("rows", points), options.get("group_size", 1))
    replay = Replay(stream, fresh=1.0, **{"capacity": 1000, **options})
    insert(replay, n)
    return replay, stream


def insert(replay: Replay, n: int) -> Trajectories:
    """n new rows; afterwards the replay draws from its store alone."""
    replay.fresh = 1.0
    rows = replay.draw(n, seeded())
    replay.fresh = 0.0
    return rows


def replayed(replay: Replay, n: int, seed: int = 1) -> Trajectories:
    """About n rows of the store, drawn as many at a time as it holds."""
    generator = seeded(seed)
    return concatenate([replay.draw(len(replay), generator) for _ in range(max(1, n // len(replay)))])


def numbers(drawn: Trajectories) -> Tensor:
    assert isinstance(drawn.objects, Tensor)
    return drawn.objects[:, 0]
