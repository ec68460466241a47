"""A convolutional network for small images: two resolutions, the step's features added in every block."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.diffusion.networks import StepFeatures
from equipoise.diffusion.processes import Process


class SmallUNet(nn.Module):
    """Residual blocks at full and at half resolution, joined by a skip connection; 0 at the start.

    At half resolution a dense block sees all places at once, where larger networks have attention: at 4 x 4 it is the
    cheapest part on a CPU, and the one that the images' quality hangs on. There is no normalisation, which costs as
    much as the convolutions at this size; blocks begin as the identity instead.

    Source: Ho et al., 2020, "Denoising Diffusion Probabilistic Models", arXiv 2006.11239, appendix B, made small; the
        network's interface is that of `networks`.

    Args:
        process: gives the steps.
        shape: of an image: channels, height, width; even sides.
        width: channels at full resolution; twice as many at half.
        hidden: of the dense block.
        conditions: features of a condition; 0: unconditional.

    Raises:
        ValueError: odd sides; in use, states of another shape, or a condition where none was announced, or the other
            way round.

    Example:
        >>> import torch
        >>> from equipoise.diffusion.processes import cosine_schedule, variance_preserving
        >>> network = SmallUNet(variance_preserving(cosine_schedule(10)), (1, 8, 8), width=8)
        >>> network(torch.zeros(3, 1, 8, 8), torch.tensor(0), None).shape
        torch.Size([3, 1, 8, 8])

    Use it for images of about 8 x 8 on a CPU; larger ones need more resolutions, as the networks of diffusers have.
    """

    def __init__(
        self,
        process: Process,
        shape: tuple[int, int, int],
        *,
        width: int = 16,
        hidden: int = 256,
        conditions: int = 0,
    ) -> None:
        super().__init__()
        channels, height, breadth = shape
        if height % 2 or breadth % 2:
            raise ValueError(f"images of {height} x {breadth}: even sides were expected")
        self.shape, self.conditions = shape, conditions
        self.splits = [width, 2 * width, hidden, width]
        self.time = StepFeatures(torch.arange(process.steps) / process.steps, 4 * width)
        self.modulate = nn.Linear(4 * width, sum(self.splits))
        self.condition = nn.Linear(conditions, sum(self.splits), bias=False) if conditions else None
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.first = Block(width)
        self.down = nn.Conv2d(width, 2 * width, 2, stride=2)
        self.coarse = Block(2 * width)
        self.dense = Dense(2 * width * height * breadth // 4, hidden)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.last = Block(width)
        self.leave = zero(nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, state: Tensor, step: Tensor, condition: Tensor | None) -> Tensor:
        """The output, in the state's shape."""
        if state.shape[1:] != self.shape:
            raise ValueError(f"states {tuple(state.shape)}: (rows, {', '.join(map(str, self.shape))}) was expected")
        shifts = self._shifts(len(state), step, condition).split(self.splits, 1)
        fine = self.first(self.enter(state), shifts[0])
        coarse = self.dense(self.coarse(self.down(fine), shifts[1]), shifts[2])
        return self.leave(functional.silu(self.last(fine + self.up(coarse), shifts[3])))

    def _shifts(self, rows: int, step: Tensor, condition: Tensor | None) -> Tensor:
        """What the blocks add to their channels, (rows or 1, channels)."""
        if (condition is None) == (self.conditions > 0):
            given = "none" if condition is None else "some"
            raise ValueError(f"the network takes {self.conditions} features of a condition and was given {given}")
        shifts = self.time(step, rows, self.modulate)
        return shifts if self.condition is None else shifts + self.condition(condition)


class Block(nn.Module):
    """x + two convolutions of x, the step's shift between them; x itself at the start."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = zero(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, state: Tensor, shift: Tensor) -> Tensor:
        inner = self.first(functional.silu(state)) + shift[:, :, None, None]
        return state + self.second(functional.silu(inner))


class Dense(nn.Module):
    """x + two dense layers of all of x, the step's shift between them; x itself at the start."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(size, hidden), zero(nn.Linear(hidden, size))

    def forward(self, state: Tensor, shift: Tensor) -> Tensor:
        inner = self.first(functional.silu(state.flatten(1))) + shift
        return state + self.second(functional.silu(inner)).view_as(state)


def zero(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """The layer, its output 0 at the start."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
