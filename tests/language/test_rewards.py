"""Verifiers of texts, and what makes rewards of them: functions of one's own, reward models, problems."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.language.loading import save
from equipoise.language.problems import Problem, Prompts, addition, gsm8k, reset_every, split
from equipoise.language.rewards import RewardModel, TextReward, once
from equipoise.language.tiny import character_tokenizer, prompts
from equipoise.language.verifiers import equivalent, exact, final_number
from equipoise.language.verifiers import gsm8k as right_number
from language.small import generator

TOKENIZER = character_tokenizer("0123456789+=")


def responses(*texts: str) -> dict[str, Any]:
    columns = prompts(TOKENIZER, texts)
    return {"token": columns["prompt"], "length": columns["prompt_length"]}


@pytest.mark.parametrize(
    ("response", "answer", "right"),
    [
        ("5 * 3 = 15\n#### 15", "15", True),
        ("#### 12 and then #### 15", "15", True),
        ("#### $1,080.00", "1080", True),
        ("#### 1,080", "1,080", True),
        ("#### -7.", "-7", True),
        ("#### .5", "0.5", True),
        ("####15 apples", "15", True),
        ("#### 151", "15", False),
        ("the answer is 15", "15", False),
        ("#### none", "15", False),
        ("####", "15", False),
        ("", "15", False),
    ],
)
def test_the_number_after_the_last_mark_is_judged(response: str, answer: str, right: bool) -> None:
    assert right_number("", response, answer) == float(right)


@pytest.mark.parametrize(
    ("response", "answer", "right"),
    [
        ("so $\\boxed{\\frac{1}{2}}$", "0.5", True),
        ("the result is $x^2 + 2x + 1$", "(x+1)^2", True),
        ("42", "42", True),
        ("$\\sqrt{8}$", "2\\sqrt{2}", True),
        ("$\\sqrt{8}$", "3", False),
        ("I do not know", "3", False),
    ],
)
def test_expressions_are_judged_by_what_they_mean(response: str, answer: str, right: bool) -> None:
    assert equivalent("", response, answer) == float(right)


def test_final_number_reads_what_is_there() -> None:
    assert final_number("nothing") is None
    assert str(final_number("#### 1,234,567")) in ("1234567", "1.234567E+6")


def test_every_answer_of_gsm8k_is_right_by_its_own_solution(data_folder: Path) -> None:
    for part, count in (("train", 7473), ("test", 1319)):
        problems = gsm8k(part, data_folder)
        assert len(problems) == count
        assert all(right_number("", problem.solution, problem.answer) == 1.0 for problem in problems)
        assert all(problem.prompt.startswith("Question: ") for problem in problems)


def test_gsm8k_asks_for_a_part_and_a_template() -> None:
    with pytest.raises(ValueError, match="train or test"):
        gsm8k("validation")
    with pytest.raises(ValueError, match="every prompt would be the same"):
        gsm8k("test", template="Question:")


def test_sums_are_right_and_reversed() -> None:
    problems = addition(2)
    assert len(problems) == 10_000 == len({problem.prompt for problem in problems})
    for problem in problems[::997]:
        first, _, second = problem.prompt[:-1].partition("+")
        assert int(problem.answer[::-1]) == int(first) + int(second)
    with pytest.raises(ValueError, match="digits is 4"):
        addition(4)


def test_parts_are_apart_and_the_same_each_time() -> None:
    first, again = (split(addition(1), (30, 20), seed=0) for _ in range(2))
    assert first == again
    assert len({problem.prompt for part in first for problem in part}) == 100
    with pytest.raises(ValueError, match="there are 100"):
        split(addition(1), (90, 20))


def test_prompts_come_in_groups_whose_number_is_the_problems() -> None:
    listed = Prompts(TOKENIZER, addition(1), responses=4, first=1000)
    context, group = listed(12, generator())
    assert group.view(3, 4).eq(group.view(3, 4)[:, :1]).all() and len(group.unique()) == 3
    assert isinstance(context, Mapping)
    texts = context["text"]
    assert isinstance(texts, tuple)
    assert [listed.problems[place - 1000].prompt for place in group.tolist()] == list(texts)
    with pytest.raises(ValueError, match="multiple of 4"):
        listed(6, generator())
    with pytest.raises(ValueError, match="there are 100"):
        listed(404, generator())
    with pytest.raises(ValueError, match="at least one"):
        Prompts(TOKENIZER, [])


def test_a_function_is_given_what_it_has_arguments_for() -> None:
    context = {**prompts(TOKENIZER, ["1+1=", "2+2="]), "answer": ("2", "4")}
    objects = responses("2", "5")
    assert TextReward(lambda response: float(response), TOKENIZER)(objects, context).tolist() == [2.0, 5.0]
    assert TextReward(lambda prompt, response: len(prompt), TOKENIZER)(objects, context).tolist() == [4.0, 4.0]
    assert TextReward(exact, TOKENIZER)(objects, context).tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="takes 0 arguments"):
        TextReward(lambda: 1.0, TOKENIZER)


def test_one_response_for_which_a_reward_raises_is_named_and_the_rest_goes_on() -> None:
    def fragile(response: str) -> float:
        return 1.0 / (float(response) - 7.0)

    reward = TextReward(fragile, TOKENIZER, failed=-3.0)
    with pytest.warns(RuntimeWarning, match=r"'.*fragile' raised ZeroDivisionError for response 1, '7'.*scored -3"):
        scores = reward(responses("8", "7", "9"), prompts(TOKENIZER, ["1=", "1=", "1="]))
    assert scores.tolist() == [1.0, -3.0, 0.5] and reward.failures == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reward(responses("8"), prompts(TOKENIZER, ["1="])).tolist() == [1.0]


def test_a_score_that_is_not_finite_counts_as_raised() -> None:
    reward = TextReward(lambda response: float("nan") if response == "1" else 2.0, TOKENIZER)
    with pytest.warns(RuntimeWarning, match="a finite number was expected"):
        assert reward(responses("1", "2"), None).tolist() == [0.0, 2.0]


def test_a_reward_that_raises_for_every_response_stops_the_run() -> None:
    with pytest.raises(ValueError, match="for all 2 of the batch"):
        TextReward(lambda response: float("x"), TOKENIZER)(responses("1", "2"), None)


def test_equal_responses_to_one_prompt_are_asked_about_once() -> None:
    asked: list[tuple[str, str]] = []

    def counted(prompt: str, response: str) -> float:
        asked.append((prompt, response))
        return float(response)

    reward = once(TextReward(counted, TOKENIZER))
    found = reward(responses("1", "2", "1", "1"), prompts(TOKENIZER, ["0=", "0=", "0=", "5="]))
    assert found.tolist() == [1.0, 2.0, 1.0, 1.0]
    assert sorted(asked) == [("0=", "1"), ("0=", "2"), ("5=", "1")]


def test_a_reward_model_scores_prompt_and_response_whatever_stands_beside_them(tmp_path: Path) -> None:
    from transformers import Qwen2Config, Qwen2ForSequenceClassification

    def classifier(labels: int) -> Path:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            size: dict[str, Any] = {"vocab_size": len(TOKENIZER), "hidden_size": 16, "intermediate_size": 32}
            heads: dict[str, Any] = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
            size["num_labels"] = labels
            config = Qwen2Config(**size, **heads, pad_token_id=0)
            save(Qwen2ForSequenceClassification(config), TOKENIZER, tmp_path / str(labels))
        return tmp_path / str(labels)

    reward = RewardModel(str(classifier(1)), TOKENIZER, batch=2)
    context = prompts(TOKENIZER, ["1+2=", "34+5=", "6="])
    together = reward(responses("3", "93", "7890"), context)
    alone = [
        reward(responses(response), prompts(TOKENIZER, [prompt]))
        for prompt, response in (("1+2=", "3"), ("34+5=", "93"), ("6=", "7890"))
    ]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)
    assert len(together.unique()) == 3
    with pytest.raises(ValueError, match="has 3 labels"):
        RewardModel(str(classifier(3)), TOKENIZER)


def test_a_reset_comes_at_its_period_and_never_at_zero() -> None:
    seen: list[int] = []
    for step in range(1, 8):
        reset_every(3, lambda step=step: seen.append(step))(step)
        reset_every(0, lambda: seen.append(-1))(step)
    assert seen == [3, 6]
    with pytest.raises(ValueError, match="never"):
        reset_every(-1, lambda: None)


def test_a_problem_is_what_it_says() -> None:
    assert Problem("a", "b", "c").answer == "c"
