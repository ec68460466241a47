"""The numbers of every workload of the speed benchmark. Standard library alone: every library's interpreter reads it.

"The same work" is, for every library: the same space of objects and the same law of trajectory lengths; a network of
the same widths; `batch` trajectories drawn on-policy by the policy as it is; trajectory balance with a learned log Z on
all of them, with gradients through every step; one Adam step on all parameters, log Z at a rate of its own; float32,
one thread of one core. No clipping of gradients, no exploration, no metrics, no logging, no evaluation, in any library.

What may differ, and does: the activation (leaky ReLU here, ReLU there), where a transformer's norms are and how places
are encoded, random numbers, and how many rows are computed on (padded or not): that is what is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar


@dataclass(frozen=True)
class Hypergrid:
    """(a) A grid, a multilayer perceptron, a learned backward policy sharing its trunk.

    After initialisation the forward policy's output layer is set to 0, and its bias for the exit action to
    `exit_bias`: all legal actions but the exit are equally likely, so that the lengths of trajectories have the same
    distribution whatever a library's initialisation. With side 20 the mean length, and the mean of the longest of 16,
    are 5.0 and 15.7 (bias 0: untrained) and 36.6 and 76.3 (bias -2.4: as of a trained policy).
    """

    dimensions: int = 4
    side: int = 20
    hidden: int = 256
    hidden_layers: int = 2
    batch: int = 16
    rewards: tuple[float, float, float] = (0.1, 0.5, 2.0)
    exit_bias: float = 0.0
    learning_rate: float = 1e-3
    log_z_learning_rate: float = 1e-1


@dataclass(frozen=True)
class Bits:
    """(b) Bit sequences in words, put at any position: a bidirectional transformer, a uniform backward policy.

    (b') is the same sequences from left to right, by a causal transformer of the same size that caches while it draws.
    """

    bits: int = 120
    word: int = 8
    width: int = 64
    blocks: int = 3
    heads: int = 8
    batch: int = 16
    modes: int = 60
    exponent: float = 3.0
    left_to_right: bool = False
    learning_rate: float = 1e-3
    log_z_learning_rate: float = 1e-1

    @property
    def positions(self) -> int:
        """Words of a sequence, which is the length of a trajectory."""
        return self.bits // self.word


@dataclass(frozen=True)
class Strings:
    """(c) Strings that grow at their end, TFBind8's shape: one-hot letters, a multilayer perceptron, one path each.

    log R is `slope` times the share of letters that equal their place modulo `letters`, so that no data are needed.
    """

    letters: int = 4
    length: int = 8
    hidden: int = 256
    hidden_layers: int = 3
    batch: int = 16
    slope: float = 3.0
    learning_rate: float = 1e-3
    log_z_learning_rate: float = 1e-1


@dataclass(frozen=True)
class Finetuning:
    """Relative trajectory balance of a diffusion model in the plane: a prior over 25 Gaussians, a reward for 9 of them.

    Each step of a path adds Gaussian noise of variance `variance` / `steps`, and `exploration` squared on top of it
    while sampling. The last layers of prior and model are drawn with standard deviation `out_std`, so that neither is 0
    and they differ; all steps of all paths carry gradients, or `subsample` of each path's, drawn anew (ours alone).
    """

    steps: int = 100
    variance: float = 5.0
    width: int = 64
    batch: int = 256
    exploration: float = 0.5
    out_std: float = 0.1
    subsample: int | None = None
    learning_rate: float = 1e-3
    log_z_learning_rate: float = 1e-1
    spacing: tuple[float, ...] = (-10.0, -5.0, 0.0, 5.0, 10.0)
    variance_of_modes: float = 0.3
    modes: tuple[tuple[float, float, float], ...] = (
        *((-10.0, -5.0, 4.0), (-5.0, -10.0, 10.0), (-5.0, 0.0, 4.0), (10.0, -5.0, 5.0), (0.0, 0.0, 10.0)),
        *((0.0, 5.0, 5.0), (5.0, -5.0, 4.0), (5.0, 0.0, 15.0), (5.0, 10.0, 4.0)),
    )
    """The nine: both coordinates and the weight."""


@dataclass(frozen=True)
class Language:
    """Responses of a small language model: of `prompts` rows, 8 to a prompt where it is trained."""

    letters: int = 400
    width: int = 128
    layers: int = 3
    prompts: int = 32
    prompt: int = 16
    response: int = 64
    learning_rate: float = 1e-4


Workload = Hypergrid | Bits | Strings | Finetuning
Some = TypeVar("Some", Hypergrid, Bits, Strings, Finetuning)


@dataclass(frozen=True)
class Regime:
    """A workload with its settings, the libraries that have a worker for it, and how many steps are timed."""

    task: str
    workload: Workload
    libraries: tuple[str, ...]
    steps: int
    quick_steps: int


ALL = ("equipoise", "gfnx", "torchgfn")
REGIMES = {
    "short": Regime("hypergrid", Hypergrid(), ALL, 200, 20),
    "long": Regime("hypergrid", Hypergrid(exit_bias=-2.4), ALL, 100, 10),
    "any_position": Regime("bits", Bits(), ALL, 30, 4),
    "left_to_right": Regime("bits", Bits(left_to_right=True), ("equipoise",), 100, 10),
    "append": Regime("strings", Strings(), ALL, 300, 30),
    "all_steps": Regime("finetuning", Finetuning(), ("equipoise", "torchgfn"), 50, 5),
    "subsampled": Regime("finetuning", Finetuning(subsample=25), ("equipoise", "torchgfn"), 50, 5),
}
"""By the names that the command line and the tables use. A worker is `<library>_<task>.py`."""


def changed(workload: Some, settings: Sequence[str]) -> Some:
    """The workload with settings NAME=VALUE, of whole numbers.

    Raises:
        ValueError: a setting that the workload does not have, or that is no whole number.

    Example:
        >>> changed(Hypergrid(), ["batch=64"]).batch
        64
    """
    known = {field.name for field in fields(workload) if type(getattr(workload, field.name)) is int}
    found: dict[str, Any] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in known or not value.isdigit():
            raise ValueError(f"--set {setting}: NAME=NUMBER was expected, with a name of {', '.join(sorted(known))}")
        found[name] = int(value)
    return replace(workload, **found)
