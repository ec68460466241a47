"""The engine on Ray itself: one fast test, and what happens when parts die (slow)."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.recipes import Arithmetic, Hypergrid, open_run, train
from equipoise.recipes.runs import continue_run
from equipoise.training.engines import ray as engine

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")  # its import comes later

GRID = Hypergrid(side=8, steps=20, every=10, hidden=(16,), batch=16)
SUMS = Arithmetic(steps=4, every=2, batch=8, responses=4, width=16, warm_up=0.0, judged=20, reference_reset=2)


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def family(pid: int) -> set[int]:
    """A process and all that descend from it."""
    found = {pid}
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listening(pids: set[int]) -> set[str]:
    """Hexadecimal addresses at which these processes listen."""
    sockets = set()
    for pid in pids:
        for handle in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(os.readlink(handle))
            except OSError:
                continue
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def test_one_searcher_and_a_barrier_on_ray_give_the_inline_metrics_on_the_loopback_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []
    publish = engine.Team.publish

    def watched(self: engine.Team, version: int, blob: bytes) -> None:
        if version == 10:
            seen.append(listening(family(os.getpid())))
        publish(self, version, blob)

    monkeypatch.setattr(engine.Team, "publish", watched)
    train(dataclasses.replace(GRID, out=tmp_path / "inline"))
    train(dataclasses.replace(GRID, engine="ray", barrier=True, out=tmp_path / "ray"))
    for one, other in zip(records(tmp_path / "inline"), records(tmp_path / "ray"), strict=True):
        assert one == {name: other[name] for name in one}
    assert records(tmp_path / "ray")[-1]["searchers_replaced"] == 0.0
    assert seen[0] and seen[0] <= LOOPBACK


@pytest.mark.slow
def test_the_same_on_arithmetic(tmp_path: Path) -> None:
    train(dataclasses.replace(SUMS, out=tmp_path / "inline"))
    train(dataclasses.replace(SUMS, engine="ray", barrier=True, out=tmp_path / "ray"))
    for one, other in zip(records(tmp_path / "inline"), records(tmp_path / "ray"), strict=True):
        assert one == {name: other[name] for name in one}


def kill(team: engine.Team, who: int) -> None:
    """SIGKILL to a process of the team; one that has just taken another's place is awaited."""
    end = time.monotonic() + 120
    while True:
        try:
            return os.kill(team.pids()[who], signal.SIGKILL)
        except ProcessLookupError:
            assert time.monotonic() < end
            time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("who", [0, -1], ids=["a searcher", "the buffer"])
