"""Times gfnx's trajectory balance on bit sequences at any position; needs an interpreter that has gfnx and equinox.

    python benchmarks/peers/gfnx_bits.py --steps 20

The network is gfnx's own encoder (it reads one token more, which begins the sequence), with logits of each word at each
position; the backward policy is uniform.
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
from workloads import Bits


class Placed(eqx.Module):
    """Logits of each word at each position."""

    encoder: gfnx.networks.Encoder
    out: eqx.nn.Linear
    backward_actions: int = eqx.field(static=True)

    def __call__(self, obs: Any) -> dict[str, Any]:
        """One state's logits."""
        encoded = self.encoder(obs, position_ids=jnp.arange(len(obs)), enable_dropout=False)["layers_out"][-1]
        logits = jax.vmap(self.out)(encoded[1:])
        return {"forward_logits": logits.reshape(-1), "backward_logits": jnp.zeros(self.backward_actions)}


def build(work: Bits, options: argparse.Namespace) -> Built:
    """The environment, with gfnx's reward and modes, and its encoder."""
    reward = gfnx.BitseqRewardModule(work.bits, work.word, work.modes, work.exponent)
    env = gfnx.BitseqEnvironment(reward, n=work.bits, k=work.word)
    first, second = jax.random.split(jax.random.key(options.seed))
    encoder = gfnx.networks.Encoder(
        vocab_size=env.ntoken,
        max_length=env.max_length + 1,
        embedding_size=work.width,
        hidden_size=work.width,
        intermediate_size=work.width,
        num_layers=work.blocks,
        num_heads=work.heads,
        dropout_rate=0.0,
        pad_id=-1,  # every position is seen, as in the other libraries: an empty one is a token
        key=first,
    )
    out = eqx.nn.Linear(work.width, 2**work.word, key=second)
    model = Placed(encoder, out, env.backward_action_space.n)
    return built(env, env.init(jax.random.key(1)), model, work, options)


if __name__ == "__main__":
    chosen = parser("gfnx, trajectory balance on bit sequences: milliseconds per step", "bits").parse_args()
    run_worker(build, chosen, library="gfnx", version=version())
