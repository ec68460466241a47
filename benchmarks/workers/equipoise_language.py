"""Tokens a second of a small language model: Equipoise's sampling and training, and transformers' own `generate`.

    python benchmarks/workers/equipoise_language.py --variant generate
    python benchmarks/workers/equipoise_language.py --export DIR     # the model, for the worker that has TRL

The model is the same everywhere: Qwen2, 3 layers of width 128, random weights, 403 tokens, so that one response in four
or so ends early; 32 prompts of 16 tokens, 8 responses to each of 4, at most 64 tokens. Only tokens that belong to a
response are counted. A training step is drawing, scoring by model and reference, gradients and Adam.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from workers.equipoise_loop import version
from workloads import Language

WORK = Language()


def model_and_tokenizer() -> tuple[Any, Any]:
    """Both from nothing: no hub is needed."""
    from equipoise.language.tiny import character_tokenizer, tiny_model

    tokenizer = character_tokenizer("".join(chr(0x4E00 + place) for place in range(WORK.letters)))
    window = WORK.prompt + WORK.response
    return tiny_model(tokenizer, width=WORK.width, layers=WORK.layers, window=window), tokenizer


def prompts() -> list[str]:
    """The texts of all prompts."""
    drawn = torch.randint(WORK.letters, (WORK.prompts, WORK.prompt), generator=torch.Generator().manual_seed(0))
    return ["".join(chr(0x4E00 + letter) for letter in row) for row in drawn.tolist()]


def sample() -> Callable[[], int]:
    """A batch of responses by our sampler; its tokens."""
    from equipoise.language.sampler import LanguageModel
    from equipoise.language.tiny import prompts as as_context

    model, tokenizer = model_and_tokenizer()
    sampler = LanguageModel(model, stops=(tokenizer.eos_token_id,), most=WORK.response, prior=False)
    context, generator = as_context(tokenizer, prompts()), torch.Generator().manual_seed(0)
    return lambda: int(sampler.sample(WORK.prompts, context=context, generator=generator).length.sum())


def generate() -> Callable[[], int]:
    """The same by transformers' `generate`: pure sampling, its cache on."""
    model, tokenizer = model_and_tokenizer()
    given = tokenizer(prompts(), return_tensors="pt")
    words, end = {"input_ids": given["input_ids"], "attention_mask": given["attention_mask"]}, tokenizer.eos_token_id
    torch.manual_seed(0)

    def call() -> int:
        out = model.generate(**words, do_sample=True, top_k=0, top_p=1.0, max_new_tokens=WORK.response)
        return tokens_of(out[:, WORK.prompt :], end)

    return call


def tokens_of(response: Tensor, end: int) -> int:
    """Tokens up to the first end of each row, it included."""
    ended = (response == end).cumsum(1)
    return int((ended - (response == end).long() == 0).sum())


def train() -> Callable[[], int]:
    """One step of TBA: RTB with the log Z of each prompt's group."""
    from equipoise.language.problems import Problem, Prompts
    from equipoise.language.rewards import TextReward
    from equipoise.language.sampler import LanguageModel
    from equipoise.objectives import divergence, partition
    from equipoise.sampling.rollouts import Rollouts
    from equipoise.training.balance import RESIDUALS, balance
    from equipoise.training.loop import Loop, Run

    model, tokenizer = model_and_tokenizer()
    sampler = LanguageModel(model, stops=(tokenizer.eos_token_id,), most=WORK.response)
    listed = Prompts(tokenizer, [Problem(text, "", "") for text in prompts()], responses=8)
    reward = TextReward(lambda response: len(set(response)) / WORK.response, tokenizer)
    counted: Any = Counted(Rollouts(sampler, reward, conditions=listed))
    log_z = partition.estimator("group_mean", divergence("reverse_kl"))
    term = balance("tba", "rollouts", sampler, RESIDUALS["relative"], divergence("reverse_kl"), log_z)
    run = Run(
        modules={"policy": sampler},
        learning_rate={"policy": lambda step: WORK.learning_rate},
        terms=(term,),
        sources={"rollouts": counted},
        batch={"rollouts": WORK.prompts},
        steps=1,
        seed=0,
        clip=1.0,
    )
    loop = Loop(run)

    def call() -> int:
        loop.advance()
        return counted.tokens

    return call


class Counted:
    """A source that counts the tokens of its last draw."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.tokens = inner, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def draw(self, n: int, generator: torch.Generator) -> Any:
        """The inner source's draw."""
        drawn = self.inner.draw(n, generator)
        self.tokens = int(drawn.length.sum())
        return drawn


VARIANTS = {"sample": sample, "generate": generate, "train": train}


def rate(call: Callable[[], int], calls: int) -> dict[str, float]:
    """Tokens a second of CPU and of wall time: the medians over calls, after two others."""
    cpu, wall = [], []
    for _ in range(calls + 2):
        cpu_began, wall_began = time.process_time(), time.perf_counter()
        tokens = call()
        wall.append(tokens / (time.perf_counter() - wall_began))
        cpu.append(tokens / (time.process_time() - cpu_began))
    return {"tokens_per_cpu_s": statistics.median(cpu[2:]), "tokens_per_wall_s": statistics.median(wall[2:])}


def main() -> None:
    """Measures one variant and prints its JSON line."""
    parser = argparse.ArgumentParser(description="Tokens a second of a small language model.")
    parser.add_argument("--variant", choices=tuple(VARIANTS), default="sample", help="what to time")
    parser.add_argument("--calls", type=int, default=5, help="timed batches")
    parser.add_argument("--export", type=Path, metavar="DIR", help="write the model and its prompts; time nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.export:
        from equipoise.language.loading import save

        save(*model_and_tokenizer(), options.export)
        (options.export / "prompts.json").write_text(json.dumps(prompts()))
        print(json.dumps({"exported": str(options.export)}))
        return
    found = rate(VARIANTS[options.variant](), options.calls)
    print(json.dumps({"library": "equipoise", "version": version(), "variant": options.variant, **found}))


if __name__ == "__main__":
    main()
