"""The task of building sets."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from equipoise.discrete.environments.sets import Additive, Sets
from equipoise.recipes import discrete_configuration
from equipoise.recipes.discrete import DiscreteRun, build
from equipoise.recipes.rewards import own_reward, wrapped
from equipoise.trajectories import Columns


def sets(config: discrete_configuration.Sets, reward: Callable[..., Tensor] | None = None) -> DiscreteRun:
    """A run on sets: exactly judged where they can be listed, else by samples beside the exact log Z.

    Source: Pan et al. 2023, arXiv:2302.01687.

    Example:
        >>> sets(discrete_configuration.Sets(elements=5, size=2)).evaluate()["log_z_exact"]  # doctest: +ELLIPSIS
        3.3676...
    """
    space = Sets(elements=config.elements, full=config.size)
    if reward is not None or config.reward != "additive":
        chosen = own_reward(config.reward) if reward is None else wrapped(reward)
        return build(config, space, chosen, show=show_elements)
    own = Additive(elements=config.elements)

    def total(beta: float) -> float:
        return own.log_z(config.size, beta)

    return build(config, space, own, show=show_elements, state_reward=lambda state: own(state), total=total)


def show_elements(objects: Columns) -> list[str]:
    """Sets by their elements' numbers."""
    assert isinstance(objects, Tensor)
    return [" ".join(str(number) for number, flag in enumerate(flags) if flag) for flags in objects.tolist()]
