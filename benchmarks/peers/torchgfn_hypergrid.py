"""Times torchgfn's trajectory balance on the hypergrid workload; run it with an interpreter that has torchgfn.

    python benchmarks/peers/torchgfn_hypergrid.py --regime long --steps 100

The network, the shared trunk and the optimiser's two parameter groups are those of torchgfn's own hypergrid example.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from gfn.estimators import DiscretePolicyEstimator
from gfn.gym import HyperGrid
from gfn.preprocessors import KHotPreprocessor
from gfn.utils.modules import MLP

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import Built, run_worker
from peers.torchgfn_loop import begin, built, parser, version
from workloads import Hypergrid


def estimators(env: HyperGrid, work: Hypergrid) -> tuple[DiscretePolicyEstimator, DiscretePolicyEstimator]:
    """The two policies, the forward one at `exit_bias`."""
    encode = KHotPreprocessor(height=env.height, ndim=env.ndim)
    if encode.output_dim is None:
        raise RuntimeError("the preprocessor does not say how wide its output is")
    forward = MLP(encode.output_dim, env.n_actions, hidden_dim=work.hidden, n_hidden_layers=work.hidden_layers)
    backward = MLP(encode.output_dim, env.n_actions - 1, trunk=forward.trunk)
    with torch.no_grad():
        forward.last_layer.weight.zero_()
        forward.last_layer.bias.zero_()
        forward.last_layer.bias[-1] = work.exit_bias  # the exit is the last action
    return (
        DiscretePolicyEstimator(forward, env.n_actions, preprocessor=encode, is_backward=False),
        DiscretePolicyEstimator(backward, env.n_actions, preprocessor=encode, is_backward=True),
    )


def grid(work: Hypergrid) -> HyperGrid:
    """The environment, without what its example computes for validation."""
    r0, r1, r2 = work.rewards
    return HyperGrid(
        ndim=work.dimensions,
        height=work.side,
        reward_fn_str="original",
        reward_fn_kwargs={"R0": r0, "R1": r1, "R2": r2},
        calculate_partition=False,
        store_all_states=False,
        debug=False,
        validate_modes=False,
    )


def build(work: Hypergrid, options: argparse.Namespace) -> Built:
    """The environment, the two policies, the loss and the optimiser."""
    begin(options)
    env = grid(work)
    return built(env, *estimators(env, work), work, options)


if __name__ == "__main__":
    chosen = parser("torchgfn, trajectory balance on a hypergrid: milliseconds per step", "hypergrid").parse_args()
    run_worker(build, chosen, library="torchgfn", version=version())
