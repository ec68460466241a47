"""A run on a chemistry that can be listed, judged exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from equipoise.molecules.chemistry import Chemistry
from equipoise.molecules.listing import ListedMolecules, ListedRoutes
from equipoise.molecules.policy import ReactionPolicy
from equipoise.molecules.reactions import Reactions
from equipoise.molecules.rewards import MoleculeReward, qed
from equipoise.recipes.discrete import DiscreteRun, build
from equipoise.recipes.molecules import show_molecules
from equipoise.recipes.molecules_configuration import Molecules
from molecules.small import listable


def run_on(chemistry: Chemistry | None = None, *, state: str = "molecule", **settings: Any) -> DiscreteRun:
    """Molecules of at most two reactions, R = QED / 0.7 at most 1, to the power of beta, here 4."""
    exact = state == "molecule"
    reactions = Reactions(listable() if chemistry is None else chemistry, reversible=exact)
    space = (ListedMolecules if exact else ListedRoutes)(reactions, most=2)
    given = {"batch": 64, "beta": 4.0, "hidden": (256, 256), "epsilon": 0.1, "learning_rate": 3e-3, **settings}
    config = Molecules(reactions=2, **given).resolved()

    def policy(heads: Mapping[str, int], condition: int) -> nn.Module:
        edges = config.choices()[0] == "flow_matching"
        return ReactionPolicy(space, config.hidden, heads, condition=condition, edges=edges)

    return build(config, space, MoleculeReward(qed), show=show_molecules, policy=policy)
