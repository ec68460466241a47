"""Trains every method, loss and estimator on small targets and tabulates the exact figures.

    python benchmarks/exactness.py --json results.json [--only hypergrid] [--seeds 0 1 2]

Each row is one `equipoise train` in a process of its own, on one thread; rows that the file already has are kept, so
an interrupted table goes on. CPU seconds are the whole process's, start included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

GRID = ["hypergrid", "--dim", "2", "--side", "8", "--steps", "2000", "--every", "2000"]
GRID += ["--batch", "16", "--learning-rate", "1e-3"]
STRINGS = ["tfbind8", "--steps", "10000", "--batch", "16", "--every", "10000"]
ALPHAS = ("0.5", "2", "-1")
LOSSES = (
    *("reverse_kl", "forward_kl", "hellinger", "pearson", "neyman", "jeffreys", "jensen_shannon", "le_cam"),
    *("total_variation", "shifted_cosh", "huber", "clipped"),
)


def rows(seeds: list[int]) -> dict[str, list[str]]:
    """The words of each row, by its name."""
    table = {}
    for seed in seeds:
        table[f"hypergrid seed {seed}"] = [*GRID, "--seed", str(seed)]
        table[f"tfbind8 seed {seed}"] = [*STRINGS, "--seed", str(seed)]
    for method in ("tb", "vargrad", "db", "modified_db", "fl_db", "subtb", "fm"):
        for backward in ("learned", "uniform"):
            table[f"hypergrid {method}, {backward} P_B"] = [*GRID, "--method", method, "--backward", backward]
    table["hypergrid rtb"] = [*GRID, "--method", "rtb"]
    for log_z in ("deviation", "learned"):
        for loss in LOSSES:
            table[f"hypergrid {loss}, log Z {log_z}"] = [*GRID, "--loss", loss, "--log-z", log_z]
        for order in ALPHAS:
            more = ["--loss", "alpha", "--order", order, "--log-z", log_z]
            table[f"hypergrid alpha of order {order}, log Z {log_z}"] = [*GRID, *more]
    for log_z in ("group_mean", "leave_one_out", "mean_reward", "pairwise"):
        table[f"hypergrid log Z {log_z}"] = [*GRID, "--log-z", log_z]
    return table


def measured(words: list[str]) -> dict[str, Any]:
    """Trains and evaluates one row."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "run")
        command = [sys.executable, "-m", "equipoise"]
        before = _children()
        done = subprocess.run(
            [*command, "train", *words, "--out", out], env=environment, capture_output=True, text=True
        )
        used = _children() - before
        if done.returncode:
            return {"error": done.stderr.strip().splitlines()[-1], "cpu_seconds": used}
        judged = subprocess.run([*command, "evaluate", out, "--json"], env=environment, capture_output=True, check=True)
    return {**json.loads(judged.stdout), "cpu_seconds": used}


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def shown(name: str, row: dict[str, Any]) -> str:
    """One row of the Markdown table."""
    if "error" in row:
        return f"| {name} | {row['error']} | | | {row['cpu_seconds']:.1f} |"
    return (
        f"| {name} | {row['total_variation']:.2e} | {row['log_z_error']:+.2e} | "
        f"{row['mean_reward']:.4f} / {row['mean_reward_exact']:.4f} | {row['cpu_seconds']:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Exact figures of every method on small targets, as a table.")
    parser.add_argument("--json", type=Path, required=True, help="file of results; rows in it are not run again")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the two main tasks")
    options = parser.parse_args()
    results = json.loads(options.json.read_text()) if options.json.exists() else {}
    print("| run | total variation | log Z error | mean reward / exact | CPU s |\n| --- | --- | --- | --- | --- |")
    for name, words in rows(options.seeds).items():
        if options.only not in name:
            continue
        if name not in results:
            results[name] = measured(words)
            aside = options.json.with_suffix(".part")
            aside.write_text(json.dumps(results, indent=1) + "\n")
            aside.replace(options.json)
        print(shown(name, results[name]), flush=True)


if __name__ == "__main__":
    main()
