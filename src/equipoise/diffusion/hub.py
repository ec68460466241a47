"""Models of Hugging Face diffusers as samplers: a network called as model(sample, timestep).sample, and a scheduler.

Whatever the scheduler does in a step must be linear in state and output, with noise: DDPM, or DDIM with eta > 0.
Nothing here imports diffusers or peft; models and schedulers are the caller's, saved and loaded by their own
`save_pretrained` and `from_pretrained`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.diffusion.processes import Process, variance_preserving
from equipoise.diffusion.sampler import DiffusionSampler

VARIANCE = {"fixed_small": "posterior", "fixed_small_log": "posterior", "fixed_large": "forward"}
"""Variances of a DDPMScheduler that are not learned, by the process's names."""


def pretrained(
    model: nn.Module, scheduler: Any, *, steps: int, eta: float | None = None, subsample: int | None = None
) -> DiffusionSampler:
    """A model of diffusers as a sampler of its own distribution, without a prior: to draw from, or to train on data.

    Args:
        model: UNet2DModel, or any called as model(sample, timestep).sample whose `config` has `in_channels` and
            `sample_size`; put into evaluation mode, since dropout would give a path another probability each time.
        scheduler: DDPMScheduler or DDIMScheduler, with `clip_sample` and `thresholding` off.
        steps: of a path, at most the scheduler's training steps.
        eta: of DDIM, in (0, 1]; None with DDPM.
        subsample: steps of a path that gradients flow through; None: all.

    Raises:
        ValueError: a scheduler whose steps have no noise, are not linear, or have a learned variance; the error names
            what to change.

    Example:
        >>> from diffusers import DDPMScheduler, UNet2DModel
        >>> model = UNet2DModel(sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=4,
        ...     block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",))
        >>> sampler = pretrained(model, DDPMScheduler(clip_sample=False), steps=5)
        >>> sampler.sample(2, generator=torch.Generator().manual_seed(0)).objects.shape
        torch.Size([2, 1, 8, 8])

    Use it with as many steps as the model will be drawn with: a path's probability belongs to its number of steps.
    """
    process = process_of(scheduler, steps=steps, eta=eta)
    network = ModelNetwork(model.eval(), process)
    return DiffusionSampler(process, network, _shape(model), subsample=subsample)


def tuned(
    model: nn.Module, scheduler: Any, *, steps: int, eta: float | None = None, subsample: int | None = None
) -> DiffusionSampler:
    """The same with the model as it is now as its prior: what relative trajectory balance fine-tunes.

    A model with `peft` adapters (`get_peft_model`) is its own prior with the adapters off, and no weight is held twice;
    any other model is copied.

    Args:
        model: as for `pretrained`; with LoRA its adapters alone are trained.
        scheduler: as for `pretrained`.
        steps: of a path.
        eta: of DDIM, in (0, 1]; None with DDPM.
        subsample: steps of a path that gradients flow through; None: all.

    Raises:
        ValueError: as for `pretrained`, or a model without a trainable parameter.

    Example:
        >>> from diffusers import DDPMScheduler, UNet2DModel
        >>> model = UNet2DModel(sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=4,
        ...     block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",))
        >>> sorted(tuned(model, DDPMScheduler(clip_sample=False), steps=5).offers)
        ['denoising', 'kl_prior', 'log_pf', 'log_prior']
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("the model has no trainable parameter: add adapters with peft, or call requires_grad_(True)")
    sampler = pretrained(model, scheduler, steps=steps, eta=eta, subsample=subsample)
    if hasattr(model, "disable_adapter"):
        prior = DiffusionSampler(sampler.process, AdaptersOff(sampler.network), sampler.shape)
    else:
        prior = sampler.frozen()
    return DiffusionSampler(sampler.process, sampler.network, sampler.shape, prior=prior, subsample=subsample)


class ModelNetwork(nn.Module):
    """The model called as the sampler calls a network: the step's number becomes the scheduler's timestep."""

    def __init__(self, model: nn.Module, process: Process) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("timesteps", process.labels.long(), persistent=False)
        self.timesteps: Tensor

    def forward(self, state: Tensor, step: Tensor, condition: Tensor | None) -> Tensor:
        """The model's output, in the state's shape."""
        if condition is not None:
            raise ValueError("a condition was given: models of diffusers are taken without one")
        return self.model(state, self.timesteps[step].expand(len(state))).sample


class AdaptersOff(nn.Module):
    """The same network with its adapters off; it holds no parameter of its own, so that none is trained or saved."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._shared = (network,)

    def forward(self, state: Tensor, step: Tensor, condition: Tensor | None) -> Tensor:
        """The output of the weights beneath the adapters, without gradients for them."""
        network: Any = self._shared[0]
        with network.model.disable_adapter():
            return network(state, step, condition)


