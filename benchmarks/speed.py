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
import tempfile
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
FOLDERS = {OWN: HERE / "workers", PEER: HERE / "peers"}
TASKS = {"short": "hypergrid", "long": "hypergrid", "all_steps": "finetuning", "subsampled": "finetuning"}
"""Each regime's task; the worker is `<library>_<task>.py`."""
PEER_REQUIREMENTS = ("torch==2.13.0", "torchgfn==2.4.1", "matplotlib", "scipy")
"""Installed one after the other: torch first and by version, so that the peer does not choose another build; its
diffusion environment imports the last two without asking for them."""

STEPS = {"short": 200, "long": 100, "all_steps": 50, "subsampled": 50}
QUICK_STEPS = {"short": 20, "long": 8, "all_steps": 5, "subsampled": 5}
WARMUP = {"hypergrid": 30, "finetuning": 8}
QUICK_WARMUP = {"hypergrid": 5, "finetuning": 2}

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
    library: str,
    python: str,
    *,
    regime: str,
    steps: int,
    warmup: int,
    seed: int,
    core: int | None,
    variant: str | None = None,
) -> Record:
    """Runs one worker in a fresh process on one core and returns its JSON line with the load average added."""
    options = ["--regime", regime, "--steps", str(steps), "--warmup", str(warmup), "--seed", str(seed)]
    options += ["--variant", variant] if variant is not None and library == PEER else []
    load = load_average()
    record = worker_line(library, python, TASKS[regime], options, core)
    if not record["trains"]:
        raise RuntimeError(f"the {library} worker did not train: {record}")
    return {**record, "load_before": load}


def agreement(pythons: dict[str, str], core: int | None) -> Record:
    """How near the two libraries' scores of the same paths under the same weights are, of the fine-tuning task."""
    with tempfile.TemporaryDirectory() as folder:
        shared = str(Path(folder) / "shared.pt")
        worker_line(OWN, pythons[OWN], "finetuning", ["--export", shared], core)
        return worker_line(PEER, pythons[PEER], "finetuning", ["--compare", shared], core)


def worker_line(library: str, python: str, task: str, options: Sequence[str], core: int | None) -> Record:
    """Runs a worker in a fresh process on one core and one thread; the last line that it prints, read as JSON."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    if library == OWN:
        environment["PYTHONPATH"] = str(ROOT / "src")
    command = [python, str(FOLDERS[library] / f"{library}_{task}.py"), *options]

    def pin() -> None:
        """Called in the child, before the worker starts."""
        if core is not None:
            os.sched_setaffinity(0, {core})

    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=WORKER_TIME_LIMIT_S, preexec_fn=pin
    )
    if done.returncode != 0:
        tail = "\n".join(done.stderr.strip().splitlines()[-12:])
        raise RuntimeError(f"the {library} worker ended with status {done.returncode}:\n{tail}")
    return json.loads(done.stdout.strip().splitlines()[-1])


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
    parser.add_argument("--task", choices=sorted(set(TASKS.values())), help="measure this task's regimes only")
    parser.add_argument("--variant", help=f"of {PEER}'s set-up, as its worker has them; its fastest unless told")
    parser.add_argument("--repeats", type=int, default=5, help="paired runs per regime")
    parser.add_argument("--core", type=int, help="the core to run on; the last one allowed unless told")
    parser.add_argument("--quick", action="store_true", help="few steps and two repeats: to see that it works")
    parser.add_argument("--json", metavar="FILE", help="write all records and the summary to FILE")
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    if options.only != OWN and not (options.peer_python or options.make_environments):
        parser.error("give --peer-python PATH, or --make-environments DIR to create one")
    if options.task is not None and any(TASKS[one] != options.task for one in options.regime or ()):
        parser.error(f"a regime of {options.regime} is not of the task {options.task}")
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
    regimes = [one for one in dict.fromkeys(options.regime or STEPS) if options.task in (None, TASKS[one])]
    repeats = min(options.repeats, 2) if options.quick else options.repeats
    cores = allowed_cores()
    core = options.core if options.core is not None else (cores[-1] if cores else None)
    steps = QUICK_STEPS if options.quick else STEPS
    warmup = QUICK_WARMUP if options.quick else WARMUP

    result: Record = {"machine": facts(core), "repeats": repeats, "quick": options.quick}
    print(f"{result['machine']['cpu']}, core {core}; commit {result['machine']['commit']}; load {load_average()}")
    if len(libraries) == 2 and any(TASKS[one] == "finetuning" for one in regimes):
        result["agreement"] = agreement(pythons, core)
        print(f"finetuning, same paths and weights in both: {result['agreement']}")
    records: list[Record] = []
    for regime in regimes:
        for repeat in range(repeats):
            for library in libraries if repeat % 2 == 0 else libraries[::-1]:
                record = run_worker(
                    library,
                    pythons[library],
                    regime=regime,
                    steps=steps[regime],
                    warmup=warmup[TASKS[regime]],
                    seed=repeat,
                    core=core,
                    variant=options.variant,
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