def test_a_process_that_is_killed_is_replaced_and_the_run_ends(
    who: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, killed = engine.Team.publish, []

    def killing(self: engine.Team, version: int, blob: bytes) -> None:
        publish(self, version, blob)
        if version in (5, 12) and version not in killed:
            killed.append(version)
            kill(self, who)

    monkeypatch.setattr(engine.Team, "publish", killing)
    config = dataclasses.replace(GRID, engine="ray", searchers=2, out=tmp_path / "run")
    train(config)
    last = records(tmp_path / "run")[-1]
    assert killed == [5, 12] and last["step"] == 20
    assert who == -1 or last["searchers_replaced"] == 2.0


@pytest.mark.slow
def test_a_hung_searcher_is_named_and_replaced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    marker = tmp_path / "hung"
    module = tmp_path / "hanging.py"
    module.write_text(
        "import os, time, torch\n"
        "def reward(objects):\n"
        f"    if len(objects) == 16 and not os.path.exists({str(marker)!r}):\n"
        f"        open({str(marker)!r}, 'w').close()\n"
        "        time.sleep(10_000)\n"
        "    return -objects.sum(1).float()\n"
    )
    config = dataclasses.replace(GRID, engine="ray", patience=8.0, reward="hanging:reward", out=tmp_path / "run", dim=2)
    run = subprocess.run(
        [sys.executable, "-c", f"from equipoise.recipes import *\nfrom pathlib import Path\ntrain({config!r})".replace(
            "PosixPath", "Path")],
        cwd=tmp_path, capture_output=True, text=True, check=False, env=os.environ,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "searcher 0 hangs" in run.stderr and "ticket 0" in run.stderr


COMMAND = [sys.executable, "-m", "equipoise", "train", "hypergrid", "--steps", "100000", "--every", "20"]


def begun(folder: Path, words: list[str]) -> subprocess.Popen[str]:
    """A run on Ray in a process of its own, once it has a checkpoint."""
    process = subprocess.Popen([*COMMAND, "--hidden", "16", "--engine", "ray", "--out", str(folder), *words],
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    end = time.monotonic() + 240
    while not (folder / "checkpoints/step-00000020.json").exists():
        assert process.poll() is None and time.monotonic() < end, process.communicate()[1]
        time.sleep(0.05)
    return process


@pytest.mark.slow
def test_a_learner_that_is_killed_resumes_with_all_that_was_acknowledged(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = begun(folder, ["--searchers", "2"])
    process.kill()
    process.wait()
    process.communicate()
    run = open_run(folder)
    step = run.loop.step
    stopping = dataclasses.replace(run.loop.run, steps=step + 20)
    run.loop.run = stopping
    continue_run(run)
    assert run.loop.step == step + 20 and torch.isfinite(torch.tensor(run.built.evaluate()["total_variation"]))


@pytest.mark.slow
def test_sigterm_finishes_the_step_and_saves(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = begun(folder, [])
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 143
    line = next(line for line in said.splitlines() if line.startswith("SIGTERM"))
    step = int(line.split("step ")[1].split()[0])
    assert (folder / f"checkpoints/step-{step:08d}.json").exists()


DYING = """
import os, signal, sys
from equipoise.cli import main
real = os.replace
def dying(source, target, **given):
    if "step-00000060" in str(target):
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target, **given)
os.replace = dying
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_learner_that_is_killed_while_it_saves_has_its_last_checkpoint_and_all_deliveries(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["train", "hypergrid", "--steps", "80", "--every", "20", "--hidden", "16", "--engine", "ray"]
    dead = subprocess.run(
        [sys.executable, "-c", DYING, *words, "--out", str(folder)], capture_output=True, text=True, check=False
    )
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    run = open_run(folder)
    assert run.loop.step == 40
    continue_run(run)
    assert run.loop.step == 80 and [record["step"] for record in records(folder)] == [0, 20, 40, 60, 80]


SLOW_REWARD = """
import os, time
def reward(objects):
    points = "".join(f"{{point}}\\n" for point in objects.tolist())
    if len(objects) < 64:  # not the check of all points before the run
        hangs = not os.path.exists({marker!r})
        with open({marker!r} if hangs else {asked!r}, "a") as told:
            told.write(points)
        if hangs:
            time.sleep(10_000)
    return -objects.sum(1).float()
"""


def ended(tmp_path: Path, reward: str) -> subprocess.CompletedProcess[str]:
    """A short run on Ray whose reward lies in a module of its own, called by two workers."""
    (tmp_path / "slowly.py").write_text(reward)
    (tmp_path / "run.yaml").write_text("reward_workers: 2\nreward_timeout: 10.0\nreward_attempts: 3\n")
    words = ["train", "hypergrid", "--config", "run.yaml", "--steps", "20", "--hidden", "16", "--engine", "ray"]
    return subprocess.run(
        [sys.executable, "-m", "equipoise", *words, "--reward", "slowly:reward", "--out", "run"],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(
            [str(tmp_path), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip


@pytest.mark.slow
def test_a_worker_whose_reward_hangs_is_replaced_and_no_object_is_asked_again(tmp_path: Path) -> None:
    asked, marker = tmp_path / "asked", tmp_path / "hung"
    run = ended(tmp_path, SLOW_REWARD.format(asked=str(asked), marker=str(marker)))
    assert run.returncode == 0, run.stderr
    answered = asked.read_text().splitlines()
    assert set(marker.read_text().splitlines()) <= set(answered), "what hung was asked for again"
    assert len(set(answered)) == len(answered) > 0, "no other object was asked for twice"
    kept = sum(path.stat().st_size > 0 for path in (tmp_path / "run/rewards").glob("*.scores"))
    assert kept == 2


@pytest.mark.slow
def test_a_reward_that_raises_in_a_worker_stops_the_run_with_one_line(tmp_path: Path) -> None:
    said = "def reward(objects):\n    if len(objects) < 64:\n        raise RuntimeError('no licence')\n"
    run = ended(tmp_path, said + "    return -objects.sum(1).float()\n")
    assert run.returncode != 0
    line = run.stderr.strip().splitlines()[-1]
    assert "no licence" in line and "Traceback" not in run.stderr
