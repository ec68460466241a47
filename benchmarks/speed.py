"""Compares the speed of a training step with that of peer libraries, in paired runs on one core.

    python benchmarks/speed.py --make-environments DIR --json speed.json   # creates DIR/gfnx and DIR/torchgfn first
    python benchmarks/speed.py --environments DIR --regime long            # the environments are there
    python benchmarks/speed.py --environments DIR --quick                  # under 5 minutes: to see that it works
    python benchmarks/speed.py --profile long                              # where our time goes

What the regimes are, and what "the same work" means, is in `benchmarks/workloads.py`. Every run is a fresh process on
one core and one thread. The libraries take turns, and the order is swapped at every repeat, so that a machine that
slows down does so for all. The figure compared is the process's own CPU time per training step; ratios are taken within
a repeat. Differences under 15 % are called ties. The share of the matmul floor (`benchmarks/floor.py`) stands beside
each row of ours. Scaling with batch, size and length is `benchmarks/scaling.py`, seconds to a given quality
`benchmarks/time_to_quality.py`, and everything that is not a training step `benchmarks/beyond_steps.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from floor import measured
from pairing import (
    OWN,
    Contender,
    Record,
    agreement,
    allowed_cores,
    facts,
    load_average,
    make_environment,
    report,
    run_worker,
)
from profiling import profile
from speed_table import summarise, table
from workloads import REGIMES

PEERS = ("gfnx", "torchgfn")
LABELS = (OWN, f"{OWN} compiled", *PEERS)
WARMUP = {"hypergrid": 30, "bits": 5, "strings": 50, "finetuning": 8}
QUICK_WARMUP = {"hypergrid": 3, "bits": 1, "strings": 5, "finetuning": 2}
COMPILED_WARMUP = 200
"""Steps in which our compiled variant meets every shape that it compiles."""
QUICK_REPEATS = 1


def parser(description: str) -> argparse.ArgumentParser:
    """The options that this script shares with others that compare libraries."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--environments", metavar="DIR", help="folder with an environment for each peer: DIR/gfnx, ...")
    parser.add_argument("--make-environments", metavar="DIR", help="create them there first, then use them")
    parser.add_argument("--only", choices=LABELS, action="append", help="measure this library only (repeatable)")
    parser.add_argument("--core", type=int, help="the core to run on; the last one allowed unless told")
    parser.add_argument("--quick", action="store_true", help="few steps, one repeat: to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all records and the summary to FILE")
    return parser


def contenders(options: argparse.Namespace, parser: argparse.ArgumentParser) -> list[Contender]:
    """Who is measured: ours eager and compiled, and the peers whose environments are there."""
    folder = Path(options.make_environments or options.environments or ".").resolve()
    if options.core is not None and options.core not in allowed_cores():
        parser.error(f"core {options.core} is not among the allowed cores {allowed_cores()}")
    found = []
    for label in options.only or LABELS:
        library, _, variant = label.partition(" ")
        if library == OWN:
            found.append(Contender(OWN, sys.executable, variant or "eager"))
        elif options.make_environments:
            found.append(Contender(library, str(make_environment(folder, library))))
        elif (folder / library / "bin" / "python").exists() and options.environments:
            found.append(Contender(library, str(folder / library / "bin" / "python")))
        elif options.only:
            parser.error(f"no {library} without its environment: give --environments DIR, or --make-environments DIR")
        else:
            print(f"{library} is left out: give --environments DIR, or --make-environments DIR", file=sys.stderr)
    return found


def chosen_core(options: argparse.Namespace) -> int | None:
    """The core that all runs are pinned to."""
    cores = allowed_cores()
    return options.core if options.core is not None else (cores[-1] if cores else None)


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    """The command line."""
    options = parser("Speed of a training step against peer libraries, in paired runs.")
    options.add_argument("--regime", choices=tuple(REGIMES), action="append", help="measure this one only (repeatable)")
    options.add_argument("--task", choices=sorted({one.task for one in REGIMES.values()}), help="its regimes only")
    options.add_argument("--repeats", type=int, default=5, help="paired runs per regime")
    options.add_argument("--steps", type=int, help="timed steps of a run (default: by regime)")
    options.add_argument("--profile", choices=tuple(REGIMES), help="print where our own time goes, and measure nothing")
    chosen = options.parse_args(arguments)
    if chosen.repeats < 1:
        options.error("--repeats must be at least 1")
    if chosen.task is not None and any(REGIMES[one].task != chosen.task for one in chosen.regime or ()):
        options.error(f"a regime of {chosen.regime} is not of the task {chosen.task}")
    return chosen, options


def measure_steps(who: Sequence[Contender], options: argparse.Namespace, core: int | None) -> list[Record]:
    """All records: regime by regime, repeat by repeat, library by library, their order swapped at every repeat."""
    records: list[Record] = []
    repeats = QUICK_REPEATS if options.quick else options.repeats
    for name in dict.fromkeys(options.regime or REGIMES):
        regime = REGIMES[name]
        if options.task not in (None, regime.task):
            continue
        warmup = (QUICK_WARMUP if options.quick else WARMUP)[regime.task]
        steps = options.steps or (regime.quick_steps if options.quick else regime.steps)
        words = ["--regime", name, "--steps", str(steps)]
        here = [one for one in who if one.library in regime.libraries]
        missing: set[str] = set()
        for repeat in range(repeats):
            for one in here if repeat % 2 == 0 else here[::-1]:
                if one.label in missing:
                    continue
                untimed = str(COMPILED_WARMUP if one.variant == "compiled" else warmup)
                record = run_worker(one, regime.task, [*words, "--warmup", untimed, "--seed", str(repeat)], core)
                records.append({**record, "repeat": repeat})
                if "not_available" in record:
                    missing.add(one.label)
                shown = f"{record['cpu_ms']:.2f} ms" if "cpu_ms" in record else record["not_available"]
                print(f"  {name} {repeat + 1}/{repeats} {one.label}: {shown}", file=sys.stderr)
    return records


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the table and writes the JSON file."""
    options, described = parse(arguments)
    if options.profile:
        print(profile(options.profile, REGIMES[options.profile].quick_steps))
        return
    who, core = contenders(options, described), chosen_core(options)
    result: Record = {"machine": facts(core), "quick": options.quick}
    print(f"{result['machine']['cpu']}, core {core}; commit {result['machine']['commit']}; load {load_average()}")
    records = measure_steps(who, options, core)
    summary = summarise(records)
    compared = [one for one in who if one.library == "torchgfn" or one.variant == "eager"]
    if len(compared) == 2 and any(REGIMES[name].task == "finetuning" for name in summary):
        result["agreement"] = agreement(compared[0], compared[1], core)
        print("finetuning, the same paths and weights in both:", json.dumps(result["agreement"]))
    result["floors"] = floors = {
        name: measured(REGIMES[name].workload, entry["rows"][OWN]["length_mean"])
        for name, entry in summary.items()
        if OWN in entry["rows"]
    }
    report(table(summary, floors), result | {"summary": summary, "records": records}, options.json)


if __name__ == "__main__":
    main()
