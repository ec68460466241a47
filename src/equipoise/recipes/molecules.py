"""The task of molecules made by reactions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from equipoise import data
from equipoise.contracts import Reward
from equipoise.discrete.sampled_judge import SampledJudge
from equipoise.molecules.chemistry import Chemistry, cache_folder, read_chemistry
from equipoise.molecules.evaluation import molecule_figures
from equipoise.molecules.graph import MoleculeSpace
from equipoise.molecules.policy import FingerprintPolicy
from equipoise.molecules.reactions import Reactions
from equipoise.molecules.rewards import MoleculeReward, of_smiles, score
from equipoise.molecules.routes import RouteSpace
from equipoise.molecules.space import smiles_of
from equipoise.recipes.discrete import DiscreteRun, build
from equipoise.recipes.molecules_configuration import Molecules
from equipoise.recipes.rewards import own_function
from equipoise.trajectories import Columns

SETS = {
    "rgfn-small": ("rgfn_templates", "rgfn_blocks"),
    "hb-zinc10k": ("hartenfeller_button_105", "zinc22_fragments_10k"),
}
"""The data sets of each chemistry: templates, blocks."""


def molecules(config: Molecules, reward: Callable[..., Tensor] | None = None) -> DiscreteRun:
    """A run on molecules made by reactions; `evaluate` adds the figures of `equipoise.molecules.evaluation`.

    Raises:
        ValueError: a template, a block or a reward that cannot be read; data that cannot be found.
        ImportError: rdkit is not installed.
    """
    chosen = reward_of(config, reward)
    exact = config.state == "molecule"
    reactions = Reactions(chemistry_of(config), most_atoms=config.most_atoms, reversible=exact)
    space = (MoleculeSpace if exact else RouteSpace)(reactions, most=config.reactions)

    def policy(heads: Mapping[str, int], condition: int) -> nn.Module:
        return FingerprintPolicy(space, config.hidden, heads, condition=condition, trunk=_trunk(config))

    def asked(judge: Any) -> dict[str, float]:
        return molecule_figures(judge.sampler, chosen) if isinstance(judge, SampledJudge) else {}

    return build(config, space, chosen, show=show_molecules, asked=(asked,), policy=policy)


def chemistry_of(config: Molecules) -> Chemistry:
    """The templates and blocks that a configuration names, matched once and kept in the cache."""
    if len(config.chemistry) == 2:
        templates, blocks = (Path(name) for name in config.chemistry)
    else:
        templates, blocks = (data.find(name, config.data) for name in SETS[config.chemistry[0]])
    return read_chemistry(templates, blocks, cache=cache_folder())


def reward_of(config: Molecules, reward: Callable[..., Tensor] | None = None) -> Reward:
    """log R of molecules, remembered by SMILES."""
    if reward is not None or ":" in config.reward:
        function = own_function(config.reward) if reward is None else reward
        return of_smiles(function, disk=config.rewards_file)
    return MoleculeReward(score(config.reward, config.data), disk=config.rewards_file)


def show_molecules(objects: Columns) -> list[str]:
    """SMILES; '-' for what failed."""
    return [smiles or "-" for smiles in smiles_of(objects)]


def _trunk(config: Molecules) -> nn.Module | None:
    if config.network != "transformer":
        return None
    raise ValueError("network 'transformer' is not there")
