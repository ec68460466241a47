"""Trains gfnx to a given exact total variation, on the hypergrid or on TFBind8, by the settings of its baselines.

    python benchmarks/peers/gfnx_quality.py --target hypergrid

Settings: `baselines/configs/tb_hypergrid.yaml` and `tb_tfbind.yaml` of github.com/d-tiapkin/gfnx (batch 16, Adam at
1e-3 and 0.1 for log Z; hidden layers of 256, two and three; a learned backward policy on the grid; on TFBind8
exploration from 1 to 0 over 50,000 steps). Their reward of the grid is another: here it is the benchmark's. Steps
between two judgements are one compiled program.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import exact_tv
from peers.gfnx_hypergrid import grid, policy
from peers.gfnx_loop import VARIANTS, training, version
from peers.gfnx_strings import policy as letters_policy
from peers.gfnx_strings import strings
from quality import GRID, GRID_REWARDS, LENGTH, LETTERS, options, race, tfbind8_log_reward
from workloads import Hypergrid

BATCH, RATES = 16, (1e-3, 1e-1)
EXPLORED_STEPS = 50_000


def made(chosen: argparse.Namespace) -> tuple[Any, Any, Any, Any, str]:
    """Environment, model, exploration by step, observations of all states, and the settings in words."""
    key = jax.random.key(chosen.seed)
    if chosen.target == "hypergrid":
        work = Hypergrid(**GRID, rewards=GRID_REWARDS)
        points = exact_tv.grid_states(**GRID)
        seen = numpy.eye(GRID["side"], dtype=numpy.float32)[points].reshape(len(points), -1)
        return grid(work), policy(work, key), None, jnp.asarray(seen), "baselines/configs/tb_hypergrid.yaml"
    table = jnp.asarray(tfbind8_log_reward(chosen.data), jnp.float32)
    places = LETTERS ** jnp.arange(LENGTH - 1, -1, -1)
    env = strings(LETTERS, LENGTH, lambda tokens: table[(tokens * places).sum(-1)])
    prefixes = exact_tv.string_prefixes(LETTERS, LENGTH)
    begun = numpy.concatenate(
        [numpy.full((len(prefixes), 1), LETTERS + 1), numpy.where(prefixes < 0, LETTERS, prefixes)], 1
    )

    def epsilon(step: Any) -> Any:
        return jnp.maximum(0.0, 1.0 - step / EXPLORED_STEPS)

    model = letters_policy(LETTERS, LENGTH, 256, 3, key)
    return env, model, epsilon, jnp.asarray(begun), "baselines/configs/tb_tfbind.yaml"


def main() -> None:
    """Trains until the target is reached and prints the JSON line."""
    chosen = options("gfnx: seconds to a given total variation.", VARIANTS)
    env, model, epsilon, seen, settings = made(chosen)
    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    adam, one = training(env, env.init(jax.random.key(1)), BATCH, static, epsilon)
    rates = jnp.array(RATES)
    trained = {"model": arrays, "log_z": jnp.zeros(())}
    held = {"carry": (jax.random.key(chosen.seed), trained, adam.init(trained)), "step": 0}

    @jax.jit
    def several(carry: Any, numbers: Any) -> Any:
        return jax.lax.scan(lambda inner, number: (one(inner, rates, number)[0], None), carry, numbers)[0]

    def advance(steps: int) -> None:
        first = held["step"]
        held["carry"] = jax.block_until_ready(several(held["carry"], jnp.arange(first, first + steps)))
        held["step"] = first + steps

    judged = jax.jit(lambda arrays: jax.vmap(eqx.combine(arrays, static))(seen)["forward_logits"])
    library = f"gfnx {version()}"
    race(chosen, advance, lambda: judged(held["carry"][1]["model"]), library=library, settings=settings)


if __name__ == "__main__":
    main()
