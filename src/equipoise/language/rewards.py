"""Scores of responses as rewards: from functions of text, and from reward models.

A reward of the library is called with columns, (objects, context) -> (n,) log R; here the objects are tokens and the
context holds the prompts' texts and, where there is one, the `answer`.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from equipoise.contracts import Reward
from equipoise.language.tiny import texts_of
from equipoise.trajectories import Columns


class TextReward:
    """A function of one response's text as a reward; a response for which it raises is named, the rest goes on.

    The function is called with (response), (prompt, response) or (prompt, response, answer), by the number of its
    arguments. Where it raises, or returns what is no finite number, the response's score is `failed`, a warning names
    the response, and `failures` counts it.

    Args:
        function: of texts, to a score (nats at alpha 1).
        tokenizer: decodes responses.
        failed: score of a response for which the function raises.

    Raises:
        ValueError: a function of another number of arguments, or, in a call, one that raised for every response.

    Example:
        >>> from equipoise.language.tiny import character_tokenizer, prompts
        >>> tokenizer = character_tokenizer("01+=")
        >>> reward = TextReward(lambda prompt, response: float(prompt.startswith(response)), tokenizer)
        >>> objects = {"token": torch.tensor([[3, 2], [4, 2]]), "length": torch.tensor([1, 1])}
        >>> reward(objects, prompts(tokenizer, ["0=", "0="])).tolist()
        [1.0, 0.0]
    """

    def __init__(self, function: Callable[..., Any], tokenizer: Any, *, failed: float = 0.0) -> None:
        self.function, self.tokenizer, self.failed = function, tokenizer, failed
        self.arguments = _arguments(function)
        self.name = getattr(function, "__qualname__", type(function).__name__)
        self.failures = 0

    def __call__(self, objects: Columns, context: Columns) -> Tensor:
        """(n,) scores, float32."""
        assert isinstance(objects, Mapping)
        responses = texts_of(self.tokenizer, objects)
        questions, answers = _texts(context, "text", len(responses)), _texts(context, "answer", len(responses))
        scores, errors = [], []
        for place, row in enumerate(zip(questions, responses, answers, strict=True)):
            try:
                scores.append(_finite(self.function(*_chosen(row, self.arguments))))
            except Exception as error:
                scores.append(self.failed)
                errors.append((place, error))
        self._tell(errors, responses)
        return torch.tensor(scores, dtype=torch.float32)

    def _tell(self, errors: list[tuple[int, Exception]], responses: list[str]) -> None:
        if not errors:
            return
        self.failures += len(errors)
        place, error = errors[0]
        what = f"the reward '{self.name}' raised {type(error).__name__} for response {place}, '{responses[place][:80]}'"
        if len(errors) == len(responses) > 1:
            raise ValueError(f"{what}, and for all {len(responses)} of the batch: {error}") from error
        more = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
        warnings.warn(f"{what}{more}: {error}; it is scored {self.failed:g}", RuntimeWarning, stacklevel=3)


class RewardModel:
    """A reward model: a sequence classifier of transformers with one label, whose logit is the score.

    Args:
        name: a folder written by `save_pretrained`, or a name on the hub.
        tokenizer: of the policy, which decodes its responses; the reward model has its own.
        batch: texts that are scored at a time.
        bf16: keep its weights in bfloat16.
        trust_remote_code: run code that its repository holds.
        device: where it is run.

    Raises:
        ValueError: it cannot be loaded, has several labels, or has a tokenizer with neither a pad nor an end token.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Any,
        *,
        batch: int = 32,
        bf16: bool = False,
        trust_remote_code: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        from equipoise.language.loading import load_tokenizer, loaded, transformers

        dtype = torch.bfloat16 if bf16 else torch.float32
        load = transformers().AutoModelForSequenceClassification.from_pretrained
        model = loaded(load, name, trust_remote_code, dtype=dtype)
        if model.config.num_labels != 1:
            raise ValueError(f"reward model '{name}' has {model.config.num_labels} labels: one score was expected")
        self.model = model.to(device).eval().requires_grad_(False)
        self.reader = load_tokenizer(name, trust_remote_code=trust_remote_code)
        self.model.config.pad_token_id = self.reader.pad_token_id
        self.tokenizer, self.batch = tokenizer, batch

    @torch.no_grad()
    def __call__(self, objects: Columns, context: Columns) -> Tensor:
        """(n,) scores of prompt and response together, float32."""
        assert isinstance(objects, Mapping)
        responses = texts_of(self.tokenizer, objects)
        texts = [first + rest for first, rest in zip(_texts(context, "text", len(responses)), responses, strict=True)]
        device, scores = next(self.model.parameters()).device, []
        for first in range(0, len(texts), self.batch):
            given = self.reader(texts[first : first + self.batch], padding=True, truncation=True, return_tensors="pt")
            found = self.model(
                input_ids=given["input_ids"].to(device), attention_mask=given["attention_mask"].to(device)
            )
            scores.append(found.logits[:, 0].float().cpu())
        return torch.cat(scores)


def once(reward: Reward) -> Reward:
    """The same reward, asked once for responses that are equal in a batch: for rewards that are dear."""

    def unrepeated(objects: Columns, context: Columns) -> Tensor:
        assert isinstance(objects, Mapping) and isinstance(context, Mapping)
        token, length = objects["token"], objects["length"]
        prompt, size = context["prompt"], context["prompt_length"]
        assert isinstance(token, Tensor) and isinstance(length, Tensor)
        assert isinstance(prompt, Tensor) and isinstance(size, Tensor)
        rows = torch.cat([length[:, None], size[:, None], token, prompt], 1)
        _, place = rows.unique(dim=0, return_inverse=True)
        first = torch.full((int(place.max()) + 1,), len(place)).scatter_reduce_(
            0, place, torch.arange(len(place)), "amin"
        )
        return reward(_rows(objects, first), _rows(context, first))[place]

    return unrepeated


def _rows(columns: Mapping[str, Any], rows: Tensor) -> dict[str, Any]:
    chosen = rows.tolist()
    return {
        name: column[rows] if isinstance(column, Tensor) else tuple(column[row] for row in chosen)
        for name, column in columns.items()
    }


def _arguments(function: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a built-in function without a signature
        return 1
    needed = [entry for entry in parameters if entry.default is entry.empty and entry.kind != entry.VAR_POSITIONAL]
    if not 1 <= len(needed) <= 3:
        raise ValueError(
            f"the reward takes {len(needed)} arguments: (response), (prompt, response) or (prompt, response, answer) "
            "was expected"
        )
    return len(needed)


def _chosen(row: tuple[str, str, str], arguments: int) -> tuple[str, ...]:
    return row[1:2] if arguments == 1 else row[:arguments]


def _texts(context: Columns, name: str, n: int) -> tuple[str, ...]:
    found = context.get(name) if isinstance(context, Mapping) else None
    return found if isinstance(found, tuple) else ("",) * n


def _finite(value: Any) -> float:
    number = float(value)
    if number - number != 0.0:
        raise ValueError(f"it returned {number}, where a finite number was expected")
    return number
