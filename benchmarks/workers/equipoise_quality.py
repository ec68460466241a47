"""Trains Equipoise to a given exact total variation, on the hypergrid or on TFBind8, by its own default settings.

python benchmarks/workers/equipoise_quality.py --target hypergrid
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import exact_tv
from measure import NotAvailable
from quality import GRID, GRID_REWARDS, LENGTH, LETTERS, not_available, options, race
from workers.equipoise_loop import VARIANTS, in_variant, version


def made(chosen: argparse.Namespace) -> tuple[Any, torch.Tensor, str]:
    """The run, the states to judge at, and the settings in words."""
    from equipoise.recipes import configuration
    from equipoise.recipes.hypergrid import hypergrid
    from equipoise.recipes.tfbind8 import tfbind8

    if chosen.target == "hypergrid":
        config = configuration.Hypergrid(
            dim=GRID["dimensions"], side=GRID["side"], rewards=GRID_REWARDS, steps=20_000, seed=chosen.seed
        )
        states = torch.from_numpy(exact_tv.grid_states(**GRID))
        states = torch.cat([states, torch.zeros((len(states), 1), dtype=torch.int64)], 1)
        settings = "the task's defaults, 20,000 steps as in `equipoise reproduce malkin2022`"
        return hypergrid(in_variant(config, chosen.variant)), states, settings
    config = configuration.TFBind8(seed=chosen.seed, data=chosen.data)
    states = torch.from_numpy(exact_tv.string_prefixes(LETTERS, LENGTH)) + 1
    return tfbind8(in_variant(config, chosen.variant)), states, "the task's defaults: `equipoise train tfbind8`"


def main() -> None:
    """Trains until the target is reached and prints the JSON line."""
    chosen = options("Equipoise: seconds to a given total variation.", VARIANTS)
    torch.set_num_threads(1)
    library = f"equipoise {version()}"
    try:
        built, states, settings = made(chosen)
    except NotAvailable as reason:
        not_available(chosen, library, str(reason))
        return
    from equipoise.training.loop import Loop

    warnings.filterwarnings("error", message="--compile", category=RuntimeWarning)  # it would go on in eager
    loop = Loop(built.run)
    built.prepare(None)

    def advance(steps: int) -> None:
        for _ in range(steps):
            loop.advance()

    @torch.no_grad()
    def export() -> Any:
        return built.sampler.log_edges(states)["log_pf"].numpy()

    chosen.most = min(chosen.most, built.run.steps)
    race(chosen, advance, export, library=library, settings=settings)


if __name__ == "__main__":
    main()
