"""Three estimates of KL(model||prior) from samples of the model, and what they do as losses.

Differentiated on samples, k1 has gradient 0 in expectation, k2 that of KL(model||prior), k3 that of KL(prior||model):
an estimate of a KL is not a loss for it. k2 and k3 are the reverse_kl and forward_kl losses of log_pf - log_prior.

Source: Schulman, 2020, "Approximating KL Divergence" (joschu.net/blog/kl-approx.html); the gradients are identity 15.
"""

from __future__ import annotations

from torch import Tensor

from equipoise.objectives.arguments import same_shape
from equipoise.objectives.divergences import divergence


def k1(log_pf: Tensor, log_prior: Tensor) -> Tensor:
    """k1 = d with d = log_pf - log_prior: unbiased as an estimate, gradient 0 in expectation as a loss.

    Source: Schulman, 2020.

    Args:
        log_pf: Log-probability under the model, any shape, nats.
        log_prior: The same under the prior, of that shape.

    Returns:
        The estimate, elementwise, differentiable, in at least float32.

    Raises:
        ValueError: Shapes differ.

    Example:
        >>> import torch
        >>> k1(torch.tensor([-1.0]), torch.tensor([-1.5]))
        tensor([0.5000])

    Use it to report a KL, or detached in a reward.
    """
    log_pf, log_prior = same_shape({"log_pf": log_pf, "log_prior": log_prior})
    return log_pf - log_prior


def k2(log_pf: Tensor, log_prior: Tensor) -> Tensor:
    """k2 = d^2 / 2: biased as an estimate, on-policy the gradient of KL(model||prior) as a loss.

    Source: Schulman, 2020.

    Args:
        log_pf: Log-probability under the model, any shape, nats.
        log_prior: The same under the prior, of that shape.

    Returns:
        The term, elementwise, differentiable, in at least float32.

    Raises:
        ValueError: Shapes differ.

    Example:
        >>> import torch
        >>> k2(torch.tensor([-1.0]), torch.tensor([-1.5]))
        tensor([0.1250])

    Use it where a KL to the prior is to be added to a policy-gradient loss.
    """
    return divergence("reverse_kl").loss(k1(log_pf, log_prior))


def k3(log_pf: Tensor, log_prior: Tensor) -> Tensor:
    """k3 = e^-d + d - 1: unbiased and never negative as an estimate, the gradient of KL(prior||model) as a loss.

    Source: Schulman, 2020; GRPO's KL term (Shao et al., 2024, arXiv 2402.03300).

    Args:
        log_pf: Log-probability under the model, any shape, nats.
        log_prior: The same under the prior, of that shape.

    Returns:
        The term, elementwise, differentiable, in at least float32; linear once d is below -30.

    Raises:
        ValueError: Shapes differ.

    Example:
        >>> import torch
        >>> k3(torch.tensor([-1.0]), torch.tensor([-1.5]))
        tensor([0.1065])

    Use it to reproduce GRPO: it pulls the model over the prior's modes, unlike the KL that GRPO's text regularises by.
    """
    return divergence("forward_kl").loss(k1(log_pf, log_prior))
