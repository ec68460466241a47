"""Losses of TRL on fixed tensors, as JSON: what tests/language/trl_losses.json was made with.

Run it in an environment that has TRL: python benchmarks/peers/trl_losses.py tests/language/trl_losses.json. The
trainers' own `_compute_loss` is called on a stand-in for the trainer, which gives it the tensors in place of a model's.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import trl
from trl import GRPOTrainer, RLOOTrainer

ROWS, STEPS, GROUP = 8, 5, 4
CLIP, KL = 0.2, 0.04


class Accelerator:
    """One process."""

    num_processes = 1

    def gather(self, value: torch.Tensor) -> torch.Tensor:
        return value

    gather_for_metrics = gather

    def reduce(self, value: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
        return value


def trainer(**settings: Any) -> SimpleNamespace:
    arguments = SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1)
    common = {
        "top_entropy_quantile": 1.0,
        "aux_loss_enabled": False,
        "off_policy_mask_threshold": None,
        "importance_sampling_level": "token",
        "epsilon_low": CLIP,
        "epsilon_high": CLIP,
        "use_vllm": False,
        "vllm_importance_sampling_correction": False,
        "_entropy_bonus_enabled": False,
        "model": SimpleNamespace(training=True),
        "current_gradient_accumulation_steps": 1,
        "max_completion_length": STEPS + 3,
        "accelerator": Accelerator(),
        "args": arguments,
        "_metrics": {"train": defaultdict(list), "eval": defaultdict(list)},
    }
    return SimpleNamespace(**{**common, **settings})


def loss_of(kind: type, stand_in: SimpleNamespace, log_pf: torch.Tensor, inputs: dict[str, Any]) -> dict[str, Any]:
    """A trainer's loss of these log-probabilities, and its gradient in them."""
    leaf = log_pf.clone().requires_grad_()
    entropy = torch.zeros_like(log_pf)
    stand_in._get_per_token_logps_and_entropies = lambda *given, **named: (leaf, entropy, None)
    value = kind._compute_loss(stand_in, None, inputs)
    value.backward()
    assert leaf.grad is not None
    return {"value": float(value.detach()), "gradient": leaf.grad.tolist()}


def main(path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    length = torch.tensor([5, 3, 1, 4, 2, 5, 5, 3])
    mask = (torch.arange(STEPS) < length[:, None]).long()

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    log_pf = (-1.5 + 0.5 * normal(ROWS, STEPS)) * mask
    behaviour = (log_pf + 0.25 * normal(ROWS, STEPS)) * mask
    prior = (log_pf + 0.3 * normal(ROWS, STEPS)) * mask
    reward = normal(ROWS)
    groups = reward.view(-1, GROUP)
    centred = (groups - groups.mean(1, keepdim=True)).flatten()
    scaled = centred / (groups.std(1, keepdim=True).expand_as(groups).flatten() + 1e-4)
    penalised = (reward - KL * ((behaviour - prior) * mask).sum(1)).view(-1, GROUP)
    left_out = (penalised - (penalised.sum(1, keepdim=True) - penalised) / (GROUP - 1)).flatten()
    shared = {
        "prompt_ids": torch.zeros((ROWS, 1), dtype=torch.int64),
        "prompt_mask": torch.ones((ROWS, 1), dtype=torch.int64),
        "completion_ids": torch.zeros((ROWS, STEPS), dtype=torch.int64),
        "completion_mask": mask,
        "old_per_token_logps": behaviour,
        "ref_per_token_logps": prior,
        "old_logps": (behaviour * mask).sum(1),
        "num_items_in_batch": mask.sum(),
    }
    found = {
        "grpo": loss_of(GRPOTrainer, trainer(loss_type="grpo", beta=KL), log_pf, {**shared, "advantages": scaled}),
        "dr_grpo": loss_of(
            GRPOTrainer, trainer(loss_type="dr_grpo", beta=0.0), log_pf, {**shared, "advantages": centred}
        ),
        "cispo": loss_of(
            GRPOTrainer,
            trainer(loss_type="cispo", beta=0.0, epsilon_high=1.1),
            log_pf,
            {**shared, "advantages": scaled},
        ),
        "rloo": loss_of(RLOOTrainer, trainer(beta=KL), log_pf, {**shared, "advantages": left_out}),
    }
    tensors = {"log_pf": log_pf, "log_behaviour": behaviour, "log_prior": prior, "log_reward": reward}
    record = {
        "origin": f"TRL {trl.__version__}, GRPOTrainer._compute_loss and RLOOTrainer._compute_loss, float64, made by "
        "benchmarks/peers/trl_losses.py; advantages from the rewards by the formulas of their documentation",
        "settings": {"clip": CLIP, "kl": KL, "group": GROUP, "longest": STEPS + 3, "ceiling": 1.1},
        "length": length.tolist(),
        **{name: value.tolist() for name, value in tensors.items()},
        "losses": found,
    }
    path.write_text(json.dumps(record, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
