"""The task of molecules made by reactions."""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise import data
from equipoise.contracts import Reward, Source
from equipoise.discrete.sampled_judge import SampledJudge
from equipoise.molecules.chemistry import Chemistry, cache_folder, read_chemistry, unpacked
from equipoise.molecules.evaluation import molecule_figures
from equipoise.molecules.found import Found
from equipoise.molecules.graph import MoleculeSpace
from equipoise.molecules.policy import ReactionPolicy
from equipoise.molecules.reactions import Reactions
from equipoise.molecules.rewards import MoleculeReward, of_smiles, score
from equipoise.molecules.routes import RouteSpace
from equipoise.molecules.routes_text import Route, routes_of, sdf
from equipoise.molecules.space import ReactionSpace, smiles_of
from equipoise.molecules.workers import Workers
from equipoise.recipes.discrete import DiscreteRun, build
from equipoise.recipes.molecules_configuration import Molecules
from equipoise.recipes.rewards import own_function
from equipoise.training.folder import write_whole
from equipoise.trajectories import Columns

SETS = {
    "rgfn-small": ("rgfn_templates", "rgfn_blocks"),
    "hb-zinc10k": ("hartenfeller_button_105", "zinc22_fragments_10k"),
}
"""The data sets of each chemistry: templates, blocks."""

COPIES = ("templates.txt", "blocks.txt")
"""A run's copies of a user's own files, in its folder's `chemistry`."""

THRESHOLD = 7 / 8
"""R from which a molecule counts as good: a prediction of 7."""


@dataclass(frozen=True)
class MoleculesRun(DiscreteRun):
    """A run on molecules, whose samples are also written as CSV, SMILES and SDF, with their routes.

    Attributes:
        files: a user's own templates and blocks.
    """

    files: tuple[Path, ...] = ()

    def prepare(self, folder: Path | None) -> None:
        """Says what the chemistry holds, lists what it leaves out, keeps its files: a policy knows blocks by place."""
        super().prepare(folder)
        chemistry: Chemistry = self.sampler.environment.chemistry  # type: ignore[attr-defined]
        print(f"chemistry: {chemistry.summary()}", file=sys.stderr)
        if folder is None:
            return
        held = folder / "chemistry"
        held.mkdir(exist_ok=True)
        write_whole(held / "unused_blocks.txt", "".join(f"{block}\n" for block in chemistry.unused).encode())
        for name, path in zip(COPIES, self.files, strict=False):
            write_whole(held / name, unpacked(path))

    @property
    def formats(self) -> dict[str, Callable[[int, torch.Generator], str]]:
        """By a file's ending: (n, generator) -> its text."""
        return {".csv": self._csv, ".smi": self._smi, ".sdf": self._sdf}

    def drawn(self, n: int, generator: torch.Generator) -> tuple[list[Route], Tensor]:
        """Routes of n trajectories drawn on-policy, and their (n,) log R."""
        found = self.sampler.sample(n, generator=generator)
        return routes_of(self.sampler.environment, found), self.reward(found.objects, None)

    def _csv(self, n: int, generator: torch.Generator) -> str:
        held = io.StringIO()
        writer = csv.writer(held, lineterminator="\n")
        writer.writerow(["smiles", "reward", "log_reward", "reactions", "route"])
        for route, value in self._rows(n, generator):
            writer.writerow([route.product, f"{reward_at(value):.6g}", f"{value:.6g}", len(route.steps), route.text()])
        return held.getvalue()

    def _smi(self, n: int, generator: torch.Generator) -> str:
        return "".join(f"{route.product} {place}\n" for place, (route, _) in enumerate(self._rows(n, generator), 1))

    def _sdf(self, n: int, generator: torch.Generator) -> str:
        return sdf(
            [
                (route.product, {"log_reward": f"{value:.6g}", "route": route.text()})
                for route, value in self._rows(n, generator)
            ]
        )

    def _rows(self, n: int, generator: torch.Generator) -> list[tuple[Route, float]]:
        """What did not fail."""
        routes, value = self.drawn(n, generator)
        return [(route, number) for route, number in zip(routes, value.tolist(), strict=True) if route.product]


def molecules(config: Molecules, reward: Callable[..., Tensor] | None = None) -> MoleculesRun:
    """A run on molecules made by reactions; `evaluate` adds the figures of `equipoise.molecules.evaluation`.

    Raises:
        ValueError: a template, a block or a reward that cannot be read; data that cannot be found.
        ImportError: rdkit is not installed.
    """
    chosen = reward_of(config, reward)
    merged = config.state == "molecule"
    reactions = Reactions(chemistry_of(config), most_atoms=config.most_atoms, reversible=merged)
    space: ReactionSpace
    workers = Workers(reactions, config.workers) if config.workers else None
    if merged:
        space = MoleculeSpace(reactions, most=config.reactions, exact=config.parents == "exact", workers=workers)
    else:
        space = RouteSpace(reactions, most=config.reactions)

    def policy(heads: Mapping[str, int], condition: int) -> nn.Module:
        graph, edges = config.network == "transformer", config.choices()[0] == "flow_matching"
        return ReactionPolicy(space, config.hidden, heads, condition=condition, graph=graph, edges=edges)

    def asked(judge: Any) -> dict[str, float]:
        return molecule_figures(judge.sampler, chosen) if isinstance(judge, SampledJudge) else {}

    def watch(source: Source) -> Found:
        return Found(source, threshold=math.log(THRESHOLD))

    built = build(config, space, chosen, show=show_molecules, asked=(asked,), policy=policy, watch=watch)
    run = built.run if workers is None else replace(built.run, close=workers.close)
    return MoleculesRun(**{**vars(built), "run": run}, files=own_files(config))


def own_files(config: Molecules) -> tuple[Path, ...]:
    """A user's templates and blocks: the copies that a run has, else those named; none of a known chemistry."""
    if len(config.chemistry) == 1:
        return ()
    copies = tuple((config.out or Path()) / "chemistry" / name for name in COPIES)
    begun = config.out is not None and all(path.is_file() for path in copies)
    return copies if begun else tuple(Path(name) for name in config.chemistry)


def chemistry_of(config: Molecules) -> Chemistry:
    """The templates and blocks that a configuration names, matched once and kept in the cache."""
    known = SETS.get(config.chemistry[0], ())
    templates, blocks = own_files(config) or (data.find(name, config.data) for name in known)
    return read_chemistry(templates, blocks, cache=cache_folder())


def reward_of(config: Molecules, reward: Callable[..., Tensor] | None = None) -> Reward:
    """log R of molecules, remembered by SMILES."""
    if reward is not None:
        name = f"{reward.__module__}:{getattr(reward, '__qualname__', 'reward')}"
        return of_smiles(reward, disk=config.rewards_file, name=name)
    if ":" in config.reward:
        return of_smiles(own_function(config.reward), disk=config.rewards_file, name=config.reward)
    return MoleculeReward(score(config.reward, config.data), disk=config.rewards_file, name=config.reward)


def reward_at(log_reward: float) -> float:
    """R; infinite where it is more than a number holds."""
    return math.exp(log_reward) if log_reward < 709 else math.inf


def show_molecules(objects: Columns) -> list[str]:
    """SMILES; '-' for what failed."""
    return [smiles or "-" for smiles in smiles_of(objects)]
