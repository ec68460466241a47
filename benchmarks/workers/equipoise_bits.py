"""Times Equipoise's trajectory balance on bit sequences, at any position or from left to right.

python benchmarks/workers/equipoise_bits.py --regime any_position --steps 20
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import Built, arguments, run_worker
from workers.equipoise_loop import VARIANTS, built, in_variant, version
from workloads import Bits


def build(work: Bits, options: argparse.Namespace) -> Built:
    """The task `bit_sequences` with the workload's settings; both transformers have 8 heads."""
    from equipoise.recipes.bit_sequences import bit_sequences
    from equipoise.recipes.discrete_configuration import BitSequences

    assert work.heads == 8 and work.modes == 60
    config = BitSequences(
        bits=work.bits,
        word=work.word,
        form="left_to_right" if work.left_to_right else "any_position",
        hidden=(work.width,) * work.blocks,
        batch=work.batch,
        beta=work.exponent,
        reward="normalised",
        epsilon=0.0,
        seed=options.seed,
    )
    return built(bit_sequences(in_variant(config, options.variant)).run, work, options.variant)


if __name__ == "__main__":
    parser = arguments("Equipoise, trajectory balance on bit sequences: milliseconds per step", "bits", VARIANTS)
    run_worker(build, parser.parse_args(), library="equipoise", version=version())
