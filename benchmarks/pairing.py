"""Runs of workers in processes of their own: on one core and one thread, in turn, with the load before each."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OWN = "equipoise"
FOLDERS = {OWN: HERE / "workers", "torchgfn": HERE / "peers", "gfnx": HERE / "peers", "trl": HERE / "peers"}
WORKER_TIME_LIMIT_S = 1800
REQUIREMENTS = {
    "torchgfn": ("torch==2.13.0", "torchgfn==2.4.1", "matplotlib", "scipy"),
    "gfnx": ("gfnx==0.0.1", "equinox==0.13.8", "jax==0.10.2", "optax==0.2.8"),
    "trl": ("torch==2.13.0", "transformers==5.23.0", "trl==1.16.0"),
}
"""Of each peer's environment, installed one after the other. torch is first and by version, so that the peer does not
choose another build; torchgfn's diffusion environment imports matplotlib and scipy without asking for them. gfnx pins
an older numpy than jax 0.10 wants: pip says so and goes on, and gfnx runs with the newer one."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """A library in a variant, and the interpreter that has it."""

    library: str
    python: str
    variant: str | None = None

    @property
    def label(self) -> str:
        """Its name in tables: the library's, with a variant that is not its own default."""
        return f"{self.library} {self.variant}" if self.variant not in (None, "eager") else self.library


def make_environment(folder: Path, library: str) -> Path:
    """Creates `folder/library` unless it is there; returns its interpreter."""
    python = folder / library / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / library)], check=True)
    for requirement in REQUIREMENTS[library]:
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", requirement], check=True)
    return python


def allowed_cores() -> list[int]:
    """The cores this process may use; empty where the system cannot tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def load_average() -> list[float] | None:
    """The load averages over 1, 5 and 15 minutes."""
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except OSError:
        return None


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


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


def _command_output(command: Sequence[str]) -> str | None:
    """A command's standard output, stripped; None where it fails or does not exist."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def run_worker(contender: Contender, task: str, options: Sequence[str], core: int | None) -> Record:
    """Runs one worker in a fresh process and returns its JSON line with the label and the load average added.

    Raises:
        RuntimeError: the worker failed, or its step does not train.
    """
    given = [*options] if contender.variant is None else [*options, "--variant", contender.variant]
    load = load_average()
    record = worker_line(contender, task, given, core)
    if not record.get("trains", True):
        raise RuntimeError(f"the {contender.label} worker did not train: {record}")
    return {**record, "label": contender.label, "load_before": load}


def worker_line(
    contender: Contender,
    task: str,
    options: Sequence[str],
    core: int | None,
    variables: Mapping[str, str] | None = None,
) -> Record:
    """Runs a worker in a fresh process on one core and one thread; the last line that it prints, read as JSON.

    `variables` are added to the process's environment.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= variables or {}
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    if contender.library == OWN:
        environment["PYTHONPATH"] = str(ROOT / "src")
    command = [contender.python, str(FOLDERS[contender.library] / f"{contender.library}_{task}.py"), *options]

    def pin() -> None:
        """Called in the child, before the worker starts."""
        if core is not None:
            os.sched_setaffinity(0, {core})

    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=WORKER_TIME_LIMIT_S, preexec_fn=pin
    )
    if done.returncode != 0:
        tail = "\n".join(done.stderr.strip().splitlines()[-12:])
        raise RuntimeError(f"the {contender.label} worker ended with status {done.returncode}:\n{tail}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def agreement(own: Contender, peer: Contender, core: int | None) -> Record:
    """How near two libraries' scores of the same paths under the same weights are, of the fine-tuning task."""
    with tempfile.TemporaryDirectory() as folder:
        shared = str(Path(folder) / "shared.pt")
        worker_line(own, "finetuning", ["--export", shared], core)
        return worker_line(peer, "finetuning", ["--compare", shared], core)


def report(text: str, found: Record, path: Path | None) -> None:
    """Prints a table, and writes what it was made of to `path` where there is one, with the load as it is now."""
    found["machine"]["load_after"] = load_average()
    print(text)
    if path is not None:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
