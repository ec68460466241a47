"""The 25-Gaussians task from the command line: every method, its figures, what is taken up, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from equipoise.cli import main
from equipoise.recipes.configuration import BASELINES
from equipoise.recipes.diffusion_configuration import Gaussians25
from equipoise.recipes.runs import open_run, train
from equipoise.training.fit import fit

SMALL = ["--time-steps", "6", "--batch", "8", "--steps", "4", "--every", "2"]
SAMPLED = ["elbo", "log_z_importance", "ess", "eubo", "log_z"]
MODES = ["mode_total_variation", "mode_total_variation_floor", "off_mode_mass", "wasserstein2", "wasserstein2_floor"]
TARGET = ["target_mode_total_variation", "target_off_mode_mass", "target_log_z"]


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prior") / "prior"
    words = ["train", "gaussians25", "--method", "likelihood", "--time-steps", "6", "--steps", "300", "--every", "300"]
    assert main([*words, "--learning-rate", "5e-3", "--out", str(path)]) == 0
    return path


@pytest.fixture(autouse=True)
def few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exact assignment of 1,000 points takes a second, which these tests do not need."""
    monkeypatch.setattr("equipoise.diffusion.judge.PAIRS", 100)


def trained(out: Path, prior: Path | None, *words: str) -> Path:
    more = [] if prior is None else ["--prior", str(prior)]
    assert main(["train", "gaussians25", *SMALL, *more, *words, "--out", str(out)]) == 0
    return out


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["train", "gaussians25", *SMALL, *words]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


@pytest.mark.parametrize("method", ["rtb", "trust_pcl", *BASELINES])
def test_every_method_trains_a_prior_towards_the_same_target(method: str, prior: Path, tmp_path: Path) -> None:
    run = open_run(trained(tmp_path / "a", prior, "--method", method, "--beta", "0.5"))
    before = open_run(prior).built.sampler.network.state_dict()
    after = run.built.sampler.network.state_dict()
    assert any(not after[name].equal(value) for name, value in before.items())
    kept = run.built.sampler.prior.network.state_dict()
    assert all(kept[name].equal(value) for name, value in before.items())


