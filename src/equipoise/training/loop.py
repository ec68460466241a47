"""The loop: draw, renew, score, differentiate, observe; then one optimiser step. It knows terms and nothing else."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.compiling import Compiler, Flat, NotCompiled
from equipoise.contracts import Sampler, Source
from equipoise.training.fused import Fused
from equipoise.training.optimiser import Adam
from equipoise.training.terms import Loss, Term, backward
from equipoise.trajectories import Trajectories


@dataclass(frozen=True)
class Run:
    """Everything that a training run is.

    Attributes:
        modules: what holds parameters, by name; the name is the optimiser's group.
        learning_rate: of each module, by step.
        terms: of the loss.
        sources: by the names that terms use.
        batch: trajectories drawn from each source a step.
        steps: optimiser steps in all.
        seed: of every generator, with its name.
        chunk: rows scored at a time with gradients; None: all.
        clip: largest norm of the gradient; None: unbounded.
        compiles: whether samplers that can compile their rollouts and scores do (`compiling`); what cannot be compiled
            is said once and runs in eager, and results are the same to float tolerance.
        evaluate: exact or sampled figures of the present sampler, by name; changes nothing.
        after: called with the step after each (reference resets, target networks, publishing weights).
        close: called once no more steps follow, whatever has happened (processes that an engine began).
    """

    modules: Mapping[str, nn.Module]
    learning_rate: Mapping[str, Callable[[int], float]]
    terms: tuple[Term, ...]
    sources: Mapping[str, Source]
    batch: Mapping[str, int]
    steps: int
    seed: int
    chunk: int | None = None
    clip: float | None = None
    compiles: bool = False
    evaluate: Callable[[], dict[str, float]] = dict
    after: tuple[Callable[[int], None], ...] = field(default=())
    close: Callable[[], None] = lambda: None


class NotFinite(ValueError):
    """A loss that is not finite: the step, the largest residual, and the batch that made it."""

    def __init__(self, step: int, term: str, residual: float, batch: Trajectories) -> None:
        super().__init__(
            f"the loss of term '{term}' is not finite at step {step}; the largest residual is {residual:g}"
        )
        self.batch = batch


class Loop:
    """A run's state: modules, optimiser, sources, generators and the step.

    Raises:
        ValueError: a run that does not fit together: a parameter in no module or in two, a score that is needed and
            not offered, terms of one source with two samplers, names that do not match.
    """

    def __init__(self, run: Run) -> None:
        check_run(run)
        self.run, self.step = run, 0
        self.generators = {name: generator(run.seed, name) for name in [*run.sources, "score"]}
        self._parameters = [parameter for module in run.modules.values() for parameter in module.parameters()]
        self._samplers = list({id(term.sampler): term.sampler for term in run.terms}.values())
        self._compiler = compiler_of(run.modules, self._samplers) if run.compiles else None
        groups = [{"params": list(module.parameters()), "name": name} for name, module in run.modules.items()]
        self.optimiser = Adam([group for group in groups if group["params"]], lr=0.0, fused=True)
        self._by_source = {
            name: [term for term in run.terms if term.source == name]
            for name in dict.fromkeys(term.source for term in run.terms)
        }

    def advance(self) -> dict[str, Tensor]:
        """One step of the run; its metrics by name.

        Raises:
            NotFinite: a loss is not finite; the parameters are those before the step.
        """
        run, metrics, taken = self.run, {}, False
        if self._fused is None:
            self._zero_grad()
        for name, terms in self._by_source.items():
            drawn = terms[0].sampler.renew(run.sources[name].draw(run.batch[name], self.generators[name]))
            losses = self._fused_losses(terms, drawn)
            taken = losses is not None
            if losses is None:
                losses = backward(terms, drawn, self.step, self.generators["score"], run.chunk)
            _require_finite(self.step, terms, losses, drawn)
            run.sources[name].observe(
                drawn, next((loss.residual for loss in losses if loss.residual is not None), None)
            )
            metrics |= _metrics(terms, losses, drawn, alone=len(run.terms) == 1)
        if not taken:
            if run.clip is not None:
                nn.utils.clip_grad_norm_(self._parameters, run.clip)
            for group in self.optimiser.param_groups:
                group["lr"] = run.learning_rate[group["name"]](self.step)
            self.optimiser.step()
        self.step += 1
        for sampler in self._samplers:
            sampler.version.add_(1)
        for event in run.after:
            event(self.step)
        return metrics

    def _zero_grad(self) -> None:
        if self._compiler is None:
            self.optimiser.zero_grad(set_to_none=True)
        else:
            self._compiler.flat.zero_grad()

    @cached_property
    def _fused(self) -> Fused | None:
        """Loss, gradient and the optimiser's step in one call, where there is one term."""
        run = self.run
        if self._compiler is None:
            return None
        if len(run.terms) != 1 or (run.chunk is not None and run.chunk < max(run.batch.values())):
            what = "the training step"
            self._compiler.refuse(what, what, "the run has several terms, or scores a batch in parts")
            return None
        return Fused(self._compiler, run.terms[0], self.optimiser, run.learning_rate, run.clip)

    def _fused_losses(self, terms: list[Term], drawn: Trajectories) -> list[Loss] | None:
        """The losses of a step that was taken, or None: it is still to be taken."""
        if self._fused is None:
            return None
        try:
            return [self._fused.update(drawn, self.step)]
        except NotCompiled:
            self._zero_grad()
            return None

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs; leaves as in `trajectories.to_bytes`."""
        return {
            "step": self.step,
            "modules": {name: dict(module.state_dict()) for name, module in self.run.modules.items()},
            "versions": [sampler.version for sampler in self._samplers],
            "optimiser": self.optimiser.state_dict(),
            "sources": {name: source.state_dict() for name, source in self.run.sources.items()},
            "generators": {name: source.get_state() for name, source in self.generators.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where `state_dict` was called."""
        self.step = state["step"]
        for name, module in self.run.modules.items():
            module.load_state_dict(state["modules"][name])
        for sampler, version in zip(self._samplers, state["versions"], strict=True):
            sampler.version.copy_(version)
        self.optimiser.load_state_dict(state["optimiser"])
        self.__dict__.pop("_fused", None)  # it is made anew over the moments that were saved
        for name, source in self.run.sources.items():
            source.load_state_dict(state["sources"][name])
        for name, source in self.generators.items():
            source.set_state(state["generators"][name])


