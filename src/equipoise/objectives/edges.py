"""Residuals of single steps and states, log model minus log target, with the weight of each in its row.

Per-step arguments are (batch, steps), per-state ones (batch, steps + 1); `length` is the number of steps of a row, and
the state at that index is its terminal one, whose log-flow the functions set themselves. Each returns (residuals,
weights), both (batch, steps): outside the trajectory residuals are exactly 0, whatever stands there, and the weights of
a row sum to 1. A row's loss is sum_t weight_t * divergence.loss(residual_t).
"""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.objectives.arguments import grids, lengths, positive, shaped


def detailed_balance(
    log_flow: Tensor, log_pf: Tensor, log_pb: Tensor, target: Tensor, length: Tensor
) -> tuple[Tensor, Tensor]:
    """residual of an edge = log F(s) + log_pf(s' | s) - log_pb(s | s') - log F(s'), with log F(x) = target.

    Source: Bengio et al., 2023, "GFlowNet Foundations", arXiv 2111.09266.

    Args:
        log_flow: Learned log-flow of the states, (batch, steps + 1), nats; log F of the source is log Z. The entry at
            `length` is not read.
        log_pf: Log-probability of each step, (batch, steps).
        log_pb: Log-probability of each step's undoing, (batch, steps).
        target: beta * log_reward, (batch,).
        length: Steps of each trajectory, integers (batch,), from 1.

    Returns:
        Residuals and weights, (batch, steps); the weight of each edge is 1 / length.

    Raises:
        ValueError: Shapes differ, or a length lies outside 1 .. steps.

    Example:
        >>> import torch
        >>> log_flow = torch.tensor([[2.0, 1.0, 0.0]])
        >>> log_pf = torch.tensor([[-1.0, -0.5]])
        >>> detailed_balance(log_flow, log_pf, torch.zeros(1, 2), torch.tensor([0.5]), torch.tensor([2]))
        (tensor([[0., 0.]]), tensor([[0.5000, 0.5000]]))

    Use it where trajectories are long and a flow can be learned. The reward enters at the last edge only and reaches
    the first states slowly: see `forward_looking_balance` and `sub_trajectory_balance`.
    """
    log_pf, log_pb = steps_of(log_pf, log_pb, length)
    log_flow = with_target(per_state("log_flow", log_flow, log_pf), per_trajectory("target", target, log_pf), length)
    return edges(log_flow, log_pf, log_pb, length), edge_weights(length, log_pf)


def forward_looking_balance(
    log_flow: Tensor, log_pf: Tensor, log_pb: Tensor, state_target: Tensor, length: Tensor
) -> tuple[Tensor, Tensor]:
    """Detailed balance of F(s) = F~(s) R(s)^beta, with log F~ learned and log F~(x) = 0 at the end.

    residual = log F~(s) + log_pf - log_pb - log F~(s') - (state_target(s') - state_target(s)).

    Source: Pan et al., 2023, "Better Training of GFlowNets with Local Credit and Incomplete Trajectories", arXiv
        2302.01687.

    Args:
        log_flow: Learned log F~, relative to the states' rewards, (batch, steps + 1), nats. The entry at `length` is
            not read.
        log_pf: Log-probability of each step, (batch, steps).
        log_pb: Log-probability of each step's undoing, (batch, steps).
        state_target: beta * log R of each visited state, (batch, steps + 1); the object's own at `length`.
        length: Steps of each trajectory, integers (batch,), from 1.

    Returns:
        Residuals and weights, (batch, steps); the weight of each edge is 1 / length.

    Raises:
        ValueError: Shapes differ, or a length lies outside 1 .. steps.

    Example:
        >>> import torch
        >>> log_flow, state_target = torch.tensor([[0.5, 0.0]]), torch.tensor([[0.0, 2.0]])
        >>> log_pf, log_pb = torch.tensor([[-0.5]]), torch.tensor([[0.0]])
        >>> forward_looking_balance(log_flow, log_pf, log_pb, state_target, torch.tensor([1]))[0]
        tensor([[-2.]])

    Use it where partial objects have a reward that adds up; a state_target of 0 before the end is detailed balance.
    """
    log_pf, log_pb = steps_of(log_pf, log_pb, length)
    state_target = per_state("state_target", state_target, log_pf)
    log_flow = with_target(per_state("log_flow", log_flow, log_pf), log_pf.new_zeros(len(log_pf)), length)
    return edges(log_flow + state_target, log_pf, log_pb, length), edge_weights(length, log_pf)


