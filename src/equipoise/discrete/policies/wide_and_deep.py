"""A network that generalises over states beside a table that remembers each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.contracts import Environment
from equipoise.discrete.policies.mlp import MLP

GAIN = 3.0
"""How much more the table's entries count than their own steps: a line is seen rarely, and is to learn from that."""

MASK = (1 << 64) - 1


class WideAndDeep(nn.Module):
    """Heads of a state s are MLP(s) + gain * table[hash(s)]: a deep part for what states share, a wide one beside it.

    The table is a linear layer over one feature, all of the state's numbers crossed, hashed to one of its lines; it
    begins at 0. A small network comes as near to R / Z as rewards are a smooth function of the features, and measured
    rewards are not; the table holds what is left, state by state.

    Source: Cheng et al. 2016, "Wide & deep learning for recommender systems", arXiv:1606.07792; crossed features by
    hashing, Weinberger et al. 2009, "Feature hashing for large scale multitask learning", arXiv:0902.2206.

    Args:
        environment: whose states, rows of integers, are scored.
        hidden: widths of the deep part's layers.
        heads: name and width of each output; a head of width 0 is a scalar, (n,).
        lines: of the table, a power of two; states that share one are remembered together.
        gain: factor of the table, which multiplies how fast it learns.

    Raises:
        ValueError: no hidden layer, or a number of lines that is no power of two.

    Example:
        >>> from equipoise.discrete.environments.strings import PrependAppendStrings
        >>> words = PrependAppendStrings(letters=2, length=3)
        >>> policy = WideAndDeep(words, (16,), {"forward": words.actions, "flow": 0}, lines=1024)
        >>> {name: tuple(out.shape) for name, out in policy(words.initial(5), None).items()}
        {'forward': (5, 4), 'flow': (5,)}

    Use it with replay, where states are met again and again, and where states number up to some times `lines`. In a
    space in which no state is met twice it is an MLP that costs more.
    """

    on_states = True

    def __init__(
        self,
        environment: Environment,
        hidden: tuple[int, ...],
        heads: Mapping[str, int],
        *,
        lines: int = 1 << 18,
        gain: float = GAIN,
    ) -> None:
        super().__init__()
        if lines < 1 or lines & (lines - 1):
            raise ValueError(f"lines is {lines}: a power of two was expected, as {1 << 18}")
        self.environment, self.gain = environment, gain
        self.deep = MLP(environment.features, hidden, heads)
        self.table = nn.Parameter(torch.zeros(lines, sum(self.deep.widths)))
        width = environment.initial(1).shape[1]
        factors = torch.tensor([_signed(_mixed(place) | 1) for place in range(1, width + 1)])
        self.factors: Tensor
        self.register_buffer("factors", factors, persistent=False)

    def forward(self, state: Tensor, condition: Tensor | None) -> dict[str, Tensor]:
        return self._beside(self.deep(self.environment.encode(state)), state)

    @property
    def products(self) -> int:
        """Of the deep part; the table is looked up again."""
        return self.deep.products

    def keeping(self, state: Tensor, condition: Tensor | None) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The heads, and the products of the deep part."""
        deep, kept = self.deep.keeping(self.environment.encode(state))
        return self._beside(deep, state), kept

    def recalled(self, products: Sequence[Tensor], state: Tensor, condition: Tensor | None) -> dict[str, Tensor]:
        """The heads with the gradient of `forward`, from those products."""
        return self._beside(self.deep.recalled(products, self.environment.encode(state)), state)

    def _beside(self, deep: Mapping[str, Tensor], state: Tensor) -> dict[str, Tensor]:
        wide = functional.embedding(self.line(state), self.table) * self.gain
        parts = zip(self.deep.heads.items(), wide.split(self.deep.widths, dim=1), strict=True)
        return {name: deep[name] + (part if width else part[:, 0]) for (name, width), part in parts}

    def line(self, state: Tensor) -> Tensor:
        """(n,) the line of each state, the same in every process."""
        crossed = ((state + 1) * self.factors).sum(1)
        crossed = (crossed ^ (crossed >> 29)) * _signed(_mixed(0) | 1)
        return (crossed >> 32) & (len(self.table) - 1)


def _mixed(number: int) -> int:
    """64 bits that depend on all of the number's (the finaliser of SplitMix64)."""
    found = (number + 1) * 0x9E3779B97F4A7C15 & MASK
    found = (found ^ (found >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    found = (found ^ (found >> 27)) * 0x94D049BB133111EB & MASK
    return found ^ (found >> 31)


def _signed(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits
