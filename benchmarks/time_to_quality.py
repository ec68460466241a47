"""Seconds until a sampler is as near to its target as asked, compilation and imports counted, by library.

    python benchmarks/time_to_quality.py --environments DIR --json quality.json
    python benchmarks/time_to_quality.py --only equipoise --target tfbind8 --repeats 1

Two targets: hypergrid 8^4 with R0 = 0.01 to a total variation of 0.05, and append-only TFBind8 with R = max(10 y^3,
1e-3) to 0.20 (the data of `equipoise train tfbind8`, or EQUIPOISE_DATA). Each library trains by trajectory balance with
the settings of its own baselines (ours: a task's defaults); the workers name them. Total variation is exact, by one
function for all (`exact_tv.py`) from each policy's logits on all states; judging stops the clock. A fresh process each,
on one core and one thread, libraries in turn, a seed for each repeat.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

from pairing import Contender, Record, facts, load_average, report, worker_line
from speed import chosen_core, contenders, parser
from speed_table import OWN, aligned, spread

TARGETS = ("hypergrid", "tfbind8")


def measure(who: Sequence[Contender], options: argparse.Namespace, core: int | None) -> list[Record]:
    """A record for each target, seed and contender."""
    records = []
    for target in options.target or TARGETS:
        for seed in range(1 if options.quick else options.repeats):
            for one in who if seed % 2 == 0 else who[::-1]:
                words = ["--target", target, "--seed", str(seed), "--limit", str(options.limit)]
                words += ["--data", options.data] + (["--most", "200"] if options.quick else [])
                words += [] if one.variant is None else ["--variant", one.variant]
                load = load_average()
                line = worker_line(one, "quality", [*words, "--began", str(time.perf_counter())], core)
                records.append({**line, "label": one.label, "load_before": load})
                print(f"  {target} seed {seed} {one.label}: {shown(line)}", file=sys.stderr)
    return records


def shown(line: Record) -> str:
    """One run in words."""
    if "not_available" in line:
        return f"not available: {line['not_available']}"
    verdict = "reached" if line["reached"] else f"not reached, {line['total_variation']:.3f}"
    return f"{verdict} after {line['steps']} steps, {line['cpu_s']:.1f} CPU s, {line['wall_s']:.1f} s"


def table(records: Sequence[Record]) -> str:
    """Medians by target and library, and the peers' seconds over ours; a run that did not arrive counts as at least."""
    rows = [("target", "library", "CPU s", "least-greatest", "wall s", "steps", "arrived")]
    tail = []
    for target in dict.fromkeys(record["target"] for record in records):
        medians = {}
        for label in dict.fromkeys(record["label"] for record in records):
            mine = [one for one in records if one["label"] == label and one["target"] == target]
            if not mine or "not_available" in mine[0]:
                rows.append((target, label, "not available", "", "", "", ""))
                continue
            cpu, wall = spread([one["cpu_s"] for one in mine]), spread([one["wall_s"] for one in mine])
            arrived = sum(one["reached"] for one in mine)
            medians[label] = cpu["median"]
            steps = spread([one["steps"] for one in mine])["median"]
            least = "" if arrived == len(mine) else "> "
            spans = f"{cpu['least']:.1f}-{cpu['greatest']:.1f}", f"{wall['median']:.1f}"
            rows.append(
                (target, label, f"{least}{cpu['median']:.1f}", *spans, f"{steps:.0f}", f"{arrived}/{len(mine)}")
            )
        for own in [label for label in medians if label.split()[0] == OWN]:
            for peer in [label for label in medians if label.split()[0] != OWN]:
                tail.append(f"{target}: {peer} / {own} = {medians[peer] / medians[own]:.2f} (CPU seconds, medians)")
    return "\n".join(aligned(rows) + tail)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the table and writes the JSON file."""
    described = parser("Seconds to a given exact total variation, by library.")
    described.add_argument("--target", choices=TARGETS, action="append", help="this one only (repeatable)")
    described.add_argument("--repeats", type=int, default=3, help="seeds of each")
    described.add_argument("--limit", type=float, default=600.0, help="CPU seconds after which a run gives up")
    data = os.environ.get("EQUIPOISE_DATA", ".")
    described.add_argument("--data", default=data, help="folder with tfbind8/scores.npy")
    options = described.parse_args(arguments)
    core = chosen_core(options)
    who = contenders(options, described)
    machine = facts(core)
    records = measure(who, options, core)
    report(table(records), {"machine": machine, "records": records}, options.json)


if __name__ == "__main__":
    main()
