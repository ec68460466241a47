"""Terms of a run's loss, and the one backward pass that serves all terms of a source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor, nn

from equipoise.contracts import Sampler
from equipoise.trajectories import Scores, Trajectories


@dataclass(frozen=True)
class Loss:
    """What a term makes of a batch: its value (), the residuals (n,) that sources observe, metrics by name."""

    value: Tensor
    residual: Tensor | None = None
    metrics: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Core:
    """A term's loss in two parts, so that the second can be compiled with the gradient and the optimiser's step.

    Attributes:
        inputs: (trajectories, step) -> tensors.
        loss: (scores, *those tensors) -> Loss, with a residual; it may read `module` and nothing else.
        module: whose parameters it reads beside the sampler's, or None.
    """

    inputs: Callable[[Trajectories, int], tuple[Tensor, ...]]
    loss: Callable[..., Loss]
    module: nn.Module | None = None


@dataclass(frozen=True)
class Term:
    """A source, a plain function of its scores, and a weight.

    What the function does not train it detaches. Terms that name one source share its draw and its one scoring.

    Attributes:
        name: of the term's metrics.
        source: name of the source.
        sampler: scores the source's trajectories.
        loss: (trajectories, scores, step) -> Loss.
        needs: the scores it reads.
        weight: of its value, by step.
        core: the same loss as a pure function of tensors, where it is one.
    """

    name: str
    source: str
    sampler: Sampler
    loss: Callable[[Trajectories, Scores, int], Loss]
    needs: frozenset[str]
    weight: Callable[[int], float] = lambda step: 1.0
    core: Core | None = None


def backward(
    terms: Sequence[Term], trajectories: Trajectories, step: int, generator: torch.Generator, chunk: int | None = None
) -> list[Loss]:
    """Scores a batch once for all of a source's terms, and adds the gradient of their weighted sum to the parameters.

    With `chunk`, memory is bounded by that many rows: all rows are scored without gradients, the losses are
    differentiated by the *scores*, and each chunk is scored again with those cotangents. Exact for any loss, any
    log Z and any order of groups, at the price of one more forward pass.

    Args:
        terms: all of one source and one sampler.
        trajectories: the batch.
        step: of the loop.
        generator: for random scores; chunks are scored twice with the same state of it.
        chunk: rows scored at a time with gradients; None: all.
    """
    sampler = terms[0].sampler
    # What the sampler does not offer lies in `fixed`: that it does was checked when the run was built.
    needs = frozenset[str]().union(*(term.needs for term in terms)) & sampler.offers
    if chunk is None or chunk >= len(trajectories):
        return _differentiate(terms, trajectories, sampler.score(trajectories, needs, generator=generator), step)
    parts = [trajectories[rows] for rows in torch.arange(len(trajectories)).split(chunk)]
    states = []
    with torch.no_grad():
        scored = []
        for part in parts:
            states.append(generator.get_state())
            scored.append(sampler.score(part, needs, generator=generator))
    scores = _leaves(scored, trajectories)
    losses = _differentiate(terms, trajectories, scores, step)
    after, first = generator.get_state(), 0
    for part, state in zip(parts, states, strict=True):
        generator.set_state(state)
        again = sampler.score(part, needs, generator=generator)
        _push(again, scores, slice(first, first + len(part)))
        first += len(part)
    generator.set_state(after)
    return losses


def path_sum(value: Tensor) -> Tensor:
    """A path's log-probability, (n,), summed over steps in float64 and cast back."""
    return value.sum(1, dtype=torch.float64).to(value.dtype)


def target_of(trajectories: Trajectories, beta: float | Tensor) -> Tensor:
    """target = beta * log_reward, (n,): the one place where the exponent enters.

    Raises:
        ValueError: trajectories without a log_reward.
    """
    if trajectories.log_reward is None:
        raise ValueError("trajectories without a log_reward: the source must call the reward")
    return beta * trajectories.log_reward


def _differentiate(terms: Sequence[Term], trajectories: Trajectories, scores: Scores, step: int) -> list[Loss]:
    losses = [term.loss(trajectories, scores, step) for term in terms]
    total = sum((term.weight(step) * loss.value for term, loss in zip(terms, losses, strict=True)), torch.zeros(()))
    if total.requires_grad:
        total.backward()
    return losses


def _leaves(scored: list[Scores], trajectories: Trajectories) -> Scores:
    """The chunks' scores joined at the batch's width, as leaves that collect gradients."""
    joined = {}
    for entry in fields(Scores):
        values = [getattr(part, entry.name) for part in scored]
        if values[0] is None:
            continue
        width = max(value.shape[1] for value in values) if values[0].dim() > 1 else 0
        full = torch.cat([_widen(value, width) for value in values])
        joined[entry.name] = full if full.dtype == torch.bool else full.requires_grad_()
    return Scores(**joined)


def _push(again: Scores, scores: Scores, rows: slice) -> None:
    outputs, cotangents = [], []
    for entry in fields(Scores):
        value, leaf = getattr(again, entry.name), getattr(scores, entry.name)
        if value is not None and value.requires_grad and leaf.grad is not None:
            outputs.append(value)
            cotangents.append(leaf.grad[rows][:, : value.shape[1]] if value.dim() > 1 else leaf.grad[rows])
    if outputs:
        torch.autograd.backward(outputs, cotangents)


def _widen(value: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(value, (0, width - value.shape[1])) if value.dim() > 1 else value
