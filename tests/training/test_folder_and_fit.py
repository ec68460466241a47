"""Invariant: a run folder is whole after any kill; a run that is taken up ends where it would have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.recipes.configuration import Hypergrid
from equipoise.recipes.mappings import to_mapping
from equipoise.recipes.runs import continue_run, environment, open_run
from equipoise.recipes.tasks import task
from equipoise.training.fit import fit
from equipoise.training.folder import KEPT, RunFolder
from equipoise.training.loop import Loop

CONFIG = Hypergrid(steps=12, every=3, batch=4, hidden=(8,), side=4, seed=5).resolved()


def started(path: Path) -> tuple[Loop, RunFolder]:
    stored = {"task": "hypergrid", **to_mapping(CONFIG)}
    built = task("hypergrid").build(CONFIG)
    built.prepare(path)
    return Loop(built.run), RunFolder.create(path, stored, environment(5))


def finished(path: Path) -> Path:
    loop, folder = started(path)
    fit(loop, folder, every=CONFIG.every)
    return path


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def killed(path: Path, at: int) -> Path:
    """A run that stops dead at its record of step `at`, before that record's checkpoint is written."""
    loop, folder = started(path)

    def stop(record: dict[str, Any]) -> None:
        if record["step"] == at:
            raise Killed

    with pytest.raises(Killed):
        fit(loop, folder, every=CONFIG.every, listen=stop)
    return path


def taken_up(path: Path) -> list[str]:
    run = open_run(path)
    continue_run(run)
    return run.warnings


def contents(path: Path) -> tuple[str, bytes]:
    return (path / "metrics.jsonl").read_text(), (path / "checkpoints" / "step-00000012.safetensors").read_bytes()


@pytest.mark.parametrize("at", [0, 3, 6, 12])
def test_a_killed_run_ends_bit_for_bit_where_it_would_have(tmp_path: Path, at: int) -> None:
    whole = finished(tmp_path / "whole")
    broken = killed(tmp_path / "broken", at)
    assert not (broken / "DONE").exists()
    assert len(taken_up(broken)) == (at == 0)
    assert contents(broken) == contents(whole)
    assert json.loads((broken / "DONE").read_text())["steps"] == 12


def test_a_run_that_is_killed_while_it_saves_its_first_checkpoint_begins_again(tmp_path: Path) -> None:
    whole = finished(tmp_path / "whole")
    broken = killed(tmp_path / "broken", 3)
    without_json(broken / "checkpoints" / "step-00000000.safetensors")
    (warning,) = taken_up(broken)
    assert "no checkpoint yet" in warning
    assert contents(broken) == contents(whole)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    blob = bytearray(path.read_bytes())
    blob[-5] ^= 1
    path.write_bytes(blob)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def without_json(path: Path) -> None:
    path.with_suffix(".json").unlink()


@pytest.mark.parametrize("damage", [truncate, flip, empty, without_json])
def test_a_broken_checkpoint_is_passed_over_for_the_one_before_and_said_so(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    whole = finished(tmp_path / "whole")
    broken = killed(tmp_path / "broken", 9)
    newest = broken / "checkpoints" / "step-00000006.safetensors"
    damage(newest)
    run = open_run(broken)
    assert run.loop.step == 3
    (warning,) = run.warnings
    assert "step-00000006.safetensors" in warning and "the one before" in warning
    taken_up(broken)
    assert contents(broken) == contents(whole)


def test_a_run_without_a_whole_checkpoint_says_so(tmp_path: Path) -> None:
    broken = killed(tmp_path / "broken", 6)
    for path in (broken / "checkpoints").glob("*.safetensors"):
        empty(path)
    with pytest.raises(ValueError, match="no whole checkpoint"):
        open_run(broken)


def test_the_last_checkpoints_alone_are_kept_and_nothing_is_left_half_written(tmp_path: Path) -> None:
    path = finished(tmp_path / "run")
    names = sorted(file.name for file in (path / "checkpoints").iterdir())
    steps = ("00000006", "00000009", "00000012")
    assert len(steps) == KEPT
    assert names == sorted(f"step-{step}.{kind}" for step in steps for kind in ("json", "safetensors"))


def test_a_folder_that_holds_anything_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(FileExistsError, match="never overwritten"):
        started(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(FileNotFoundError, match=r"no config\.yaml"):
        RunFolder.open(tmp_path)


def test_metrics_hold_the_exact_figures_and_no_times(tmp_path: Path) -> None:
    folder = RunFolder(finished(tmp_path / "run"))
    records = folder.metrics()
    assert [record["step"] for record in records] == [0, 3, 6, 9, 12]
    assert {"total_variation", "log_z", "log_z_exact", "loss"} <= set(records[-1])
    assert not any("second" in name or "time" in name for name in records[-1])
    (folder.path / "metrics.jsonl").open("a").write('{"step": 15, "lo')
    assert len(folder.metrics()) == 5


def test_a_loss_that_is_not_finite_saves_its_batch(tmp_path: Path) -> None:
    loop, folder = started(tmp_path / "run")
    with torch.no_grad():
        next(loop.run.modules["log_z"].parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match=r"step 0;.*not-finite\.safetensors"):
        fit(loop, folder, every=3)
    from equipoise.trajectories import Trajectories, from_bytes

    batch = from_bytes((folder.path / "not-finite.safetensors").read_bytes())
    assert isinstance(batch, Trajectories) and len(batch) == 4
