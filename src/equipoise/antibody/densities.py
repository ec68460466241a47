"""Steps of a loop's diffusion: drawn and scored by the same formulas, one function for each direction.

Every log-density is a sum over residues and over the parts that move, in float64: letters by their mass, positions by
Lebesgue density (in units of 10 angstrom), rotations against the uniform measure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from equipoise.antibody import categorical, so3
from equipoise.antibody.process import LoopProcess
from equipoise.antibody.residues import KINDS
from equipoise.contracts import Behaviour


class Loops(NamedTuple):
    """States of loops: letters (..., m), positions (..., m, 3), rotations (..., m, 3, 3)."""

    letter: Tensor
    position: Tensor
    rotation: Tensor

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Each part with its name."""
        return zip(self._fields, self, strict=True)

    def rows(self, chosen: Tensor) -> Loops:
        """The chosen rows."""
        return Loops(*(value[chosen] for value in self))

    def cropped(self, residues: int) -> Loops:
        """The first residues of each row."""
        return Loops(*(value[:, :residues] for value in self))

    def only(self, moving: Collection[str], other: Loops) -> Loops:
        """The parts that move, and the others as they are in `other`."""
        return Loops(
            *(value if part in moving else held for (part, value), held in zip(self.items(), other, strict=True))
        )

    def where(self, condition: Tensor, other: Loops) -> Loops:
        """Rows of this where the condition (n,) holds, else of the other."""
        pairs = zip(self, other, strict=True)
        return Loops(*(torch.where(condition.view(-1, *(1 for _ in one.shape[1:])), one, two) for one, two in pairs))

    def write(self, path: dict[str, Tensor], rows: Tensor, step: int) -> None:
        """Puts these into rows of a path at a step."""
        for part, value in self.items():
            path[part][rows, step, : value.shape[1]] = value


class Outputs(NamedTuple):
    """What a denoiser says: v of positions, the loop's rotations, log p of its letters."""

    velocity: Tensor
    rotation: Tensor
    log_letter: Tensor


def generated(
    process: LoopProcess, state: Loops, found: Outputs, step: int, normal: Tensor, uniform: Tensor, behaviour: Behaviour
) -> Loops:
    """The state after a generating step, (n, m): from normals (n, m, 6 or more) and uniforms (n, m, 3)."""
    at = torch.tensor(step)
    log_letter = categorical.log_posterior(found.log_letter, state.letter, *_kept(process, at, state.letter))
    if behaviour.epsilon:
        explored = torch.full_like(log_letter, -math.log(KINDS))
        log_letter = torch.where((uniform[..., 2] < behaviour.epsilon)[..., None], explored, log_letter)
    std = math.sqrt(float(process.position.std[step]) ** 2 + behaviour.noise**2)
    centre = so3.towards(state.rotation, found.rotation, process.share[step].float())
    return Loops(
        categorical.drawn(log_letter, uniform[..., 0]),
        _mean(process, state.position, found.velocity, at) + std * normal[..., :3],
        centre @ process.generating.turn(at, uniform[..., 1], normal[..., 3:6]),
    )


def log_step(
    process: LoopProcess, before: Loops, after: Loops, found: Outputs, step: Tensor, moving: Collection[str]
) -> Tensor:
    """log p(after | before) of generating steps (n,), nats, (n,) float64."""
    total = torch.zeros(len(step), dtype=torch.float64)
    if "letter" in moving:
        keep, kept = _kept(process, step, before.letter)
        # The loop's letter itself is drawn in the last step: the posterior's floor must not clip what a score says.
        log_letter = categorical.log_posterior(found.log_letter.double(), before.letter, keep.double(), kept.double())
        total = total + log_letter.gather(-1, after.letter[..., None])[..., 0].sum(1)
    if "position" in moving:
        mean, std = _mean(process, before.position, found.velocity, step), process.position.std[step]
        total = total + _log_normal(after.position, mean, std)
    if "rotation" in moving:
        share, spread = process.share[step], process.spread[step]
        centre = so3.towards(before.rotation, found.rotation, share.float()[:, None])
        total = total + so3.log_kernel(after.rotation, centre, spread[:, None]).sum(1)
    return total


