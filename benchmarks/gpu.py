"""Training steps of this library on a CUDA device, in one call of under eight minutes.

    python benchmarks/gpu.py --json gpu.json

The regimes of `benchmarks/speed.py`, eager and compiled, at batches of 16, 256 and 4,096; wall milliseconds a step,
each step ending in a read of its loss, and the device's peak memory. Tensors are made on the device; random numbers
are drawn on the CPU and moved, a block a rollout, as the samplers ask for them. Workloads are measured until the time
is up; what was not reached, or failed, says so in the table. Without a CUDA device it says what it needs and ends
with status 1.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measure import NotAvailable, measure
from pairing import ROOT, Record, facts
from profiling import worker
from speed_table import aligned
from torch.overrides import TorchFunctionMode
from workloads import REGIMES, Finetuning

LIMIT_S = 420.0
BATCHES = (16, 256, 4096)
VARIANTS = ("eager", "compiled")
SECONDS_EACH = 4.0
DRAWS = (torch.rand, torch.randn, torch.randint, torch.randperm)


class DrawnOnTheCPU(TorchFunctionMode):
    """Random numbers of a CPU generator are drawn there and moved to the device."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        generator = given.get("generator")
        if generator is not None and generator.device.type == "cpu" and func in DRAWS:
            return func(*args, **{**given, "device": "cpu"}).to(self.device)
        return func(*args, **given)


def cases(batches: Sequence[int]) -> Iterator[tuple[str, str, int]]:
    """Regime, variant and batch, the smallest batches of all regimes first."""
    for batch in batches:
        for name, regime in REGIMES.items():
            if isinstance(regime.workload, Finetuning) and regime.workload.subsample is not None:
                continue
            for variant in VARIANTS:
                yield name, variant, batch


def one(name: str, variant: str, batch: int, device: str, seconds: float) -> Record:
    """A regime's record, measured in this process."""
    regime = REGIMES[name]
    work = replace(regime.workload, batch=batch)
    options = argparse.Namespace(
        regime=name,
        variant=variant,
        seed=0,
        steps=regime.steps,
        seconds=seconds,
        warmup=5 if variant == "eager" else 30,
    )
    start: Record = {"regime": name, "variant": variant, "batch": batch}
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    try:
        built = worker(regime.task).build(work, options)
        found = measure(built, work, options, library="equipoise", version="", check=batch <= BATCHES[1])
    except NotAvailable as reason:
        return {**start, "said": f"not available: {reason}"}
    except (RuntimeError, ValueError, NotImplementedError) as error:
        return {**start, "said": f"failed: {str(error).splitlines()[0][:80]}"}
    finally:
        gc.collect()
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.startswith("cuda") else found.peak_mb
    figures = {"wall_ms": found.wall_ms, "cpu_ms": found.cpu_ms, "warmup_cpu_s": found.warmup_cpu_s, "peak_mb": peak}
    return {**start, **figures, "trains": found.trains, "length_mean": found.length_mean}


def table(records: Sequence[Record]) -> str:
    """A line for each case."""
    rows = [("regime", "variant", "batch", "wall ms/step", "CPU ms/step", "warm-up s", "peak MB on device")]
    for record in records:
        start = (record["regime"], record["variant"], str(record["batch"]))
        if "said" in record:
            rows.append((*start, record["said"], "", "", ""))
        else:
            figures = (f"{record['wall_ms']:.2f}", f"{record['cpu_ms']:.2f}", f"{record['warmup_cpu_s']:.1f}")
            rows.append((*start, *figures, f"{record['peak_mb']:.0f}"))
    return "\n".join(aligned(rows))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description="Training steps of this library on a CUDA device.")
    parser.add_argument("--device", default="cuda", help="of all tensors; cpu: to see that the script works")
    parser.add_argument("--batch", type=int, nargs="+", default=BATCHES, help="trajectories a step")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds after which nothing more is begun")
    parser.add_argument("--seconds", type=float, default=SECONDS_EACH, help="CPU seconds of a case")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all records to FILE")
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        needs = "benchmarks/gpu.py needs an NVIDIA GPU and a PyTorch built for CUDA"
        print(f"{needs}: PyTorch {torch.__version__} sees none", file=sys.stderr)
        raise SystemExit(1)
    sys.path.insert(0, str(ROOT / "src"))
    torch.set_default_device(options.device)
    began, records = time.perf_counter(), []
    with DrawnOnTheCPU(options.device):
        for name, variant, batch in cases(options.batch):
            if time.perf_counter() - began > options.limit:
                records.append({"regime": name, "variant": variant, "batch": batch, "said": "no time left"})
                continue
            records.append(one(name, variant, batch, options.device, options.seconds))
            print(f"  {records[-1]}", file=sys.stderr)
    name = torch.cuda.get_device_name() if options.device.startswith("cuda") else "CPU"
    machine = {**facts(None), "device": name, "torch": torch.__version__, "cuda": torch.version.cuda}
    print(f"{name}; torch {torch.__version__}; commit {machine['commit']}")
    print(table(records))
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine, "records": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
