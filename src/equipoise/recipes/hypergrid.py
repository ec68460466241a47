"""The hypergrid task."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from equipoise.contracts import Reward
from equipoise.discrete import exact
from equipoise.discrete.corners import corner_modes
from equipoise.discrete.environments.hypergrid import LANDSCAPES, PUBLISHED, Hypergrid, corners
from equipoise.discrete.judge import published_l1
from equipoise.recipes import configuration
from equipoise.recipes.discrete import DiscreteRun, build
from equipoise.recipes.mappings import nearest
from equipoise.recipes.rewards import own_reward, wrapped
from equipoise.trajectories import Columns

CORNERS = ("corners", "easy", "hard", "deceptive")
"""Landscapes whose highest reward is in a ring at each corner."""


def hypergrid(config: configuration.Hypergrid, reward: Callable[..., Tensor] | None = None) -> DiscreteRun:
    """A run on the hypergrid.

    Source: settings of Malkin et al. 2022, appendix B.1, arXiv:2201.13259: batch 16, two hidden layers of 256 shared
    by both policies, Adam with learning rate 1e-3 and 1e-1 for log Z. Differs in that learning rates fall to 0.

    Example:
        >>> hypergrid(configuration.Hypergrid(steps=10)).evaluate()["log_z_exact"]  # doctest: +ELLIPSIS
        3.10906...
    """
    if config.dim > 0 and config.side > 1 and config.dim * math.log(config.side) > math.log(exact.LIMIT / 2):
        raise ValueError(f"a grid of dim {config.dim} and side {config.side} has more than {exact.LIMIT // 2} points")
    environment = Hypergrid(dim=config.dim, side=config.side)
    chosen = _reward(config) if reward is None else wrapped(reward)
    modes = corner_modes(dim=config.dim, side=config.side) if reward is None and config.reward in CORNERS else None

    def state_reward(state: Tensor) -> Tensor:
        return chosen(environment.objects(state), None)

    return build(config, environment, chosen, state_reward=state_reward, show=_show, modes=modes, asked=(published_l1,))


def _show(objects: Columns) -> list[str]:
    assert isinstance(objects, Tensor)
    return [" ".join(map(str, point)) for point in objects.tolist()]


def _reward(config: configuration.Hypergrid) -> Reward:
    if ":" in config.reward:
        return own_reward(config.reward)
    if config.reward not in (*LANDSCAPES, *PUBLISHED):
        known = (*LANDSCAPES, *PUBLISHED)
        raise ValueError(
            f"reward '{config.reward}'{nearest(config.reward, known)}: one of {', '.join(known)}, or module:function, "
            "such as mine:reward for the function 'reward' of a file mine.py"
        )
    if config.reward in PUBLISHED:
        if config.rewards != configuration.Hypergrid.rewards:
            raise ValueError(
                f"reward '{config.reward}' has R0 R1 R2 of its own, {PUBLISHED[config.reward]}: leave out --rewards, "
                "or give them with --reward corners"
            )
        return corners(config.side, *PUBLISHED[config.reward])
    most = 2 if config.reward == "cosine" else 3
    default = config.rewards == configuration.Hypergrid.rewards
    given = config.rewards[:most] if default else config.rewards
    if not 1 <= len(given) <= most:
        raise ValueError(f"rewards are {config.rewards}: 1 to {most} numbers were expected, R0 first")
    return LANDSCAPES[config.reward](config.side, *given)
