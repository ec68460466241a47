"""The structural types that rooms agree on, and the checks that hold an implementation to them.

A `Sampler` is what is trained; a `Reward` is a plain function; a `Source` is where trajectories come from; an
`Environment` is a space of objects built step by step, as pure tensor functions of static shape. `check_sampler` and
`check_environment` are for third parties: they raise a ValueError that says which promise was broken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from equipoise.trajectories import Columns, Fixed, Scores, Trajectories, concatenate, ends, from_bytes, to_bytes


@dataclass(frozen=True)
class Behaviour:
    """How a sampler explores. It shapes what is drawn and never enters a loss.

    Attributes:
        epsilon: probability of a uniform action.
        temperature: divides the logits.
        noise: extra standard deviation of a continuous step.
    """

    epsilon: float = 0.0
    temperature: float = 1.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.epsilon <= 1.0:
            raise ValueError(f"epsilon is {self.epsilon}: a probability between 0 and 1 was expected")
        if not self.temperature > 0.0 or self.noise < 0.0:
            raise ValueError(f"temperature {self.temperature} must be positive and noise {self.noise} not negative")


ON_POLICY = Behaviour()

Reward = Callable[[Columns, Columns], Tensor]
"""(objects, context) -> (n,) log-reward, finite."""


@runtime_checkable
class Sampler(Protocol):
    """What is trained: an `nn.Module` that draws trajectories and scores them.

    `version` is a buffer () int64 that the loop raises after each step; `offers` names the scores it can compute.
    `sample` never records gradients and leaves `log_reward` None; `sample_to` gives the same rows a path that ends in
    their objects; `renew` fills `fixed` and changes no score; `score` is differentiable and the only source of
    trained log-probabilities in a loss.
    """

    version: Tensor
    offers: frozenset[str]

    def sample(
        self,
        n: int,
        *,
        context: Columns = None,
        behaviour: Behaviour = ON_POLICY,
        start: Trajectories | None = None,
        keep: Tensor | None = None,
        generator: torch.Generator,
    ) -> Trajectories: ...

    def sample_to(self, ends: Trajectories, *, generator: torch.Generator) -> Trajectories: ...

    def renew(self, trajectories: Trajectories) -> Trajectories: ...

    def score(
        self, trajectories: Trajectories, needs: frozenset[str], *, generator: torch.Generator | None = None
    ) -> Scores: ...


@runtime_checkable
class Source(Protocol):
    """Where trajectories come from. `draw` fills log_reward; `observe` is told the residuals after the loss."""

    def draw(self, n: int, generator: torch.Generator) -> Trajectories: ...

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class Environment(Protocol):
    """Objects built step by step. A state is one row of integers; all functions are pure, on (n, width) tensors.

    Distinct allowed actions lead to distinct children, and distinct backward actions to distinct parents, so that an
    edge is an action. Every path to a state that is not terminal has the same number of steps, `depth`; a terminal
    state whose paths differ says any number above 0. Where `stops`, the last action ends
    the trajectory from any state, in a terminal copy of that state whose one parent it is. One whose parents are dear
    says `keeps_parents = True`: paths then carry them, and `parents` is given a batch's states at once. What a function
    returns for an action that is not allowed is unspecified, but of the right shape.
    """

    actions: int
    back_actions: int
    horizon: int
    features: int
    stops: bool

    def initial(self, n: int) -> Tensor: ...

    def allowed(self, state: Tensor) -> Tensor: ...

    def step(self, state: Tensor, action: Tensor) -> Tensor: ...

    def terminal(self, state: Tensor) -> Tensor: ...

    def depth(self, state: Tensor) -> Tensor: ...

    def parents(self, state: Tensor) -> Tensor: ...

    def back(self, state: Tensor, action: Tensor) -> Tensor: ...

    def back_action(self, state: Tensor, action: Tensor) -> Tensor: ...

    def forward_action(self, state: Tensor, back_action: Tensor) -> Tensor: ...

    def encode(self, state: Tensor) -> Tensor: ...

    def objects(self, state: Tensor) -> Columns: ...

    def state_of(self, objects: Columns) -> Tensor: ...


@runtime_checkable
class Enumerable(Environment, Protocol):
    """An environment small enough to list: `states` in the order of `index`, `size` of them, non-terminal first."""

    size: int

    def states(self) -> Tensor: ...

    def index(self, state: Tensor) -> Tensor: ...


def require_offered(sampler: Sampler, needs: frozenset[str]) -> None:
    """
    Raises:
        ValueError: a score is needed that the sampler does not offer.
    """
    if needs - sampler.offers:
        raise ValueError(f"this sampler offers {sorted(sampler.offers)}, not {sorted(needs - sampler.offers)}")


def require_both(start: Trajectories | None, keep: Tensor | None) -> None:
    """
    Raises:
        ValueError: a draw is given one of `start` and `keep` without the other.
    """
    if (start is None) != (keep is None):
        raise ValueError("give both 'start' and 'keep', or neither")


def check_environment(environment: Environment, *, n: int = 64, seed: int = 0, trace: bool = True) -> None:
    """Holds an environment to the contract on `n` random walks (and on all states, where it can list them).

    Args:
        environment: the environment.
        n: walks.
        seed: of the walks.
        trace: also check that `step`, `allowed` and `encode` trace as one graph (no Python branch on data).

    Raises:
        ValueError: which promise was broken, and on which state.

    Example:
        >>> from equipoise.discrete.environments.hypergrid import Hypergrid
        >>> check_environment(Hypergrid(dim=2, side=4), trace=False)
    """
    generator = torch.Generator().manual_seed(seed)
    state = environment.initial(n)
    for t in range(environment.horizon + 1):
        live = ~environment.terminal(state)
        _require((environment.depth(state[live]) == t).all(), f"depth is not {t} after {t} steps", state[live])
        if not live.any():
            break
        _require(t < environment.horizon, f"a walk outlived the horizon, {environment.horizon}", state[live])
        state = state.clone()
        state[live] = _check_step(environment, state[live], generator)
    _check_ends(environment, state)
    if isinstance(environment, Enumerable):
        _check_listing(environment)
    if trace:
        _check_trace(environment, environment.initial(n))


def _check_step(environment: Environment, state: Tensor, generator: torch.Generator) -> Tensor:
    allowed = environment.allowed(state)
    _require(allowed.shape == (len(state), environment.actions), "allowed is not (n, actions)", state)
    _require(allowed.any(1).all(), "a state that is not terminal allows no action", state[~allowed.any(1)])
    encoded = environment.encode(state)
    _require(encoded.shape == (len(state), environment.features), "encode is not (n, features)", state)
    _require(torch.isfinite(encoded).all(), "encode is not finite", state)
    rows, actions = allowed.nonzero(as_tuple=True)
    children = environment.step(state[rows], actions)
    distinct = torch.cat([rows[:, None], children], 1).unique(dim=0)
    _require(len(distinct) == len(rows), "two allowed actions lead to one child", state)
    back = environment.back_action(state[rows], actions)
    parents = environment.parents(children)
    _require(parents.gather(1, back[:, None]).all(), "parents denies the edge just taken", children)
    _require((environment.back(children, back) == state[rows]).all(), "back does not undo step", children)
    _require((environment.forward_action(children, back) == actions).all(), "forward_action does not undo", children)
    child, back = parents.nonzero(as_tuple=True)
    distinct = torch.cat([child[:, None], environment.back(children[child], back)], 1).unique(dim=0)
    _require(len(distinct) == len(child), "two backward actions lead to one parent", children)
    chosen = torch.multinomial(allowed.double(), 1, generator=generator).flatten()
    return environment.step(state, chosen)


def _check_ends(environment: Environment, state: Tensor) -> None:
    again = environment.state_of(environment.objects(state))
    _require((again == state).all(), "state_of does not undo objects", state)


def _check_listing(environment: Enumerable) -> None:
    states = environment.states()
    _require(len(states) == environment.size, "states does not list `size` states", states[:1])
    order = torch.arange(environment.size)
    _require((environment.index(states) == order).all(), "index is not the place in states", states[:1])
    terminal = environment.terminal(states)
    first = int(terminal.int().argmax())
    _require(terminal[first:].all() and not terminal[:first].any(), "terminal states are not last", states[first:])


def _check_trace(environment: Environment, state: Tensor) -> None:
    """Traces one whole step with a backend that compiles nothing: a Python branch on data breaks the graph."""

    def walk(state: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        child = environment.step(state, action)
        return child, environment.allowed(child), environment.encode(child), environment.terminal(child)

    action = environment.allowed(state).int().argmax(1)
    torch.compiler.reset()  # else the walks of environments checked before count as too many versions of this one
    try:
        torch.compile(walk, backend="eager", fullgraph=True)(state, action)
    except Exception as error:
        message = str(error).strip().splitlines()
        raise ValueError(f"check_environment: a step does not trace as one graph: {message[:1]}") from error


def _require(holds: Tensor | bool, promise: str, rows: Tensor) -> None:
    if not bool(holds):
        raise ValueError(f"check_environment: {promise}; first such state {rows[:1].tolist()}")


def check_sampler(
    sampler: Sampler, *, n: int = 8, context: Columns = None, group: Tensor | None = None, seed: int = 0
) -> None:
    """Holds a sampler to the contract: what it draws, scores, renews and re-draws is consistent and unpadded.

    Args:
        sampler: the sampler; its scores must not depend on a generator, or be seeded by it.
        n: trajectories to draw.
        context: what they are conditioned on, n rows.
        group: (n,) ids of the conditions, given to the rows that are drawn.
        seed: of every generator used.

    Raises:
        ValueError: which promise was broken.
    """
    drawn = sampler.sample(n, context=context, generator=torch.Generator().manual_seed(seed))
    drawn = drawn if group is None else replace(drawn, group=group)
    again = sampler.sample(n, context=context, generator=torch.Generator().manual_seed(seed))
    _promise(_same(drawn.path, again.path), "sample is not a function of its generator")
    _promise(drawn.log_reward is None, "sample fills log_reward, which is the source's to fill")
    _promise(not any(value.requires_grad for value in drawn.path.values()), "sample records gradients")
    _promise(bool((drawn.version == sampler.version).all()), "sample does not stamp the sampler's version")
    scores = _scored(sampler, drawn, seed)
    _check_scores(sampler, drawn, scores, seed)
    _check_rows(sampler, drawn, scores, seed)
    _check_paths(sampler, drawn, seed)


def _check_scores(sampler: Sampler, drawn: Trajectories, scores: Scores, seed: int) -> None:
    """Zero outside the mask; unchanged without gradients, by `renew`, by saving, and by garbage beyond the length."""
    expected = torch.arange(drawn.steps) < drawn.length[:, None]
    _promise(torch.equal(scores.mask, expected), "mask is not 'steps before length'")
    for name, value in _filled(scores).items():
        _promise(bool(torch.isfinite(value).all()), f"{name} is not finite")
        if value.dim() > 1:
            outside = _beyond(value, drawn)
            _promise(not value[outside].any(), f"{name} is not exactly 0 outside the mask")
    with torch.no_grad():
        _promise(_close(scores, _scored(sampler, drawn, seed)), "score differs with gradients switched off")
    _promise(_close(scores, _scored(sampler, sampler.renew(drawn), seed)), "renew changes a score")
    saved = from_bytes(to_bytes(drawn))
    _promise(_close(scores, _scored(sampler, saved, seed)), "a record that was saved and loaded scores differently")
    _promise(_close(scores, _scored(sampler, _garbage(drawn), seed)), "something is read beyond a row's length")


def _check_rows(sampler: Sampler, drawn: Trajectories, scores: Scores, seed: int) -> None:
    """A row's scores do not depend on its neighbours; scores that another seed changes are not compared."""
    n = len(drawn)
    filled, other = _filled(scores), _filled(_scored(sampler, drawn, seed + 1))
    settled = {name: value for name, value in filled.items() if _near({name: value}, {name: other[name]})}
    halves = [drawn[torch.arange(n)[::2]], drawn[torch.arange(n)[1::2]]]
    joined = _scored(sampler, concatenate(halves), seed)
    order = torch.cat([torch.arange(n)[::2], torch.arange(n)[1::2]])
    mine = {name: value[order] for name, value in settled.items()}
    again = {name: value for name, value in _filled(joined).items() if name in settled}
    _promise(_near(mine, again), "a row's score depends on the other rows")