def generator(seed: int, name: str) -> torch.Generator:
    """A generator seeded by (seed, name), the same in every process."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def check_run(run: Run) -> None:
    """Holds a run's parts to each other (see `Loop`)."""
    owners: dict[int, str] = {}
    for name, module in run.modules.items():
        for parameter in module.parameters():
            if owners.setdefault(id(parameter), name) != name:
                raise ValueError(f"a parameter is in two modules, '{owners[id(parameter)]}' and '{name}'")
    _require_names("learning_rate", run.learning_rate, "modules", run.modules)
    _require_names("batch", run.batch, "sources", run.sources)
    samplers: dict[str, Sampler] = {}
    for term in run.terms:
        if term.source not in run.sources:
            raise ValueError(f"term '{term.name}' draws from '{term.source}'; the sources are {sorted(run.sources)}")
        if samplers.setdefault(term.source, term.sampler) is not term.sampler:
            raise ValueError(f"two terms of source '{term.source}' have different samplers: give one its own source")
        missing = term.needs - term.sampler.offers - getattr(run.sources[term.source], "provides", frozenset())
        if missing:
            raise ValueError(
                f"term '{term.name}' needs {sorted(missing)}, which neither its sampler (it offers "
                f"{sorted(term.sampler.offers)}) nor its source provides"
            )
        if isinstance(term.sampler, nn.Module):
            _require_owned(term, term.sampler, owners)


def compiler_of(modules: Mapping[str, nn.Module], samplers: list[Sampler]) -> Compiler | None:
    """Joins all parameters, and tells the samplers to compile; None, and a warning, where that cannot be."""
    served: list[Any] = [sampler for sampler in samplers if getattr(sampler, "compiles", False)]
    try:
        if not served:
            raise NotCompiled("this task's sampler has no compiled path")
        compiler = Compiler(Flat(modules.values()))
    except NotCompiled as error:
        warnings.warn(f"--compile: training goes on in eager: {error}", RuntimeWarning, stacklevel=3)
        return None
    for sampler in served:
        sampler.compiler = compiler
    return compiler


def _require_owned(term: Term, sampler: nn.Module, owners: dict[int, str]) -> None:
    for name, parameter in sampler.named_parameters():
        if parameter.requires_grad and id(parameter) not in owners:
            raise ValueError(f"parameter '{name}' of term '{term.name}' is in no module of the run: it would not train")


def _require_names(what: str, given: Mapping[str, Any], of: str, expected: Mapping[str, Any]) -> None:
    if given.keys() != expected.keys():
        raise ValueError(f"{what} names {sorted(given)}, {of} names {sorted(expected)}: they must be the same")


def _require_finite(step: int, terms: list[Term], losses: list[Loss], batch: Trajectories) -> None:
    for term, loss in zip(terms, losses, strict=True):
        if not math.isfinite(float(loss.value.detach())):
            largest = float("nan") if loss.residual is None else float(loss.residual.abs().max())
            raise NotFinite(step, term.name, largest, batch)


def _metrics(terms: list[Term], losses: list[Loss], batch: Trajectories, *, alone: bool) -> dict[str, Tensor]:
    """The metrics of a source's terms; prefixed by the term's name where there are several."""
    found = {}
    for term, loss in zip(terms, losses, strict=True):
        prefix = "" if alone else f"{term.name}/"
        found[f"{prefix}loss"] = loss.value.detach()
        found |= {f"{prefix}{name}": value for name, value in loss.metrics.items()}
        if loss.residual is not None:
            found[f"{prefix}residual_mean_square"] = loss.residual.square().mean()
    if batch.log_reward is not None:
        found["mean_log_reward" if alone else f"{terms[0].source}/mean_log_reward"] = batch.log_reward.mean()
    return found
