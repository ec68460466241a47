"""Diffusion of letters: uniform noise, and the posterior of a step given the object.

Noising replaces a letter by a uniform one with probability 1 - keep; keeps multiply along a path.

Source: Hoogeboom et al., 2021, "Argmax flows and multinomial diffusion", arXiv 2102.05379, section 4; Austin et al.,
2021, "Structured denoising diffusion models in discrete state-spaces", arXiv 2107.03006.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def log_noising(letter: Tensor, noised: Tensor, keep: Tensor, kinds: int) -> Tensor:
    """log q(noised | letter): nats, of the shape of the letters.

    Args:
        letter: int64, (...).
        noised: the same.
        keep: probability of being left alone, broadcasting to (...).
        kinds: how many letters there are.

    Example:
        >>> keep = torch.tensor(0.5, dtype=torch.float64)
        >>> float(log_noising(torch.tensor([0]), torch.tensor([0]), keep, 2).exp())
        0.75
    """
    return (keep * (letter == noised) + (1 - keep) / kinds).log()


def noised(letter: Tensor, keep: Tensor, kinds: int, uniform: Tensor) -> Tensor:
    """A draw of the noising from one uniform number a letter: those below `keep` stay, the rest are spread evenly.

    Example:
        >>> noised(torch.tensor([3, 3]), torch.tensor(0.5), 20, torch.tensor([0.1, 0.99])).tolist()
        [3, 19]
    """
    other = ((uniform - keep) / (1 - keep).clamp(min=1e-12) * kinds).floor().clamp(0, kinds - 1)
    return torch.where(uniform < keep, letter, other.to(letter.dtype))


def log_objects(logits: Tensor, state: Tensor, kept: Tensor) -> Tensor:
    """log p(object | state), of letters' own logits: log-softmax of logits + log q(state | object), (..., kinds).

    What the noised letter itself says of the object is Bayes' rule, so that a network need not learn it: logits that do
    not look at the state draw exactly their own shares, whatever the number of steps.

    Args:
        logits: of the object, (..., kinds).
        state: the noised letter, int64, (...).
        kept: from the object to the state, broadcasting to (...), below 1.

    Example:
        >>> log_objects(torch.zeros(1, 2), torch.tensor([0]), torch.tensor(0.5)).exp()
        tensor([[0.7500, 0.2500]])
    """
    kinds = logits.shape[-1]
    here = functional.one_hot(state, kinds)
    return (logits + (kept[..., None] * here + (1 - kept[..., None]) / kinds).log()).log_softmax(-1)


def log_posterior(log_object: Tensor, state: Tensor, keep: Tensor, kept_before: Tensor) -> Tensor:
    """log p(previous | state) = log sum over objects of p(object) q(previous | state, object): nats, (..., kinds).

    With keep the step's and kept_before that of all steps before it,

        q(previous | state, object) = q(state | previous) q(previous | object) / q(state | object),

    so that the sum over objects is the exact step of a model that says how likely each object is. It sums to 1.

    Args:
        log_object: log p(object), normalised, (..., kinds).
        state: the noised letter, int64, (...).
        keep: of the step from `previous` to `state`, broadcasting to (...).
        kept_before: from the object to `previous`; 1 in the first step, which then draws the object itself.

    Example:
        >>> uniform = torch.full((1, 4), 0.25).log()
        >>> one = torch.tensor(1.0)
        >>> log_posterior(uniform, torch.tensor([2]), torch.tensor(0.3), one).exp()
        tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """
    kinds = log_object.shape[-1]
    keep, before = keep[..., None], kept_before[..., None]
    here = functional.one_hot(state, kinds).to(log_object.dtype)
    reached = keep * before * here + (1 - keep * before) / kinds
    # In logarithms, so that what is all but impossible keeps its score and its gradient.
    weight = log_object - reached.log()
    spread = torch.logaddexp(before.log() + weight, ((1 - before) / kinds).log() + weight.logsumexp(-1, keepdim=True))
    return (keep * here + (1 - keep) / kinds).log() + spread


def drawn(log_probability: Tensor, uniform: Tensor) -> Tensor:
    """Letters by inverse distribution function, int64, (...): of (..., kinds) log-probabilities and (...) uniforms.

    Example:
        >>> drawn(torch.tensor([[0.25, 0.75]]).log(), torch.tensor([0.5])).tolist()
        [1]
    """
    share = log_probability.exp().cumsum(-1)
    below = share < (uniform * share[..., -1])[..., None]
    return below.sum(-1).clamp(max=log_probability.shape[-1] - 1)
