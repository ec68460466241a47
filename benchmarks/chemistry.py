"""Checks the chemistry by drawing: molecules are sound, routes replay, walks over exact parents reach the start.

    python benchmarks/chemistry.py --json chemistry.json

For each chemistry, uniform actions make `--draws` molecules of at most three reactions; all are read and sanitised
again by rdkit, and `--routes` of their routes are run again from the blocks. Then `--walks` molecules of at most two
reactions are walked back, by a uniform choice among their exact parents, and among what reversed templates propose.
Trajectories that ended in a failed object, which holds no molecule, are counted and left out. Seconds are the process's
own.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from equipoise.discrete.policies.mlp import Uniform
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.molecules.evaluation import backward_reach, replay_rate, sound_share
from equipoise.molecules.graph import MoleculeSpace
from equipoise.molecules.reactions import Reactions
from equipoise.molecules.routes import RouteSpace
from equipoise.molecules.space import smiles_of
from equipoise.recipes.molecules import chemistry_of
from equipoise.recipes.molecules_configuration import CHEMISTRIES, Molecules

AT_ONCE = 500
"""Trajectories drawn at a time."""


def uniform(space: Any) -> DiscreteSampler:
    """Every allowed action as likely as any other."""
    return DiscreteSampler(space, Uniform({"forward": space.actions}))


def forwards(reactions: Reactions, draws: int, routes: int, generator: torch.Generator) -> dict[str, float]:
    """Molecules drawn at random, read again; the first of them with their routes."""
    sampler, began = uniform(RouteSpace(reactions, most=3)), time.process_time()
    smiles: list[str] = []
    held, right = 0, 0.0
    while len(smiles) < draws:
        drawn = sampler.sample(min(AT_ONCE, draws - len(smiles)), generator=generator)
        good = torch.tensor([bool(text) for text in smiles_of(drawn.objects)])
        some = drawn[good.nonzero()[: routes - held, 0]]
        held, right = held + len(some), right + len(some) * replay_rate(sampler, some)
        smiles += smiles_of(drawn.objects)
    made = [text for text in smiles if text]
    return {
        "draws": len(smiles),
        "failed": len(smiles) - len(made),
        "sound": sound_share(made),
        "routes": held,
        "replayed": right / max(held, 1),
        "forwards_seconds": time.process_time() - began,
    }


def backwards(reactions: Reactions, walks: int, generator: torch.Generator) -> dict[str, float]:
    """Shares of walks back that reach the start, over exact and over unchecked parents."""
    began = time.process_time()
    samplers = {exact: uniform(MoleculeSpace(reactions, most=2, exact=exact)) for exact in (True, False)}
    drawn = samplers[True].sample(walks, generator=generator)
    found = {
        "exact": backward_reach(samplers[True], drawn, generator),
        "unchecked": backward_reach(samplers[False], drawn, generator),
    }
    walked = sum(map(bool, smiles_of(drawn.objects)))
    return {**found, "walks": walked, "backwards_seconds": time.process_time() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description="Checks the chemistry by drawing.")
    parser.add_argument("--chemistry", nargs="+", default=CHEMISTRIES, choices=CHEMISTRIES, help="which to check")
    parser.add_argument("--draws", type=int, default=10_000, help="molecules drawn")
    parser.add_argument("--routes", type=int, default=1_000, help="of them, those whose routes are run again")
    parser.add_argument("--walks", type=int, default=1_000, help="molecules walked back")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for name in options.chemistry:
        chemistry = chemistry_of(Molecules(chemistry=(name,)))
        generator = torch.Generator().manual_seed(0)
        figures = forwards(Reactions(chemistry), options.draws, options.routes, generator)
        figures |= backwards(Reactions(chemistry, reversible=True), options.walks, generator)
        found[name] = figures
        print(f"{name}: " + ", ".join(f"{key} {value:g}" for key, value in figures.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
