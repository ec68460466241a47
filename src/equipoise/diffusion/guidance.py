"""Guidance without training: a prior's steps, each moved along a gradient of the log-reward.

A step of the prior is x_{t+1} = m(x_t) + std noise. Both ways here add scale times a gradient to m; neither draws from
prior x R, whatever its scale: they are baselines, and quick looks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from equipoise.diffusion.sampler import DiffusionSampler
from equipoise.trajectories import Trajectories, ends


def classifier_guidance(
    prior: DiffusionSampler,
    n: int,
    log_reward: Callable[[Tensor, Tensor], Tensor],
    *,
    scale: float = 1.0,
    generator: torch.Generator,
) -> Tensor:
    """Moves each step by scale std^2 times the gradient of a noised state's log-reward at m.

    Source: Dhariwal and Nichol, 2021, "Diffusion Models Beat GANs on Image Synthesis", arXiv 2105.05233, algorithm 1.

    Args:
        prior: the diffusion model.
        n: objects.
        log_reward: (states (n, *shape), place () int64) -> (n,), of noised states, differentiable in them: for a class
            the log-probability by a classifier of noised objects; states are counted from noise, 0, to the object.
        scale: at least 0; 1 is the first order of the posterior's step where the classifier is exact.
        generator: of all noise.

    Returns:
        Objects, (n, *shape).

    Raises:
        ValueError: a negative scale, or states that are no longer finite.

    Example:
        >>> from equipoise.diffusion.networks import DriftMLP
        >>> from equipoise.diffusion.processes import brownian
        >>> process = brownian(10)
        >>> prior = DiffusionSampler(process, DriftMLP(process, 1), (1,)).frozen()
        >>> noise = torch.Generator().manual_seed(0)
        >>> right = classifier_guidance(prior, 500, lambda state, place: 3 * state[:, 0], generator=noise)
        >>> round(float(right.mean()))
        3

    Use it as a baseline; a step without noise is not moved.
    """
    _require_scale(scale)

    def moved(state: Tensor, step: int) -> Tensor:
        with torch.no_grad():
            mean = _mean(prior, state, step, _output(prior, state, step))
        std = float(prior.process.std[step])
        if not scale or not std:
            return mean
        place = torch.tensor(step + 1, device=state.device)
        return mean + scale * std**2 * _gradient(lambda value: log_reward(value, place), mean)

    return _walk(prior, n, moved, f"classifier guidance of scale {scale:g}", generator)


def posterior_sampling(
    prior: DiffusionSampler,
    n: int,
    log_reward: Callable[[Tensor], Tensor],
    *,
    scale: float = 1.0,
    generator: torch.Generator,
) -> Tensor:
    """Diffusion posterior sampling (DPS): moves each step by scale times the gradient of log R of the denoised state.

    The gradient of log R(E[x_T | x_t]) is taken by x_t, through the network; E[x_T | x_t] is the network's estimate.

    Source: Chung et al., 2023, "Diffusion Posterior Sampling for General Noisy Inverse Problems", arXiv 2209.14687,
        algorithm 1, whose squared error is minus a log-reward here; the scale is the same in all steps.

    Args:
        prior: the diffusion model.
        n: objects.
        log_reward: objects (n, *shape) -> (n,), differentiable in them.
        scale: at least 0.
        generator: of all noise.

    Returns:
        Objects, (n, *shape).

    Raises:
        ValueError: a negative scale, or states that are no longer finite.

    Example:
        >>> from equipoise.diffusion.networks import DriftMLP
        >>> from equipoise.diffusion.processes import brownian
        >>> process = brownian(10)
        >>> prior = DiffusionSampler(process, DriftMLP(process, 1), (1,)).frozen()
        >>> noise = torch.Generator().manual_seed(0)
        >>> right = posterior_sampling(prior, 500, lambda objects: 3 * objects[:, 0], scale=0.1, generator=noise)
        >>> round(float(right.mean()))
        3

    Use it where no noised classifier is at hand; it costs a backward pass of the network in every step.
    """
    _require_scale(scale)

    def moved(state: Tensor, step: int) -> Tensor:
        found: list[Tensor] = []

        def of_estimate(value: Tensor) -> Tensor:
            output, process = _output(prior, value, step), prior.process
            found.append(_mean(prior, value, step, output).detach())
            return log_reward((output - float(process.state_part[step]) * value) / float(process.object_part[step]))

        gradient = _gradient(of_estimate, state)
        return found[0] + scale * gradient

    return _walk(prior, n, moved, f"posterior sampling of scale {scale:g}", generator)


def _walk(
    prior: DiffusionSampler, n: int, moved: Callable[[Tensor, int], Tensor], what: str, generator: torch.Generator
) -> Tensor:
    process, device = prior.process, prior.version.device
    noise = torch.randn((process.steps + 1, n, *prior.shape), generator=generator).to(device)
    state = noise[0] * process.start_std
    for step in range(process.steps):
        state = moved(state, step) + float(process.std[step]) * noise[step + 1]
        if not torch.isfinite(state).all():
            raise ValueError(f"{what} left the finite numbers at step {step}: give a smaller scale")
    return state


def _output(prior: DiffusionSampler, state: Tensor, step: int) -> Tensor:
    return prior.network(state, torch.tensor(step, device=state.device), None)


def _mean(prior: DiffusionSampler, state: Tensor, step: int, output: Tensor) -> Tensor:
    return float(prior.process.keep[step]) * state + float(prior.process.gain[step]) * output


@torch.enable_grad()
def _gradient(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    point = at.detach().requires_grad_()
    return torch.autograd.grad(function(point).sum(), point)[0]


def _require_scale(scale: float) -> None:
    if not scale >= 0:
        raise ValueError(f"scale is {scale}: a number of at least 0 was expected")


class Guided(nn.Module):
    """Guidance with the face of a sampler, so that it is judged and shown as one; nothing in it is trained.

    Args:
        prior: the frozen diffusion model.
        draw: (n, generator) -> objects: one of the functions above with its choices filled in.
        parts: modules that `draw` reads, to be saved with it.
    """

    def __init__(
        self, prior: DiffusionSampler, draw: Callable[[int, torch.Generator], Tensor], *parts: nn.Module
    ) -> None:
        super().__init__()
        self.prior, self.draw, self.parts = prior, draw, nn.ModuleList(parts)
        self.offers = frozenset[str]()

    def sample(self, n: int, *, generator: torch.Generator) -> Trajectories:
        """n objects, without paths: no probability of theirs is known."""
        return ends(self.draw(n, generator))
