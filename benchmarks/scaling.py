"""How a training step grows with the batch, the side of a grid and the length of a string, and what memory it takes.

    python benchmarks/scaling.py --environments DIR --json scaling.json
    python benchmarks/scaling.py --only equipoise --quick

The batch is that of the grid of side 20 at trained lengths; the side is that of four-dimensional grids, batch 16,
trained lengths; the length is that of append-only strings, batch 16. Peak memory is the largest resident size of the
worker's process (its libraries included) up to the last timed step. One run of each point, on one core and one thread:
at most `--seconds` of CPU, at least three steps.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pairing import Contender, Record, facts, report, run_worker
from speed import chosen_core, contenders, parser
from speed_table import aligned
from workloads import REGIMES

AXES: dict[str, tuple[str, tuple[int, ...]]] = {
    "batch": ("long", (16, 64, 256, 1024, 4096)),
    "side": ("long", (8, 16, 32, 64)),
    "length": ("append", (15, 30, 60, 120)),
}
"""Each axis: the regime that is changed, and the values."""
QUICK_VALUES = 2
UNCHECKED = 256
"""Batches beyond this are not checked for training, which takes 25 steps more."""


def measure(who: Sequence[Contender], options: argparse.Namespace, core: int | None) -> list[Record]:
    """A record for each axis, value and contender."""
    records = []
    for axis in options.axis or AXES:
        regime, values = AXES[axis]
        for value in values[:QUICK_VALUES] if options.quick else values:
            steps, warmup = (3, 1) if options.quick or value > UNCHECKED else (200, 5)
            words = ["--regime", regime, "--set", f"{axis}={value}", "--steps", str(steps), "--warmup", str(warmup)]
            words += ["--seconds", str(options.seconds)] + (["--unchecked"] if value > UNCHECKED else [])
            for one in who:
                if one.library in REGIMES[regime].libraries:
                    record = run_worker(one, REGIMES[regime].task, words, core)
                    records.append({**record, "axis": axis, "value": value})
                    print(f"  {axis} {value} {one.label}: {record.get('cpu_ms', 'not available')}", file=sys.stderr)
    return records


def table(records: Sequence[Record]) -> str:
    """A line for each point: milliseconds a step, microseconds a trajectory, and megabytes."""
    rows = [("axis", "value", "library", "CPU ms/step", "us/trajectory", "length", "peak MB")]
    for record in records:
        start = (record["axis"], str(record["value"]), record["label"])
        if "not_available" in record:
            rows.append((*start, "not available", "", "", ""))
            continue
        each = 1e3 * record["cpu_ms"] / record["workload"]["batch"]
        figures = (f"{record['cpu_ms']:.2f}", f"{each:.0f}", f"{record['length_mean']:.1f}", f"{record['peak_mb']:.0f}")
        rows.append((*start, *figures))
    return "\n".join(aligned(rows))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the table and writes the JSON file."""
    described = parser("How a training step grows with batch, side and length.")
    described.add_argument("--axis", choices=tuple(AXES), action="append", help="this one only (repeatable)")
    described.add_argument("--seconds", type=float, default=5.0, help="CPU seconds of a point")
    options = described.parse_args(arguments)
    core = chosen_core(options)
    who = [one for one in contenders(options, described) if options.only or one.library != "torchgfn"]
    machine = facts(core)
    records = measure(who, options, core)
    report(table(records), {"machine": machine, "records": records}, options.json)


if __name__ == "__main__":
    main()