def modified_detailed_balance(
    log_stop: Tensor, log_pf: Tensor, log_pb: Tensor, state_target: Tensor, length: Tensor
) -> tuple[Tensor, Tensor]:
    """Detailed balance where every state can stop: F(s) = R(s)^beta / p(stop | s), so no flow is learned.

    residual = state_target(s) - log_stop(s) + log_pf - log_pb - state_target(s') + log_stop(s').

    Source: Deleu et al., 2022, "Bayesian Structure Learning with Generative Flow Networks", arXiv 2202.13903.

    Args:
        log_stop: Log-probability of stopping in each state, (batch, steps + 1); the entry at `length` is not read.
        log_pf: Log-probability of each step, (batch, steps); the last step of a trajectory is the stop.
        log_pb: Log-probability of each step's undoing, (batch, steps).
        state_target: beta * log R of each visited state, (batch, steps + 1).
        length: Steps of each trajectory, the stop among them, integers (batch,), from 1.

    Returns:
        Residuals and weights, (batch, steps). The stop makes no edge: there are length - 1, of equal weight. A
        trajectory that stops at once has one residual 0 of weight 1.

    Raises:
        ValueError: Shapes differ, or a length lies outside 1 .. steps.

    Example:
        >>> import torch
        >>> half = torch.tensor(0.5).log()
        >>> log_stop, state_target = half * torch.tensor([[1.0, 0.0, 0.0]]), half * torch.tensor([[1.0, 1.0, 1.0]])
        >>> log_pf, log_pb = half * torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2)
        >>> modified_detailed_balance(log_stop, log_pf, log_pb, state_target, torch.tensor([2]))
        (tensor([[0., 0.]]), tensor([[1., 0.]]))

    Use it on sets, graphs and grids whose every state is an object. Each edge compares two rewards, so a reward that
    is costly on partial objects is asked for at every state; trajectories that stop at once teach nothing.
    """
    log_pf, log_pb = steps_of(log_pf, log_pb, length)
    log_flow = per_state("state_target", state_target, log_pf) - per_state("log_stop", log_stop, log_pf)
    return edges(log_flow, log_pf, log_pb, length - 1), edge_weights((length - 1).clamp(min=1), log_pf)


def flow_matching(
    log_inflow: Tensor, log_outflow: Tensor, target: Tensor, length: Tensor, *, terminal_weight: float = 1.0
) -> tuple[Tensor, Tensor]:
    """residual of a state = log inflow - log outflow, of every state but the source; an object's outflow is its target.

    The inflow is the model's side, so that the sign agrees with detailed balance: with P_F and P_B defined by the edge
    flows the two residuals are equal.

    Source: Bengio et al., 2021, "Flow Network Based Generative Models for Non-Iterative Diverse Candidate Generation",
        arXiv 2106.04399.

    Args:
        log_inflow: Log of the summed flow of a state's incoming edges, (batch, steps + 1), nats.
        log_outflow: Log of the summed flow of its outgoing edges, (batch, steps + 1); not read at `length`.
        target: beta * log_reward, (batch,).
        length: Steps of each trajectory, integers (batch,), from 1.
        terminal_weight: Weight of the terminal state beside 1 for the others, > 0.

    Returns:
        Residuals and weights, (batch, steps); column t is state t + 1.

    Raises:
        ValueError: Shapes differ, a length lies outside 1 .. steps, or the weight is not positive.

    Example:
        >>> import torch
        >>> inflow, outflow = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[0.0, 0.5, 0.0]])
        >>> flow_matching(inflow, outflow, torch.tensor([2.0]), torch.tensor([2]), terminal_weight=3.0)
        (tensor([[0.5000, 0.0000]]), tensor([[0.2500, 0.7500]]))

    Use it for comparison with the first papers: it needs all parents and children of a state, and credit travels one
    step at a time. The terminal weight there was 10 to 25.
    """
    if log_inflow.ndim != 2 or log_inflow.shape[1] < 2:
        raise ValueError(f"log_inflow has shape {tuple(log_inflow.shape)}; expected (batch, steps + 1)")
    positive("terminal_weight", terminal_weight)
    log_inflow, log_outflow = grids({"log_inflow": log_inflow, "log_outflow": log_outflow})
    lengths(length, len(log_inflow), log_inflow.shape[1] - 1)
    inflow, step = log_inflow[:, 1:], torch.arange(1, log_inflow.shape[1], device=log_inflow.device)
    log_outflow = with_target(log_outflow, per_trajectory("target", target, log_inflow), length)[:, 1:]
    terminal, inside = step == length[:, None], step <= length[:, None]
    weights = torch.where(terminal, terminal_weight, inside.to(inflow.dtype))
    return torch.where(inside, inflow - log_outflow, 0.0), weights / weights.sum(1, keepdim=True)


