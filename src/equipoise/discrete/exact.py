"""Exact figures by dynamic programming: a sampler's own distribution over a space that can be listed.

p(s') = sum over parents s of p(s) P_F(s'|s), level by level, in float64; up to about 10^6 states, in one process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.contracts import Enumerable, Reward
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.sampling.rollouts import rewarded

LIMIT = 4_000_000
"""States beyond which a graph is refused: its tables would not fit a small machine's memory."""


@dataclass(frozen=True)
class Level:
    """The non-terminal states at one depth: their rows, and their edges (parent's place in rows, action, child)."""

    rows: Tensor
    parent: Tensor
    action: Tensor
    child: Tensor
    back: Tensor


@dataclass(frozen=True)
class StateGraph:
    """All states and edges of an enumerable environment.

    Attributes:
        states: (size, width), non-terminal states first.
        inner: how many are not terminal.
        levels: the non-terminal states by depth, the source first.
    """

    environment: Enumerable
    states: Tensor
    inner: int
    levels: tuple[Level, ...]

    @property
    def terminal(self) -> Tensor:
        """(objects, width): the terminal states, in the order of every distribution here."""
        return self.states[self.inner :]


def state_graph(environment: Enumerable) -> StateGraph:
    """Lists an environment's states and edges.

    Raises:
        ValueError: more than `LIMIT` states, or an environment that cannot list them.

    Example:
        >>> from equipoise.discrete.environments.hypergrid import Hypergrid
        >>> graph = state_graph(Hypergrid(dim=2, side=8))
        >>> graph.inner, len(graph.terminal), len(graph.levels)
        (64, 64, 15)
    """
    if not isinstance(environment, Enumerable):
        raise ValueError(f"{type(environment).__name__} cannot list its states: it has no 'states' and 'index'")
    if environment.size > LIMIT:
        raise ValueError(f"{environment.size} states are too many to list: at most {LIMIT}")
    states = environment.states()
    inner = int((~environment.terminal(states)).sum())
    depth = environment.depth(states[:inner])
    order = depth.argsort(stable=True)
    levels = tuple(_level(environment, states, rows) for rows in order.split(depth.bincount().tolist()))
    return StateGraph(environment, states, inner, levels)


def _level(environment: Enumerable, states: Tensor, rows: Tensor) -> Level:
    parents = states[rows]
    parent, action = environment.allowed(parents).nonzero(as_tuple=True)
    children = environment.step(parents[parent], action)
    back = environment.back_action(parents[parent], action)
    return Level(rows, parent, action, environment.index(children), back)


@torch.no_grad()
def log_policy(sampler: DiscreteSampler, graph: StateGraph, chunk: int = 1 << 15) -> Tensor:
    """log P_F of every non-terminal state: (inner, actions), -inf where an action is not allowed."""
    return torch.cat([sampler.log_edges(part)["log_pf"] for part in graph.states[: graph.inner].split(chunk)])


def visits(graph: StateGraph, log_pf: Tensor) -> Tensor:
    """Probability that a trajectory passes through each state: (size,), float64."""
    reached = torch.zeros(len(graph.states), dtype=torch.float64)
    reached[graph.environment.index(graph.environment.initial(1))] = 1.0
    for level in graph.levels:
        reached.index_add_(0, level.child, reached[level.rows][level.parent] * _edges(level, log_pf).exp())
    return reached


def terminal_distribution(graph: StateGraph, log_pf: Tensor) -> Tensor:
    """The sampler's own probability of each object: (objects,), float64, summing to 1."""
    return visits(graph, log_pf)[graph.inner :]


def log_flows(graph: StateGraph, log_pf: Tensor, log_z: float) -> Tensor:
    """log F of every state under the forward policy, Z times the probability of passing through it: (size,), float64.

    Args:
        graph: of the environment.
        log_pf: from `log_policy`.
        log_z: log of the source's flow.
    """
    return visits(graph, log_pf).log() + log_z


@torch.no_grad()
def log_backward(sampler: DiscreteSampler, graph: StateGraph, chunk: int = 1 << 15) -> Tensor:
    """log P_B of every state: (size, back_actions) float64, summing to 1 in that; -inf where there is no parent."""
    found = torch.cat([sampler.log_back(part) for part in graph.states.split(chunk)]).double()
    return torch.log_softmax(found, 1).nan_to_num(nan=-torch.inf, neginf=-torch.inf)


