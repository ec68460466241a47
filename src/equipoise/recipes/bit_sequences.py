"""The task of bit sequences near hidden modes."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from equipoise.discrete.environments import bits
from equipoise.discrete.environments.nearness import ball_masses, log_total
from equipoise.discrete.sampled_judge import SampledJudge
from equipoise.evaluation.coverage import found_by_chance, within
from equipoise.recipes import discrete_configuration
from equipoise.recipes.discrete import DiscreteRun, build
from equipoise.recipes.mappings import nearest
from equipoise.recipes.rewards import own_reward, wrapped
from equipoise.trajectories import Columns


def bit_sequences(
    config: discrete_configuration.BitSequences, reward: Callable[..., Tensor] | None = None
) -> DiscreteRun:
    """A run on bit sequences. What is found of the 60 modes is counted while it trains; `evaluate` adds how many of
    them a perfect sampler would find by as many draws, and how log p(x) goes with the target over the test set: over
    600 of its sequences, or 119 where log p(x) must be estimated.

    Source: Malkin et al. 2022, appendix B.3, arXiv:2201.13259; Tiapkin et al. 2024, arXiv:2310.12934.

    Raises:
        ValueError: bits that are no multiple of 8 or of the word, or an unknown reward.
    """
    space = bits.FORMS[config.form](bits=config.bits, word=config.word)
    modes = bits.modes(config.bits)
    found = within(modes, config.threshold)
    if reward is not None or ":" in config.reward:
        chosen = own_reward(config.reward) if reward is None else wrapped(reward)
        return build(config, space, chosen, show=show_bits, modes=found)
    if config.reward not in bits.LOG_REWARDS:
        known = ", ".join(bits.LOG_REWARDS)
        raise ValueError(
            f"reward '{config.reward}'{nearest(config.reward, bits.LOG_REWARDS)}: one of {known}, or module:function"
        )
    near = bits.Nearness(config.reward, modes)

    def correlated(judge: object) -> dict[str, float]:
        every = 12 if config.form == "left_to_right" else 61  # of either, flips of many sizes remain
        return judge.correlations(bits.held_out(modes)[::every]) if isinstance(judge, SampledJudge) else {}

    def expected(judge: object) -> dict[str, float]:
        masses = ball_masses(near.function, modes, config.beta, config.threshold)
        return {"modes_found_perfect": found_by_chance(masses, config.steps * config.batch)}

    return build(
        config,
        space,
        near,
        show=show_bits,
        state_reward=lambda state: near.on_the_way(space, state),
        modes=found,
        total=lambda beta: log_total(near.function, modes, beta),
        asked=(correlated, expected),
    )


def show_bits(objects: Columns) -> list[str]:
    """Sequences of 0 and 1."""
    assert isinstance(objects, Tensor)
    return ["".join(map(str, sequence)) for sequence in objects.tolist()]
