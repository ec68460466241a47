"""Speed of what is not a training step of a discrete sampler: exact evaluation, replay, and language models.

    python benchmarks/beyond_steps.py --only exact
    python benchmarks/beyond_steps.py --environments DIR --json beyond.json     # with TRL's step, from DIR/trl

`exact` judges an untrained sampler on every object of a listed space, first (the space is listed then) and again;
`compilation` runs the first 30 compiled steps of a regime with an empty cache folder and again with what that left in
it, less what 30 later steps take; `replay` inserts into a full store of 10^6 trajectories and draws from it
(`benchmarks/replay.py`, which has the whole table); `language` counts tokens a second of sampling against
transformers' `generate`, and of a training step against TRL's. The diffusion step is a regime of
`benchmarks/speed.py`. Process CPU time, one thread, one core.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pairing import OWN, ROOT, Contender, Record, facts, make_environment, report, worker_line
from speed_table import aligned, spread
from workloads import REGIMES

PARTS = ("exact", "compilation", "replay", "language")
COMPILED = ("short", "long", "append", "left_to_right", "any_position")
WARM_STEPS = 30
SPACES = ("hypergrid 8^4", "hypergrid 64^2", "qm9_strings, append", "qm9_strings, prepend_append")
STORED = 1_000_000


def exact(repeats: int) -> list[Record]:
    """CPU seconds of the first judgement of each space, and of a later one."""
    import torch

    from equipoise.recipes import Hypergrid, QM9Strings
    from equipoise.recipes.tasks import task, task_of

    torch.set_num_threads(1)
    configs = (Hypergrid(dim=4), Hypergrid(side=64), QM9Strings(growth="append"), QM9Strings())
    found = []
    for name, config in zip(SPACES, configs, strict=True):
        try:
            made: Any = task(task_of(config)).build(config)
        except ValueError as error:  # the data are not there
            found.append({"space": name, "not_available": str(error)})
            continue
        times = []
        for _ in range(1 + repeats):
            began = time.process_time()
            made.judge.figures()
            times.append(time.process_time() - began)
        graph = made.judge.graph
        sizes = {"objects": len(graph.terminal), "states": graph.inner}
        found.append({"space": name, **sizes, "first_s": times[0], "again_s": statistics.median(times[1:])})
    return found


def compilation(core: int | None) -> list[Record]:
    """Seconds that compiling adds to the first steps, cold and from the cache, of each regime that compiles."""
    own, found = Contender(OWN, sys.executable, "compiled"), []
    for regime in COMPILED:
        words = ["--regime", regime, "--warmup", str(WARM_STEPS), "--steps", "20", "--seconds", "3"]
        with tempfile.TemporaryDirectory() as folder:
            given = [*words, "--variant", "compiled"]
            lines = [
                worker_line(own, REGIMES[regime].task, given, core, {"TORCHINDUCTOR_CACHE_DIR": folder})
                for _ in range(2)
            ]
        if "not_available" in lines[0]:
            found.append({"regime": regime, "not_available": lines[0]["not_available"]})
            continue
        spent = [line["warmup_cpu_s"] - WARM_STEPS * line["cpu_ms_median"] / 1e3 for line in lines]
        found.append({"regime": regime, "cold_s": spent[0], "cached_s": spent[1]})
    return found


def replay(repeats: int) -> list[Record]:
    """Lines of `benchmarks/replay.py` at 10^6 stored trajectories."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "replay.json"
        words = ["--stored", str(STORED), "--batch", "16", "4096", "--repeats", str(repeats), "--json", str(out)]
        command = [sys.executable, str(ROOT / "benchmarks" / "replay.py"), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return json.loads(out.read_text())["lines"]


def language(trl: Contender | None, calls: int, repeats: int, core: int | None) -> list[Record]:
    """Tokens a second by us and by the peers, in turn; the medians over repeats."""
    own = Contender(OWN, sys.executable)
    found: dict[str, list[Record]] = {}
    with tempfile.TemporaryDirectory() as folder:
        worker_line(own, "language", ["--export", folder], core)
        for _ in range(repeats):
            for variant in ("sample", "generate", "train"):
                words = ["--variant", variant, "--calls", str(calls)]
                name = "transformers generate" if variant == "generate" else f"equipoise {variant}"
                found.setdefault(name, []).append(worker_line(own, "language", words, core))
            if trl is not None:
                words = ["--model", folder, "--calls", str(calls)]
                found.setdefault("TRL GRPO step", []).append(worker_line(trl, "language", words, core))
    return [
        {"what": name, "tokens_per_cpu_s": spread([line["tokens_per_cpu_s"] for line in lines])}
        for name, lines in found.items()
    ]


def shown(found: dict[str, Any]) -> str:
    """All parts as lines of text."""
    lines = []
    for row in found.get("exact", []):
        figures = row.get("not_available") or f"{row['first_s']:.2f} s first, {row['again_s']:.2f} s again"
        lines.append(("exact evaluation", f"{row['space']}, {row.get('objects', '?')} objects", figures))
    for row in found.get("compilation", []):
        figures = row.get("not_available") or f"{row['cold_s']:.1f} CPU s cold, {row['cached_s']:.1f} from the cache"
        lines.append(("compilation", row["regime"], figures))
    for row in found.get("replay", []):
        figures = f"{row['insert_us']:.0f} us insert, {row['sample_us']:.0f} us draw"
        lines.append((f"replay of {row['stored']}", f"batch of {row['batch']}", figures))
    for row in found.get("language", []):
        one = row["tokens_per_cpu_s"]
        figures = f"{one['median']:.0f} tokens a CPU second ({one['least']:.0f}-{one['greatest']:.0f})"
        lines.append(("language model", row["what"], figures))
    return "\n".join(aligned(lines)) if lines else "nothing was measured"


def main() -> None:
    """Measures the parts, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description="Speed of exact evaluation, replay and language models.")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part only (repeatable)")
    parser.add_argument("--environments", metavar="DIR", help="folder with DIR/trl, for TRL's step")
    parser.add_argument("--make-environments", metavar="DIR", help="create DIR/trl first")
    parser.add_argument("--repeats", type=int, default=3, help="of each figure, of which the median is shown")
    parser.add_argument("--core", type=int, help="the core that language runs are pinned to")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    options = parser.parse_args()
    parts, trl = options.only or PARTS, None
    if options.make_environments:
        trl = Contender("trl", str(make_environment(Path(options.make_environments).resolve(), "trl")))
    elif options.environments and (Path(options.environments) / "trl").is_dir():
        trl = Contender("trl", str(Path(options.environments).resolve() / "trl" / "bin" / "python"))
    found: dict[str, Any] = {"machine": facts(options.core)}
    if "exact" in parts:
        found["exact"] = exact(options.repeats)
    if "compilation" in parts:
        found["compilation"] = compilation(options.core)
    if "replay" in parts:
        found["replay"] = replay(options.repeats)
    if "language" in parts:
        found["language"] = language(trl, 5, options.repeats, options.core)
    report(shown(found), found, options.json)


if __name__ == "__main__":
    main()
