"""What the gfnx workers share: trajectory balance over gfnx's rollouts, compiled whole, as the benchmark times it.

gfnx has environments, rollouts and log-probabilities of trajectories; its training loops are scripts that are not part
of the package. This one keeps what those do in a step (a rollout that keeps no gradients, one pass over all its states,
the squared residual, Adam with a rate of log Z's own) and leaves out their metrics and logging, which favours it. Steps
are run `STEPS_PER_CALL` at a time inside one compiled program, so that no call from Python stands between them.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import gfnx
import jax
import jax.numpy as jnp
import numpy
import optax

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import Built, arguments

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
"""Read when the first array is made, after all imports."""

VARIANTS = ("compiled",)
STEPS_PER_CALL = 10
LARGEST_SCANNED = 64
"""Batches beyond this take so long that a call a step costs nothing."""

Policy = Callable[[Any], dict[str, Any]]
"""One state's observation -> forward_logits (actions,) and backward_logits (backward actions,)."""


def parser(description: str, task: str) -> argparse.ArgumentParser:
    """The worker's options."""
    return arguments(description, task, VARIANTS)


def log_ratio(model: Policy, env: Any, env_params: Any, traj: Any) -> Any:
    """log P_F - log P_B - log R of each trajectory, differentiable in the model."""
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), traj.obs)
    heads = jax.vmap(model)(flat)
    info = jax.tree.map(lambda leaf: leaf.reshape(*traj.pad.shape, *leaf.shape[1:]), heads)
    log_pf, log_pb = gfnx.utils.forward_trajectory_log_probs(env, traj.replace(info=info), env_params)
    log_reward = jnp.where(traj.pad, 0.0, traj.log_gfn_reward).sum(1)
    return log_pf - log_pb - log_reward


def training(
    env: Any, env_params: Any, batch: int, static: Any, epsilon: Callable[[Any], Any] | None = None
) -> tuple[Any, Callable[..., Any]]:
    """The optimiser's moments, and one training step of (carry, rates, step) -> (carry, (loss, lengths)).

    The carry is (key, trained, moments), trained being {"model": arrays, "log_z": number}; rates are (policy, log Z).
    """
    adam = optax.scale_by_adam()

    def act(key: Any, obs: Any, given: tuple[Any, Any]) -> tuple[Any, dict[str, Any]]:
        arrays, share = given
        logits = jax.vmap(eqx.combine(arrays, static))(obs)["forward_logits"]
        if share is not None:  # as in gfnx's loops: a row explores a step as a whole, by logits of 0
            logits = jnp.where(jax.random.bernoulli(key, share, (len(logits), 1)), 0.0, logits)
        return logits, {}

    def loss_of(trained: dict[str, Any], traj: Any) -> Any:
        residual = trained["log_z"] + log_ratio(eqx.combine(trained["model"], static), env, env_params, traj)
        return 0.5 * jnp.square(residual).mean()

    def step(carry: Any, rates: Any, number: Any) -> Any:
        key, trained, moments = carry
        key, draw = jax.random.split(key)
        share = None if epsilon is None else epsilon(number)
        traj, info = gfnx.utils.forward_rollout(draw, batch, act, (trained["model"], share), env, env_params)
        loss, gradient = jax.value_and_grad(loss_of)(trained, traj)
        direction, moments = adam.update(gradient, moments)
        moved = {
            name: jax.tree.map(lambda old, by, rate=rate: old - rate * by, trained[name], direction[name])
            for name, rate in (("model", rates[0]), ("log_z", rates[1]))
        }
        return (key, moved, moments), (loss, info["trajectory_length"])

    return adam, step


def built(env: Any, env_params: Any, model: Any, work: Any, options: argparse.Namespace) -> Built:
    """The step over an environment and a policy."""
    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    each = STEPS_PER_CALL if work.batch <= LARGEST_SCANNED else 1
    adam, one = training(env, env_params, work.batch, static)

    @jax.jit
    def several(carry: Any, rates: Any) -> Any:
        return jax.lax.scan(lambda inner, number: one(inner, rates, number), carry, jnp.arange(each))

    trained = {"model": arrays, "log_z": jnp.zeros(())}
    held = {"carry": (jax.random.key(options.seed), trained, adam.init(trained)), "rates": jnp.zeros(2)}

    def step() -> tuple[float, numpy.ndarray]:
        held["carry"], (loss, lengths) = several(held["carry"], held["rates"])
        return float(loss.mean()), numpy.asarray(lengths).reshape(-1)

    def set_learning_rates(policy: float, log_z: float) -> None:
        held["rates"] = jnp.array([policy, log_z])

    settings = f"compiled whole, {each} steps a call; rows are padded to the longest trajectory possible"
    return Built(step, set_learning_rates, lambda: flat(held["carry"][1]), settings, framework(), steps_per_call=each)


def flat(trained: Any) -> numpy.ndarray:
    """All parameters in one array."""
    return numpy.concatenate([numpy.asarray(leaf).reshape(-1) for leaf in jax.tree.leaves(trained)])


def framework() -> str:
    """What the library computes with."""
    return f"jax {jax.__version__}, equinox {eqx.__version__}"


def version() -> str:
    """The installed version."""
    return importlib.metadata.version("gfnx")
