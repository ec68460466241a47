"""Times gfnx's trajectory balance on strings that grow at their end; needs an interpreter that has gfnx and equinox.

python benchmarks/peers/gfnx_strings.py --steps 300
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from gfnx.base import BaseRewardModule
from gfnx.environment.sequence import FixedAutoregressiveSequenceEnvironment

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import Built, run_worker
from peers.gfnx_loop import built, parser, version
from workloads import Strings


class LogReward(BaseRewardModule):
    """A log-reward of letters' numbers (n, length)."""

    def __init__(self, of_letters: Callable[[Any], Any]) -> None:
        self.of_letters = of_letters

    def init(self, rng_key: Any, dummy_state: Any) -> None:
        """There are no parameters."""

    def log_reward(self, state: Any, env_params: Any) -> Any:
        """log R of finished strings."""
        return self.of_letters(state.tokens)

    def reward(self, state: Any, env_params: Any) -> Any:
        """R of finished strings."""
        return jnp.exp(self.log_reward(state, env_params))


class Perceptron(eqx.Module):
    """Logits of the next letter, from one-hot letters with one more symbol for an empty place; one backward action."""

    network: eqx.nn.MLP
    letters: int = eqx.field(static=True)

    def __call__(self, obs: Any) -> dict[str, Any]:
        """One state's logits; the first token, which begins the string, says nothing."""
        features = jax.nn.one_hot(obs[1:], self.letters + 1).reshape(-1)
        return {"forward_logits": self.network(features), "backward_logits": jnp.zeros(1)}


def strings(letters: int, length: int, of_letters: Callable[[Any], Any]) -> FixedAutoregressiveSequenceEnvironment:
    """The environment: letters, then the numbers of what is empty, begins and ends."""
    return FixedAutoregressiveSequenceEnvironment(
        LogReward(of_letters),
        max_length=length,
        nchar=letters,
        ntoken=letters + 3,
        pad_token=letters,
        bos_token=letters + 1,
        eos_token=letters + 2,
    )


def policy(letters: int, length: int, hidden: int, layers: int, key: Any) -> Perceptron:
    """The perceptron as it is initialised."""
    return Perceptron(eqx.nn.MLP((letters + 1) * length, letters, hidden, layers, key=key), letters)


def build(work: Strings, options: argparse.Namespace) -> Built:
    """The environment with the workload's reward."""
    wanted = jnp.arange(work.length) % work.letters
    env = strings(work.letters, work.length, lambda tokens: work.slope * (tokens == wanted).mean(-1))
    model = policy(work.letters, work.length, work.hidden, work.hidden_layers, jax.random.key(options.seed))
    return built(env, env.init(jax.random.key(1)), model, work, options)


if __name__ == "__main__":
    chosen = parser("gfnx, trajectory balance on strings: milliseconds per step", "strings").parse_args()
    run_worker(build, chosen, library="gfnx", version=version())
