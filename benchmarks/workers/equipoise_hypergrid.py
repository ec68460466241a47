"""Times Equipoise's trajectory balance on the hypergrid workload.

    python benchmarks/workers/equipoise_hypergrid.py --regime long --steps 100

`benchmarks/speed.py` runs it in turn with the peer's worker.
"""

from __future__ import annotations

import importlib.metadata
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import HYPERGRID, REGIMES, Built, arguments, run_worker


def build(regime: str, seed: int) -> Built:
    """Sets up the workload `measure.HYPERGRID` in the given regime; the only function here that knows the library.

    The step samples `batch` trajectories on-policy, takes one Adam step on the trajectory balance loss and returns
    (loss, the lengths of those trajectories as an integer tensor of shape [batch], exit action included).
    After initialisation the forward policy's output layer is set to 0, and its bias for the exit action to
    `REGIMES[regime].exit_bias` (see `measure.Regime`).  Setting the learning rates must leave the work of a step as it
    is, and must not compile anything again.
    """
    from equipoise.recipes.configuration import Hypergrid
    from equipoise.recipes.hypergrid import hypergrid
    from equipoise.training.loop import Loop

    config = Hypergrid(
        dim=HYPERGRID.dimensions,
        side=HYPERGRID.side,
        rewards=HYPERGRID.rewards,
        hidden=(HYPERGRID.hidden,) * HYPERGRID.hidden_layers,
        batch=HYPERGRID.batch,
        backward="learned",
        seed=seed,
    )
    built = hypergrid(config)
    out = built.sampler.policy.out
    with torch.no_grad():
        for parameter in (out.weight, out.bias):
            parameter[: HYPERGRID.dimensions + 1] = 0.0
        out.bias[HYPERGRID.dimensions] = REGIMES[regime].exit_bias
    rates = {"policy": HYPERGRID.learning_rate, "log_z": HYPERGRID.log_z_learning_rate}
    lengths: list[torch.Tensor] = []
    loop = Loop(
        replace(
            built.run,
            clip=None,  # the peer's step has no clipping either
            learning_rate={name: lambda step, name=name: rates[name] for name in rates},
            sources={name: Watched(source, lengths) for name, source in built.run.sources.items()},
        )
    )

    def step() -> tuple[float, torch.Tensor]:
        lengths.clear()
        return float(loop.advance()["loss"]), lengths[0]

    def set_learning_rates(policy: float, log_z: float) -> None:
        rates.update(policy=policy, log_z=log_z)

    parameters = [parameter for module in built.run.modules.values() for parameter in module.parameters()]
    settings = "eager; no gradient clipping, as the peer; finite checks on, as in every run of the library"
    return Built(step, set_learning_rates, lambda: parameters, settings)


class Watched:
    """A source that notes the lengths of what it draws."""

    def __init__(self, inner: Any, lengths: list[torch.Tensor]) -> None:
        self.inner, self.lengths = inner, lengths

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def draw(self, n: int, generator: torch.Generator) -> Any:
        drawn = self.inner.draw(n, generator)
        self.lengths.append(drawn.length)
        return drawn


def version() -> str:
    """The installed version, or 'source' where the package is only on the path."""
    try:
        return importlib.metadata.version("equipoise")
    except importlib.metadata.PackageNotFoundError:
        return "source"


def main() -> None:
    """Reads the options, measures and prints the JSON line."""
    options = arguments("Equipoise, trajectory balance on a hypergrid: milliseconds per training step").parse_args()
    run_worker(build, options, library="equipoise", version=version())


if __name__ == "__main__":
    main()
