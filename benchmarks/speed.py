"""Compares the speed of a training step with that of a peer library, in paired runs on one core.

    python benchmarks/speed.py --make-environments DIR             # creates DIR/torchgfn, then measures
    python benchmarks/speed.py --peer-python DIR/torchgfn/bin/python --json speed.json

Every run is a fresh process on one core and one thread.  The libraries take turns, and the order is swapped at every
repeat, so that a machine that slows down does so for both.  The figure compared is the process's own CPU time per
training step; ratios are taken within a repeat.  Differences under 15 % are called ties.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TIE = 1.15
WORKER_TIME_LIMIT_S = 1800

OWN = "equipoise"
PEER = "torchgfn"
SCRIPTS = {OWN: HERE / "workers" / "equipoise_hypergrid.py", PEER: HERE / "peers" / "torchgfn_hypergrid.py"}
PEER_REQUIREMENTS = ("torch==2.13.0", "torchgfn==2.4.1")
"""Installed one after the other: torch first and by version, so that the peer does not choose another build."""

STEPS = {"short": 200, "long": 100}
QUICK_STEPS = {"short": 20, "long": 8}
WARMUP, QUICK_WARMUP = 30, 5

Record = dict[str, Any]


def make_environment(folder: Path) -> Path:
    """Creates `folder/torchgfn` unless it is there; returns its interpreter."""
    python = folder / PEER / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / PEER)], check=True)
    for requirement in PEER_REQUIREMENTS:
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", requirement], check=True)
    return python


def _command_output(command: Sequence[str]) -> str | None:
    """A command's standard output, stripped; None where it fails or does not exist."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def load_average() -> list[float] | None:
    """The load averages over 1, 5 and 15 minutes."""
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except OSError:
        return None


def allowed_cores() -> list[int]:
    """The cores this process may use; empty where the system cannot tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def facts(core: int | None) -> Record:
    """The machine and the state of the source that a result belongs to."""
    status = _command_output(["git", "status", "--porcelain"])
    return {
        "cpu": cpu_model(),
        "cores": len(allowed_cores()) or os.cpu_count(),
        "pinned_to_core": core,
        "system": f"{platform.system()} {platform.machine()}",
        "commit": _command_output(["git", "rev-parse", "--verify", "HEAD"]) or "none",
        "uncommitted_changes": None if status is None else bool(status),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "load_before": load_average(),
    }


def run_worker(
    library: str, python: str, *, regime: str, steps: int, warmup: int, seed: int, core: int | None
) -> Record:
    """Runs one worker in a fresh process on one core and returns its JSON line with the load average added."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    if library == OWN:
        environment["PYTHONPATH"] = str(ROOT / "src")
    command = [python, str(SCRIPTS[library]), "--regime", regime]
    command += ["--steps", str(steps), "--warmup", str(warmup), "--seed", str(seed)]

    def pin() -> None:
        """Called in the child, before the worker starts."""
        if core is not None:
            os.sched_setaffinity(0, {core})

    load = load_average()
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=WORKER_TIME_LIMIT_S, preexec_fn=pin
    )
    if done.returncode != 0:
        tail = "\n".join(done.stderr.strip().splitlines()[-12:])
        raise RuntimeError(f"the {library} worker ended with status {done.returncode}:\n{tail}")
    record = json.loads(done.stdout.strip().splitlines()[-1])
    if not record["trains"]:
        raise RuntimeError(f"the {library} worker did not train: {record}")
    return {**record, "load_before": load}


def spread(values: Sequence[float]) -> Record:
    """Median, least and greatest value."""
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def summarise(records: Sequence[Record], regimes: Sequence[str], libraries: Sequence[str]) -> Record:
    """Medians and spreads per regime and library, and the peer's time over ours within each repeat."""
    summary: Record = {}
    for regime in regimes:
        entry: Record = {}
        for library in libraries:
            mine = [one for one in records if one["regime"] == regime and one["library"] == library]
            entry[library] = {
                "cpu_ms": spread([one["cpu_ms"] for one in mine]),
                "wall_ms": spread([one["wall_ms"] for one in mine]),
                "length_mean": statistics.fmean(one["length_mean"] for one in mine),
                "length_longest_mean": statistics.fmean(one["length_longest_mean"] for one in mine),
                "length_max": max(one["length_max"] for one in mine),
                "warmup_cpu_s": statistics.median(one["warmup_cpu_s"] for one in mine),
                "version": mine[0]["version"],
                "torch": mine[0]["torch"],
                "python": mine[0]["python"],
                "settings": mine[0]["settings"],
            }
        if len(libraries) == 2:
            cpu = {(one["repeat"], one["library"]): one["cpu_ms"] for one in records if one["regime"] == regime}
            repeats = sorted({repeat for repeat, _ in cpu})
            ratio = spread([cpu[repeat, PEER] / cpu[repeat, OWN] for repeat in repeats])
            entry["peer_over_own"] = {**ratio, "tie": 1 / TIE < ratio["median"] < TIE}
        summary[regime] = entry
    return summary


