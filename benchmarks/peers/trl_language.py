"""Tokens a second of a training step of TRL's GRPO on the model that Equipoise's worker exported.

    python benchmarks/workers/equipoise_language.py --export DIR
    python benchmarks/peers/trl_language.py --model DIR

The same work as a step of TBA: 32 responses to 4 prompts, a reference model's log-probabilities (its beta is not 0),
one update with Adam, nothing logged or saved. TRL generates by transformers' `generate`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from transformers import PreTrainedTokenizerFast, TrainerCallback

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from workloads import Language

WORK = Language()


class Clock(TrainerCallback):
    """CPU and wall time at the end of each step, and the tokens that the reward saw since the last."""

    def __init__(self) -> None:
        self.tokens, self.rows = 0, list[tuple[float, float, int]]()

    def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """Called by the trainer after each optimiser step."""
        self.rows.append((time.process_time(), time.perf_counter(), self.tokens))


def main() -> None:
    """Trains a few steps and prints the JSON line."""
    parser = argparse.ArgumentParser(description="Tokens a second of TRL's GRPO step.")
    parser.add_argument("--model", type=Path, required=True, help="folder that Equipoise's worker exported")
    parser.add_argument("--calls", type=int, default=5, help="timed steps")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clock = Clock()

    def reward(completions: list[str], completion_ids: list[list[int]], **named: Any) -> list[float]:
        clock.tokens += sum(len(tokens) for tokens in completion_ids)
        return [len(set(text)) / WORK.response for text in completions]

    texts = json.loads((options.model / "prompts.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        config = trl.GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=WORK.prompts,
            gradient_accumulation_steps=1,
            num_generations=8,
            max_completion_length=WORK.response,
            beta=0.04,
            learning_rate=WORK.learning_rate,
            max_steps=options.calls + 2,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
            temperature=1.0,
        )
        trainer = trl.GRPOTrainer(
            model=str(options.model),
            reward_funcs=reward,
            args=config,
            train_dataset=Dataset.from_dict({"prompt": texts}),
            processing_class=PreTrainedTokenizerFast.from_pretrained(options.model),
            callbacks=[clock],
        )
        trainer.train()
    pairs = list(zip(clock.rows[1:-1], clock.rows[2:], strict=True))
    cpu = statistics.median((after[2] - before[2]) / (after[0] - before[0]) for before, after in pairs)
    wall = statistics.median((after[2] - before[2]) / (after[1] - before[1]) for before, after in pairs)
    line = {"library": "trl", "version": trl.__version__, "variant": "train"}
    print(json.dumps(line | {"tokens_per_cpu_s": cpu, "tokens_per_wall_s": wall}))


if __name__ == "__main__":
    main()
