"""The command line: runs end to end, errors of one line with exit code 1, nothing lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from equipoise.cli import main

TINY = ["--steps", "6", "--every", "2", "--batch", "4", "--hidden", "8", "--side", "4"]


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line on standard error of a command that fails with exit code 1."""
    assert main(words) == 1
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), captured.err
    assert captured.out == ""
    return lines[0]


def test_a_run_is_trained_and_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a"
    assert main(["train", "hypergrid", *TINY, "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(out), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    wanted = ["total_variation", "l1", "reverse_kl", "forward_kl", "jensen_shannon", "log_z", "log_z_exact"]
    wanted += ["log_z_error", "mean_reward", "mean_reward_exact", "reward_calls"]
    asked = ["sampled_l1", "sampled_l1_floor"]
    assert list(figures) == [*wanted, *asked]
    assert figures["l1"] == 2 * figures["total_variation"]
    assert figures["log_z_error"] == figures["log_z"] - figures["log_z_exact"]
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert {name: last[name] for name in wanted} == {name: figures[name] for name in wanted}
    assert not set(asked) & set(last)
    environment = json.loads((out / "environment.json").read_text())
    assert {"torch", "commit", "device", "seed"} <= set(environment)
    assert main(["evaluate", str(out)]) == 0
    assert "total_variation" in capsys.readouterr().out


def test_a_configuration_repeats_a_run_and_flags_override_it(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in "abc")
    assert main(["train", "hypergrid", *TINY, "--loss", "alpha", "--order", "0.5", "--out", str(first)]) == 0
    config = str(first / "config.yaml")
    assert main(["train", "hypergrid", "--config", config, "--out", str(second)]) == 0
    assert (first / "metrics.jsonl").read_bytes() == (second / "metrics.jsonl").read_bytes()
    assert main(["train", "hypergrid", f"--config={config}", "--seed", "1", "--out", str(third)]) == 0
    stored = yaml.safe_load((third / "config.yaml").read_text())
    assert stored["seed"] == 1 and stored["order"] == 0.5 and stored["residual"] == "trajectory"
    assert (first / "metrics.jsonl").read_bytes() != (third / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("method", ["tb", "vargrad", "db", "modified_db", "fl_db", "subtb", "fm", "rtb"])
@pytest.mark.parametrize("source", ["on_policy", "replay"])
def test_every_method_runs_from_every_source(tmp_path: Path, method: str, source: str) -> None:
    words = ["train", "hypergrid", *TINY, "--method", method, "--source", source, "--out"]
    assert main([*words, str(tmp_path / "learned")]) == 0
    assert main([*words, str(tmp_path / "uniform"), "--backward", "uniform"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown command 'trian' (did you mean 'train'?)"),
        (["train", "hypergird"], "unknown task 'hypergird' (did you mean 'hypergrid'?)"),
        (["train", "hypergrid", "--stpes", "3"], "unknown flag '--stpes' (did you mean '--steps'?)"),
        (["train", "hypergrid", "--loss", "foward_kl"], "--loss is 'foward_kl' (did you mean 'forward_kl'?)"),
        (["train", "hypergrid", "--loss=foward_kl"], "did you mean 'forward_kl'?"),
        (["train", "hypergrid", "--steps", "many"], "--steps"),
        (["train", "hypergrid", "--steps", "0"], "steps is 0"),
        (["train", "hypergrid", "--steps"], "--steps"),
        (["train", "hypergrid", "extra"], "extra"),
        (["train", "hypergrid", "--order", "0.5"], "--order goes with --loss alpha"),
        (["train", "hypergrid", "--loss", "alpha"], "needs it"),
        (["train", "hypergrid", "--residual", "detailed", "--log-z", "learned"], "log Z is in its own flows"),
        (["train", "hypergrid", "--epsilon", "2"], "epsilon is 2"),
        (["train", "hypergrid", "--hidden", "0"], "hidden is (0,)"),
        (["train", "hypergrid", "--dim", "9", "--side", "90"], "more than"),
        (["train", "strings", "--alphabet", "AB", "--length", "3"], "give either --table"),
        (["train", "hypergrid", "--dim", "0"], "dim must be at least 1"),
        (["train", "hypergrid", "--rewards", "0", "1", "1"], "R0 is 0"),
        (["train", "hypergrid", "--rewards", "1", "2", "3", "4"], "1 to 3 numbers"),
        (["train", "hypergrid", "--reward", "cosin"], "did you mean 'cosine'?"),
        (["train", "hypergrid", "--reward", "no_such_module:f"], "cannot be loaded"),
        (["train", "hypergrid", "--config", "nowhere.yaml"], "no file 'nowhere.yaml'"),
        (["train", "hypergrid", "--config"], "--config needs a value"),
        (["evaluate", "nowhere"], "'nowhere' holds no run"),
        (["evaluate"], "see equipoise evaluate --help"),
        (["resume", "nowhere"], "'nowhere' holds no run"),
    ],
)
def test_bad_words_are_one_line_and_leave_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, *words)
    assert list(tmp_path.iterdir()) == []


REWARDS = """
import torch
def zero(points):
    return torch.where((points == 2).all(1), 0.0, 1.0).log()
def nan(points, context):
    return torch.full((len(points),), torch.nan)
def shape(points):
    return torch.zeros(3, 3)
def broken(points):
    raise RuntimeError("no such point")
def fine(points):
    return (points == 3).sum(1).float()
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("zero", "at index 10 is -inf (object [2, 2])"),
        ("nan", "index 0 is nan"),
        ("shape", "(3, 3) for 16 objects"),
        ("broken", "raised RuntimeError: no such point"),
        ("missing", "cannot be loaded"),
    ],
)
def test_a_reward_that_is_wrong_is_named_before_any_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    sys.modules.pop("my_rewards", None)
    (tmp_path / "my_rewards.py").write_text(REWARDS)
    line = fails(capsys, "train", "hypergrid", *TINY, "--reward", f"my_rewards:{name}", "--out", "a")
    assert message in line
    assert not (tmp_path / "a").exists()
    assert main(["train", "hypergrid", *TINY, "--reward", "my_rewards:fine", "--out", "a"]) == 0


def test_a_folder_in_use_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a"
    main(["train", "hypergrid", *TINY, "--out", str(out)])
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert "never overwritten" in fails(capsys, "train", "hypergrid", *TINY, "--out", str(out))
    assert "has ended" in fails(capsys, "resume", str(out))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_truncated_checkpoint_is_passed_over_and_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a"
    main(["train", "hypergrid", *TINY, "--out", str(out)])
    newest = out / "checkpoints" / "step-00000006.safetensors"
    newest.write_bytes(newest.read_bytes()[:500])
    capsys.readouterr()
    assert main(["evaluate", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    assert "step-00000006" in captured.err and "the one before" in captured.err
    assert json.loads(captured.out)["total_variation"] > 0


def test_measured_strings_train_and_are_judged(
    tmp_path: Path, data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--steps", "4", "--every", "4", "--hidden", "16", "--data", str(data_folder)]
    for growth in ("append", "prepend_append"):
        out = tmp_path / growth
        assert main(["train", "tfbind8", *words, "--growth", growth, "--out", str(out)]) == 0
        capsys.readouterr()
        assert main(["evaluate", str(out), "--json"]) == 0
        figures = json.loads(capsys.readouterr().out)
        assert abs(figures["log_z_exact"] - 11.46215) < 1e-5
        assert abs(figures["mean_reward_exact"] - 3.319955) < 1e-5


def test_a_corrupted_table_is_refused_by_its_sha256(
    tmp_path: Path, data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    (folder / "tfbind8").mkdir(parents=True)
    blob = bytearray((data_folder / "tfbind8" / "scores.npy").read_bytes())
    blob[5000] ^= 1
    (folder / "tfbind8" / "scores.npy").write_bytes(blob)
    line = fails(capsys, "train", "tfbind8", "--data", str(folder), "--out", str(tmp_path / "a"))
    assert "sha256" in line and not (tmp_path / "a").exists()


def test_help_names_the_commands_and_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0 and main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("train", "evaluate", "resume", "hypergrid", "tfbind8"))
    for name in ("hypergrid", "tfbind8"):
        with pytest.raises(SystemExit) as stop:
            main(["train", name, "--help"])
        assert stop.value.code == 0
        shown = capsys.readouterr().out
        assert all(flag in shown for flag in ("--residual", "--loss", "--log-z", "--source", "--method"))


def test_a_run_killed_at_a_random_moment_ends_bit_for_bit_where_it_would_have(tmp_path: Path) -> None:
    """SIGKILL to the process itself; the moment is drawn, and the claim holds for any."""
    words = ["--steps", "400", "--every", "20", "--hidden", "16", "--seed", "3"]
    command = [sys.executable, "-m", "equipoise", "train", "hypergrid", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run([*command, "--out", str(whole)], check=True, env=environment, capture_output=True)
    child = subprocess.Popen([*command, "--out", str(broken)], env=environment, stderr=subprocess.DEVNULL)
    metrics, steps = broken / "metrics.jsonl", random.Random().randint(1, 18)
    while child.poll() is None and not (metrics.exists() and len(metrics.read_text().splitlines()) > steps):
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (broken / "DONE").exists()
    subprocess.run(
        [sys.executable, "-m", "equipoise", "resume", str(broken)], check=True, env=environment, capture_output=True
    )
    assert metrics.read_bytes() == (whole / "metrics.jsonl").read_bytes()
    newest = "checkpoints/step-00000400.safetensors"
    assert (broken / newest).read_bytes() == (whole / newest).read_bytes()
