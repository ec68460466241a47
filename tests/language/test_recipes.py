"""The language tasks from end to end: lag, searchers, replay, resumes, every method, GSM8K offline, and bad input."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.cli import main
from equipoise.language.sampler import LanguageModel
from equipoise.recipes.arithmetic import arithmetic
from equipoise.recipes.language_configuration import GSM8K, Arithmetic
from equipoise.recipes.runs import open_run, train
from equipoise.sampling.rollouts import Rollouts
from equipoise.training.loop import Loop, generator
from equipoise.training.terms import backward

FIGURES = {
    "greedy_accuracy",
    "sampled_accuracy",
    "greedy_accuracy_prior",
    "sampled_accuracy_prior",
    "kl_to_prior",
    "distinct_responses",
    "mean_staleness",
    "groups_skipped",
}
METHODS = ["tba", "rtb", "kimi", "reinforce", "rloo", "grpo", "dr_grpo", "ppo", "cispo", "online_dpo"]


def tiny(**settings: Any) -> Arithmetic:
    """A run of seconds: a narrow model without a warm-up, few test problems."""
    chosen = {"width": 16, "warm_up": 0.0, "steps": 4, "every": 4, "batch": 16, "responses": 4, "judged": 20}
    return Arithmetic(**{**chosen, "reward": f"{__name__}:digits", **settings})


def digits(prompt: str, response: str) -> float:
    """A score that untrained responses differ by."""
    return float(sum(letter.isdigit() for letter in response)) / 4


def parameters(built: Any) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in built.sampler.network.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_and_moves_the_model(method: str) -> None:
    before = parameters(arithmetic(tiny()))
    built = train(tiny(method=method, lag=1, learning_rate=1e-3))
    assert not same(before, parameters(built))
    figures = built.evaluate()
    assert set(figures) == FIGURES
    assert figures["mean_staleness"] == 0.75  # 0, 1, 1, 1
    assert figures["kl_to_prior"] != 0.0


@pytest.mark.parametrize("loss", ["forward_kl", "hellinger", "shifted_cosh"])
def test_every_divergence_has_its_own_deviation(loss: str) -> None:
    assert set(train(tiny(loss=loss, log_z="deviation", alpha=(0.5, 0.25))).evaluate()) == FIGURES


def test_lag_zero_is_a_plain_synchronous_loop_bit_for_bit() -> None:
    config = tiny(steps=6, reference_reset=3)
    built = train(config)
    plain = arithmetic(config)
    plain.prepare(None)
    sampler, term = plain.sampler, plain.run.terms[0]
    source = Rollouts(sampler, plain.reward, conditions=plain.train)
    chosen = list(sampler.network.parameters())
    optimiser = torch.optim.Adam(chosen, lr=0.0, fused=True)
    noise, scoring = generator(config.seed, "on_policy"), generator(config.seed, "score")
    for step in range(6):
        optimiser.zero_grad()
        rows = sampler.renew(source.draw(config.batch, noise))
        backward([term], rows, step, scoring)
        torch.nn.utils.clip_grad_norm_(chosen, 1.0)
        for group in optimiser.param_groups:
            group["lr"] = plain.run.learning_rate["policy"](step)
        optimiser.step()
        sampler.version += 1
        if (step + 1) % 3 == 0:
            sampler.reset_reference()
    assert same(parameters(built), parameters(plain))


@pytest.mark.parametrize(
    "settings",
    [
        {"lag": 3, "reference_reset": 2},
        {"source": "replay", "searchers": 2, "lag": 1, "most_on_policy": 0.3, "priority": "reward"},
        {"method": "rtb", "source": "replay", "priority": "recency"},
    ],
    ids=["lag", "searchers and replay", "learned log Z"],
)
def test_a_run_that_is_taken_up_ends_bit_for_bit_where_it_would_have(settings: dict[str, Any], tmp_path: Path) -> None:
    config = tiny(**settings, steps=6, every=2)
    whole = train(dataclasses.replace(config, out=tmp_path / "whole"))
    train(dataclasses.replace(config, steps=6, out=tmp_path / "cut"))
    for path in (tmp_path / "cut" / "checkpoints").glob("step-00000006.*"):
        path.unlink()
    (tmp_path / "cut" / "DONE").unlink()
    moved = tmp_path / "moved"  # a folder that was moved goes on where it is
    (tmp_path / "cut").rename(moved)
    assert main(["resume", str(moved)]) == 0
    again = open_run(moved)
    assert same(parameters(whole), parameters(again.built))
    lines = [(folder / "metrics.jsonl").read_text() for folder in (tmp_path / "whole", moved)]
    assert lines[0] == lines[1]
    if "source" in settings:
        assert (tmp_path / "whole" / "journal").read_bytes() == (moved / "journal").read_bytes()
    assert not (tmp_path / "cut").exists()


def test_what_a_run_saves_is_loaded_by_transformers_alone(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    built = train(tiny(out=tmp_path / "run"))
    folder = tmp_path / "run" / "model"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    given = tokenizer("12+34=", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(model(given).logits, built.sampler.model(given).logits)


def test_a_run_is_judged_sampled_and_listed_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "run")
    config = tmp_path / "small.yaml"
    config.write_text("width: 16\njudged: 12\n")
    words = ["--steps", "2", "--every", "2", "--batch", "8", "--responses", "4", "--config", str(config)]
    words += ["--warm-up", "0", "--engine", "inline", "--lag", "1", "--most-on-policy", "0.5"]
    assert main(["train", "arithmetic", *words, "--reward", f"{__name__}:digits", "--out", path]) == 0
    capsys.readouterr()
    assert main(["evaluate", path, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == FIGURES
    assert main(["sample", path, "--n", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "prompt\tobject\tlog_reward\tlog_probability" and len(lines) == 4
    assert all(len(line.split("\t")) == 4 for line in lines)
    assert main(["list", str(tmp_path / "run")]) == 0
    assert "arithmetic  relative reverse_kl group_mean on_policy" in capsys.readouterr().out
    assert main(["cite", path]) == 0
    assert "2503.18929" in capsys.readouterr().out


def test_judging_a_run_changes_nothing_of_it() -> None:
    built = train(tiny())
    before, version = parameters(built), int(built.sampler.version)
    first, second = built.evaluate(), built.evaluate()
    assert first == second
    assert same(before, parameters(built)) and int(built.sampler.version) == version


def test_the_origin_stays_while_the_reference_moves() -> None:
    config = tiny(steps=6, reference_reset=2, learning_rate=1e-2)
    built = train(config)
    start = parameters(arithmetic(config))
    origin = [built.judge.origin.get_buffer(f"parameter_{place}") for place in range(len(start))]  # type: ignore[attr-defined]
    assert same(origin, start)
    sampler = built.sampler
    assert isinstance(sampler, LanguageModel) and sampler.reference is not None
    assert int(sampler.reference.version) >= 3


def test_a_warm_up_reaches_its_accuracy_on_problems_apart() -> None:
    built = arithmetic(tiny(reward="exact", width=32, warm_up=0.004, judged=200))
    built.prepare(None)
    figures = built.evaluate()
    assert figures["kl_to_prior"] == 0.0
    assert figures["sampled_accuracy"] == figures["sampled_accuracy_prior"] > 0.002
    held = {problem.prompt for problem in built.judge.problems.problems}
    assert not held & {problem.prompt for problem in built.train.problems}


def gsm(**settings: Any) -> GSM8K:
    chosen = {"model": "tiny", "steps": 5, "every": 5, "batch": 8, "responses": 4, "tokens": 8, "judged": 4}
    return GSM8K(**{**chosen, "searchers": 1, **settings})


def length(response: str) -> float:
    return len(response) / 8


def test_gsm8k_runs_offline_with_the_tiny_model(data_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["--model", "tiny", "--steps", "5", "--every", "5", "--batch", "8", "--responses", "4", "--tokens", "8"]
    config = tmp_path / "small.yaml"
    config.write_text("judged: 4\n")
    words += ["--config", str(config), "--searchers", "2", "--reward", f"{__name__}:length", "--data", str(data_folder)]
    assert main(["train", "gsm8k", *words, "--out", str(out)]) == 0
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 5 and set(last) >= FIGURES
    assert last["kl_to_prior"] != 0.0 and last["mean_staleness"] > 0.0
    stored = open_run(out)
    assert stored.config.steps == 5 and (out / "model" / "model.safetensors").is_file()


def test_gsm8k_takes_a_folder_with_adapters_and_chunks(data_folder: Path, tmp_path: Path) -> None:
    train(gsm(data=data_folder, reward=f"{__name__}:length", steps=1, every=1, out=tmp_path / "first"))
    folder = str(tmp_path / "first" / "model")
    loaded = gsm(
        data=data_folder,
        model=folder,
        load=("lora=2", "bf16", "gradient_checkpointing"),
        chunk=3,
        steps=2,
        every=2,
        learning_rate=1e-2,
        reward=f"{__name__}:length",
        out=tmp_path / "second",
    )
    built = train(loaded)
    trained = [name for name, parameter in built.sampler.named_parameters() if parameter.requires_grad]
    assert trained and all("lora" in name for name in trained)
    assert built.evaluate()["kl_to_prior"] != 0.0
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(tmp_path / "second" / "model").config.model_type == "qwen2"


def test_a_reward_that_raises_for_one_response_is_named_and_the_run_goes_on() -> None:
    def fragile(prompt: str, response: str) -> float:
        if response.startswith("1"):
            raise RuntimeError("no one")
        return digits(prompt, response)

    with pytest.warns(RuntimeWarning, match="raised RuntimeError for response"):
        built = train(tiny(), reward=fragile)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert set(built.evaluate()) == FIGURES


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"batch": 15}, "a multiple of the responses"),
        ({"searchers": 3}, "a multiple of the responses"),
        ({"alpha": (1.0, 0.5, 0.2)}, "alpha is"),
        ({"alpha": (0.0,)}, "alpha is"),
        ({"responses": 1}, "responses is 1"),
        ({"lag": -1}, "lag is -1"),
        ({"most_on_policy": 1.5}, "most_on_policy is 1.5"),
        ({"residual": "detailed"}, "residual 'detailed'"),
        ({"method": "grpo", "source": "replay"}, "use on_policy with --lag"),
        ({"method": "grpo", "log_z": "learned"}, "has no residual"),
        ({"width": 30}, "a multiple of 4"),
        ({"reward": "exacd"}, "did you mean 'exact'"),
        ({"reward": "nowhere:function"}, "cannot be loaded"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_made(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        train(tiny(**settings))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"load": ("lora",)}, "load names 'lora'"),
        ({"load": ("bf61",)}, r"did you mean 'bf16'"),
        ({"tokens": 0}, "tokens 0"),
        ({"template": "Q:"}, r"no \{question\}"),
    ],
)
def test_gsm8ks_settings_that_do_not_fit_are_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        gsm(**settings)


def test_a_model_that_is_not_named_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give --model NAME"):
        train(gsm(model="", out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_name_that_is_no_model_is_one_line(
    data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "gsm8k", "--model", str(tmp_path / "absent"), "--data", str(data_folder), "--out"]
    assert main([*words, str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and "cannot be loaded" in error[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("task", ["arithmetic", "gsm8k"])
def test_a_subcommand_shows_at_most_25_flags(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        main(["train", task, "--help"])
    shown = re.findall(r"^[│ ] --[a-z]", capsys.readouterr().out, re.MULTILINE)
    assert 10 < len(shown) <= 25


def test_a_temperature_goes_from_its_first_value_to_its_last() -> None:
    config = tiny(steps=100, alpha=(1.0, 0.5))
    assert [config.alpha_at(step) for step in (0, 25, 50, 99)] == [1.0, 0.75, 0.5, 0.5]
    assert Loop(arithmetic(config).run).run.steps == 100


def test_a_setting_without_a_flag_says_where_it_is_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "arithmetic", "--width", "16"]) == 1
    assert "--width is no flag of this task: set 'width' in a file for --config" in capsys.readouterr().err
