"""Coefficients for trajectories that another policy drew: importance weights, clipped or self-normalised.

The sign is that of `policy_gradient`: minus an advantage, so that mean(coefficient * log_pf) is minimised.
"""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.objectives.arguments import constant, grids, positive, rows, same_shape


def self_normalised_weights(log_pf: Tensor, log_behaviour: Tensor, *, steps: Tensor | float = 1.0) -> Tensor:
    """weight = softmax over the batch of (log_pf - log_behaviour) / steps, detached.

    With steps = 1 these are self-normalised importance weights. With the length of the trajectory they are weights of
    the geometric mean of the steps' ratios: of small variance, and biased towards the behaviour policy by design.

    Source: the code of Deleu et al., 2025, arXiv 2509.01632 (steps: that of the diffusion).

    Args:
        log_pf: Log-probability of the trajectory under the trained model, (batch,), nats.
        log_behaviour: The same trajectory's under the policy that drew it, (batch,).
        steps: What the log-ratio is divided by, > 0; a number, () or (batch,).

    Returns:
        Weights that sum to 1 over the batch, (batch,).

    Raises:
        ValueError: Shapes differ, or steps are not positive.

    Example:
        >>> import torch
        >>> self_normalised_weights(torch.tensor([0.2, 0.6]).log(), torch.tensor([0.5, 0.5]).log())
        tensor([0.2500, 0.7500])

    Use it with few steps or little lag; one weight near 1 means that the batch has one effective trajectory.
    """
    log_pf, log_behaviour = rows({"log_pf": log_pf.detach(), "log_behaviour": log_behaviour.detach()})
    positive("steps", steps)
    return ((log_pf - log_behaviour) / constant("steps", steps, len(log_pf))).softmax(0)


def ppo_clip(
    coefficient: Tensor, log_pf: Tensor, log_behaviour: Tensor, *, clip: float = 0.2, clip_high: float | None = None
) -> Tensor:
    """The coefficient on log_pf of the clipped surrogate max(c rho, c clamp(rho, 1 - clip, 1 + clip_high)).

    rho = exp(log_pf - log_behaviour) step by step, c the coefficient before clipping (minus the advantage). It is
    c rho, and 0 once a step has moved by more than the clip in the direction that c asks for.

    Source: Schulman et al., 2017, "Proximal Policy Optimization Algorithms", arXiv 1707.06347, eq. 7; a clip_high of
        its own: Yu et al., 2025, "DAPO", arXiv 2503.14476.

    Args:
        coefficient: Of each trajectory, (batch,), or of each step, (batch, steps), from another function here.
        log_pf: Log-probability of each step under the trained model, (batch, steps), nats.
        log_behaviour: The same under the policy that drew it, (batch, steps).
        clip: How far below 1 a ratio may go, in (0, 1).
        clip_high: How far above 1, > 0; as clip by default.

    Returns:
        The coefficient of each step, (batch, steps), detached.

    Raises:
        ValueError: Shapes differ, or a clip is out of range.

    Example:
        >>> import torch
        >>> log_pf, log_behaviour = torch.tensor([[0.5, 0.9]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> ppo_clip(torch.tensor([-1.0]), log_pf, log_behaviour)
        tensor([[-1.,  0.]])

    Use it when a batch is used for several updates. It bounds a step's ratio only where c pushes it away from 1.
    """
    ratio, coefficient = ratios(coefficient, log_pf, log_behaviour)
    clip_high = clip if clip_high is None else clip_high
    positive("clip", clip)
    positive("clip_high", clip_high)
    if clip >= 1:
        raise ValueError(f"clip is {clip}; expected less than 1, since a ratio is positive")
    active = torch.where(coefficient < 0, ratio <= 1 + clip_high, ratio >= 1 - clip)
    return torch.where(active, coefficient * ratio, 0.0)


