"""Times inserts into a replay and draws from it, by the number of stored objects.

    python benchmarks/replay.py --json replay.json

Objects are strings of 8 letters out of 4 with random log-rewards, as in TFBind8; priorities are rewards, so that the
tree of sums has work to do. The inner source hands out rows that were made before, and paths are not drawn again: what
is timed is the replay. The store is full, so every insert overwrites. Microseconds of the process's own CPU time for
each batch: the median over repeats, each the mean over some calls. One thread.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from equipoise.sampling.replay import Replay, reward_priority
from equipoise.trajectories import Trajectories, ends

LETTERS, LENGTH = 4, 8


@dataclass(frozen=True)
class Measured:
    """One line of the table: microseconds of CPU for each batch."""

    stored: int
    batch: int
    insert_us: float
    sample_us: float


class Strings:
    """A source of random strings, made once for each batch size."""

    def __init__(self, seed: int) -> None:
        self.generator, self.made = torch.Generator().manual_seed(seed), dict[int, Trajectories]()

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """The same n strings at every call."""
        if n not in self.made:
            objects = torch.randint(LETTERS, (n, LENGTH), generator=self.generator)
            self.made[n] = ends(objects, log_reward=torch.randn(n, generator=self.generator))
        return self.made[n]

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """Nothing is kept."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is no state."""


def filled(stored: int, seed: int) -> tuple[Replay, float]:
    """A full replay of `stored` objects, and the CPU microseconds that each took to insert from empty."""
    replay = Replay(Strings(seed), fresh=1.0, capacity=stored, priority=reward_priority)
    generator = torch.Generator().manual_seed(seed)
    began = time.process_time()
    while len(replay) < stored:
        replay.draw(min(4096, stored - len(replay)), generator)
    return replay, 1e6 * (time.process_time() - began) / stored


def measure(replay: Replay, batch: int, repeats: int) -> Measured:
    """Times inserting and drawing batches of this size."""
    generator = torch.Generator().manual_seed(batch)

    def draw() -> None:
        replay.draw(batch, generator)

    calls = max(3, 20_000 // (batch + 200))
    replay.fresh = 1.0
    insert = microseconds(draw, calls, repeats)
    replay.fresh = 0.0
    return Measured(len(replay), batch, insert, microseconds(draw, calls, repeats))


def microseconds(call: Callable[[], None], calls: int, repeats: int) -> float:
    """CPU microseconds of one call: median over repeats of the mean over calls."""
    times = []
    for _ in range(repeats + 1):
        began = time.process_time()
        for _ in range(calls):
            call()
        times.append(1e6 * (time.process_time() - began) / calls)
    return statistics.median(times[1:])


def main() -> None:
    """Measures, prints the table, writes the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stored", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="stored objects")
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 256, 4096], help="rows of a batch")
    parser.add_argument("--repeats", type=int, default=15, help="repeats, of which the median is taken")
    parser.add_argument("--seed", type=int, default=0, help="of objects and rewards")
    parser.add_argument("--json", metavar="FILE", help="also write the numbers to FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines, growth = [], {}
    print(f"{'stored':>9} {'batch':>6} {'insert us':>10} {'sample us':>10}", flush=True)
    for stored in options.stored:
        replay, growth[stored] = filled(stored, options.seed)
        gc.collect()
        for batch in options.batch:
            line = measure(replay, batch, options.repeats)
            lines.append(line)
            print(f"{line.stored:>9} {line.batch:>6} {line.insert_us:>10.0f} {line.sample_us:>10.0f}", flush=True)
    for stored, each in growth.items():
        print(f"filling to {stored} from empty, in batches of 4096: {each:.3f} us an object")
    if options.json:
        report(options, lines, growth)


def report(options: argparse.Namespace, lines: list[Measured], growth: dict[int, float]) -> None:
    """Writes the numbers and what they were measured on."""
    written = {
        "lines": [asdict(line) for line in lines],
        "fill_us_per_object": growth,
        "repeats": options.repeats,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
    }
    with open(options.json, "w", encoding="utf-8") as file:
        json.dump(written, file, indent=1)


if __name__ == "__main__":
    main()
