"""CPU time of the antibody task: a training step, a balance step, and 100 designs of one complex.

    python benchmarks/antibody_steps.py --data DIR

Prints a table: networks of 64/32/3, patches of 64 and of 80 residues in all (loop, antibody and antigen), one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from equipoise.antibody.folder import load
from equipoise.antibody.patches import Patches, cut
from equipoise.antibody.process import loop_process
from equipoise.antibody.sampler import LoopNetwork, LoopSampler
from equipoise.trajectories import ends

BATCH, DESIGNS = 16, 100
STEPS = 100


def seconds(function: Callable[[], object], times: int) -> float:
    """Least CPU seconds of a call."""
    least = float("inf")
    for _ in range(times):
        start = time.process_time()
        function()
        least = min(least, time.process_time() - start)
    return least


def measure(patches: Patches, label: str, times: int) -> None:
    """One line for each figure."""
    sampler = LoopSampler(loop_process(25), LoopNetwork(), patches, subsample=5)
    rows = torch.arange(BATCH) % len(patches)
    natives = ends({name: value[rows] for name, value in patches.native().items()}, context=rows, group=rows)
    generator = torch.Generator().manual_seed(0)
    two = torch.tensor([0, 1]).repeat_interleave(BATCH // 2)
    drawn = sampler.sample(BATCH, context=two, generator=generator)

    def step() -> None:
        sampler.score(natives, frozenset({"denoising"}), generator=generator).get("denoising").mean().backward()

    def balance() -> None:
        scores = sampler.score(drawn, frozenset({"log_pf", "log_pb"}), generator=generator)
        (scores.get("log_pf") - scores.get("log_pb")).sum(1).square().mean().backward()

    print(f"| {label} | denoising step, an example | {seconds(step, times) / BATCH:.3f} |", flush=True)
    print(f"| {label} | balance step, a design (25 steps, 5 with gradients) | {seconds(balance, times) / BATCH:.3f} |")
    long = LoopSampler(loop_process(STEPS), sampler.network, patches)
    one = torch.zeros(DESIGNS, dtype=torch.int64)
    spent = seconds(lambda: long.sample(DESIGNS, context=one, generator=generator), 1)
    print(f"| {label} | {DESIGNS} designs of one complex, {STEPS} steps | {spent:.1f} |", flush=True)


def main() -> None:
    """Reads the folder and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of complexes, prepared or not")
    parser.add_argument("--times", type=int, default=3, help="repeats, of which the least counts")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    structures = load(arguments.data).structures
    print("| residues | what | CPU seconds |\n|---|---|---|")
    for total in (64, 80):
        context = total - 12  # beside a loop of usual length
        measure(cut(structures, antibody=context // 2, antigen=context - context // 2), str(total), arguments.times)


if __name__ == "__main__":
    main()
