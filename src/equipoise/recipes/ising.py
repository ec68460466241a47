"""The task of spins on a lattice."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from equipoise.discrete.environments.assignments import Assignments
from equipoise.discrete.environments.ising import LARGEST, Energy
from equipoise.recipes import discrete_configuration
from equipoise.recipes.discrete import DiscreteRun, build
from equipoise.recipes.rewards import own_reward, wrapped
from equipoise.trajectories import Columns


def ising(config: discrete_configuration.Ising, reward: Callable[..., Tensor] | None = None) -> DiscreteRun:
    """A run on spins: exactly judged on a side of 2 or 3, else by samples beside the exact log Z.

    Source: Zhang et al. 2022, arXiv:2202.01361.

    Example:
        >>> ising(discrete_configuration.Ising(coupling=0.0)).evaluate()["log_z_exact"]  # doctest: +ELLIPSIS
        6.2383...
    """
    own = Energy(config.side, coupling=config.coupling, field=config.field)
    space = Assignments(positions=config.side**2, values=2)
    if reward is not None or config.reward != "energy":
        chosen = own_reward(config.reward) if reward is None else wrapped(reward)
        return build(config, space, chosen, show=show_spins)
    total = own.log_z if config.side <= LARGEST else None
    return build(config, space, own, show=show_spins, state_reward=lambda state: own(state - 1), total=total)


def show_spins(objects: Columns) -> list[str]:
    """Spins as + and -, row by row."""
    assert isinstance(objects, Tensor)
    return ["".join("-+"[value] for value in spins) for spins in objects.tolist()]