def target_flows(graph: StateGraph, log_pb: Tensor, weight: Tensor) -> Tensor:
    """F(s) = sum over objects of weight(x) times the probability that a path drawn back from x passes through s.

    With the target's weights these are the flows that balance has with this backward policy: the root's is Z, and
    P_F(s'|s) = F(s') P_B(s|s') / F(s).

    Args:
        graph: of the environment.
        log_pb: from `log_backward`.
        weight: (objects,) R(x), or any weights not below 0, zeros allowed.

    Returns:
        (size,), float64.

    Example:
        >>> from equipoise.discrete.environments.strings import PrependAppendStrings
        >>> from equipoise.discrete.policies.mlp import Uniform
        >>> words = PrependAppendStrings(letters=2, length=2)
        >>> graph = state_graph(words)
        >>> back = log_backward(DiscreteSampler(words, Uniform({"forward": 4})), graph)
        >>> target_flows(graph, back, torch.tensor([0.0, 1.0, 0.0, 0.0])).tolist()  # AB, by way of A and of B
        [1.0, 0.5, 0.5, 0.0, 1.0, 0.0, 0.0]
    """
    flow = torch.zeros(len(graph.states), dtype=torch.float64)
    flow[graph.inner :] = weight
    for level in reversed(graph.levels):
        flow.index_add_(0, level.rows[level.parent], flow[level.child] * log_pb[level.child, level.back].exp())
    return flow


@torch.no_grad()
def expected_log_ratio(sampler: DiscreteSampler, graph: StateGraph, log_pf: Tensor, reference: Tensor) -> float:
    """E[sum log P_F - sum log P_ref - target] over the sampler's trajectories, exactly: minus its ELBO.

    Args:
        sampler: whose backward policy is the reference where it has no prior.
        graph: of its environment.
        log_pf: from `log_policy`.
        reference: (objects,) the target's beta * log R(x), and nothing else.
    """
    reached = visits(graph, log_pf)
    total = -float((reached[graph.inner :] * reference).sum())
    for level in graph.levels:
        weight = reached[level.rows][level.parent] * _edges(level, log_pf).exp()
        total += float((weight * (_edges(level, log_pf) - _reference(sampler, graph, level))).sum())
    return total


def _reference(sampler: DiscreteSampler, graph: StateGraph, level: Level) -> Tensor:
    if sampler.prior is None:
        return sampler.log_back(graph.states[level.child]).gather(1, level.back[:, None])[:, 0].double()
    states = graph.states[level.rows]
    logits = sampler.prior(graph.environment.encode(states))["forward"]
    log_prior = torch.log_softmax(logits.masked_fill(~graph.environment.allowed(states), -torch.inf), 1)
    return log_prior[level.parent, level.action].double()


def _edges(level: Level, log_pf: Tensor) -> Tensor:
    return log_pf[level.rows[level.parent], level.action].double()


def log_rewards(graph: StateGraph, reward: Reward, chunk: int = 1 << 17) -> Tensor:
    """log R of every object, float64, in the order of `graph.terminal`.

    Raises:
        ValueError: a log-reward that is not finite, by its place in that order, or a reward off its contract.
    """
    parts = graph.terminal.split(chunk)
    values = [
        rewarded(reward, graph.environment.objects(part), None, len(part), first=place * chunk)
        for place, part in enumerate(parts)
    ]
    return torch.cat(values).double()


def trajectories_of(graph: StateGraph) -> Iterator[tuple[list[int], list[int]]]:
    """Every complete trajectory, as state rows and actions, by brute force: for tests on small spaces."""
    edges: dict[int, list[tuple[int, int]]] = {}
    for level in graph.levels:
        parents = level.rows[level.parent].tolist()
        for parent, action, child in zip(parents, level.action.tolist(), level.child.tolist(), strict=True):
            edges.setdefault(parent, []).append((action, child))
    stack = [([int(graph.environment.index(graph.environment.initial(1)))], list[int]())]
    while stack:
        rows, actions = stack.pop()
        if rows[-1] >= graph.inner:
            yield rows, actions
        stack += [([*rows, child], [*actions, action]) for action, child in edges.get(rows[-1], [])]
