"""Lanes that move until they have stopped: step by step in eager, or several steps a call, compiled."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from equipoise.compiling import Compiler, NotCompiled
from equipoise.contracts import ON_POLICY, Behaviour
from equipoise.discrete.choices import choose, explored, inverse_cdf

Choice = Callable[[Tensor, Tensor], Tensor]
"""(logits, allowed) -> one action a row."""

Act = Callable[[Tensor, Tensor | None, Choice], tuple[Tensor, Tensor]]
"""(state, condition's features, choice) -> (action, the state that it leads to)."""

Stopped = Callable[[Tensor], Tensor]

Visits = tuple[Tensor, Tensor, Tensor, Tensor]
"""Of each move its lane, its number, the state it leads to, the action."""

CHUNK = 8
"""Steps of a compiled call; lanes that have stopped are looked for between calls."""

FEWEST = 4
"""Lanes of a compiled call, at least, where fewer than all are moved."""


@dataclass(frozen=True)
class Grid:
    """The moves of lanes that began together, by number and lane; a lane that has stopped stays where it is.

    Attributes:
        state: (moves, n, width) that each leads to.
        action: (moves, n).
        live: (moves, n) whether the lane had not stopped before it.
    """

    state: Tensor
    action: Tensor
    live: Tensor

    def visits(self) -> Visits:
        """The moves of lanes that had not stopped."""
        number, lane = self.live.nonzero(as_tuple=True)
        return lane, number, self.state[number, lane], self.action[number, lane]

    def path(self, first: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The path of lanes that began at `first`, and its length (n,)."""
        length = self.live.sum(0)
        steps = int(length.max())
        state = torch.cat([first[None], self.state[:steps]]).transpose(0, 1).contiguous()
        return {"state": state, "action": self.action[:steps].t().contiguous()}, length


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
    """

    state: Tensor
    stopped: Stopped
    act: Act
    noises: Tensor
    conditions: Tensor | None = None
    behaviour: Behaviour = ON_POLICY


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
            action, state = lanes.act(state, condition, chosen(noise, lanes.behaviour))
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
        return id(module), what, size, width, explores

    def chunk(state: Tensor, noise: Tensor, *beside: Tensor) -> tuple[Tensor, ...]:
        condition = beside[0] if conditions is not None else None
        states, actions, lives = [], [], []
        live = ~lanes.stopped(state)
        for place in range(steps):
            action, child = lanes.act(state, condition, chosen(noise[place], beside[-1] if explores else None))
            state = torch.where(live[:, None], child, state)
            states.append(state)
            actions.append(action)
            lives.append(live)
            live = live & ~lanes.stopped(state)
        return torch.stack(states), torch.stack(actions), torch.stack(lives), live

    if not compiler.wanted(key(n)):
        raise NotCompiled(what)
    noises = nn.functional.pad(lanes.noises, (0, 0, 0, -len(lanes.noises) % steps)).split(steps)
    pieces, lane, state = [], torch.arange(n), lanes.state
    live, going = torch.ones(n, dtype=torch.bool), n
    for noise in noises:
        size = min(size for size in sizes if size >= going and (size == n or compiler.wanted(key(size))))
        if size < len(lane):
            kept = live.byte().argsort(descending=True)[:size]
            lane, state = lane[kept], state[kept]
        some = size < n
        beside = [] if conditions is None else [conditions[lane] if some else conditions]
        given = (state, noise[:, lane] if some else noise, *beside, *settings)
        *piece, live = compiler.call(what, key(size), chunk, *given, module=module)
        state = piece[0][-1]
        pieces.append(_spread(pieces[-1], piece, lane) if some else piece)
        going = int(live.sum())
        if not going:
            break
    columns = pieces[0] if len(pieces) == 1 else [torch.cat(column) for column in zip(*pieces, strict=True)]
    return Grid(*columns)


def _spread(before: list[Tensor], piece: list[Tensor], lane: Tensor) -> list[Tensor]:
    """Moves of some lanes, as moves of all; the others stay where they were at the end of the piece before."""
    states, actions, lives = piece
    every = before[0][-1].repeat(len(states), 1, 1)
    every[:, lane] = states
    shape = every.shape[:2]
    return [
        every,
        actions.new_zeros(shape).index_copy_(1, lane, actions),
        lives.new_zeros(shape).index_copy_(1, lane, lives),
    ]


def chosen(noise: Tensor, behaviour: Behaviour | Tensor | None) -> Choice:
    """Choices by these uniforms; a tensor behaviour is (temperature, epsilon)."""
    if isinstance(behaviour, Behaviour):
        return lambda logits, allowed: choose(logits, allowed, noise, behaviour)
    temperature, epsilon = (1.0, 0.0) if behaviour is None else behaviour.unbind()
    return lambda logits, allowed: inverse_cdf(explored(logits, allowed, temperature, epsilon), noise)