def ppo_surrogate(
    coefficient: Tensor, log_pf: Tensor, log_behaviour: Tensor, *, clip: float = 0.2, clip_high: float | None = None
) -> Tensor:
    """loss = max(c rho, c clamp(rho, 1 - clip, 1 + clip_high)), whose gradient is `ppo_clip` times that of log_pf.

    Source: Schulman et al., 2017, arXiv 1707.06347, eq. 7.

    Args:
        coefficient: Minus the advantage, of each trajectory, (batch,), or of each step, (batch, steps).
        log_pf: Log-probability of each step under the trained model, (batch, steps), nats, with its gradient.
        log_behaviour: The same under the policy that drew it, (batch, steps).
        clip: How far below 1 a ratio may go, in (0, 1).
        clip_high: How far above 1, > 0; as clip by default.

    Returns:
        The loss of each step, (batch, steps), differentiable in log_pf; c where nothing has moved.

    Raises:
        ValueError: As `ppo_clip`.

    Example:
        >>> import torch
        >>> log_pf, log_behaviour = torch.tensor([[0.5, 0.9]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> ppo_surrogate(torch.tensor([-1.0]), log_pf, log_behaviour)
        tensor([[-1.0000, -1.2000]])

    Use it where a published loss is compared by its value; `ppo_clip` gives the same gradient without it. On steps
    outside a trajectory it is c, not 0: mask it before summing.
    """
    active = ppo_clip(coefficient, log_pf, log_behaviour, clip=clip, clip_high=clip_high) != 0
    (bounded,) = ratios(coefficient, log_pf, log_behaviour)[:1]
    bounded = bounded.clamp(1 - clip, 1 + (clip if clip_high is None else clip_high))
    log_pf, log_behaviour = grids({"log_pf": log_pf, "log_behaviour": log_behaviour.detach()})
    per_step = coefficient.detach() if coefficient.ndim == 2 else coefficient.detach()[:, None]
    return torch.where(active, per_step * (log_pf - log_behaviour).exp(), per_step * bounded)


def cispo(coefficient: Tensor, log_pf: Tensor, log_behaviour: Tensor, *, ceiling: float = 8.0) -> Tensor:
    """coefficient of a step = c min(rho, ceiling), rho = exp(log_pf - log_behaviour): truncated, never silenced.

    Source: MiniMax, 2025, "MiniMax-M1", arXiv 2506.13585 (CISPO); the ceiling of 8 is that of the fork of prime-rl with
        which Bartoldson et al., 2025, arXiv 2503.18929 ran TBA'.

    Args:
        coefficient: Of each trajectory, (batch,), or of each step, (batch, steps), from another function here.
        log_pf: Log-probability of each step under the trained model, (batch, steps), nats.
        log_behaviour: The same under the policy that drew it, (batch, steps).
        ceiling: Largest weight of a step, > 0.

    Returns:
        The coefficient of each step, (batch, steps), detached.

    Raises:
        ValueError: Shapes differ, or the ceiling is not positive.

    Example:
        >>> import torch
        >>> log_pf, log_behaviour = torch.tensor([[0.5, 0.9]]).log(), torch.tensor([[0.5, 0.3]]).log()
        >>> cispo(torch.tensor([-1.0]), log_pf, log_behaviour, ceiling=2.0)
        tensor([[-1., -2.]])

    Use it where the clip of PPO silences the rare steps that matter. Weights by step are not those of the trajectory.
    """
    ratio, coefficient = ratios(coefficient, log_pf, log_behaviour)
    positive("ceiling", ceiling)
    return coefficient * ratio.clamp(max=ceiling)


def ratios(coefficient: Tensor, log_pf: Tensor, log_behaviour: Tensor) -> list[Tensor]:
    """The ratio of model and behaviour at each step, and the coefficient in its shape; both detached."""
    log_pf, log_behaviour = grids({"log_pf": log_pf.detach(), "log_behaviour": log_behaviour.detach()})
    coefficient = coefficient.detach()
    if coefficient.ndim == 1 and len(coefficient) == len(log_pf):
        coefficient = coefficient[:, None].expand_as(log_pf)
    return same_shape({"log_pf": (log_pf - log_behaviour).exp(), "coefficient": coefficient})
