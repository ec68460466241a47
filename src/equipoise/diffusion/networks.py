"""Networks of diffusion models: the output for states at a step.

A network is called as (state, step, condition): state (rows, *shape); step () or (rows,) int64, the number of the
generating step; condition (rows, features) or None. It returns the shape of the state.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from equipoise.diffusion.processes import Process


class StepFeatures(nn.Module):
    """Cosines and sines of a step's time, through a small network: (steps given, width).

    There are few steps and many rows: features are computed once a step, and rows take theirs by number.

    Source: the time encoding of Zhang and Chen, 2022, "Path Integral Sampler", arXiv 2111.15141.

    Args:
        times: (steps,) time of each step, from 0 to 1.
        width: of the features.
        harmonics: frequencies, evenly from 0.1 to 100.
    """

    def __init__(self, times: Tensor, width: int, harmonics: int = 64) -> None:
        super().__init__()
        phases = times.float()[:, None] * torch.linspace(0.1, 100, harmonics)
        self.register_buffer("waves", torch.cat([phases.sin(), phases.cos()], 1), persistent=False)
        self.waves: Tensor
        self.layers = nn.Sequential(nn.Linear(2 * harmonics, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, step: Tensor, rows: int, then: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Of each row, (rows, width); of one step for all rows, (1, width). `then` is applied once a step."""
        every = step.dim() > 0 and rows > len(self.waves)
        features = self.layers(self.waves if every else self.waves[step].view(-1, self.waves.shape[1]))
        features = features if then is None else then(features)
        return nn.functional.embedding(step, features) if every else features


class DriftMLP(nn.Module):
    """The drift of a process in few dimensions: state and time encoded, joined, two hidden layers; 0 at the start.

    Source: the network of the 25-Gaussians example of Venkatraman et al., 2024, arXiv 2405.20971 (64 harmonics, width
        64, two hidden layers, GELU), without its unused parts.

    Args:
        process: gives the steps.
        dimensions: of the state, which is flat.
        width: of the hidden layers.
        conditions: features of a condition; 0: unconditional.

    Raises:
        ValueError: in use, a condition where none was announced, or the other way round.

    Example:
        >>> import torch
        >>> from equipoise.diffusion.processes import brownian
        >>> network = DriftMLP(brownian(10, 1.0), dimensions=2)
        >>> network(torch.zeros(3, 2), torch.tensor(0), None).shape
        torch.Size([3, 2])

    Use it for points, not for images.
    """

    def __init__(self, process: Process, dimensions: int, width: int = 64, conditions: int = 0) -> None:
        super().__init__()
        steps = process.steps
        self.conditions = conditions
        self.time = StepFeatures(torch.arange(steps) / steps, width)
        self.state = nn.Linear(dimensions + conditions, width)
        self.join_state = nn.Linear(width, width)
        self.join_time = nn.Linear(width, width, bias=False)
        self.hidden = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU())
        self.out = nn.Linear(width, dimensions)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, state: Tensor, step: Tensor, condition: Tensor | None) -> Tensor:
        """The output, (rows, dimensions)."""
        if (condition is None) == (self.conditions > 0):
            given = "none" if condition is None else "some"
            raise ValueError(f"the network takes {self.conditions} features of a condition and was given {given}")
        state = state if condition is None else torch.cat([state, condition], 1)
        # Two linear maps in a row are one: the state's encoding needs no layer of its own at every row.
        weight = self.join_state.weight @ self.state.weight
        bias = self.join_state.weight @ self.state.bias + self.join_state.bias
        # And so are their sum with the time's, where the bias is added once a step.
        time = self.time(step, len(state), lambda features: self.join_time(features) + bias)
        return self.out(self.hidden(torch.addmm(time, state, weight.T)))
