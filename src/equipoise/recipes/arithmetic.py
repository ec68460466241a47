"""The arithmetic task: post-training from nothing but a configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from equipoise.language.judge import LanguageJudge
from equipoise.language.loading import load_model
from equipoise.language.network import Frozen
from equipoise.language.problems import Prompts, addition, split
from equipoise.language.sampler import LanguageModel
from equipoise.language.tiny import character_tokenizer, tiny_model
from equipoise.language.verifiers import exact
from equipoise.language.warm_up import warm_up
from equipoise.recipes.language import LanguageRun, join, reward_of
from equipoise.recipes.language_configuration import Arithmetic

TEST, APART = 1500, 500
"""Problems of the test; problems by which the warm-up is stopped, in neither training nor test."""

WINDOW = 16
"""Tokens of a prompt and its response."""


def arithmetic(config: Arithmetic, reward: Callable[..., Any] | None = None) -> LanguageRun:
    """A run on two-digit addition.

    The supervised warm-up stops on accuracy: learning to add is a sudden transition, after 125 to 260 steps by seed.
    The 1,500 test problems are the same for every seed.

    Example:
        >>> run = arithmetic(Arithmetic(width=16, warm_up=0.0))
        >>> len(run.train), len(run.judge.problems)
        (8000, 1500)
    """
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    test, apart, train = split(addition(2), (TEST, APART))
    tokenizer = character_tokenizer("0123456789+=")
    model = tiny_model(tokenizer, width=config.width, window=WINDOW, seed=config.seed)
    sampler = LanguageModel(model, stops=(tokenizer.eos_token_id,), most=4, temperature=config.temperature, prior=True)

    def before(run: LanguageRun) -> None:
        if config.start is not None:
            _begin_with(sampler, config.start)
            return
        listed = Prompts(tokenizer, apart)
        judge = LanguageJudge(sampler, listed, exact, Frozen(sampler.network), exact=True)
        warm_up(
            sampler,
            train,
            tokenizer=tokenizer,
            accuracy=judge.greedy_accuracy,
            until=config.warm_up,
            seed=config.seed,
        )

    return join(
        config,
        sampler,
        tokenizer,
        reward_of(config.reward, tokenizer, reward),
        train=train,
        test=test,
        verifier=exact,
        exact=True,
        before=before,
    )


def _begin_with(sampler: LanguageModel, folder: Path) -> None:
    """Gives a sampler the weights of a model that was saved; it is then its own reference."""
    try:
        sampler.model.load_state_dict(load_model(folder).state_dict())
    except RuntimeError as error:
        raise ValueError(f"the model in '{folder}' is no model of this task: {' '.join(str(error).split())}") from error
    sampler.reset_reference()
