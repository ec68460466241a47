"""Small diffusion problems that several tests share, and their log-densities written out step by step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from equipoise.diffusion.networks import DriftMLP
from equipoise.diffusion.processes import Process, brownian
from equipoise.diffusion.sampler import DiffusionSampler
from equipoise.trajectories import Columns, Trajectories

FLOAT = torch.float64


class Linear(nn.Module):
    """A network of few parameters for any shape: features of state, step and condition, mixed linearly, bounded."""

    def __init__(self, size: int, steps: int, conditions: int = 0, scale: float = 1.0) -> None:
        super().__init__()
        self.steps, self.scale = steps, scale
        self.mix = nn.Linear(size + 1 + conditions, size)

    def forward(self, state: Tensor, step: Tensor, condition: Tensor | None) -> Tensor:
        flat = state.flatten(1)
        time = (step.to(flat) / self.steps).expand(len(flat))[:, None]
        given = [] if condition is None else [condition.to(flat)]
        return self.scale * torch.tanh(self.mix(torch.cat([flat, time, *given], 1))).view_as(state)


def drift(process: Process, *, seed: int = 0, conditions: int = 0, width: int = 16) -> DriftMLP:
    """A DriftMLP in the plane whose output is not 0."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = DriftMLP(process, 2, width, conditions)
        nn.init.normal_(network.out.weight, std=0.5)
    return network


def tuned(
    process: Process | None = None,
    *,
    subsample: int | None = None,
    conditions: int = 0,
    condition: Callable[[Columns], Tensor] | None = None,
    keep_behaviour: bool = False,
) -> DiffusionSampler:
    """A sampler in the plane with a prior that differs from it."""
    process = brownian(6, [0.5, 1.0, 2.0, 1.0, 0.7, 0.3]) if process is None else process
    prior = DiffusionSampler(process, drift(process, seed=1, conditions=conditions), (2,), condition=condition).frozen()
    return DiffusionSampler(
        process,
        drift(process, seed=2, conditions=conditions),
        (2,),
        prior=prior,
        condition=condition,
        subsample=subsample,
        keep_behaviour=keep_behaviour,
    )


def network_of(sampler: DiffusionSampler | None) -> DriftMLP:
    """The network of a sampler in the plane."""
    assert sampler is not None and isinstance(sampler.network, DriftMLP)
    return sampler.network


def gaussian_steps(sampler: DiffusionSampler, drawn: Trajectories, std: Tensor | None = None) -> Tensor:
    """log N(x_{t+1}; keep x_t + gain f, std^2) of each step in float64 by torch.distributions, (n, steps)."""
    process, states = sampler.process, drawn.path["state"]
    condition = None if sampler.condition is None else sampler.condition(drawn.context)
    width = process.std if std is None else std
    found = []
    for step in range(process.steps):
        output = sampler.network(states[:, step], torch.tensor(step), condition).double()
        mean = process.keep[step] * states[:, step].double() + process.gain[step] * output
        density = torch.distributions.Normal(mean, width[step])
        found.append(density.log_prob(states[:, step + 1].double()).flatten(1).sum(1))
    return torch.stack(found, 1)


def gradient_of(value: Tensor, module: nn.Module) -> Tensor:
    """The gradient of a number in a module's parameters, flat, float64; 0 where a parameter has none."""
    parameters = list(module.parameters())
    found = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    parts = zip(found, parameters, strict=True)
    return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in parts]).double()
