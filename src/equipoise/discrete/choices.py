"""Choices among allowed actions: drawing one, and what a policy's logits say of those that were made."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from equipoise.contracts import Behaviour

NEVER = torch.tensor(-torch.inf)
"""The logit of what is not allowed, as a tensor: a number would be made one at every call."""

NETWORK = frozenset({"log_pf", "entropy", "log_flow", "log_outflow", "log_stop", "kl_prior"})
"""The scores that `forward_scores` gives."""


def choose(logits: Tensor, allowed: Tensor, uniform: Tensor, behaviour: Behaviour) -> Tensor:
    """One allowed action a row, by inverse CDF of one uniform."""
    return inverse_cdf(explored(logits, allowed, behaviour.temperature, behaviour.epsilon), uniform)


def explored(logits: Tensor, allowed: Tensor, temperature: float | Tensor, epsilon: float | Tensor) -> Tensor:
    """Probabilities of the actions, (n, actions), under a temperature and a share of uniform ones."""
    if isinstance(temperature, Tensor) or temperature != 1.0:
        logits = logits / temperature
    policy = torch.softmax(torch.where(allowed, logits, NEVER), 1)
    if isinstance(epsilon, Tensor) or epsilon:
        share = allowed.to(policy.dtype)
        policy = (1 - epsilon) * policy + epsilon * share / share.sum(1, keepdim=True)
    return policy


def inverse_cdf(policy: Tensor, uniform: Tensor) -> Tensor:
    """The first action, (n,), at which the cumulative probability passes each row's uniform."""
    cumulative = policy.cumsum(1)
    return torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)[:, 0]


def inverse_cdf_of_few(policy: Tensor, uniform: Tensor) -> Tensor:
    """The same for a few actions, as sums of columns, of which a compiler makes one kernel with what comes before."""
    first, *more = policy.unbind(1)
    cumulative = list(itertools.accumulate(more, initial=first))
    reached = uniform * cumulative.pop()
    return sum((below <= reached for below in cumulative), torch.zeros_like(reached, dtype=torch.int64))


def uniforms(steps: int, n: int, generator: torch.Generator) -> Tensor:
    """The noise of a whole draw, one number a step and lane, drawn before the first step.

    Held a few roundings below 1, so that uniform * total is below total and inverse CDF never passes the last action.
    """
    return torch.rand((steps, n), generator=generator) * (1 - 2.0**-22)


def require_discrete(behaviour: Behaviour) -> None:
    """
    Raises:
        ValueError: a behaviour with noise, which discrete actions cannot honour.
    """
    if behaviour.noise:
        raise ValueError(f"noise is {behaviour.noise}: discrete actions explore by epsilon or temperature")


def log_choice(logits: Tensor, allowed: Tensor, action: Tensor) -> Tensor:
    """log-probability of each row's action, (rows,)."""
    return torch.log_softmax(torch.where(allowed, logits, NEVER), 1).gather(1, action[:, None])[:, 0]


def forward_scores(
    heads: Mapping[str, Tensor],
    allowed: Tensor,
    action: Tensor,
    scatter: Callable[[Tensor], Tensor],
    needs: frozenset[str],
    prior: Callable[[], Tensor] | None,
) -> dict[str, Tensor]:
    """The scores of `NETWORK` that are needed, (n, steps) or (n, steps + 1).

    Args:
        heads: of the policy at the packed steps; rows beyond them are not read.
        allowed: (rows, actions).
        action: (rows,) that was taken.
        scatter: packed rows -> (n, steps).
        needs: names.
        prior: the prior's logits at the same rows, where there is one.
    """
    logits = torch.where(allowed, heads["forward"][: len(action)], NEVER)
    log_policy = torch.log_softmax(logits, 1)
    found = {}
    if "log_pf" in needs:
        found["log_pf"] = scatter(log_policy.gather(1, action[:, None])[:, 0])
    if "entropy" in needs:
        found["entropy"] = scatter(-_expected(log_policy, log_policy, allowed))
    if "kl_prior" in needs and prior is not None:
        with torch.no_grad():
            frozen = torch.log_softmax(prior().masked_fill(~allowed, -torch.inf), 1)
        difference = log_policy.masked_fill(~allowed, 0.0) - frozen.masked_fill(~allowed, 0.0)
        found["kl_prior"] = scatter(_expected(log_policy, difference, allowed))
    if "log_flow" in needs:
        found["log_flow"] = nn.functional.pad(scatter(heads["flow"][: len(action)]), (0, 1))
    if "log_outflow" in needs:
        found["log_outflow"] = nn.functional.pad(scatter(torch.logsumexp(logits, 1)), (0, 1))
    if "log_stop" in needs:
        found["log_stop"] = nn.functional.pad(scatter(log_policy[:, -1]), (0, 1))
    return found


def _expected(log_policy: Tensor, value: Tensor, allowed: Tensor) -> Tensor:
    return (log_policy.exp() * value.masked_fill(~allowed, 0.0)).sum(1)
