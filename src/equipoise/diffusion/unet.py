"""A convolutional network for small images: two resolutions, the step's features added in every block."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.diffusion.networks import StepFeatures
from equipoise.diffusion.processes import Process


class SmallUNet(nn.Module):
    """Residual blocks at full and at half resolution, joined by a skip connection; 0 at the start.

    Without normalisation: it costs as much as the convolutions at this size, and the blocks' zero beginnings do without.

    Source: Ho et al., 2020, "Denoising Diffusion Probabilistic Models", arXiv 2006.11239, appendix B, made small; the
        network's interface is that of `networks`.

    Args:
        process: gives the steps.
        channels: of an image.
        width: channels at full resolution; twice as many at half.
        blocks: at half resolution.
        conditions: features of a condition; 0: unconditional.

    Raises:
        ValueError: in use, images of odd sides, or a condition where none was announced, or the other way round.

    Example:
        >>> import torch
        >>> from equipoise.diffusion.processes import cosine_schedule, variance_preserving
        >>> network = SmallUNet(variance_preserving(cosine_schedule(10)), width=8)
        >>> network(torch.zeros(3, 1, 8, 8), torch.tensor(0), None).shape
        torch.Size([3, 1, 8, 8])

    Use it for images of about 8 x 8 on a CPU; larger ones need more resolutions, as the networks of diffusers have.
    """

    def __init__(
        self, process: Process, *, channels: int = 1, width: int = 16, blocks: int = 2, conditions: int = 0
    ) -> None:
        super().__init__()
        self.conditions = conditions
        widths = [width, *([2 * width] * blocks), width]
        self.splits = widths
        self.time = StepFeatures(torch.arange(process.steps) / process.steps, 4 * width)
        self.modulate = nn.Linear(4 * width, sum(widths))
        self.condition = nn.Linear(conditions, sum(widths), bias=False) if conditions else None
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(size) for size in widths)
        self.down = nn.Conv2d(width, 2 * width, 2, stride=2)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.leave = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, state: Tensor, step: Tensor, condition: Tensor | None) -> Tensor:
        """The output, in the state's shape."""
        if state.dim() != 4 or state.shape[2] % 2 or state.shape[3] % 2:
            raise ValueError(f"states {tuple(state.shape)}: (rows, channels, height, width) of even sides was expected")
        first, *inner, last = self._shifts(len(state), step, condition)
        fine = self.blocks[0](self.enter(state), first)
        coarse = self.down(fine)
        for block, shift in zip(list(self.blocks)[1:-1], inner, strict=True):
            coarse = block(coarse, shift)
        return self.leave(functional.silu(self.blocks[-1](fine + self.up(coarse), last)))

    def _shifts(self, rows: int, step: Tensor, condition: Tensor | None) -> list[Tensor]:
        """What each block adds to its channels, (rows or 1, channels, 1, 1)."""
        if (condition is None) == (self.conditions > 0):
            given = "none" if condition is None else "some"
            raise ValueError(f"the network takes {self.conditions} features of a condition and was given {given}")
        features = self.time(step, rows, self.modulate)
        if self.condition is not None:
            features = features + self.condition(condition)
        return list(features[:, :, None, None].split(self.splits, 1))


class Block(nn.Module):
    """x + two convolutions of x, the step's shift between them; x itself at the start."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, state: Tensor, shift: Tensor) -> Tensor:
        inner = functional.silu(self.first(functional.silu(state)) + shift)
        return state + self.second(inner)