def _check_paths(sampler: Sampler, drawn: Trajectories, seed: int) -> None:
    """`sample_to` ends where it should; keeping every step of a start keeps the path."""
    generator = torch.Generator().manual_seed(seed)
    asked = ends(drawn.objects, context=drawn.context, group=drawn.group)
    asked = replace(asked, key=torch.arange(len(drawn)))
    walked = sampler.sample_to(asked, generator=generator)
    _promise(_same({"": walked.objects}, {"": drawn.objects}), "sample_to ends in other objects")
    _promise(torch.equal(walked.key, asked.key) and torch.equal(walked.group, asked.group), "sample_to loses the row")
    kept = sampler.sample(
        len(drawn), context=drawn.context, start=drawn, keep=drawn.length.clone(), generator=generator
    )
    _promise(_same(_garbage(kept, 0).path, _garbage(drawn, 0).path), "keep = length does not keep the path")


def _scored(sampler: Sampler, trajectories: Trajectories, seed: int) -> Scores:
    return sampler.score(trajectories, sampler.offers, generator=torch.Generator().manual_seed(seed))


def _filled(scores: Scores) -> dict[str, Tensor]:
    named = {entry.name: getattr(scores, entry.name) for entry in fields(scores) if entry.name != "mask"}
    return {name: value.detach() for name, value in named.items() if value is not None}


