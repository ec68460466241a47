"""Small language models for the tests: one that answers sums, and one whose 64 responses can be listed."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import torch
from torch import Tensor

from equipoise.language.sampler import LanguageModel
from equipoise.language.tiny import character_tokenizer, prompts, tiny_model
from equipoise.trajectories import Trajectories

SPREAD = 6.0
"""By which drawn weights are multiplied: as drawn, all strings are almost equally likely."""

QUESTIONS = ["1+2=", "10+5=", "3=", "123+45=", "7+7+7=", "0="]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def column(rows: Trajectories, name: str) -> Tensor:
    """A column of the context."""
    assert isinstance(rows.context, Mapping)
    found = rows.context[name]
    assert isinstance(found, Tensor)
    return found


def digits_sampler(*, most: int = 6, temperature: float = 1.0, seed: int = 0, **settings: Any) -> LanguageModel:
    """Random weights over digits: responses end early or late, by chance."""
    tokenizer = character_tokenizer("0123456789+=")
    model = tiny_model(tokenizer, width=32, layers=2, window=32, seed=seed)
    with torch.no_grad():  # as drawn, the weights give almost uniform tokens
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.dim() > 1 else 1.0)
    return LanguageModel(model, stops=(tokenizer.eos_token_id,), most=most, temperature=temperature, **settings)


def questions(n: int) -> dict[str, Any]:
    texts = [QUESTIONS[row % len(QUESTIONS)] for row in range(n)]
    return dict(prompts(character_tokenizer("0123456789+="), texts))


def listed_sampler(*, seed: int = 0, width: int = 32, dtype: torch.dtype = torch.float32) -> LanguageModel:
    """Vocabulary 4, three tokens a response: 64 strings. A prompt is one token.

    GPT-2's architecture, which computes in the type of its weights throughout: gradients are exact in float64.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        size: dict[str, Any] = {"vocab_size": 4, "n_positions": 8, "n_embd": width, "n_layer": 1, "n_head": 2}
        config = GPT2Config(**size, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None)
        model: Any = GPT2LMHeadModel(config)
        model.to(dtype)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.mul_(SPREAD if parameter.dim() > 1 and "ln" not in name else 1.0)
    return Fixed3(model, stops=(0,), most=3)


class Fixed3(LanguageModel):
    """No token ends a response: all have three."""

    def __init__(self, model: torch.nn.Module, *, stops: tuple[int, ...], most: int) -> None:
        super().__init__(model, stops=stops, most=most)
        self.stops = ()


STRINGS: Tensor = torch.tensor(list(product(range(4), repeat=3)))
"""(64, 3)."""


def one_prompt(n: int, token: int = 1) -> dict[str, Any]:
    return {"prompt": torch.full((n, 1), token), "prompt_length": torch.ones(n, dtype=torch.int64)}
