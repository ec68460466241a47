"""Configurations of language-model tasks. Imports no torch, so that help is printed at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from equipoise.recipes.configuration import LanguageMethod, Schedule, SourceName, Training
from equipoise.recipes.engine_configuration import Engine
from equipoise.recipes.mappings import nearest

Priority = Literal["uniform", "reward", "recency"]

LOADING = ("bf16", "gradient_checkpointing", "trust_remote_code", "lora")
"""What `load` may name; `lora` with its rank, as lora=32."""


@dataclass(frozen=True)
class PostTraining(Training):
    """The flags of tasks that tune a language model to its prior times exp(score / alpha).

    What is not a flag here is set in a file for --config, or in Python.
    """

    method: LanguageMethod = "tba"
    """a named method: of the balance family (fills in --residual and --log-z), or a baseline of post-training"""
    source: SourceName = "on_policy"
    """where responses come from: as they are delivered, or ('replay') from a store of each prompt's"""
    order: Annotated[float | tuple[float, float] | None, tyro.conf.Suppress] = None
    """order of --loss alpha (1: reverse KL, 0: forward KL); two: from the first step to the last"""
    learning_rate_log_z: Annotated[float, tyro.conf.Suppress] = 0.1
    """of a learned log Z"""
    schedule: Schedule = "constant"
    """how learning rates fall to 0 after a warm-up of 4 % of the steps ('wsd': linearly in the second half)"""
    responses: int = 8
    """K, responses of a prompt in a batch"""
    alpha: tuple[float, ...] = (1.0,)
    """temperature of the KL; two numbers: from the first to the second, linearly over half of the steps"""
    reference_reset: int = 0
    """steps after which the model becomes the new reference, again and again (0: never)"""
    engine: Engine = "inline"
    """what runs searchers and trainer: 'inline', one process with a virtual clock; 'ray', a process each"""
    lag: int = 0
    """steps between drawing a response and training on it (ray: batches that may be drawn ahead)"""
    searchers: int = 1
    """searchers: virtual, pulling weights in turn, with --source replay each a batch a step; or processes (ray)"""
    virtual: ClassVar[bool] = True
    most_on_policy: float = 0.5
    """replay: probability that a prompt's most recent responses are drawn"""
    priority: Priority = "uniform"
    """replay: by what a prompt's other responses are drawn"""
    temperature: Annotated[float, tyro.conf.Suppress] = 1.0
    """divides the logits of policy and reference, in drawing and in the loss"""
    judged: Annotated[int, tyro.conf.Suppress] = 1500
    """most test problems at an evaluation"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least, most in _RANGES:
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}: a number from {least} to {most} was expected")
        if not 1 <= len(self.alpha) <= 2 or not all(1e-6 <= value <= 1e6 for value in self.alpha):
            raise ValueError(f"alpha is {self.alpha}: one temperature, or a first and a last one, was expected")
        whole = self.source == "replay" if self.engine == "inline" else not self.barrier
        each = self.batch if whole else self.batch // self.searchers
        if self.batch % self.responses or each % self.responses or not each:
            raise ValueError(
                f"batch {self.batch} of {self.responses} responses a prompt, {self.searchers} searchers: each "
                "searcher's share must be a multiple of the responses"
            )
        residual, _ = self.choices()
        if residual not in ("", "relative", "trajectory"):
            raise ValueError(f"residual '{residual}': language models take relative (with their prior) or trajectory")
        if self.source == "replay" and not residual and self.method not in ("reinforce", "online_dpo"):
            raise ValueError(f"method '{self.method}' with source 'replay': it weighs responses by who drew them, and "
                             "a store mixes many; use on_policy with --lag, or --method tba")  # fmt: skip

    def alpha_at(self, step: int) -> float:
        """The temperature of a step."""
        first, last = self.alpha[0], self.alpha[-1]
        return first + (last - first) * min(1.0, 2 * step / self.steps)


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("responses", 2, 10**4),
    ("reference_reset", 0, 10**9),
    ("lag", 0, 10**4),
    ("searchers", 1, 10**4),
    ("most_on_policy", 0, 1),
    ("temperature", 1e-3, 1e3),
    ("judged", 1, 10**7),
)


@dataclass(frozen=True)
class Arithmetic(PostTraining):
    """A small language model learns to add, is warmed up to half of the answers, and is then post-trained.

    Two-digit sums with reversed answers; 0.6 million parameters, no hub needed. Source of the settings: calibrated for
    this project; TBA' of Bartoldson et al. 2025, arXiv:2503.18929.
    """

    steps: int = 240
    """optimiser steps"""
    batch: int = 96
    """responses a step"""
    learning_rate: float = 1e-4
    """of the model"""
    reference_reset: int = 20
    """steps after which the model becomes the new reference, again and again (0: never)"""
    every: int = 60
    """steps between evaluations, log lines and checkpoints"""
    warm_up: float = 0.5
    """greedy accuracy at which the supervised warm-up stops"""
    reward: str = "exact"
    """'exact', or your own as module:function, of (response), (prompt, response) or (prompt, response, answer)"""
    width: Annotated[int, tyro.conf.Suppress] = 128
    """of the model's hidden states"""
    start: Annotated[Path | None, tyro.conf.Suppress] = None
    """folder of a model to begin with in place of the warm-up, as OUT/model of another run"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.warm_up < 1 or not 4 <= self.width <= 4096 or self.width % 4:
            raise ValueError(
                f"warm_up {self.warm_up}, width {self.width}: an accuracy below 1 and a multiple of 4 were expected"
            )


@dataclass(frozen=True)
class GSM8K(PostTraining):
    """A causal language model post-trained on the word problems of GSM8K, by the settings of TBA.

    Source: Bartoldson et al. 2025, arXiv:2503.18929, table 2; problems of Cobbe et al. 2021, arXiv:2110.14168.
    """

    model: str = ""
    """a folder of save_pretrained or a hub name; 'tiny': random weights, to try the recipe without a hub"""
    steps: int = 1000
    """optimiser steps"""
    batch: int = 140
    """responses a step: 7 prompts x 20"""
    responses: int = 20
    """K, responses of a prompt in a batch"""
    learning_rate: float = 1e-5
    """of the model"""
    schedule: Schedule = "wsd"
    """how learning rates fall to 0 after a warm-up of 4 % of the steps ('wsd': linearly in the second half)"""
    alpha: tuple[float, ...] = (0.012, 0.004)
    """temperature of the KL; two numbers: from the first to the second, linearly over half of the steps"""
    source: SourceName = "replay"
    """where responses come from: as they are delivered, or ('replay') from a store of each prompt's"""
    most_on_policy: float = 0.95
    """replay: probability that a prompt's most recent responses are drawn"""
    searchers: int = 3
    """searchers: virtual, pulling weights in turn, with --source replay each a batch a step; or processes (ray)"""
    lag: int = 1
    """steps between drawing a response and training on it (ray: batches that may be drawn ahead)"""
    temperature: Annotated[float, tyro.conf.Suppress] = 0.7
    """divides the logits of policy and reference, in drawing and in the loss"""
    every: int = 100
    """steps between evaluations, log lines and checkpoints"""
    tokens: int = 512
    """tokens of the longest response"""
    load: tuple[str, ...] = ()
    """of bf16, gradient_checkpointing, trust_remote_code, and lora=RANK"""
    reward: str = "gsm8k"
    """'gsm8k' (the number after ####), 'equivalent', model=NAME (a reward model), or your own as module:function"""
    data: Path | None = None
    """data folder (default: $EQUIPOISE_DATA, then the cache)"""
    template: Annotated[str, tyro.conf.Suppress] = "Question: {question}\nAnswer:"
    """what a question is put into"""
    chunk: Annotated[int | None, tyro.conf.Suppress] = None
    """responses that are scored at a time with gradients (default: all)"""
    judged: Annotated[int, tyro.conf.Suppress] = 200
    """most test problems at an evaluation"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.tokens <= 10**6 or (self.chunk is not None and self.chunk < 1):
            raise ValueError(f"tokens {self.tokens}, chunk {self.chunk}: at least 1 was expected of each")
        if "{question}" not in self.template:
            raise ValueError(f"the template {self.template!r} has no {{question}} in it")
        for word in self.load:
            name, _, rank = word.partition("=")
            if name not in LOADING or (name == "lora") != bool(re.fullmatch(r"[1-9]\d{0,3}", rank)):
                known = "bf16, gradient_checkpointing, trust_remote_code, lora=RANK"
                hint = "" if name in LOADING else nearest(word, LOADING)
                raise ValueError(f"load names '{word}'{hint}; known: {known}")

    @property
    def rank(self) -> int | None:
        """Of LoRA adapters; None: all parameters train."""
        return next((int(word.partition("=")[2]) for word in self.load if word.startswith("lora=")), None)
