"""The network and sampler that a discrete task's configuration asks for, and what its residual needs of the task."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.contracts import Environment
from equipoise.discrete.autoregressive import AutoregressiveSampler
from equipoise.discrete.environments.assignments import Assignments
from equipoise.discrete.judge import listable
from equipoise.discrete.policies.edges import RelativeEdges
from equipoise.discrete.policies.ensemble import Ensemble, Tempered
from equipoise.discrete.policies.maximum_entropy import MaximumEntropy
from equipoise.discrete.policies.mlp import MLP, Uniform
from equipoise.discrete.policies.separate import Separate
from equipoise.discrete.policies.transformer import CausalTransformer, PlacedTransformer
from equipoise.discrete.policies.wide_and_deep import WideAndDeep
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.recipes.configuration import Discrete
from equipoise.recipes.refinements import OWN_NETWORK
from equipoise.sampling.fixed import GUIDE
from equipoise.sampling.members import Exponents, OneMember
from equipoise.training.balance import STATE_REWARD, Residual

Make = Callable[[Mapping[str, int], int], nn.Module]
"""A task's own policy: (heads, width of the condition) -> module."""


def sampler_of(
    config: Discrete, environment: Environment, residual: Residual, make: Make | None = None
) -> DiscreteSampler:
    """The sampler with the heads that the residual reads; of the task's own policy, where it has one.

    Where each object has one path, a learned backward policy has nothing to choose and is left out.

    Raises:
        ValueError: a transformer over a space that it cannot read, or of layers that differ; a policy with a condition
            that is no MLP; paths of largest entropy over a space that cannot be listed.
    """
    own = config.backward in OWN_NETWORK or GUIDE in residual.needs
    if own and environment.back_actions == 1:
        raise ValueError("each object has one path here, so there is no backward policy to train: leave it uniform")
    if config.backward in OWN_NETWORK and "log_pb" not in residual.needs:
        raise ValueError(
            f"--backward {config.backward} with a residual that reads no backward policy would train nothing: leave it "
            "uniform, or use --method tb, vargrad, db or subtb"
        )
    learned = (config.backward == "learned" or own) and "log_pb" in residual.needs and environment.back_actions > 1
    heads = {"forward": environment.actions}
    if "log_flow" in residual.needs:
        heads["flow"] = 0
    back = {"backward": environment.back_actions} if learned else {}
    apart = bool(back) and (own or config.separate)
    prior = Uniform({"forward": environment.actions}) if "log_prior" in residual.needs else None
    flows = "log_inflow" in residual.needs
    conditions, default = conditions_of(config)
    if config.network == "transformer" and getattr(environment, "appends", False) and make is None:
        if conditions is not None:
            raise ValueError(f"--search {config.search} needs an mlp: its policy is told a condition")
        space: Any = environment
        causal = CausalTransformer(space.letters, space.length, heads | back, widths=config.hidden)
        return AutoregressiveSampler(space, causal, prior=prior, flows=flows)
    main = heads if apart else heads | back
    policy: nn.Module = make(main, _width(default)) if make else _policy(config, environment, main)
    if apart:
        width = _width(default)
        own = make(back, width) if make else MLP(environment.features + width, config.hidden, back)
        policy = Separate(environment, policy, own, condition=width)
    return DiscreteSampler(
        environment,
        policy,
        backward="learned" if back else _fixed(config, environment),
        prior=prior,
        flows=flows,
        condition=None if conditions is None else conditions.features,
        default=default,
    )


def conditions_of(config: Discrete) -> tuple[OneMember | Exponents | None, Tensor | None]:
    """What each trajectory is conditioned on, and the features of the condition in which the sampler is judged."""
    if config.search == "thompson":
        return OneMember(config.members), torch.zeros(config.members)
    if config.search == "temperatures":
        exponents = Exponents(config.beta / config.spread, config.beta * config.spread, config.levels)
        return exponents, torch.tensor([math.log(config.beta)])
    return None, None


def _width(default: Tensor | None) -> int:
    return 0 if default is None else len(default)


def _fixed(config: Discrete, environment: Environment) -> nn.Module | str:
    if config.backward != "maximum_entropy":
        return "uniform"
    if not listable(environment):
        raise ValueError("--backward maximum_entropy counts the paths to every state, and these cannot be listed")
    return MaximumEntropy(environment)


def _policy(config: Discrete, environment: Environment, heads: Mapping[str, int]) -> nn.Module:
    if config.search in CONDITIONED:
        if config.network != "mlp":
            raise ValueError(f"--search {config.search} needs an mlp: its policy is told a condition")
        return CONDITIONED[config.search](config, environment, heads)
    if config.network == "transformer":
        if not isinstance(environment, Assignments):
            raise ValueError(f"a transformer over {type(environment).__name__}: use an mlp")
        size = (environment.positions, environment.values)
        return PlacedTransformer(*size, tuple(heads), widths=config.hidden)
    if config.network == "relative_edges":
        return RelativeEdges(environment, config.hidden, heads)
    if config.network == "wide_and_deep":
        return WideAndDeep(environment, config.hidden, heads)
    return MLP(environment.features, config.hidden, heads)


def _ensemble(config: Discrete, environment: Environment, heads: Mapping[str, int]) -> nn.Module:
    return Ensemble(environment.features, config.hidden, heads, members=config.members)


def _tempered(config: Discrete, environment: Environment, heads: Mapping[str, int]) -> nn.Module:
    return Tempered(environment.features, config.hidden, heads)


CONDITIONED: dict[str, Callable[[Discrete, Environment, Mapping[str, int]], nn.Module]] = {
    "thompson": _ensemble,
    "temperatures": _tempered,
}
"""Policies that read a condition, by the search that gives it."""


def rows_at_once(sampler: DiscreteSampler) -> int | None:
    """Trajectories that are scored at a time with gradients, so that their attention fits the memory; None: all."""
    if not isinstance(sampler.policy, PlacedTransformer):
        return None
    return max(1, 4 * sampler.policy.most // sampler.environment.horizon)


def require_admitted(name: str, residual: Residual, environment: Environment, *, on_the_way: bool) -> None:
    """Holds a residual to what the task has.

    Args:
        name: of the residual.
        residual: what it needs.
        environment: of the task.
        on_the_way: whether the reward is defined on the states on the way.

    Raises:
        ValueError: a residual that compares stops where no action stops, or that reads rewards of unfinished objects
            where there are none.
    """
    if "log_stop" in residual.needs and not environment.stops:
        raise ValueError(
            f"residual '{name}' compares states that can all stop, and here only finished objects end: use it on "
            "hypergrid or peptides, or another residual, such as 'detailed'"
        )
    if STATE_REWARD in residual.needs and not on_the_way:
        raise ValueError(
            f"residual '{name}' reads the reward of unfinished objects, which this task's reward does not have: use it "
            "on hypergrid, peptides, sets, ising, bags or bit_sequences with their own rewards, or another residual, "
            "such as 'detailed'"
        )
