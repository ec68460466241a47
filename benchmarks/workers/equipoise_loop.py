"""What the workers of Equipoise share: a configuration in a variant, and its training step as it is timed."""

from __future__ import annotations

import importlib.metadata
import sys
import warnings
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import Built, NotAvailable

VARIANTS = ("eager", "compiled")
Config = TypeVar("Config")


def in_variant(config: Config, variant: str) -> Config:
    """The configuration with its option `compile` as the variant has it.

    Raises:
        NotAvailable: the variant is 'compiled' and the configuration has no such option.
    """
    known = {field.name for field in fields(config)}  # type: ignore[arg-type]
    if variant == "eager":
        return config
    if "compile" not in known:
        raise NotAvailable(f"{type(config).__name__} has no option 'compile'")
    return replace(config, compile=True)  # type: ignore[type-var]


class Watched:
    """A source that notes the lengths of what it draws."""

    def __init__(self, inner: Any, lengths: list[Tensor]) -> None:
        self.inner, self.lengths = inner, lengths

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def draw(self, n: int, generator: torch.Generator) -> Any:
        """The inner source's draw."""
        drawn = self.inner.draw(n, generator)
        self.lengths.append(drawn.length)
        return drawn


def built(run: Any, work: Any, settings: str) -> Built:
    """A run's step as the benchmark wants it: no gradient clipping, as no peer has it, and rates that can be set."""
    from equipoise.training.loop import Loop

    rates = {"policy": work.learning_rate, "log_z": work.log_z_learning_rate}
    lengths: list[Tensor] = []
    changed = replace(
        run,
        clip=None,
        learning_rate={name: lambda step, name=name: rates[name] for name in rates},
        sources={name: Watched(source, lengths) for name, source in run.sources.items()},
    )
    warnings.filterwarnings("error", message="--compile", category=RuntimeWarning)  # it would go on in eager
    try:
        loop = Loop(changed)
    except RuntimeWarning as reason:
        raise NotAvailable(str(reason)) from reason

    def step() -> tuple[float, numpy.ndarray]:
        lengths.clear()
        try:
            loss = float(loop.advance()["loss"])
        except RuntimeWarning as reason:
            raise NotAvailable(str(reason)) from reason
        return loss, lengths[0].cpu().numpy()

    def set_learning_rates(policy: float, log_z: float) -> None:
        rates.update(policy=policy, log_z=log_z)

    return Built(
        step,
        set_learning_rates,
        lambda: flat(run.modules),
        f"{settings}; no gradient clipping; finite checks on, as in every run of the library",
        framework(),
    )


def flat(modules: Mapping[str, nn.Module]) -> numpy.ndarray:
    """All parameters in one array."""
    parameters = [parameter for module in modules.values() for parameter in module.parameters()]
    return torch.cat([parameter.detach().flatten() for parameter in parameters]).cpu().numpy()


def framework() -> str:
    """What the library computes with."""
    return f"torch {torch.__version__}"


def version() -> str:
    """The installed version, or 'source' where the package is only on the path."""
    try:
        return importlib.metadata.version("equipoise")
    except importlib.metadata.PackageNotFoundError:
        return "source"
