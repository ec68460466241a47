"""Times gfnx's trajectory balance on the hypergrid workload; run it with an interpreter that has gfnx and equinox.

python benchmarks/peers/gfnx_hypergrid.py --regime long --steps 100
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import equinox as eqx
import gfnx
import jax
import jax.numpy as jnp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import Built, run_worker
from peers.gfnx_loop import built, parser, version
from workloads import Hypergrid


class Shared(eqx.Module):
    """Both policies from one perceptron of one-hot coordinates."""

    network: eqx.nn.MLP
    actions: int = eqx.field(static=True)

    def __call__(self, obs: Any) -> dict[str, Any]:
        """One state's logits."""
        out = self.network(obs)
        return {"forward_logits": out[: self.actions], "backward_logits": out[self.actions :]}


def grid(work: Hypergrid) -> gfnx.HypergridEnvironment:
    """The environment with the workload's reward."""
    r0, r1, r2 = work.rewards
    reward = gfnx.GeneralHypergridRewardModule(R0=r0, R1=r1, R2=r2)
    return gfnx.HypergridEnvironment(reward, dim=work.dimensions, side=work.side)


def policy(work: Hypergrid, key: Any) -> Shared:
    """The perceptron as it is initialised."""
    features, actions = work.dimensions * work.side, work.dimensions + 1
    network = eqx.nn.MLP(features, actions + work.dimensions, work.hidden, work.hidden_layers, key=key)
    return Shared(network, actions)


def _last(model: Shared) -> tuple[Any, Any]:
    out = model.network.layers[-1]
    return out.weight, out.bias


def build(work: Hypergrid, options: argparse.Namespace) -> Built:
    """The environment and a policy whose forward output is 0 but for the exit's bias."""
    env = grid(work)
    model = policy(work, jax.random.key(options.seed))
    out, exit_action = model.network.layers[-1], work.dimensions
    weight = out.weight.at[: model.actions].set(0.0)
    bias = out.bias.at[: model.actions].set(0.0).at[exit_action].set(jnp.float32(work.exit_bias))
    model = eqx.tree_at(_last, model, (weight, bias))
    return built(env, env.init(jax.random.key(1)), model, work, options)


if __name__ == "__main__":
    chosen = parser("gfnx, trajectory balance on a hypergrid: milliseconds per step", "hypergrid").parse_args()
    run_worker(build, chosen, library="gfnx", version=version())
