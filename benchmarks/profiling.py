"""Where a training step of ours spends its time, by torch.profiler: the operators, and what is Python's own."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

from workloads import REGIMES

HERE = Path(__file__).resolve().parent
WARMUP = 5
SHOWN = 20


def worker(task: str) -> Any:
    """Our worker of a task, as a module."""
    path = HERE / "workers" / f"equipoise_{task}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"there is no worker for '{task}'")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def profile(regime: str, steps: int, variant: str = "eager") -> str:
    """A table of the operators of some steps by their own CPU time, and the share that no operator has.

    Args:
        regime: of the workload.
        steps: that are profiled.
        variant: 'eager' or 'compiled'.

    The profiler makes each operator dearer by a microsecond or more, so that shares of small ones are overstated, and
    what is left to Python is what a step costs without the profiler less what its operators cost with it: at least.
    """
    sys.path.insert(0, str(HERE.parent / "src"))
    import torch

    torch.set_num_threads(1)
    chosen = REGIMES[regime]
    built = worker(chosen.task).build(chosen.workload, argparse.Namespace(seed=0, variant=variant))
    built.set_learning_rates(0.0, 0.0)
    for _ in range(WARMUP):
        built.step()
    began = time.process_time()
    for _ in range(steps):
        built.step()
    plain = 1e3 * (time.process_time() - began) / steps
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        for _ in range(steps):
            built.step()
    averages = seen.key_averages()
    inside = sum(event.self_cpu_time_total for event in averages) / 1e3 / steps
    lines = [f"{regime}, {variant}: {plain:.2f} ms of CPU a step; operators, profiled, {inside:.2f} ms:", ""]
    lines += listing([(event.key, event.count / steps, event.self_cpu_time_total / 1e3 / steps) for event in averages])
    return "\n".join([*lines, "", f"outside all operators, at least: {max(0.0, plain - inside):.2f} ms (Python)"])


def listing(rows: list[tuple[str, float, float]]) -> list[str]:
    """The dearest operators: name, calls a step, milliseconds a step, and their share of all.

    Example:
        >>> listing([("mm", 2.0, 3.0), ("add", 10.0, 1.0)])
        ['  75.0 %    3.000 ms    2.0 calls  mm', '  25.0 %    1.000 ms   10.0 calls  add']
    """
    total = sum(ms for _, _, ms in rows) or 1.0
    ranked = sorted(rows, key=lambda row: -row[2])[:SHOWN]
    return [f"{100 * ms / total:6.1f} %  {ms:7.3f} ms  {calls:5.1f} calls  {name}" for name, calls, ms in ranked]
