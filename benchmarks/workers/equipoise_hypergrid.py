"""Times Equipoise's trajectory balance on the hypergrid workload.

    python benchmarks/workers/equipoise_hypergrid.py --regime long --steps 100

`benchmarks/speed.py` runs it in turn with the peers' workers.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import Built, arguments, run_worker
from workers.equipoise_loop import VARIANTS, built, in_variant, version
from workloads import Hypergrid


def build(work: Hypergrid, options: argparse.Namespace) -> Built:
    """The task `hypergrid` with the workload's settings, on grids of any size: nothing is listed here."""
    from equipoise.discrete.environments import hypergrid
    from equipoise.recipes import configuration
    from equipoise.recipes import discrete as recipe

    config = configuration.Hypergrid(
        dim=work.dimensions,
        side=work.side,
        rewards=work.rewards,
        hidden=(work.hidden,) * work.hidden_layers,
        batch=work.batch,
        backward="learned",
        start_log_z=0.0,  # as in the peers
        seed=options.seed,
    )
    grid = hypergrid.Hypergrid(dim=work.dimensions, side=work.side)
    reward = hypergrid.corners(work.side, *work.rewards)
    made = recipe.build(in_variant(config, options.variant), grid, reward, show=lambda points: [str(points)])
    out: Any = made.sampler.policy.out
    with torch.no_grad():
        for parameter in (out.weight, out.bias):
            parameter[: work.dimensions + 1] = 0.0
        out.bias[work.dimensions] = work.exit_bias
    return built(made.run, work, options.variant)


if __name__ == "__main__":
    parser = arguments("Equipoise, trajectory balance on a hypergrid: milliseconds per step", "hypergrid", VARIANTS)
    run_worker(build, parser.parse_args(), library="equipoise", version=version())