def table(summary: Record, libraries: Sequence[str]) -> str:
    """The summary as lines of text."""
    head = ("regime", "library", "CPU ms/step", "least-greatest", "wall ms/step", "length", "longest", "warm-up CPU s")
    rows = [head]
    for regime, entry in summary.items():
        for library in libraries:
            one = entry[library]
            cpu = one["cpu_ms"]
            rows.append(
                (
                    regime,
                    f"{library} {one['version']}",
                    f"{cpu['median']:.2f}",
                    f"{cpu['least']:.2f}-{cpu['greatest']:.2f}",
                    f"{one['wall_ms']['median']:.2f}",
                    f"{one['length_mean']:.1f}",
                    f"{one['length_longest_mean']:.1f} (max {one['length_max']})",
                    f"{one['warmup_cpu_s']:.1f}",
                )
            )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for regime, entry in summary.items():
        if "peer_over_own" in entry:
            ratio = entry["peer_over_own"]
            span = f"({ratio['least']:.2f}-{ratio['greatest']:.2f})"
            verdict = ", a tie" if ratio["tie"] else ""
            lines.append(f"{regime}: {PEER} / {OWN} = {ratio['median']:.2f} {span}{verdict}")
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Speed of a training step against a peer library, in paired runs.")
    parser.add_argument("--peer-python", metavar="PATH", help=f"an interpreter that has {PEER}")
    parser.add_argument("--make-environments", metavar="DIR", help=f"create DIR/{PEER} and use its interpreter")
    parser.add_argument("--only", choices=(OWN, PEER), help="measure one library only")
    parser.add_argument("--regime", choices=tuple(STEPS), action="append", help="measure this regime only (repeatable)")
    parser.add_argument("--repeats", type=int, default=5, help="paired runs per regime")
    parser.add_argument("--core", type=int, help="the core to run on; the last one allowed unless told")
    parser.add_argument("--quick", action="store_true", help="few steps and two repeats: to see that it works")
    parser.add_argument("--json", metavar="FILE", help="write all records and the summary to FILE")
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    if options.only != OWN and not (options.peer_python or options.make_environments):
        parser.error("give --peer-python PATH, or --make-environments DIR to create one")
    if options.core is not None and options.core not in allowed_cores():
        parser.error(f"core {options.core} is not among the allowed cores {allowed_cores()}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the table and writes the JSON file."""
    options = parse(arguments)
    libraries = [options.only] if options.only else [OWN, PEER]
    pythons = {OWN: sys.executable}
    if PEER in libraries:
        pythons[PEER] = options.peer_python or str(make_environment(Path(options.make_environments).resolve()))
    regimes = list(dict.fromkeys(options.regime or STEPS))
    repeats = min(options.repeats, 2) if options.quick else options.repeats
    cores = allowed_cores()
    core = options.core if options.core is not None else (cores[-1] if cores else None)
    steps = QUICK_STEPS if options.quick else STEPS
    warmup = QUICK_WARMUP if options.quick else WARMUP

    result: Record = {"machine": facts(core), "repeats": repeats, "quick": options.quick}
    print(f"{result['machine']['cpu']}, core {core}; commit {result['machine']['commit']}; load {load_average()}")
    records: list[Record] = []
    for regime in regimes:
        for repeat in range(repeats):
            for library in libraries if repeat % 2 == 0 else libraries[::-1]:
                record = run_worker(
                    library,
                    pythons[library],
                    regime=regime,
                    steps=steps[regime],
                    warmup=warmup,
                    seed=repeat,
                    core=core,
                )
                records.append({**record, "repeat": repeat})
                print(f"  {regime} {repeat + 1}/{repeats} {library}: {record['cpu_ms']:.2f} ms", file=sys.stderr)
    result["machine"]["load_after"] = load_average()
    result["summary"] = summarise(records, regimes, libraries)
    result["records"] = records
    print(table(result["summary"], libraries))
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