def log_noising(process: LoopProcess, before: Loops, after: Loops, step: Tensor, moving: Collection[str]) -> Tensor:
    """log q(before | after) of the noising that generating steps (n,) undo, nats, (n,) float64."""
    total = torch.zeros(len(step), dtype=torch.float64)
    if "letter" in moving:
        keep = process.keep[step][:, None]
        total = total + categorical.log_noising(after.letter, before.letter, keep, KINDS).sum(1)
    if "position" in moving:
        mean = process.position.back_keep[step][:, None, None] * after.position.double()
        total = total + _log_normal(before.position, mean, process.position.back_std[step])
    if "rotation" in moving:
        total = total + so3.log_kernel(before.rotation, after.rotation, process.turn[step][:, None]).sum(1)
    return total


def log_first(state: Loops, moving: Collection[str]) -> Tensor:
    """log p of the first state: uniform letters, standard normal positions, uniform rotations, whose density is 1."""
    residues = state.letter.shape[1]
    total = torch.zeros(len(state.letter), dtype=torch.float64)
    if "letter" in moving:
        total = total - residues * math.log(KINDS)
    if "position" in moving:
        total = total + _log_normal(state.position, torch.zeros_like(state.position), torch.ones(len(state.letter)))
    return total


def noised(
    process: LoopProcess, state: Loops, step: int, normal: Tensor, uniform: Tensor, moving: Collection[str]
) -> Loops:
    """The state before generating step `step`, drawn from the one after it: the noising."""
    back = process.position
    turn = process.noising.turn(torch.tensor(step), uniform[..., 1], normal[..., 3:6])
    moved = Loops(
        categorical.noised(state.letter, process.keep[step].float(), KINDS, uniform[..., 0]),
        float(back.back_keep[step]) * state.position + float(back.back_std[step]) * normal[..., :3],
        state.rotation @ turn,
    )
    return moved.only(moving, state)


def marginal(
    process: LoopProcess, objects: Loops, step: Tensor, normal: Tensor, uniform: Tensor, moving: Collection[str]
) -> tuple[Loops, Tensor]:
    """The state before generating step (n,) drawn from the loop at once, and the v of its positions, (n, m, 3)."""
    kept = (process.kept * process.keep)[step].float()[:, None]
    keep, std = (value[step].float()[:, None, None] for value in process.position.marginals())
    blur = normal[..., :3]
    turn = process.marginal.turn(step[:, None].expand(uniform.shape[:2]), uniform[..., 1], normal[..., 3:6])
    moved = Loops(
        categorical.noised(objects.letter, kept, KINDS, uniform[..., 0]),
        keep * objects.position + std * blur,
        objects.rotation @ turn,
    )
    return moved.only(moving, objects), keep * blur - std * objects.position


def simple_loss(found: Outputs, goal: Loops, velocity: Tensor, moving: Collection[str]) -> Tensor:
    """The denoising loss of states (n, m): see `LoopSampler.score`; (n,)."""
    total = velocity.new_zeros(len(velocity))
    if "letter" in moving:
        total = total + functional.nll_loss(found.log_letter.movedim(-1, 1), goal.letter, reduction="none").mean(1)
    if "position" in moving:
        total = total + (found.velocity - velocity).square().sum(-1).mean(1)
    if "rotation" in moving:
        total = total + 0.5 * (found.rotation - goal.rotation).square().flatten(2).sum(-1).mean(1)
    return total


def _kept(process: LoopProcess, step: Tensor, letter: Tensor) -> tuple[Tensor, Tensor]:
    """The posterior's two probabilities for each letter."""
    shape = (-1, *(1 for _ in letter.shape[1:]))
    return tuple(value[step].float().view(shape).expand(letter.shape) for value in (process.keep, process.kept))  # type: ignore[return-value]


def _mean(process: LoopProcess, position: Tensor, velocity: Tensor, step: Tensor) -> Tensor:
    keep, gain = (
        value[step].to(position.dtype).view(-1, 1, 1) for value in (process.position.keep, process.position.gain)
    )
    return keep * position + gain * velocity


def _log_normal(value: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Of residues' positions (n, m, 3), summed; std (n,)."""
    std = std.double()[:, None, None]
    scaled = (value.double() - mean.double()) / std
    return (-0.5 * scaled.square() - std.log() - 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)