def _close(first: Scores, second: Scores) -> bool:
    return _near(_filled(first), _filled(second))


def _near(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    shapes = first.keys() == second.keys() and all(first[name].shape == second[name].shape for name in first)
    return shapes and all(torch.allclose(first[name], second[name], rtol=1e-4, atol=1e-5) for name in first)


def _same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return to_bytes(dict(first)) == to_bytes(dict(second))


def _beyond(value: Tensor, record: Trajectories) -> Tensor:
    """Entries of a per-step or per-state tensor that lie beyond each row's length."""
    last = record.length + (value.shape[1] - record.steps)
    return torch.arange(value.shape[1]) >= last[:, None]


def _garbage(record: Trajectories, filling: int | None = None) -> Trajectories:
    """The record with every entry beyond a row's length overwritten: by NaN or nonsense, or by `filling`."""

    def spoiled(value: Tensor) -> Tensor:
        value = value.clone()
        nonsense = float("nan") if value.is_floating_point() else 1 if value.dtype == torch.bool else -1_000_003
        value[_beyond(value, record)] = nonsense if filling is None else filling
        return value

    path = {name: spoiled(value) for name, value in record.path.items()}
    fixed = {
        name: Fixed(spoiled(kept.value) if kept.value.dim() > 1 else kept.value, kept.version)
        for name, kept in record.fixed.items()
    }
    return replace(record, path=path, fixed=fixed)


def _promise(holds: bool, promise: str) -> None:
    if not holds:
        raise ValueError(f"check_sampler: {promise}")
