"""The policy of molecules made by reactions: a network whose logits are products with embeddings.

A state is its molecule, by its fingerprint or by a graph transformer, the kind of state, the reactions so far, the slot
and the block chosen, and the condition where there is one. A block's logit is the product of the state's vector with
the block's: a line of the block's fingerprint plus a vector of its own, so that blocks that look alike are learned
together. Where several products are possible each is embedded by its fingerprint too. States that have no
choice are not evaluated, unless flows are asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.molecules.attention import GraphTransformer
from equipoise.molecules.reactions import Parent
from equipoise.molecules.space import BITS, BLOCK, ENDED, MOLECULE, SLOT, START, View


class ReactionPolicy(nn.Module):
    """Heads "forward", "flow" and "backward" over a space of molecules, as asked for.

    Args:
        space: `RouteSpace`, `MoleculeSpace`, or one of them listed.
        hidden: widths of the hidden layers.
        heads: names, with their widths as elsewhere; "flow" is a scalar.
        width: of the vectors whose products are logits.
        condition: features of the condition, 0 where there is none.
        graph: whether a graph transformer reads the molecule of a state, in place of its fingerprint.
        edges: whether "forward" is the log flow of edges, as flow matching has it, whose level counts too: every state
            is evaluated, those without a choice among them.

    Raises:
        ValueError: no hidden layer.

    Source: block embeddings by fingerprint, Cretu et al. 2024, "SynFlowNet", arXiv:2405.01155.

    A fingerprint is cheap; a graph transformer sees what it hides, at several times the cost.
    """

    on_states = True

    def __init__(
        self,
        space: Any,
        hidden: tuple[int, ...],
        heads: Mapping[str, int],
        *,
        width: int = 64,
        condition: int = 0,
        graph: bool = False,
        edges: bool = False,
    ) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise ValueError(f"hidden layers {hidden}: give at least one positive width, for example (256, 256)")
        self.space, self.heads, self.width = space, dict(heads), width
        self.molecule: nn.Module
        if graph:
            self.molecule = GraphTransformer(space.reactions.mol, hidden[0])
        else:
            self.molecule = _Fingerprints(space.bits, hidden[0])
        self.kind, self.count = nn.Embedding(5, hidden[0]), nn.Embedding(space.most + 1, hidden[0])
        self.slot = nn.Embedding(space.slots, hidden[0])
        self.block = nn.Linear(width, hidden[0], bias=False)
        self.condition = nn.Linear(condition, hidden[0]) if condition else None
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(hidden))
        self.pieces = _Bits(width)
        self.own = nn.Embedding(space.blocks, width)
        nn.init.normal_(self.own.weight, std=0.1)
        self.take = nn.Linear(hidden[-1], width)
        self.keep = nn.Linear(hidden[-1], width)
        self.choose = nn.Linear(hidden[-1], 1 + space.slots)
        self.level = nn.Linear(hidden[-1], 1) if edges else None
        if "flow" in self.heads:
            self.flow = nn.Linear(hidden[-1], 1)
        if "backward" in self.heads:
            self.part, self.last = nn.Linear(hidden[-1], width), nn.Linear(hidden[-1], space.most)
            self.reaction = nn.Embedding(space.slots, width)
        bags = [space.bits(block) for block in space.chemistry.blocks]
        self._bags = _joined(bags)

    def forward(self, state: Tensor, condition: Tensor | None) -> dict[str, Tensor]:
        """Heads at packed states."""
        seen = self.space.view(state)
        wanted = self._wanted(seen)
        vector = self._vectors(seen, wanted, condition)
        place = torch.full((len(state),), -1)
        place[wanted] = torch.arange(len(wanted))
        found: dict[str, Tensor] = {}
        if "forward" in self.heads:
            found["forward"] = self._forward(seen, vector, place)
        if "flow" in self.heads:
            found["flow"] = self.flow(vector)[:, 0]
        if "backward" in self.heads:
            found["backward"] = self._backward(seen, vector, place)
        return found

    def _wanted(self, seen: View) -> Tensor:
        """Rows that have a choice; all of them where flows are asked for, of states or of edges."""
        if "flow" in self.heads or self.level is not None:
            return torch.arange(len(seen.kind))
        ahead, back = "forward" in self.heads, "backward" in self.heads
        wanted = seen.kind < BLOCK if ahead else torch.zeros_like(seen.kind, dtype=torch.bool)
        if back:
            wanted = wanted | (seen.kind == ENDED) | ((seen.kind == MOLECULE) & (seen.reactions > 0))
        if ahead:
            for row in seen.rows(BLOCK):
                wanted[row] = len(self.space.products(seen, row)) > 1
        return wanted.nonzero()[:, 0]

    def _vectors(self, seen: View, rows: Tensor, condition: Tensor | None) -> Tensor:
        smiles = [seen.smiles[row] for row in rows.tolist()]
        entered = self.molecule(smiles) + self.kind(seen.kind[rows]) + self.count(seen.reactions[rows])
        chosen = seen.slot[rows] >= 0
        if chosen.any():
            entered = entered.index_add(0, chosen.nonzero()[:, 0], self.slot(seen.slot[rows][chosen]))
        block = seen.block[rows]
        if (block >= 0).any():
            added = self.block(self._these(block[block >= 0]))
            entered = entered.index_add(0, (block >= 0).nonzero()[:, 0], added)
        if self.condition is not None and condition is not None:
            entered = entered + self.condition(condition[rows])
        vector = functional.leaky_relu(entered)
        for layer in self.layers:
            vector = functional.leaky_relu(layer(vector))
        return vector

    def _forward(self, seen: View, vector: Tensor, place: Tensor) -> Tensor:
        logits = vector.new_zeros((len(seen.kind), self.space.actions))
        adds = ((seen.kind == START) | (seen.kind == SLOT)).nonzero()[:, 0]
        if len(adds):
            scores = self.take(vector[place[adds]]) @ self._blocks().T / self.width**0.5
            padding = self.space.actions - 1 - self.space.blocks
            logits = logits.index_copy(0, adds, functional.pad(scores, (1, padding)))
        chooses = (seen.kind == MOLECULE).nonzero()[:, 0]
        if len(chooses):
            padding = self.space.actions - 1 - self.space.slots
            scores = functional.pad(self.choose(vector[place[chooses]]), (0, padding))
            logits = logits.index_copy(0, chooses, scores)
        logits = self._products(seen, vector, place, logits)
        return logits if self.level is None else logits + self.level(vector)

    def _products(self, seen: View, vector: Tensor, place: Tensor, logits: Tensor) -> Tensor:
        rows, columns, bags = [], [], []
        for row in seen.rows(BLOCK):
            products = self.space.products(seen, row)
            if len(products) > 1:
                rows += [row] * len(products)
                columns += range(1, 1 + len(products))
                bags += [self.space.bits(product) for product in products]
        if not rows:
            return logits
        scores = (self.keep(vector[place[rows]]) * self.pieces(bags)).sum(1) / self.width**0.5
        return logits.index_put((torch.tensor(rows), torch.tensor(columns)), scores)

    def _blocks(self) -> Tensor:
        """(blocks, width)."""
        return self.pieces.joined(*self._bags) + self.own.weight

    def _these(self, block: Tensor) -> Tensor:
        """(n, width), of blocks by number: of some thousands few are asked for at a time."""
        number, row = block.unique(return_inverse=True)
        bits = [self.space.bits(self.space.chemistry.blocks[one]) for one in number.tolist()]
        return (self.pieces(bits) + self.own(number))[row]

    def _backward(self, seen: View, vector: Tensor, place: Tensor) -> Tensor:
        logits = vector.new_zeros((len(seen.kind), self.space.back_actions))
        ended = (seen.kind == ENDED).nonzero()[:, 0]
        if len(ended):
            scores = functional.pad(self.last(vector[place[ended]]), (0, self.space.back_actions - self.space.most))
            logits = logits.index_copy(0, ended, scores)
        rows, columns, ways = [], [], []
        self.space.foresee(seen)
        for row in seen.rows(MOLECULE):
            if seen.reactions[row] > 0:
                found = self.space.ways(seen.smiles[row], int(seen.reactions[row]))
                rows += [row] * len(found)
                columns += range(len(found))
                ways += found
        if not rows:
            return logits
        scores = (self.part(vector[place[rows]]) * self._ways(ways)).sum(1) / self.width**0.5
        return logits.index_put((torch.tensor(rows), torch.tensor(columns)), scores)

    def _ways(self, ways: Sequence[Parent]) -> Tensor:
        """(n, width): the slot, the block and the molecule before."""
        slot = self.reaction(torch.tensor([way.slot for way in ways]))
        block = torch.tensor([way.block for way in ways])
        blocks = torch.where((block >= 0)[:, None], self._these(block.clamp(min=0)), 0.0)
        return slot + blocks + self.pieces([self.space.bits(way.smiles) for way in ways])


class _Bits(nn.Module):
    """A line of a fingerprint, from the bits that are set."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(BITS, width) / 40**0.5)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, bits: Sequence[Tensor]) -> Tensor:
        """Of rows that are given as their bits."""
        return self.joined(*_joined(bits))

    def joined(self, bits: Tensor, first: Tensor) -> Tensor:
        """Of all bits after one another, and where each row's begin."""
        return functional.embedding_bag(bits, self.weight, first, mode="sum") + self.bias


class _Fingerprints(nn.Module):
    """The same, of molecules; "" has no bits."""

    def __init__(self, bits: Callable[[str], Tensor], width: int) -> None:
        super().__init__()
        self.bits, self.line = bits, _Bits(width)

    def forward(self, smiles: Sequence[str]) -> Tensor:
        """(n, width)."""
        return self.line([self.bits(text) if text else _NONE for text in smiles])


_NONE = torch.zeros(0, dtype=torch.int64)


def _joined(bits: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    if not bits:
        return _NONE, _NONE
    counts = torch.tensor([0, *(len(row) for row in bits[:-1])])
    return torch.cat(list(bits)), counts.cumsum(0)
