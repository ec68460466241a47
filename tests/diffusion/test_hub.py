"""Models of diffusers as samplers: each scheduler's own steps, LoRA, saving, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.contracts import check_sampler
from equipoise.diffusion.hub import pretrained, process_of, tuned
from equipoise.diffusion.sampler import DiffusionSampler
from equipoise.objectives.divergences import divergence
from equipoise.objectives.partition import Learned
from equipoise.sampling.rollouts import Rollouts
from equipoise.training.balance import RESIDUALS, balance
from equipoise.training.loop import Loop, Run

diffusers = pytest.importorskip("diffusers")
peft = pytest.importorskip("peft")

STEPS = 10
LINEAR = {"clip_sample": False}
DARK = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


def unet() -> Any:
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        norm_num_groups=4,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
    )


def adapted() -> Any:
    return peft.get_peft_model(unet(), peft.LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v", "conv1"]))


def scheduler() -> Any:
    return diffusers.DDPMScheduler(clip_sample=False, beta_schedule="squaredcos_cap_v2")


@pytest.mark.parametrize(
    ("kind", "settings", "eta"),
    [
        ("DDPMScheduler", {}, None),
        ("DDPMScheduler", {"variance_type": "fixed_large"}, None),
        ("DDPMScheduler", {"variance_type": "fixed_small_log", "prediction_type": "sample"}, None),
        ("DDPMScheduler", {"prediction_type": "v_prediction", "timestep_spacing": "trailing"}, None),
        ("DDPMScheduler", {"timestep_spacing": "linspace", "beta_schedule": "squaredcos_cap_v2"}, None),
        ("DDPMScheduler", {"variance_type": "fixed_large", "steps_offset": 1}, None),
        ("DDIMScheduler", {}, 0.5),
        ("DDIMScheduler", {"prediction_type": "v_prediction", "timestep_spacing": "trailing"}, 1.0),
        ("DDIMScheduler", {"set_alpha_to_one": False, "steps_offset": 1}, 0.7),
    ],
)
def test_a_step_is_the_schedulers_own(kind: str, settings: dict[str, Any], eta: float | None) -> None:
    own = getattr(diffusers, kind)(clip_sample=False, **settings)
    process = process_of(own, steps=STEPS, eta=eta)
    own.set_timesteps(STEPS)
    assert process.labels.tolist() == own.timesteps.tolist()
    for place, timestep in enumerate(own.timesteps):
        state, output = torch.randn(2, 3, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        more = {} if eta is None else {"eta": eta}
        theirs = own.step(output, timestep, state, generator=torch.Generator().manual_seed(place), **more).prev_sample
        noise = torch.randn(state.shape, generator=torch.Generator().manual_seed(place), dtype=torch.float64)
        ours = process.keep[place] * state + process.gain[place] * output + process.std[place] * noise
        scale = float(theirs.abs().max())
        assert torch.allclose(ours, theirs, atol=2e-6 * scale)  # diffusers keeps its schedules in float32


def test_noising_goes_to_the_schedulers_noised_objects() -> None:
    own = scheduler()
    process = process_of(own, steps=STEPS)
    keep, std = process.marginals()
    shares = own.alphas_cumprod[process.labels.long()].double()
    assert torch.allclose(keep[:-1], shares.sqrt(), rtol=1e-6)
    assert torch.allclose(std[:-1], (1 - shares).sqrt(), rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "settings", "eta", "message"),
    [
        ("DDPMScheduler", {}, None, "from_config.scheduler.config, clip_sample=False."),
        ("DDPMScheduler", {**LINEAR, "thresholding": True}, None, "thresholding=False"),
        (
            "DDPMScheduler",
            {**LINEAR, "variance_type": "learned_range"},
            None,
            "variance_type='fixed_small'",
        ),
        ("DDPMScheduler", {**LINEAR, "variance_type": "fixed_large_log"}, None, "variance_type="),
        ("DDPMScheduler", {**LINEAR, **DARK}, None, "zero_snr=False"),
        ("DDPMScheduler", {**LINEAR}, 0.5, "DDPMScheduler has none"),
        ("DDIMScheduler", {**LINEAR}, 0.0, "a scheduler without stochastic steps"),
        ("DDIMScheduler", {**LINEAR}, None, "a scheduler without stochastic steps"),
        ("DDIMScheduler", {**LINEAR, "set_alpha_to_one": False}, 1.0, "set_alpha_to_one=True"),
        ("DPMSolverMultistepScheduler", {}, None, "a scheduler without stochastic steps"),
        ("EulerDiscreteScheduler", {}, None, "a scheduler without stochastic steps"),
    ],
)
def test_what_is_no_process_is_an_error_that_names_the_remedy(
    kind: str, settings: dict[str, Any], eta: float | None, message: str
) -> None:
    own = getattr(diffusers, kind)(**settings)
    with pytest.raises(ValueError, match=message):
        pretrained(unet(), own, steps=STEPS, eta=eta)


def test_steps_that_the_scheduler_does_not_have_are_an_error() -> None:
    with pytest.raises(ValueError, match="1000 was expected"):
        pretrained(unet(), scheduler(), steps=1001)
    with pytest.raises(ValueError, match="divides the training steps"):
        uneven = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="linspace")
        pretrained(unet(), uneven, steps=STEPS, eta=1.0)
    with pytest.raises(ValueError, match="no trainable parameter"):
        tuned(unet().requires_grad_(False), scheduler(), steps=STEPS)


@pytest.mark.parametrize("model", [unet, adapted])
def test_a_model_is_its_own_prior_at_the_start_and_holds_the_contract(model: Any) -> None:
    sampler = tuned(model(), scheduler(), steps=4)
    drawn = sampler.sample(3, generator=torch.Generator().manual_seed(0))
    assert not sampler.score(drawn, frozenset({"log_pf"})).get("log_pf").any()
    check_sampler(sampler, n=4)


def test_adapters_share_the_priors_weights_and_are_all_that_is_trained() -> None:
    model = adapted()
    sampler = tuned(model, scheduler(), steps=4)
    assert sampler.prior is not None
    assert sum(1 for _ in sampler.parameters()) == sum(1 for _ in model.parameters())
    assert all("lora" in name for name, value in sampler.named_parameters() if value.requires_grad)
    assert not list(sampler.prior.parameters())


@pytest.mark.parametrize("model", [unet, adapted])
def test_training_moves_the_model_and_not_its_prior(model: Any) -> None:
    sampler = tuned(model(), scheduler(), steps=4)
    prior = sampler.prior
    assert prior is not None
    before = prior.sample(4, generator=torch.Generator().manual_seed(0)).objects
    train(sampler, 3)
    after, moved = (entry.sample(4, generator=torch.Generator().manual_seed(0)).objects for entry in (prior, sampler))
    assert isinstance(before, torch.Tensor) and isinstance(after, torch.Tensor)
    assert torch.equal(before, after)
    assert not torch.equal(before, moved)  # pyright: ignore[reportArgumentType]


def test_a_tuned_model_saved_by_its_own_means_draws_the_same_when_loaded(tmp_path: Path) -> None:
    model = adapted()
    sampler = tuned(model, scheduler(), steps=4)
    train(sampler, 2)
    drawn = sampler.sample(4, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path / "adapters")
    scheduler().save_pretrained(tmp_path / "scheduler")
    unet().save_pretrained(tmp_path / "unet")
    base = diffusers.UNet2DModel.from_pretrained(tmp_path / "unet")
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "adapters", is_trainable=True)
    again = tuned(loaded, diffusers.DDPMScheduler.from_pretrained(tmp_path / "scheduler"), steps=4)
    other = again.sample(4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn.path["state"], other.path["state"])
    needs = frozenset({"log_pf"})
    scored, rescored = sampler.score(drawn, needs).get("log_pf"), again.score(other, needs).get("log_pf")
    assert scored.any() and torch.allclose(scored, rescored, atol=1e-6)


def train(sampler: DiffusionSampler, steps: int) -> None:
    log_z = Learned()
    source = Rollouts(sampler, lambda objects, context: -objects.mean((1, 2, 3)))  # type: ignore[union-attr]
    term = balance("balance", "drawn", sampler, RESIDUALS["relative"], divergence("reverse_kl"), log_z)
    run = Run(
        modules={"policy": sampler, "log_z": log_z},
        learning_rate={"policy": lambda step: 1e-2, "log_z": lambda step: 0.1},
        terms=(term,),
        sources={"drawn": source},
        batch={"drawn": 4},
        steps=steps,
        seed=0,
    )
    loop = Loop(run)
    for _ in range(steps):
        loop.advance()
