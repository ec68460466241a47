"""Small language models for the tests: one that answers sums, and one whose 64 responses can be listed."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor

from equipoise.language.sampler import LanguageModel
from equipoise.language.tiny import character_tokenizer, prompts, tiny_model

QUESTIONS = ["1+2=", "10+5=", "3=", "123+45=", "7+7+7=", "0="]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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
    """Vocabulary 4 (and an end token that is never a stop), three tokens a response: 64 strings.

    The output layer has the four letters alone; a prompt is one letter.
    """
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=4,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=8,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config).to(dtype)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(6.0 if parameter.dim() > 1 else 1.0)
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