def soft_q(q: Tensor, reward: Tensor, next_q: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """residual = Q(s, a) - (reward + logsumexp_a' Q(s', a')): the soft Bellman equation at temperature 1.

    With reward = log_pb, plus the target at the last step, it is detailed balance with log F = logsumexp Q and the
    model softmax Q.

    Source: Haarnoja et al., 2017, "Reinforcement Learning with Deep Energy-Based Policies", arXiv 1702.08165; Tiapkin
        et al., 2024, "Generative Flow Networks as Entropy-Regularized RL", arXiv 2310.12934.

    Args:
        q: Soft value of each action taken, (batch, steps), nats (divide by the temperature first).
        reward: Reward of each step, (batch, steps), in the same unit.
        next_q: Soft values of all actions in the state reached, (batch, steps, actions), -inf where an action is not
            allowed; not read at the last step, whose successor has value 0. Detach it, or take a target network's.
        length: Steps of each trajectory, integers (batch,), from 1.

    Returns:
        Residuals and weights, (batch, steps); the weight of each step is 1 / length.

    Raises:
        ValueError: Shapes differ, or a length lies outside 1 .. steps.

    Example:
        >>> import torch
        >>> q, reward = torch.tensor([[1.0, 0.5]]), torch.tensor([[0.0, 0.5]])
        >>> next_q = torch.tensor([[[0.5, -torch.inf], [0.0, 0.0]]])
        >>> soft_q(q, reward, next_q, torch.tensor([2]))[0]
        tensor([[0.5000, 0.0000]])

    Use it to compare with value-based RL. Trained through next_q it is a residual-gradient method, slower and biased
    by the environment's noise where there is any.
    """
    q, reward = grids({"q": q, "reward": reward})
    lengths(length, *q.shape)
    if next_q.ndim != 3:
        raise ValueError(f"next_q has shape {tuple(next_q.shape)}; expected (batch, steps, actions)")
    next_q = shaped("next_q", next_q, (*q.shape, next_q.shape[2]), "the shape of q and the actions")
    before_last = within(length - 1, q)
    # A row of -inf has no gradient, so what is not read is replaced before the sum.
    value = torch.where(before_last[:, :, None], next_q, 0.0).logsumexp(2)
    residuals = q - reward - torch.where(before_last, value, 0.0)
    return torch.where(within(length, q), residuals, 0.0), edge_weights(length, q)


def steps_of(log_pf: Tensor, log_pb: Tensor, length: Tensor) -> list[Tensor]:
    """The per-step log-probabilities, once they and the lengths fit one another."""
    checked = grids({"log_pf": log_pf, "log_pb": log_pb})
    lengths(length, *log_pf.shape)
    return checked


def per_state(name: str, tensor: Tensor, log_pf: Tensor) -> Tensor:
    """A per-state tensor of the shape that belongs to log_pf."""
    batch, steps = log_pf.shape
    return shaped(name, tensor, (batch, steps + 1), "(batch, steps + 1)")


def per_trajectory(name: str, tensor: Tensor, log_pf: Tensor) -> Tensor:
    """A per-trajectory tensor of the batch that belongs to log_pf."""
    return shaped(name, tensor, (len(log_pf),), "(batch,)")


def with_target(log_flow: Tensor, target: Tensor, length: Tensor) -> Tensor:
    """log_flow with the target at the terminal state."""
    index = torch.arange(log_flow.shape[1], device=log_flow.device)
    return torch.where(index == length[:, None], target[:, None], log_flow)


def within(count: Tensor, log_pf: Tensor) -> Tensor:
    """Which of the steps are among the first `count` of their row."""
    return torch.arange(log_pf.shape[1], device=log_pf.device) < count[:, None]


def edges(log_flow: Tensor, log_pf: Tensor, log_pb: Tensor, count: Tensor) -> Tensor:
    """The residuals of the first `count` edges of each row, 0 for the rest."""
    residuals = log_flow[:, :-1] + (log_pf - log_pb) - log_flow[:, 1:]
    return torch.where(within(count, log_pf), residuals, 0.0)


def edge_weights(count: Tensor, log_pf: Tensor) -> Tensor:
    """Equal weights of the first `count` edges."""
    return within(count, log_pf).to(log_pf.dtype) / count[:, None]
