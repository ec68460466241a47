"""Loss, gradient, clipping and Adam's step in one compiled call over the parameters and moments as vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from equipoise.compiling import Compiler
from equipoise.training.terms import Loss, Term
from equipoise.trajectories import Scores, Trajectories


class Bucketed(Protocol):
    """A sampler whose scores are a pure function of tensors of fixed sizes."""

    def bucket(
        self, trajectories: Trajectories, what: str, *, fresh: bool = False
    ) -> tuple[Hashable, tuple[Tensor, ...]]: ...

    def scores_in(self, tensors: tuple[Tensor, ...], needs: frozenset[str]) -> Scores: ...


class Moments:
    """Adam's state as vectors, of which the optimiser's own is made views: either may take the next step.

    Args:
        compiler: of the parameters.
        optimiser: Adam; its state is filled.
    """

    def __init__(self, compiler: Compiler, optimiser: torch.optim.Optimizer) -> None:
        flat = compiler.flat
        self.mean, self.square = torch.zeros_like(flat.bare), torch.zeros_like(flat.bare)
        self.steps = torch.zeros(len(flat.parameters))
        vectors = {"exp_avg": flat.pieces(self.mean), "exp_avg_sq": flat.pieces(self.square)}
        pieces: dict[str, Any] = {"step": self.steps.unbind(), **vectors}
        for name, parts in pieces.items():
            for parameter, part in zip(flat.parameters, parts, strict=True):
                state = optimiser.state[parameter]
                if name in state:
                    part.copy_(state[name])
                state[name] = part


class Fused:
    """One term's training step as one compiled call; `update` raises `NotCompiled` where the loop's own must serve.

    Args:
        compiler: of the parameters.
        term: with a `core`, of a sampler that is `Bucketed`.
        optimiser: Adam over groups of parameters.
        rate: the learning rate of a group, by step.
        clip: largest norm of the gradient; None: unbounded.
    """

    def __init__(
        self,
        compiler: Compiler,
        term: Term,
        optimiser: torch.optim.Optimizer,
        rate: Mapping[str, Callable[[int], float]],
        clip: float | None,
    ) -> None:
        self.compiler, self.term, self.rate = compiler, term, rate
        self.clip, self.moments = clip, Moments(compiler, optimiser)
        place = {id(parameter): number for number, parameter in enumerate(compiler.flat.parameters)}
        groups = [
            (min(place[id(parameter)] for parameter in group["params"]), group["name"], group["params"])
            for group in optimiser.param_groups
        ]
        self.groups = [(name, sum(map(torch.Tensor.numel, parameters))) for _, name, parameters in sorted(groups)]
        first = optimiser.param_groups[0]
        self.betas, self.eps = first["betas"], first["eps"]
        self.names: tuple[str, ...] = ()
        sampler: Any = term.sampler
        more = [] if term.core is None or term.core.module is None else [term.core.module]
        self.modules = nn.ModuleList([sampler, *more])

    def update(self, trajectories: Trajectories, step: int) -> Loss:
        """Takes the optimiser's step unless the loss is not finite; the loss of the batch.

        Raises:
            NotCompiled: the step was not taken.
        """
        core, what = self.term.core, "the training step"
        sampler: Any = self.term.sampler
        if core is None or not hasattr(sampler, "bucket"):
            raise self.compiler.refuse(
                what, what, "its loss is not a function of scores alone, or its sampler's sizes vary"
            )
        key, tensors = sampler.bucket(trajectories, what, fresh=True)
        inputs = core.inputs(trajectories, step)
        count = len(inputs)

        def losses(*given: Tensor) -> Loss:
            scores = sampler.scores_in(given[count:], self.term.needs)
            return core.loss(scores, *given[:count])

        def function(
            vector: Tensor, mean: Tensor, square: Tensor, numbers: Tensor, *given: Tensor
        ) -> tuple[Tensor, ...]:
            leaf = vector.detach().requires_grad_()
            with torch.enable_grad():
                loss = self.compiler.flat.bound(self.modules, losses)(leaf, *given)
                (gradient,) = torch.autograd.grad(numbers[0] * loss.value, leaf)
            self._step(vector, mean, square, gradient, numbers, torch.isfinite(loss.value))
            assert loss.residual is not None
            self.names = tuple(loss.metrics)
            return loss.value.detach(), loss.residual.detach(), *loss.metrics.values()

        moments = self.moments
        vectors = (self.compiler.flat.bare, moments.mean, moments.square, self._numbers(step))
        with torch.no_grad():
            value, residual, *metrics = self.compiler.call(what, key, function, *vectors, *inputs, *tensors)
            if math.isfinite(float(value)):
                moments.steps += 1
        return Loss(value, residual, dict(zip(self.names, metrics, strict=True)))

    def _numbers(self, step: int) -> Tensor:
        """The term's weight, 1 / sqrt of the second moment's correction, and each group's step size, corrected."""
        count = float(self.moments.steps[0]) + 1
        first, second = (1 - beta**count for beta in self.betas)
        rates = [self.rate[name](step) / first for name, _ in self.groups]
        return torch.tensor([self.term.weight(step), 1 / math.sqrt(second), *rates])

    def _step(
        self, vector: Tensor, mean: Tensor, square: Tensor, gradient: Tensor, numbers: Tensor, finite: Tensor
    ) -> None:
        """Adam's step, in place, where the loss is finite."""
        if self.clip is not None:
            gradient = gradient * (self.clip / (gradient.norm() + 1e-6)).clamp(max=1.0)
        first = mean.lerp(gradient, 1 - self.betas[0])
        second = square * self.betas[1] + (1 - self.betas[1]) * gradient.square()
        place, end, size = torch.arange(len(vector)), len(vector), numbers[-1]
        for number in range(len(self.groups) - 2, -1, -1):  # a step size a group, computed in place of being laid out
            end -= self.groups[number + 1][1]
            size = torch.where(place < end, numbers[2 + number], size)
        after = vector - size * first / (second.sqrt() * numbers[1] + self.eps)
        for old, new in ((vector, after), (mean, first), (square, second)):
            old.copy_(torch.where(finite, new, old))
