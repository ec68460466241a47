"""A graph transformer over molecules, dense, in plain torch: it sees atoms in their places, which fingerprints hide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from equipoise.molecules.proxy import FEATURES, KINDS, graphs
from equipoise.molecules.reactions import Table

if TYPE_CHECKING:
    from rdkit.Chem import Mol

APART, OWN, READER = 0, KINDS + 1, KINDS + 2
"""Relations of two atoms beside the kinds of bonds, 1 to KINDS: none, the atom itself, and the reader with any atom."""

RELATIONS = KINDS + 3


class GraphTransformer(nn.Module):
    """Molecules as vectors: atoms attend to one another, and a reader that is no atom attends to all.

    Each head adds a number of its own to the attention of two atoms for the way they are related: bonded, by kind of
    bond, or not. The vector does not depend on the order of the atoms, nor on the other molecules of a batch.

    Args:
        mol: parses a SMILES.
        out: width of the vectors.
        width: of an atom's state.
        heads: of the attention.
        layers: of attention and a small network each.
        kept: molecules whose graphs are remembered.

    Raises:
        ValueError: a width that the heads do not divide, or no layer.

    Source: Ying et al. 2021, "Do transformers really perform badly for graph representation?", arXiv:2106.05234, for
    the bias by relation and the reader; by bonds alone, without distances.

    Example:
        >>> from equipoise.molecules.chemistry import rdkit_chem
        >>> torch.manual_seed(0) and None
        >>> read = GraphTransformer(rdkit_chem().MolFromSmiles, 8, width=16, layers=1)
        >>> found = read(["OCC", "CCO", ""])
        >>> found.shape, torch.allclose(found[0], found[1], atol=1e-6)
        (torch.Size([3, 8]), True)

    It costs several times what a fingerprint costs: use it where molecules are told apart by where their groups are.
    """

    def __init__(
        self,
        mol: Callable[[str], Mol],
        out: int,
        *,
        width: int = 64,
        heads: int = 4,
        layers: int = 3,
        kept: int = 200_000,
    ) -> None:
        super().__init__()
        if layers < 1 or heads < 1 or width < 1 or width % heads:
            raise ValueError(
                f"width {width}, {heads} heads, {layers} layers: a width that the heads divide was expected"
            )
        self.mol = mol
        self.inward, self.reader = nn.Linear(FEATURES, width), nn.Parameter(torch.randn(width) / width**0.5)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.out, self.last, self.outward = out, nn.LayerNorm(width), nn.Linear(width, out)
        self._graphs = Table[str, tuple[Tensor, Tensor]](kept)

    def forward(self, smiles: Sequence[str]) -> Tensor:
        """(n, out); "" is the reader alone."""
        if not smiles:
            return self.reader.new_zeros((0, self.out))
        atoms, relation, present = self._padded(smiles)
        state = torch.cat([self.reader.expand(len(atoms), 1, -1), self.inward(atoms)], 1)
        for block in self.blocks:
            state = block(state, relation, present)
        return self.outward(self.last(state[:, 0]))

    def _padded(self, smiles: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Atoms (n, most, FEATURES), relations (n, 1 + most, 1 + most), and which places are filled (n, 1 + most)."""
        found = [self._graph(text) for text in smiles]
        count = torch.tensor([len(atoms) for atoms, _ in found])
        most = int(count.max())
        atoms = self.reader.new_zeros((len(found), most, FEATURES))
        relation = torch.full((len(found), 1 + most, 1 + most), READER)
        relation[:, 1:, 1:] = APART
        for row, (features, between) in enumerate(found):
            atoms[row, : len(features)] = features
            relation[row, 1 : 1 + len(features), 1 : 1 + len(features)] = between
        return atoms, relation, torch.arange(1 + most) <= count[:, None]

    def _graph(self, smiles: str) -> tuple[Tensor, Tensor]:
        found = self._graphs.get(smiles)
        if found is None:
            found = _graph(self.mol(smiles)) if smiles else (torch.zeros((0, FEATURES)), torch.zeros((0, 0)).long())
            self._graphs[smiles] = found
        return found


class _Block(nn.Module):
    """Attention with a bias by relation, then a small network; each on what is normed, added to what was."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.bias = nn.Embedding(RELATIONS, heads)
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.asked, self.told = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.small = nn.Sequential(nn.Linear(width, 2 * width), nn.LeakyReLU(), nn.Linear(2 * width, width))

    def forward(self, state: Tensor, relation: Tensor, present: Tensor) -> Tensor:
        """(n, places, width)."""
        n, places, width = state.shape
        query, key, value = self.asked(self.before(state)).view(n, places, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weight = query @ key.transpose(2, 3) / (width / self.heads) ** 0.5 + self.bias(relation).permute(0, 3, 1, 2)
        weight = weight.masked_fill(~present[:, None, None], -torch.inf).softmax(3)
        state = state + self.told((weight @ value).transpose(1, 2).reshape(n, places, width))
        return state + self.small(self.between(state))


def _graph(mol: Any) -> tuple[Tensor, Tensor]:
    """Atoms (a, FEATURES) and their relations (a, a)."""
    found = graphs([mol])
    between = torch.full((len(found.atoms),) * 2, APART)
    for kind, (start, end) in enumerate(found.bonds, 1):
        between[start, end] = kind
    between.fill_diagonal_(OWN)
    return found.atoms, between
