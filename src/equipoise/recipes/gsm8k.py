"""The GSM8K task: word problems of grade-school mathematics, with any causal language model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from equipoise.language import problems
from equipoise.language.loading import Adapters, load_model, load_tokenizer, stop_tokens
from equipoise.language.sampler import LanguageModel
from equipoise.language.tiny import character_tokenizer, tiny_model
from equipoise.language.verifiers import VERIFIERS
from equipoise.recipes.language import LanguageRun, join, reward_of
from equipoise.recipes.language_configuration import GSM8K

LETTERS = "".join(map(chr, range(32, 127))) + "\n"
"""What the tiny model reads; all else is unknown to it."""

LONGEST = 1024
"""Tokens of a question and its response that the tiny model has room for, beside the response."""


def gsm8k(config: GSM8K, reward: Callable[..., Any] | None = None) -> LanguageRun:
    """A run on GSM8K.

    Source: Bartoldson et al., 2025, arXiv 2503.18929, table 2 (RhoMath-1B, 40.3 % to 54.6 %):
    7 prompts x 20 responses, learning rate 1e-5 warmed up, held to half of the steps and then falling, temperature 0.7
    which divides the logits of the loss too, alpha from 0.012 to 0.004 over half of 1000 steps, m = 0.95, three
    searchers, weights every 2 steps, uniform priority. Differs: searchers pull in turn and bring exactly K responses a
    prompt, the reference's log-probabilities can be renewed, gradients are clipped at 1.

    Raises:
        ValueError: a model or data that cannot be loaded.
    """
    if not config.model:  # here, so that a file for --config may leave it to the flag
        raise ValueError("no model was named: give --model NAME, a folder or a hub name ('tiny' to try the recipe)")
    if config.model == "tiny":
        torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    train, test = (problems.gsm8k(part, config.data, template=config.template) for part in ("train", "test"))
    sampler, tokenizer = _model(config)
    verifier = VERIFIERS[config.reward] if config.reward in VERIFIERS else VERIFIERS["gsm8k"]
    return join(
        config,
        sampler,
        tokenizer,
        reward_of(config.reward, tokenizer, reward),
        train=train,
        test=test,
        verifier=verifier,
        exact=False,
        chunk=config.chunk,
    )


def _model(config: GSM8K) -> tuple[LanguageModel, Any]:
    trust, bf16 = "trust_remote_code" in config.load, "bf16" in config.load
    if config.model == "tiny":
        tokenizer = character_tokenizer(LETTERS)
        model = tiny_model(tokenizer, width=64, layers=2, window=LONGEST + config.tokens, seed=config.seed)
    else:
        tokenizer = load_tokenizer(config.model, trust_remote_code=trust)
        model = load_model(
            config.model,
            adapters=None if config.rank is None else Adapters(config.rank, config.rank / 2),
            gradient_checkpointing="gradient_checkpointing" in config.load,
            bf16=bf16,
            trust_remote_code=trust,
        )
    if torch.cuda.is_available():
        model = model.cuda()
    stops = stop_tokens(tokenizer, model)
    sampler = LanguageModel(model, stops=stops, most=config.tokens, temperature=config.temperature, bf16=bf16)
    return sampler.to(next(model.parameters()).device), tokenizer
