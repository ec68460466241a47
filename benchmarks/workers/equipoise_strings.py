"""Times Equipoise's trajectory balance on strings that grow at their end, in TFBind8's shape.

python benchmarks/workers/equipoise_strings.py --steps 300
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import Built, arguments, run_worker
from workers.equipoise_loop import VARIANTS, built, in_variant, version
from workloads import Strings


def build(work: Strings, options: argparse.Namespace) -> Built:
    """Strings of any length over a reward that is computed; an MLP, not the transformer that caches."""
    from equipoise.discrete.environments.strings import AppendStrings
    from equipoise.recipes import configuration
    from equipoise.recipes import discrete as recipe

    wanted = torch.arange(work.length) % work.letters

    def reward(objects: Any, context: Any = None) -> Tensor:
        return work.slope * (objects == wanted).double().mean(1)

    config = configuration.Strings(
        hidden=(work.hidden,) * work.hidden_layers,
        batch=work.batch,
        backward="uniform",
        start_log_z=0.0,  # as in the peers
        seed=options.seed,
    )
    space = AppendStrings(letters=work.letters, length=work.length)
    made = recipe.build(in_variant(config, options.variant), space, reward, show=lambda rows: [str(rows)])
    return built(made.run, work, options.variant)


if __name__ == "__main__":
    parser = arguments("Equipoise, trajectory balance on strings: milliseconds per step", "strings", VARIANTS)
    run_worker(build, parser.parse_args(), library="equipoise", version=version())