def process_of(scheduler: Any, *, steps: int, eta: float | None = None) -> Process:
    """The process of a scheduler of diffusers, drawn in `steps` steps.

    Source: the documentation of diffusers' DDPMScheduler and DDIMScheduler; Ho et al., 2020, arXiv 2006.11239; Song et
        al., 2021, arXiv 2010.02502.

    Args:
        scheduler: DDPMScheduler or DDIMScheduler.
        steps: from 1 to its training steps.
        eta: of DDIM, in (0, 1]; None with DDPM.

    Raises:
        ValueError: as for `pretrained`.

    Example:
        >>> from diffusers import DDPMScheduler
        >>> process_of(DDPMScheduler(clip_sample=False), steps=50).labels[:3].tolist()
        [980.0, 960.0, 940.0]
    """
    kind = type(scheduler).__name__
    _require_stochastic(kind, eta)
    config = scheduler.config
    _require_linear(kind, config)
    if not 1 <= steps <= config.num_train_timesteps:
        raise ValueError(f"steps is {steps}: from 1 to the scheduler's {config.num_train_timesteps} was expected")
    own = type(scheduler).from_config(config)  # set_timesteps changes a scheduler: the caller's stays as it is
    own.set_timesteps(steps)
    labels = own.timesteps.double().cpu()
    _require_even(kind, labels, config.num_train_timesteps // steps)
    table = own.alphas_cumprod.double().cpu()
    end = torch.ones((), dtype=torch.float64) if kind == "DDPMScheduler" else own.final_alpha_cumprod.double().cpu()
    alpha_bar = torch.cat([table[labels.long()], end.view(1)])
    if float(alpha_bar[0]) <= 0:
        raise ValueError(f"{_remedy(kind, 'rescale_betas_zero_snr', False)}: its first state has no signal at all")
    if float(alpha_bar[-1]) <= float(alpha_bar[-2]):
        raise ValueError(f"{_remedy(kind, 'set_alpha_to_one', True)}: its last step does nothing")
    variance = VARIANCE[config.variance_type] if kind == "DDPMScheduler" else "posterior"
    process = variance_preserving(
        alpha_bar,
        eta=1.0 if eta is None else eta,
        prediction=config.prediction_type,
        variance=variance,
        labels=labels,
    )
    if kind == "DDPMScheduler" and int(labels[-1]) == 0:  # there the scheduler adds no noise, whatever the variance
        quiet = process.std.clone()
        quiet[-1] = 0.0
        return replace(process, std=quiet)
    return process


def _require_stochastic(kind: str, eta: float | None) -> None:
    if kind not in ("DDPMScheduler", "DDIMScheduler"):
        raise ValueError(
            f"{kind}: a scheduler without stochastic steps of known density; use DDPMScheduler.from_config("
            "scheduler.config), or DDIMScheduler with eta > 0"
        )
    if kind == "DDIMScheduler" and (eta is None or not 0 < eta <= 1):
        given = "none was given" if eta is None else f"{eta:g} was given"
        raise ValueError(
            f"DDIMScheduler with eta 0 is a scheduler without stochastic steps: give eta in (0, 1], {given}"
        )
    if kind == "DDPMScheduler" and eta is not None:
        raise ValueError(f"eta is {eta:g}: DDPMScheduler has none; leave it out, or use DDIMScheduler")


def _require_linear(kind: str, config: Any) -> None:
    for name in ("clip_sample", "thresholding"):
        if getattr(config, name, False):
            raise ValueError(
                f"{_remedy(kind, name, False)}: what cuts the estimate of the object makes a step's mean not linear in "
                "the model's output"
            )
    given = getattr(config, "variance_type", "fixed_small")
    if given not in VARIANCE:
        raise ValueError(
            f"{_remedy(kind, 'variance_type', 'fixed_small')}: '{given}' gives model and prior different sigmas, or "
            f"none of use here; known: {', '.join(VARIANCE)}"
        )


def _require_even(kind: str, labels: Tensor, stride: int) -> None:
    uneven = len(labels) > 1 and not bool((labels.diff() == -stride).all())
    if uneven and kind == "DDIMScheduler":  # it counts back by the stride, wherever the next timestep is
        raise ValueError(f"{_remedy(kind, 'timestep_spacing', 'leading')}: timesteps {labels[:4].tolist()} ... are not "
                         f"{stride} apart; or take a number of steps that divides the training steps")  # fmt: skip


def _remedy(kind: str, name: str, value: object) -> str:
    return f"use {kind}.from_config(scheduler.config, {name}={value!r})"


def _shape(model: nn.Module) -> tuple[int, ...]:
    config: Any = getattr(model, "config", None)
    side = getattr(config, "sample_size", None)
    if not hasattr(config, "in_channels") or side is None:
        raise ValueError(f"{type(model).__name__} has no config with in_channels and sample_size: give it both")
    return (config.in_channels, *((side, side) if isinstance(side, int) else tuple(side)))
