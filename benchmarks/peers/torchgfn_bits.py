"""Times torchgfn's trajectory balance on bit sequences at any position; needs an interpreter that has torchgfn.

    python benchmarks/peers/torchgfn_bits.py --steps 20

torchgfn brings the environment; its transformer is causal, so the bidirectional one is PyTorch's own encoder. Its exit
is an action of its own, taken once all positions are filled: a trajectory has one step more than positions.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gfn.estimators import DiscretePolicyEstimator
from gfn.gym.bitSequenceNonAutoregressive import NonAutoregressiveBitSequence
from gfn.preprocessors import IdentityPreprocessor
from gfn.utils.modules import DiscreteUniform
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import Built, run_worker
from peers.torchgfn_loop import begin, built, parser, version
from workloads import Bits


class Encoder(nn.Module):
    """Logits of each word at each position, and one of 0 for the exit, which is never a choice."""

    def __init__(self, work: Bits) -> None:
        super().__init__()
        self.input_dim, self.words = work.positions, 2**work.word
        self.word, self.place = nn.Embedding(self.words + 1, work.width), nn.Embedding(work.positions, work.width)
        block = nn.TransformerEncoderLayer(
            work.width, work.heads, work.width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, work.blocks, nn.LayerNorm(work.width), enable_nested_tensor=False)
        self.out = nn.Linear(work.width, self.words)

    def forward(self, states: Tensor) -> Tensor:
        """Words as numbers, -1 where there is none, (..., positions) -> (..., positions * words + 1)."""
        shape, states = states.shape[:-1], states.reshape(-1, states.shape[-1])
        rows = self.word((states % (self.words + 1)).long()) + self.place.weight  # -1 is the last word
        logits = self.out(self.blocks(rows)).flatten(1)
        return nn.functional.pad(logits, (0, 1)).view(*shape, -1)


def build(work: Bits, options: argparse.Namespace) -> Built:
    """The environment, the transformer, a uniform backward policy, the loss and the optimiser."""
    begin(options)
    env = NonAutoregressiveBitSequence(
        word_size=work.word, seq_size=work.bits, n_modes=work.modes, reward_exponent=work.exponent, debug=False
    )
    encode = IdentityPreprocessor(output_dim=work.positions)
    forward = DiscretePolicyEstimator(Encoder(work), env.n_actions, preprocessor=encode, is_backward=False)
    uniform = DiscreteUniform(env.n_actions - 1)
    backward = DiscretePolicyEstimator(uniform, env.n_actions, preprocessor=encode, is_backward=True)
    return built(env, forward, backward, work, options)


if __name__ == "__main__":
    chosen = parser("torchgfn, trajectory balance on bit sequences: milliseconds per step", "bits").parse_args()
    run_worker(build, chosen, library="torchgfn", version=version())
