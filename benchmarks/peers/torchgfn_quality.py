"""Trains torchgfn to a given exact total variation, on the hypergrid or on TFBind8, by the settings of its examples.

    python benchmarks/peers/torchgfn_quality.py --target hypergrid

Settings: `tutorials/examples/train_hypergrid_simple.py` of github.com/GFNOrg/torchgfn (batch 16, two hidden layers of
256, a learned backward policy sharing the trunk, Adam at 1e-3 and 0.1 for log Z, no exploration, gradients clipped at
1), with log-probabilities kept while sampling, as there (`example`); or (`recompute`) in the way that is fastest. It
has no TFBind8: the same settings, three hidden layers as gfnx's baseline has, a uniform backward policy.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from gfn.gflownet import TBGFlowNet
from gfn.samplers import Sampler

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import exact_tv
from peers.torchgfn_hypergrid import estimators as grid_estimators
from peers.torchgfn_hypergrid import grid
from peers.torchgfn_loop import begin, version
from peers.torchgfn_strings import Letters
from peers.torchgfn_strings import estimators as letters_estimators
from quality import GRID, GRID_REWARDS, LENGTH, LETTERS, options, race, tfbind8_log_reward
from workloads import Hypergrid

BATCH, RATE, LOG_Z_RATE, CLIP = 16, 1e-3, 1e-1, 1.0
VARIANTS = ("recompute", "example")


def made(chosen: argparse.Namespace) -> tuple[Any, Any, Any, torch.Tensor, str]:
    """Environment, both estimators, all states, and the settings in words."""
    if chosen.target == "hypergrid":
        work = Hypergrid(**GRID, rewards=GRID_REWARDS)
        env = grid(work)
        forward, backward = grid_estimators(env, work)
        return env, forward, backward, torch.from_numpy(exact_tv.grid_states(**GRID)), "train_hypergrid_simple.py"
    table = torch.from_numpy(tfbind8_log_reward(chosen.data)).float()
    places = LETTERS ** torch.arange(LENGTH - 1, -1, -1)
    env = Letters(LENGTH, lambda letters: table[(letters * places).sum(-1)])
    forward, backward = letters_estimators(env, LENGTH, 256, 3)
    states = torch.from_numpy(exact_tv.string_prefixes(LETTERS, LENGTH))
    return env, forward, backward, states, "train_hypergrid_simple.py, three hidden layers, one-hot letters"


def main() -> None:
    """Trains until the target is reached and prints the JSON line."""
    chosen = options("torchgfn: seconds to a given total variation.", VARIANTS)
    example = chosen.variant == "example"
    begin(argparse.Namespace(seed=chosen.seed, plain=example))
    env, forward, backward, states, settings = made(chosen)
    model = TBGFlowNet(pf=forward, pb=backward, init_logZ=0.0)
    sampler = Sampler(estimator=forward)
    optimiser = torch.optim.Adam(model.pf_pb_parameters(), lr=RATE, fused=None if example else True)
    optimiser.add_param_group({"params": model.logz_parameters(), "lr": LOG_Z_RATE})

    def advance(steps: int) -> None:
        for _ in range(steps):
            with torch.set_grad_enabled(example):
                drawn = sampler.sample_trajectories(env, n=BATCH, save_logprobs=example, save_estimator_outputs=False)
            optimiser.zero_grad()
            loss = model.loss(env, drawn, recalculate_all_logprobs=not example)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimiser.step()

    @torch.no_grad()
    def export() -> Any:
        logits = forward(env.states_from_tensor(states))
        return logits[:, : LETTERS if chosen.target == "tfbind8" else None].numpy()

    race(chosen, advance, export, library=f"torchgfn {version()}", settings=f"{chosen.variant}: {settings}")


if __name__ == "__main__":
    main()
