"""Tunes a UNet2DModel of diffusers to even digits through LoRA, and says how many are even before and after.

    python benchmarks/diffusers_digits.py --out runs/diffusers-digits [--prior-steps 1500] [--steps 150]

The prior is trained first, kept in OUT/prior and taken from there the next time. Everything is saved by the libraries'
own save_pretrained; at the end the tuned model is loaded again and must draw the same images from the same seed.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from peft import LoraConfig, PeftModel, get_peft_model

from equipoise.diffusion.digits import TARGETS, Judge, Perceptron, class_reward, images_and_labels, train_classifier
from equipoise.diffusion.hub import pretrained, tuned
from equipoise.diffusion.sampler import DiffusionSampler
from equipoise.objectives.divergences import divergence
from equipoise.objectives.partition import estimator
from equipoise.sampling.given import Data
from equipoise.sampling.rollouts import Rollouts
from equipoise.training.balance import RESIDUALS, balance
from equipoise.training.fit import fit
from equipoise.training.loop import Loop, Run
from equipoise.training.policy_gradient import likelihood

STEPS = 25
BETA = 4.0
ADAPTED = ["conv1", "conv2", "to_q", "to_k", "to_v", "to_out.0"]


def unet() -> Any:
    """A UNet2DModel of about 100,000 parameters for images of 8 x 8."""
    return UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        norm_num_groups=4,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
    )


def train_prior(out: Path, steps: int) -> None:
    """A prior on the digits, saved in `out`."""
    model = unet()
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False)
    sampler = pretrained(model, scheduler, steps=STEPS)
    train(sampler, likelihood("fit", "source", sampler), Data(images_and_labels()[0]), steps, batch=64, rate=2e-3)
    model.save_pretrained(out)
    scheduler.save_pretrained(out)


def train(sampler: DiffusionSampler, term: Any, source: Any, steps: int, *, batch: int, rate: float) -> None:
    """The loop, its learning rates falling to 0."""
    run = Run(
        modules={"policy": sampler},
        learning_rate={"policy": lambda step: rate * (1 - step / steps)},
        terms=(term,),
        sources={"source": source},
        batch={"source": batch},
        steps=steps,
        seed=0,
        clip=10.0,
    )
    fit(Loop(run), None, every=max(steps // 10, 1))


def even(sampler: DiffusionSampler, judge: Judge, n: int = 1000) -> float:
    """Share of images that the judge calls even."""
    objects = sampler.sample(n, generator=torch.Generator().manual_seed(2)).objects
    assert isinstance(objects, torch.Tensor)
    return float((judge(objects).argmax(1) % 2 == 0).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--prior-steps", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=150)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    classifier, judge = Perceptron(), Judge()
    accuracy = train_classifier(classifier, seed=0), train_classifier(judge, seed=101, epochs=20)
    # As text: peft writes the name into the adapters' card, and knows no paths.
    prior, tuned_model = str(asked.out / "prior"), str(asked.out / "tuned")
    if not Path(prior).exists():
        train_prior(Path(prior), asked.prior_steps)
    begun = time.process_time()
    scheduler = DDPMScheduler.from_pretrained(prior)
    model: Any = get_peft_model(UNet2DModel.from_pretrained(prior), LoraConfig(r=8, target_modules=ADAPTED))
    sampler, loss = tuned(model, scheduler, steps=STEPS), divergence("hellinger")
    before = even(sampler, judge)
    term = balance("rtb", "source", sampler, RESIDUALS["relative"], loss, estimator("deviation", loss),
                   beta=lambda step, rows: BETA)  # fmt: skip
    rollouts = Rollouts(sampler, class_reward(classifier, TARGETS["even"]))
    train(sampler, term, rollouts, asked.steps, batch=32, rate=3e-3)
    model.save_pretrained(tuned_model)
    spent = time.process_time() - begun
    loaded = PeftModel.from_pretrained(UNet2DModel.from_pretrained(prior), tuned_model)
    again = tuned(loaded.requires_grad_(True), scheduler, steps=STEPS)
    first, second = (entry.sample(16, generator=torch.Generator().manual_seed(1)).objects for entry in (sampler, again))
    assert isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)
    trained = sum(value.numel() for value in sampler.parameters() if value.requires_grad)
    figures = {
        "accuracy_held_out": accuracy,
        "parameters": sum(value.numel() for value in sampler.parameters()),
        "trained_parameters": trained,
        "even_before": before,
        "even_after": even(sampler, judge),
        "same_samples_when_loaded": torch.equal(first, second),
        "cpu_seconds_of_tuning": round(spent, 1),
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
