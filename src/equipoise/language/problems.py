"""Problems with answers: prompts that a model is post-trained on, and those it is judged on."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise import data
from equipoise.language.tiny import prompts
from equipoise.trajectories import Columns


@dataclass(frozen=True)
class Problem:
    """A prompt, a response that would be right (shown in supervised warm-up), and the answer that a verifier reads."""

    prompt: str
    solution: str
    answer: str


class Prompts:
    """Problems as conditions of a sampler; a problem's place in the list is its group.

    Args:
        tokenizer: of the model.
        problems: at least one.
        responses: K, drawn for each prompt.
        first: added to places, so that two lists of problems have groups of their own.

    Raises:
        ValueError: no problem; in a call, an n that is not a multiple of `responses`, or asks for more prompts than
            there are.

    Example:
        >>> from equipoise.language.tiny import character_tokenizer
        >>> listed = Prompts(character_tokenizer("0123456789+="), addition(1), responses=2)
        >>> context, group = listed(4, torch.Generator().manual_seed(0))
        >>> context["text"][0] == context["text"][1], bool(group[0] == group[1]), len(group)
        (True, True, 4)
    """

    def __init__(self, tokenizer: Any, problems: Sequence[Problem], *, responses: int = 1, first: int = 0) -> None:
        if not problems:
            raise ValueError("no problems were given: at least one was expected")
        self.tokenizer, self.problems, self.responses, self.first = tokenizer, list(problems), responses, first
        self.columns = prompts(tokenizer, [problem.prompt for problem in problems])

    def __len__(self) -> int:
        return len(self.problems)

    def __call__(self, n: int, generator: torch.Generator) -> tuple[Columns, Tensor]:
        """n rows of distinct prompts drawn at random, K consecutive rows each."""
        if n % self.responses:
            raise ValueError(f"{n} responses were asked for: a multiple of {self.responses} a prompt was expected")
        wanted = n // self.responses
        if wanted > len(self):
            raise ValueError(f"{wanted} prompts were asked for, and there are {len(self)}: make the batch smaller")
        chosen = torch.randperm(len(self), generator=generator)[:wanted].repeat_interleave(self.responses)
        return self.rows(chosen), chosen + self.first

    def rows(self, chosen: Tensor) -> dict[str, Any]:
        """The context of these problems."""
        prompt, length, text = (self.columns[name] for name in ("prompt", "prompt_length", "text"))
        assert isinstance(prompt, Tensor) and isinstance(length, Tensor)
        size, places = length[chosen], chosen.tolist()
        return {
            "prompt": prompt[chosen, : int(size.max())],
            "prompt_length": size,
            "text": tuple(text[place] for place in places),
            "answer": tuple(self.problems[place].answer for place in places),
        }

    def all(self) -> dict[str, Any]:
        """The context of every problem, once."""
        return self.rows(torch.arange(len(self)))


def addition(digits: int = 2) -> list[Problem]:
    """Every sum of two numbers of so many digits, the answer's digits reversed: "07+45=" is "25", 10,000 for two.

    Reversed, each digit follows from the digits before it and the carry, so that a small model learns the rule.

    Source: reversed answers of Lee et al., 2023, "Teaching Arithmetic to Small Transformers", arXiv:2307.03381.

    Raises:
        ValueError: not 1, 2 or 3 digits.

    Example:
        >>> addition(2)[745]
        Problem(prompt='07+45=', solution='25', answer='25')
    """
    if digits not in (1, 2, 3):
        raise ValueError(f"digits is {digits}: 1, 2 or 3 was expected")
    count, found = 10**digits, []
    for first in range(count):
        for second in range(count):
            answer = str(first + second)[::-1]
            found.append(Problem(f"{first:0{digits}}+{second:0{digits}}=", answer, answer))
    return found


def split(problems: Sequence[Problem], sizes: Sequence[int], *, seed: int = 0) -> list[list[Problem]]:
    """Parts of these sizes, apart from one another, in an order of the seed; and the rest.

    Raises:
        ValueError: more than there are.

    Example:
        >>> [len(part) for part in split(addition(1), (20, 10))]
        [20, 10, 70]
    """
    if sum(sizes) > len(problems):
        raise ValueError(f"parts of {list(sizes)} were asked for, and there are {len(problems)} problems")
    order = torch.randperm(len(problems), generator=torch.Generator().manual_seed(seed)).tolist()
    parts, first = [], 0
    for size in (*sizes, len(problems) - sum(sizes)):
        parts.append([problems[place] for place in order[first : first + size]])
        first += size
    return parts


TEMPLATE = "Question: {question}\nAnswer:"
"""What a question of GSM8K is put into."""


def gsm8k(part: str, folder: Path | None = None, *, template: str = TEMPLATE) -> list[Problem]:
    """The problems of GSM8K, `train` (7,473) or `test` (1,319).

    Source: Cobbe et al., 2021, "Training Verifiers to Solve Math Word Problems", arXiv:2110.14168.

    Args:
        part: "train" or "test".
        folder: a data folder to look in first.
        template: with `{question}` in it.

    Raises:
        ValueError: another part, a template without `{question}`, or data that cannot be found (`data.DataError`).
    """
    if part not in ("train", "test"):
        raise ValueError(f"part '{part}' of GSM8K: train or test was expected")
    if "{question}" not in template:
        raise ValueError(f"the template '{template}' has no {{question}} in it, so every prompt would be the same")
    with gzip.open(data.find(f"gsm8k_{part}", folder), "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [_word_problem(row, template) for row in rows]


def _word_problem(row: dict[str, str], template: str) -> Problem:
    prompt = template.replace("{question}", row["question"].strip())
    return Problem(prompt, " " + row["answer"].strip(), row["answer"].rpartition("####")[2].strip())


def reset_every(period: int, reset: Callable[[], None]) -> Callable[[int], None]:
    """An event of the loop: `reset` after every `period` steps; 0: never.

    Raises:
        ValueError: a negative period.
    """
    if period < 0:
        raise ValueError(f"a reference reset every {period} steps: 0 (never) or a positive number was expected")

    def event(step: int) -> None:
        if period and step % period == 0:
            reset()

    return event
