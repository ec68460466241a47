"""Times Equipoise's trajectory balance on the hypergrid workload.

    python benchmarks/workers/equipoise_hypergrid.py --regime long --steps 100

`benchmarks/speed.py` runs it in turn with the peer's worker.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import Built, arguments, run_worker


def build(regime: str, seed: int) -> Built:
    """Sets up the workload `measure.HYPERGRID` in the given regime; the only function here that knows the library.

    The step samples `batch` trajectories on-policy, takes one Adam step on the trajectory balance loss and returns
    (loss, the lengths of those trajectories as an integer tensor of shape [batch], exit action included).
    After initialisation the forward policy's output layer is set to 0, and its bias for the exit action to
    `REGIMES[regime].exit_bias` (see `measure.Regime`).  Setting the learning rates must leave the work of a step as it
    is, and must not compile anything again.
    """
    raise NotImplementedError(f"the step for regime {regime!r}, seed {seed} is not written yet")


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
