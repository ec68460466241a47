"""The task of bags of letters."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from equipoise.discrete import exact
from equipoise.discrete.environments.bags import BagReward, Bags
from equipoise.discrete.judge import rewards_of
from equipoise.recipes import discrete_configuration
from equipoise.recipes.discrete import DiscreteRun, build, mass_at_least
from equipoise.recipes.rewards import own_reward, wrapped
from equipoise.trajectories import Columns


def bags(config: discrete_configuration.Bags, reward: Callable[..., Tensor] | None = None) -> DiscreteRun:
    """A run on bags.

    Source: Shen et al. 2023, arXiv:2305.07170; their exact target, 27,132 multisets, has log Z 11.76046.

    Raises:
        ValueError: a space too large to list.

    Example:
        >>> bags(discrete_configuration.Bags(size=7, repeats=4)).evaluate()["log_z_exact"]  # doctest: +ELLIPSIS
        9.2938...
    """
    space = Bags(letters=config.letters, full=config.size)
    if space.size > exact.LIMIT:
        raise ValueError(f"bags of {config.size} out of {config.letters} letters: {space.size} states cannot be listed")
    if reward is not None or config.reward != "modes":
        chosen = own_reward(config.reward) if reward is None else wrapped(reward)
        return build(config, space, chosen, show=show_counts)
    own = BagReward(space, repeats=config.repeats, modes=config.modes)
    asked = (rewards_of, mass_at_least(30.0 - 1e-9))
    return build(config, space, own, show=show_counts, state_reward=lambda state: own(state), asked=asked)


def show_counts(objects: Columns) -> list[str]:
    """Bags by their letters, in order."""
    assert isinstance(objects, Tensor)
    letters = [_letter(number) for number in range(objects.shape[1])]
    return ["".join(letter * count for letter, count in zip(letters, bag, strict=True)) for bag in objects.tolist()]


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"[{number}]"
