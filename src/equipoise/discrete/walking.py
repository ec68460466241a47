"""Lanes that move until they have stopped: step by step in eager, or several steps a call, compiled."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from equipoise.compiling import Compiler, NotCompiled
from equipoise.contracts import ON_POLICY, Behaviour, Environment
from equipoise.discrete.choices import choose, explored, inverse_cdf, inverse_cdf_of_few
from equipoise.trajectories import Trajectories

Choice = Callable[[Tensor, Tensor], Tensor]
"""(logits, allowed) -> one action a row."""

Act = Callable[[Tensor, Tensor | None, Choice], tuple[Tensor, ...]]
"""(state, condition's features, choice) -> (action, the state that it leads to, what is kept of the evaluation)."""

Stopped = Callable[[Tensor], Tensor]

Visits = tuple[Tensor, Tensor, Tensor, Tensor]
"""Of each move its lane, its number, the state it leads to, the action."""

CHUNK = 8
"""Steps of a compiled call; lanes that have stopped are looked for between calls."""

KEPT = 1 << 15
"""Moves of a walk of which anything is kept, at most: larger ones are drawn to be judged, not to be trained on."""

FEW = 16
"""Actions whose cumulative probabilities are written out in compiled code."""

FEWEST = 4
"""Lanes of a compiled call, at least, where fewer than all are moved."""


@dataclass(frozen=True)
class Grid:
    """The moves of lanes that began together, by lane and number; a lane that has stopped stays where it is.

    Attributes:
        state: (n, moves, width) that each leads to.
        action: (n, moves).
        live: (n, moves) whether the lane had not stopped before it.
        kept: each (n, moves, width), of the evaluations.
    """

    state: Tensor
    action: Tensor
    live: Tensor
    kept: tuple[Tensor, ...] = ()

    def visits(self) -> Visits:
        """The moves of lanes that had not stopped."""
        lane, number = self.live.nonzero(as_tuple=True)
        return lane, number, self.state[lane, number], self.action[lane, number]

    def path(self, first: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The path of lanes that began at `first`, and its length (n,)."""
        length = self.live.sum(1)
        steps = int(length.max())
        state = torch.cat([first[:, None], self.state[:, :steps]], 1)
        return {"state": state, "action": self.action[:, :steps].contiguous()}, length


@dataclass(frozen=True)
class Lanes:
    """Where lanes begin, and how they move.

    Attributes:
        state: (n, width) where they begin.
        stopped: states -> (n,) booleans.
        act: one move.
        noises: (steps, n) uniforms, one a move and lane.
        conditions: (n, features), or None.
        behaviour: how choices are explored.
        keeps: how many tensors a move gives beside its action and state; none where lanes move on call by call.
    """

    state: Tensor
    stopped: Stopped
    act: Act
    noises: Tensor
    conditions: Tensor | None = None
    behaviour: Behaviour = ON_POLICY
    keeps: int = 0


def one_call(environment: Environment, n: int) -> bool:
    """Whether a compiled walk of n lanes is one call, not too large to keep, in which none stops before the end."""
    return not environment.stops and environment.horizon <= CHUNK and n * environment.horizon <= KEPT


def walk(lanes: Lanes) -> Visits:
    """Moves every lane until it has stopped."""
    state = lanes.state
    lane = torch.arange(len(state))
    moves = [(lane[:0], state[:0], lane[:0])]
    # What inference mode makes cannot be saved for gradients; the joined columns, made outside it, can.
    with torch.inference_mode():
        while len(lane):
            done = lanes.stopped(state)
            if done.any():
                live = (~done).nonzero()[:, 0]
                lane, state = lane[live], state[live]
                if not len(lane):
                    break
            noise, condition = lanes.noises[len(moves) - 1], lanes.conditions
            if len(lane) < len(noise):
                noise, condition = noise[lane], None if condition is None else condition[lane]
            action, state, *_ = lanes.act(state, condition, chosen(noise, lanes.behaviour))
            moves.append((lane, state, action))
    number = torch.arange(-1, len(moves) - 1).repeat_interleave(torch.tensor([len(lane) for lane, _, _ in moves]))
    lane, states, actions = (torch.cat(column) for column in zip(*moves, strict=True))
    return lane, number, states, actions


def compiled_walk(compiler: Compiler, module: nn.Module, what: str, lanes: Lanes) -> Grid:
    """The same moves as `walk`, in compiled chunks; lanes that have stopped stay where they are.

    A chunk moves all lanes, or a half or a quarter of them once no more still move: a long tail of a few lanes then
    costs what few lanes cost.

    Args:
        compiler: of the module's parameters.
        module: what a move evaluates.
        what: name of the walk.
        lanes: that move.

    Raises:
        NotCompiled: it cannot be compiled, or has not been wanted often enough.
    """
    conditions, behaviour = lanes.conditions, lanes.behaviour
    explores = behaviour.epsilon > 0 or behaviour.temperature != 1.0
    steps, (n, width) = min(CHUNK, len(lanes.noises)), lanes.state.shape
    settings = [torch.tensor([behaviour.temperature, behaviour.epsilon])] if explores else []
    sizes = [n, *(size for size in (-(-n // 2), -(-n // 4)) if FEWEST <= size < n)]

    def key(size: int) -> tuple[Hashable, ...]:
        return id(module), what, size, n, width, explores, lanes.keeps

    def chunk(state: Tensor, noise: Tensor, *given: Tensor, few: bool) -> tuple[Tensor, ...]:
        """The chunk's states, actions, whether each lane moved, and what is kept; where each is, whether it moves."""
        beside = iter(given)
        condition = None if conditions is None else next(beside)
        tuned = next(beside) if explores else None
        every, lane = state, next(beside) if few else None
        if lane is not None:
            state, noise = state.index_select(0, lane), noise.index_select(1, lane)
            condition = None if condition is None else condition.index_select(0, lane)
        states, actions, lives, kept = [], [], [], []
        live = ~lanes.stopped(state)
        for place in range(steps):
            action, child, *products = lanes.act(state, condition, chosen(noise[place], tuned))
            state = torch.where(live[:, None], child, state)
            states.append(state)
            actions.append(action)
            lives.append(live)
            kept.append(products)
            live = live & ~lanes.stopped(state)
        columns = states, actions, lives, *zip(*kept, strict=True)
        found = *(torch.stack(list(column), 1) for column in columns), state, live
        if lane is None:
            return found
        idle = torch.zeros((n, steps), dtype=torch.bool)  # lanes that are not moved stay where they are
        rest = every[:, None].expand(-1, steps, -1), idle.long(), idle, every, idle[:, 0]
        return tuple(into.index_copy(0, lane, value) for into, value in zip(rest, found, strict=True))

    if not compiler.wanted(key(n)):
        raise NotCompiled(what)
    noises = lanes.noises
    if len(noises) % steps:
        noises = nn.functional.pad(noises, (0, 0, 0, -len(noises) % steps))
    beside = [*([] if conditions is None else [conditions]), *settings]
    pieces, state, lane = [], lanes.state, []
    live, moved, going = None, n, n
    for noise in noises.split(steps):
        size = min(size for size in sizes if size >= going and (size == n or compiler.wanted(key(size))))
        if live is not None and size < moved:
            moved, lane = size, [live.byte().argsort(descending=True)[:size]]
        function = partial(chunk, few=bool(lane))
        *piece, state, live = compiler.call(what, key(size), function, state, noise, *beside, *lane, module=module)
        pieces.append(piece)
        if len(pieces) * steps == len(noises) or not (going := int(live.sum())):
            break
    columns = pieces[0] if len(pieces) == 1 else [torch.cat(column, 1) for column in zip(*pieces, strict=True)]
    return Grid(*columns[:3], kept=tuple(columns[3:]))


def kept_visits(start: Trajectories, keep: Tensor) -> Visits:
    """The first keep[i] moves of start[i], each at the state that it leaves."""
    lane, place = (torch.arange(start.steps) < keep[:, None]).nonzero(as_tuple=True)
    return lane, place, start.path["state"][lane, place], start.path["action"][lane, place]


def laid_out(
    n: int, steps: int, visits: list[tuple[Tensor, Tensor, Tensor]], actions: list[tuple[Tensor, Tensor, Tensor]]
) -> dict[str, Tensor]:
    """Values at (lane, place) laid out as padded tensors: state (n, steps + 1, width) and action (n, steps)."""
    path = {
        "state": torch.zeros((n, steps + 1, visits[0][2].shape[1]), dtype=torch.int64),
        "action": torch.zeros((n, steps), dtype=torch.int64),
    }
    for name, parts in (("state", visits), ("action", actions)):
        for lane, place, value in parts:
            path[name][lane, place] = value
    return path


def chosen(noise: Tensor, behaviour: Behaviour | Tensor | None) -> Choice:
    """Choices by these uniforms; a tensor behaviour is (temperature, epsilon)."""
    if isinstance(behaviour, Behaviour):
        return lambda logits, allowed: choose(logits, allowed, noise, behaviour)
    temperature, epsilon = (1.0, 0.0) if behaviour is None else behaviour.unbind()

    def choice(logits: Tensor, allowed: Tensor) -> Tensor:
        policy = explored(logits, allowed, temperature, epsilon)
        return (inverse_cdf_of_few if policy.shape[1] <= FEW else inverse_cdf)(policy, noise)

    return choice
