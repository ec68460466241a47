"""Post-training methods when their data are stale: a table of methods by lags, and one of searchers by priorities.

    python benchmarks/staleness.py --out benchmarks/staleness

Every method first has six short trials of its learning rate at lag 0 (half the steps, seed 0, the best sampled
accuracy); then three seeds at lags 0 and 16, one at lags 4 and 64. Searchers (1, 2, 4, 8) with each replay priority are
TBA's, one seed. All runs of a seed begin with the same supervised model. Runs lie in folders below OUT: what is done is
kept, what was killed goes on, and the tables are written from what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from equipoise.language.loading import save
from equipoise.recipes.arithmetic import arithmetic
from equipoise.recipes.language_configuration import Arithmetic
from equipoise.recipes.runs import continue_run, open_run, train
from equipoise.training.folder import RunFolder

METHODS = ("tba", "rtb", "kimi", "reinforce", "rloo", "grpo", "dr_grpo", "ppo", "cispo", "online_dpo")
RATES = (2e-5, 5e-5, 1e-4, 2e-4, 4e-4, 8e-4)
LAGS = {0: 3, 16: 3, 4: 1, 64: 1}
"""Lags, with the number of seeds of each."""
SEARCHERS = (1, 2, 4, 8)
PRIORITIES = ("uniform", "recency", "reward")
RESETS = ("tba", "rtb", "kimi", "rloo", "ppo", "grpo", "online_dpo")
"""Methods with a reference, which is reset every 20 steps for all of them alike."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of all runs and of the tables")
    parser.add_argument("--steps", type=int, default=240, help="optimiser steps of a run")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS, help="which methods")
    parser.add_argument("--smoke", action="store_true", help="seconds: a narrow model, 2 steps, no warm-up")
    chosen = parser.parse_args()
    bench = Bench(chosen.out, 2 if chosen.smoke else chosen.steps, smoke=chosen.smoke)
    table = [row for method in chosen.methods for row in bench.method(method)]
    bench.write("methods", table)
    bench.write("searchers", list(bench.searchers()))


class Bench:
    """The runs below one folder."""

    def __init__(self, out: Path, steps: int, *, smoke: bool) -> None:
        self.out, self.steps, self.smoke = out, steps, smoke

    def config(self, method: str, seed: int, **settings: Any) -> Arithmetic:
        """A method's run: all alike but for what the method is."""
        small = {"width": 16, "judged": 20, "warm_up": 0.0, "batch": 32} if self.smoke else {}
        steps = settings.pop("steps", self.steps)
        given = {"steps": steps, "every": steps, "reference_reset": 20 if method in RESETS else 0, "seed": seed}
        return Arithmetic(method=method, start=self.start(seed), **{**small, **given, **settings})  # type: ignore[arg-type]

    def start(self, seed: int) -> Path:
        """The supervised model of a seed, made when it is first asked for."""
        path = self.out / f"prior-{seed}"
        if not (path / "config.json").exists():
            small = {"width": 16, "judged": 20, "warm_up": 0.0} if self.smoke else {}
            built = arithmetic(Arithmetic(seed=seed, **small))  # type: ignore[arg-type]
            built.prepare(None)
            aside = path.with_name(path.name + ".part")
            save(built.sampler.model, built.tokenizer, aside)
            aside.rename(path)
        return path

    def done(self, label: str, config: Arithmetic) -> dict[str, float]:
        """The last record of a run: trained, taken up, or found."""
        path = self.out / label
        if not (path / "config.yaml").exists():
            print(label, flush=True)
            train(replace(config, out=path))
        elif not RunFolder(path).done:
            print(f"{label} goes on", flush=True)
            continue_run(open_run(path))
        return RunFolder(path).metrics()[-1]

    def rate(self, method: str) -> float:
        """The learning rate that is best for a method at lag 0."""
        scores = {}
        for rate in RATES[:2] if self.smoke else RATES:
            config = self.config(method, 0, steps=max(1, self.steps // 2), learning_rate=rate)
            scores[rate] = self.done(f"tuning/{method}-{rate:g}", config)["sampled_accuracy"]
        return max(scores, key=lambda rate: scores[rate])

    def method(self, method: str) -> Iterator[dict[str, Any]]:
        """The rows of a method: one a lag."""
        rate = self.rate(method)
        for lag, seeds in LAGS.items():
            records = [
                self.done(f"{method}/lag-{lag}-seed-{seed}", self.config(method, seed, lag=lag, learning_rate=rate))
                for seed in range(1 if self.smoke else seeds)
            ]
            yield {"method": method, "learning_rate": rate, "lag": lag, **summary(records)}

    def searchers(self) -> Iterator[dict[str, Any]]:
        """TBA from a replay that several searchers fill."""
        rate = self.rate("tba")
        for priority in PRIORITIES:
            for count in SEARCHERS[:2] if self.smoke else SEARCHERS:
                settings: dict[str, Any] = {"source": "replay", "searchers": count, "priority": priority}
                config = self.config("tba", 0, learning_rate=rate, **settings)
                record = self.done(f"searchers/{priority}-{count}", config)
                yield {"priority": priority, "searchers": count, **summary([record])}

    def write(self, name: str, rows: list[dict[str, Any]]) -> None:
        """A table as Markdown and as JSON."""
        heads = list(rows[0])
        lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        lines += ["| " + " | ".join(shown(row[head]) for head in heads) + " |" for row in rows]
        (self.out / f"{name}.md").write_text("\n".join(lines) + "\n")
        (self.out / f"{name}.json").write_text(json.dumps(rows, indent=2) + "\n")
        print("\n".join(lines))


def summary(records: list[dict[str, float]]) -> dict[str, Any]:
    """Points gained over the seeds: mean, spread and worst, greedy and sampled; and how stale the data were."""
    found: dict[str, Any] = {"seeds": len(records)}
    for name in ("greedy", "sampled"):
        gains = [100 * (record[f"{name}_accuracy"] - record[f"{name}_accuracy_prior"]) for record in records]
        found |= {f"{name}_gain": statistics.mean(gains), f"{name}_worst": min(gains)}
        found[f"{name}_deviation"] = statistics.stdev(gains) if len(gains) > 1 else float("nan")
    found["staleness"] = statistics.mean(record["mean_staleness"] for record in records)
    return found


def shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
