"""The diffusion of a loop: letters, positions and orientations of its residues, noised apart and side by side.

States are numbered in the generating direction: state 0 is noise, state `steps` the loop. Noising leads from state k
+ 1 to state k: a letter stays with probability `keep`, or is drawn anew; a position is shrunk and blurred (Ho et al.,
2020); a rotation takes a step of Brownian motion on SO(3) (`so3`), whose steps compose exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from equipoise.antibody.so3 import Walk
from equipoise.diffusion.processes import Process, cosine_schedule, variance_preserving

LEAST_TURN, MOST_TURN = 0.1, 3.4
"""Standard deviations of the rotation after the first step of noising, radians, and after the last, which is uniform to
3 exp(-11.6) = 3e-5."""

WARP = 1.5
"""Exponent of the cosine schedule's time: above 1, the first steps of noising are short, as a few steps in all need."""


@dataclass(frozen=True, eq=False)
class LoopProcess:
    """The schedules, each (steps,) float64, in the generating direction.

    Attributes:
        position: of the positions, a `Process` whose output is a v-prediction; its last step has noise too.
        keep: of letters, from state k + 1 to k.
        kept: of letters, from the loop to state k + 1.
        turn: variance of the rotation's step from state k + 1 to k.
        turned: variance from the loop to state k.
        share: of the way to the predicted rotation that a generating step goes.
        spread: variance of the rotation in a generating step.
    """

    position: Process
    keep: Tensor
    kept: Tensor
    turn: Tensor
    turned: Tensor
    share: Tensor
    spread: Tensor
    noising: Walk
    generating: Walk
    marginal: Walk

    @property
    def steps(self) -> int:
        """How many."""
        return len(self.keep)


def loop_process(steps: int, *, warp: float = WARP) -> LoopProcess:
    """The process of that many steps.

    Positions have the posterior's variance; in the last step, where that is 0, the noising step's, so that it is a
    density like the others. A step of a rotation goes as a Brownian bridge to the predicted one does, and in the last
    step has the noising step's variance.

    Args:
        steps: at least 2.
        warp: see `WARP`.

    Raises:
        ValueError: fewer than two steps, or a warp that is not positive.

    Example:
        >>> process = loop_process(25)
        >>> process.steps, float(process.kept[0] * process.keep[0]) < 1e-4, float(process.position.std[-1]) > 0
        (25, True, True)
    """
    if steps < 2 or not warp > 0:
        raise ValueError(f"{steps} steps, warp {warp}: at least 2 steps and a positive warp were expected")
    share = _warped(steps, warp)
    position = variance_preserving(share, prediction="v_prediction")
    std = position.std.clone()
    std[-1] = float(position.back_std[-1])
    now, after = share[:-1], share[1:]
    spread = torch.linspace(math.log(MOST_TURN), math.log(LEAST_TURN), steps, dtype=torch.float64).exp().square()
    turned = spread
    before = torch.cat([turned[1:], turned.new_zeros(1)])  # of state k + 1, from the loop
    turn = turned - before
    generating = torch.cat([(turn * before / turned)[:-1], turn[-1:]])
    return LoopProcess(
        position=replace(position, std=std),
        keep=now / after,
        kept=after,
        turn=turn,
        turned=turned,
        share=turn / turned,
        spread=generating,
        noising=Walk(turn),
        generating=Walk(generating),
        marginal=Walk(turned),
    )


def _warped(steps: int, warp: float) -> Tensor:
    """Shares of signal, (steps + 1,), rising: the cosine schedule at times k^warp, the last step at most 0.999."""
    if warp == 1.0:
        return cosine_schedule(steps)
    time = torch.linspace(0, 1, steps + 1, dtype=torch.float64) ** warp
    offset = 0.008
    share = torch.cos((time + offset) / (1 + offset) * math.pi / 2).square()
    kept = (share[1:] / share[:-1]).clamp(min=1e-3)
    return torch.cat([torch.ones(1, dtype=torch.float64), kept.cumprod(0)]).flip(0)