def test_figures_are_named_finite_and_the_last_record(
    prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = trained(tmp_path / "a", prior)
    capsys.readouterr()
    assert main(["evaluate", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    errors = [f"{name}_error" for name in TARGET]
    assert list(found) == [*SAMPLED, *MODES, *TARGET, *errors, "target_ess"]
    assert all(math.isfinite(value) for value in found.values())
    assert found["elbo"] <= found["log_z_importance"] and 0 < found["ess"] <= 1
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert {name: last[name] for name in found} == found
    assert main(["sample", str(out), "--n", "3"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head == "object\tlog_reward" and len(rows) == 3


def test_from_scratch_there_is_no_prior_and_its_target_is_normalised(tmp_path: Path) -> None:
    run = open_run(trained(tmp_path / "a", None, "--method", "tb"))
    figures = run.built.evaluate()
    assert not (tmp_path / "a" / "prior").exists()
    assert list(figures) == [*SAMPLED, *MODES]
    assert figures["elbo"] < 0 < figures["eubo"]  # log Z is 0


def test_a_batch_s_own_log_z_and_another_divergence(prior: Path, tmp_path: Path) -> None:
    trained(tmp_path / "a", prior, "--log-z", "deviation", "--loss", "forward_kl", "--subsample", "2")
    trained(tmp_path / "b", prior, "--log-z", "group_mean", "--source", "replay")


def test_a_prior_that_is_not_named_is_trained_first_inside_the_run(tmp_path: Path) -> None:
    words = ("--prior-steps", "5")
    out = trained(tmp_path / "a", None, *words)
    again = trained(tmp_path / "b", None, *words)
    assert (out / "prior" / "DONE").is_file()
    assert (out / "metrics.jsonl").read_bytes() == (again / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("method", ["rtb", "ppo"])
def test_a_run_that_is_taken_up_ends_where_it_would_have(method: str, prior: Path, tmp_path: Path) -> None:
    words = ("--method", method, "--updates", "3", "--every", "2", "--steps", "5")
    whole = trained(tmp_path / "whole", prior, *words)
    trained(tmp_path / "cut", prior, *words)
    folder = tmp_path / "cut"
    for path in (folder / "DONE", *(folder / "checkpoints").glob("step-0000000[45]*")):
        path.unlink()
    assert main(["resume", str(folder)]) == 0
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    last = "checkpoints/step-00000005.safetensors"
    assert (folder / last).read_bytes() == (whole / last).read_bytes()


def test_a_run_killed_while_its_prior_was_trained_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(tmp_path / "whole", None, "--prior-steps", "5")
    cut = tmp_path / "cut"

    def killed(*words: object, **settings: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("equipoise.recipes.runs.fit", killed)
        assert main(["train", "gaussians25", *SMALL, "--prior-steps", "5", "--out", str(cut)]) == 130
    assert (cut / "prior" / "config.yaml").is_file() and not (cut / "metrics.jsonl").exists()
    assert fit is not killed
    assert main(["resume", str(cut)]) == 0
    assert (cut / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_what_does_not_fit_is_refused_before_anything_is_written(
    prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rewards_of_points.py").write_text(
        "import torch\n"
        "def nan(points):\n    return torch.full((len(points),), torch.nan)\n"
        "def shape(points):\n    return points\n"
    )
    for words, message in (
        (["--method", "tb", "--residual", "detailed"], "judges single states"),
        (["--method", "reinforce", "--loss", "forward_kl"], "has no residual"),
        (["--method", "trust_pcl", "--loss", "forward_kl"], "use --method rtb"),
        (["--method", "reinforce", "--source", "replay"], "RL's baselines need who drew"),
        (["--method", "likelihood", "--prior", str(prior)], "leave out --prior"),
        (["--noise", "-1"], "noise is -1"),
        (["--subsample", "9"], "from 1 to the 6 steps"),
        (["--reward", "rewards_of_points:nan"], "the log-reward at index 0 is nan"),
        (["--reward", "rewards_of_points:shape"], "a float tensor (64,) was expected"),
        (["--epsilon", "0.5"], "unknown flag '--epsilon'"),
    ):
        assert message in fails(capsys, *words, "--out", str(tmp_path / "a")), message
        assert not (tmp_path / "a").exists()
    assert "holds no run" in fails(capsys, "--prior", "nowhere", "--out", str(tmp_path / "b"))
    other = ["--time-steps", "7", "--prior", str(prior), "--out", str(tmp_path / "c")]
    assert "no prior of this task with 7 steps" in fails(capsys, *other)


def test_a_reward_of_ones_own_tilts_the_prior(prior: Path) -> None:
    config = Gaussians25(prior=prior, time_steps=6, steps=2, batch=8, every=2)
    run = train(config, reward=lambda points: -points.square().sum(1) / 50)
    assert run.evaluate()["target_log_z"] < 0


def test_an_experiment_ends_in_a_table_and_a_figure_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["reproduce", "deleu2025-gaussians", "--seeds", "0", "--scale", "0.002", "--out", str(tmp_path)]
    assert main([*words, "--only", "prior"]) == 0
    done = (tmp_path / "seed-0" / "prior" / "DONE").stat().st_mtime_ns
    capsys.readouterr()
    assert main([*words, "--only", "prior", "rtb, with noise"]) == 0
    assert (tmp_path / "seed-0" / "prior" / "DONE").stat().st_mtime_ns == done
    assert "rtb, with noise" in capsys.readouterr().out
    table = json.loads((tmp_path / "table.json").read_text())
    assert set(table) == {"prior", "rtb, with noise"}
    assert (tmp_path / "samples.png").read_bytes().startswith(b"\x89PNG")
    assert main([*words, "--only", "rtb"]) == 1
    assert "unknown run 'rtb'" in capsys.readouterr().err
    assert main([*words[:-4], "--scale", "0.004", "--out", str(tmp_path), "--seeds", "0", "--only", "prior"]) == 1
    assert "was run with steps" in capsys.readouterr().err
