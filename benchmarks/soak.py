"""A run on Ray of which a random process is killed every half minute, beside one that is left alone.

    python benchmarks/soak.py --out benchmarks/soak --steps 1500

Trains the arithmetic task with two searchers. Every `--interval` seconds one of a searcher, the buffer and the learner
gets SIGKILL; a dead learner is resumed. Before each kill and before the next, every record of the journal is read: what
was there must still be there, byte for byte, unless a checkpoint let it go. Memory of learner and buffer is written
down. At the end the accuracies of the two runs stand beside each other. Steps are to be so many that the run lasts as
long as the soak should: about 20 minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from equipoise.sampling.journal import Journal

KINDS = {"searcher": "ray::SearcherActor", "buffer": "ray::BufferActor", "learner": ""}
ACCURACY = ("greedy_accuracy", "sampled_accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of both runs and of the report")
    parser.add_argument("--steps", type=int, default=1500, help="optimiser steps of each run")
    parser.add_argument("--interval", type=float, default=30.0, help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=0, help="of the runs and of the kills")
    chosen = parser.parse_args()
    words = ["train", "arithmetic", "--steps", str(chosen.steps), "--every", "50", "--seed", str(chosen.seed),
             "--engine", "ray", "--searchers", "2", "--lag", "2", "--out"]  # fmt: skip
    soaked = Soak(chosen.out / "soaked", words, chosen.interval, chosen.seed)
    found: dict[str, Any] = soaked.run()
    alone = chosen.out / "alone"
    if not (alone / "DONE").exists():
        subprocess.run(command([*words, str(alone)]), check=True)
    found |= {name: [last(chosen.out / run)[name] for run in ("soaked", "alone")] for name in ACCURACY}
    (chosen.out / "soak.json").write_text(json.dumps(found, indent=1))
    print(json.dumps({name: value for name, value in found.items() if name != "memory_mib"}, indent=1))


class Soak:
    """The run that is disturbed."""

    def __init__(self, folder: Path, words: list[str], interval: float, seed: int) -> None:
        self.folder, self.interval = folder, interval
        self.begin = command([*words, str(folder)])
        self.resume = command(["resume", str(folder)])
        self.chance = random.Random(seed)
        self.kills: dict[str, int] = dict.fromkeys(KINDS, 0)
        self.lost = self.seen = 0
        self.memory: list[tuple[float, float]] = []

    def run(self) -> dict[str, Any]:
        begun = time.monotonic()
        resumed = (self.folder / "config.yaml").exists()
        process = subprocess.Popen(self.resume if resumed else self.begin)
        held: dict[int, str] = {}
        due = time.monotonic() + self.interval
        while process.poll() is None or not (self.folder / "DONE").exists():
            if process.poll() is not None:
                if process.returncode != -signal.SIGKILL:
                    raise SystemExit(f"the run stopped by itself, with status {process.returncode}")
                process = subprocess.Popen(self.resume)
            time.sleep(0.5)
            if time.monotonic() > due and (self.folder / "checkpoints").exists():
                self.compare(held)
                held = records(self.folder / "journal")
                self.kill(process)
                due = time.monotonic() + self.interval
        self.compare(held)
        half = [learner for learner, _ in self.memory[len(self.memory) // 2 :]]
        return {
            "minutes": (time.monotonic() - begun) / 60,
            "kills": self.kills,
            "records_compared": self.seen,
            "records_lost": self.lost,
            "learner_mib_half_and_end": [half[0], half[-1]] if half else [],
            "learner_mib_median": statistics.median(half) if half else None,
            "memory_mib": self.memory,
        }

    def kill(self, learner: subprocess.Popen[bytes]) -> None:
        """SIGKILL to a process of the run, mostly to a searcher."""
        kind = self.chance.choices(list(KINDS), (4, 1, 1))[0]
        below = family(learner.pid)
        named = {name: [pid for pid in below if said and title(pid).startswith(said)] for name, said in KINDS.items()}
        self.memory.append((memory(learner.pid), sum(memory(pid) for pid in named["buffer"])))
        pids = [learner.pid] if kind == "learner" else named[kind]
        if pids:
            self.kills[kind] += 1
            print(f"soak: SIGKILL to the {kind}", file=sys.stderr, flush=True)
            os.kill(self.chance.choice(sorted(pids)), signal.SIGKILL)

    def compare(self, held: dict[int, str]) -> None:
        """Counts what was in the journal and is not, though no checkpoint let it go."""
        now = records(self.folder / "journal")
        first = min(now, default=0)
        kept = {number: digest for number, digest in held.items() if number >= first}
        self.seen += len(kept)
        self.lost += sum(now.get(number) != digest for number, digest in kept.items())


def command(words: list[str]) -> list[str]:
    return [sys.executable, "-m", "equipoise", *words]


def records(journal: Path) -> dict[int, str]:
    """The digest of each whole record, by its number."""
    found = {}
    for path in sorted(path for path in journal.glob("[0-9]*") if path.name.isdigit()):
        for number, (blob, _) in enumerate(Journal(path).blobs(), int(path.name)):
            found[number] = hashlib.sha256(blob).hexdigest()
    return found


def family(pid: int) -> set[int]:
    """All processes that descend from one."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def memory(pid: int) -> float:
    """MiB that a process holds."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, IndexError):
        return 0.0


def last(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])


if __name__ == "__main__":
    main()
