"""Times torchgfn's trajectory balance on strings that grow at their end; needs an interpreter that has torchgfn.

    python benchmarks/peers/torchgfn_strings.py --steps 200

torchgfn has no environment of letters: its bit sequences in words of two bits are such letters, given another reward.
The exit is an action of its own, so that a trajectory has one step more than letters. States are one-hot, as in the
other libraries; torchgfn's own bit-sequence example feeds the words' numbers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from gfn.estimators import DiscretePolicyEstimator
from gfn.gym.bitSequence import BitSequence
from gfn.preprocessors import Preprocessor
from gfn.states import DiscreteStates
from gfn.utils.modules import MLP, DiscreteUniform
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import Built, run_worker
from peers.torchgfn_loop import begin, built, parser, version
from workloads import Strings

BITS_OF_LETTER = 2


class Letters(BitSequence):
    """Strings of 4 letters with a log-reward of one's own, of letters' numbers (n, length)."""

    def __init__(self, length: int, log_reward: Callable[[Tensor], Tensor]) -> None:
        super().__init__(word_size=BITS_OF_LETTER, seq_size=BITS_OF_LETTER * length, n_modes=1, debug=False)
        self.of_letters = log_reward

    def log_reward(self, final_states: DiscreteStates) -> Tensor:
        """log R of finished strings."""
        return self.of_letters(final_states.tensor)

    def reward(self, final_states: DiscreteStates) -> Tensor:
        """R of finished strings."""
        return self.log_reward(final_states).exp()


class OneHot(Preprocessor):
    """Letters as one-hot numbers of 5: 4 letters, and one for an empty place."""

    def __init__(self, length: int) -> None:
        super().__init__(output_dim=5 * length)
        self.table = torch.eye(5)

    def preprocess(self, states: DiscreteStates) -> Tensor:
        """(..., length) -> (..., 5 * length)."""
        return self.table[states.tensor % 5].flatten(-2)


def estimators(
    env: Letters, length: int, hidden: int, hidden_layers: int
) -> tuple[DiscretePolicyEstimator, DiscretePolicyEstimator]:
    """An MLP over one-hot letters, and a uniform backward policy."""
    encode = OneHot(length)
    network = MLP(5 * length, env.n_actions, hidden_dim=hidden, n_hidden_layers=hidden_layers)
    uniform = DiscreteUniform(env.n_actions - 1)
    return (
        DiscretePolicyEstimator(network, env.n_actions, preprocessor=encode, is_backward=False),
        DiscretePolicyEstimator(uniform, env.n_actions, preprocessor=encode, is_backward=True),
    )


def build(work: Strings, options: argparse.Namespace) -> Built:
    """The environment, the two policies, the loss and the optimiser."""
    begin(options)
    assert work.letters == 2**BITS_OF_LETTER
    wanted = torch.arange(work.length) % work.letters
    env = Letters(work.length, lambda letters: work.slope * (letters == wanted).float().mean(-1))
    return built(env, *estimators(env, work.length, work.hidden, work.hidden_layers), work, options)


if __name__ == "__main__":
    chosen = parser("torchgfn, trajectory balance on strings: milliseconds per step", "strings").parse_args()
    run_worker(build, chosen, library="torchgfn", version=version())
