"""The binding of a molecule to soluble epoxide hydrolase, as a network predicts it.

A message-passing network: atoms h_v, bonds e_vw. Twelve times
m_v = leaky_relu(b + root(h_v) + mean over neighbours of h_w A(e_vw)), h_v <- GRU(m_v, h_v); a set2set readout of three
steps; a line. A(e) is a 64 x 64 matrix of the bond type, so that each is computed once.

Source: Bengio et al. 2021, "Flow network based generative models for non-iterative diverse candidate generation",
arXiv:2106.04399; the network of Gilmer et al. 2017, arXiv:1704.01212.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from equipoise import data
from equipoise.molecules.chemistry import rdkit_chem

WIDTH, ROUNDS, READS = 64, 12, 3
"""Of an atom's state; message steps; steps of the readout."""

KINDS = 4
"""Of bonds: single, double, triple, aromatic."""

FEATURES = 71
"""Of an atom: element H C N O F or another (0-5), aromatic (9), sp sp2 sp3 (10-12), hydrogens (13), number (14-69)."""

HEAVIEST = 56
"""The atomic number up to which an atom has a flag of its own."""

Orientation = Literal["as_trained", "as_published"]


class SEHProxy(nn.Module):
    """Predicted binding of molecules, about 0 to 8, before any scaling.

    The weights were trained where the root matrix multiplies from the right, h W ("as_trained"). Later ports load the
    same square matrix into a layer that computes h W^T ("as_published"); published comparisons of the recursion and
    SynFlowNet line are of that function. On products of reactions the two correlate by 0.8: name the one you used.

    Args:
        weights: the file `seh/proxy.safetensors`; None: found by `equipoise.data`.
        root: which orientation of the root matrix.
        batch: molecules at a time.

    Raises:
        ValueError: an unknown orientation, or weights of other shapes; in a call, a SMILES that cannot be read.

    Example:
        >>> SEHProxy(root="transposed")
        Traceback (most recent call last):
        ValueError: root is 'transposed': 'as_trained' or 'as_published' was expected
    """

    def __init__(
        self, weights: str | Path | None = None, *, root: Orientation = "as_trained", batch: int = 128
    ) -> None:
        super().__init__()
        if root not in ("as_trained", "as_published"):
            raise ValueError(f"root is '{root}': 'as_trained' or 'as_published' was expected")
        held = load_file(data.find("seh_proxy") if weights is None else Path(weights))
        if held.get("conv.root", torch.zeros(())).shape != (WIDTH, WIDTH):
            raise ValueError(f"'{weights}' does not hold the weights of the sEH proxy: conv.root of 64 x 64")
        self.batch, self.root = batch, root
        self.inward = nn.Linear(FEATURES, WIDTH)
        self.edges = nn.Sequential(nn.Linear(KINDS, 128), nn.LeakyReLU(), nn.Linear(128, WIDTH * WIDTH))
        self.gru = nn.GRUCell(WIDTH, WIDTH)
        self.reader = nn.LSTMCell(2 * WIDTH, WIDTH)
        self.outward = nn.Linear(2 * WIDTH, 1)
        self.register_buffer("own", held["conv.root"] if root == "as_trained" else held["conv.root"].T.contiguous())
        self.register_buffer("bias", held["conv.bias"])
        parts = {"inward": "input", "edges": "edge", "outward": "output"}
        state = {
            f"{mine}.{name.split('.', 1)[1]}": value
            for mine, theirs in parts.items()
            for name, value in held.items()
            if name.startswith(f"{theirs}.")
        }
        for cell, theirs in (("gru", "gru"), ("reader", "set2set")):
            state |= {
                f"{cell}.{name.split('.', 1)[1]}": value
                for name, value in held.items()
                if name.startswith(f"{theirs}.")
            }
        self.load_state_dict(state | {"own": self.own, "bias": self.bias})
        self.requires_grad_(False)

    own: Tensor
    bias: Tensor

    @torch.no_grad()
    def forward(self, smiles: Sequence[str]) -> Tensor:
        """Predictions of SMILES, (n,) float32."""
        chem, found = rdkit_chem(), []
        for begin in range(0, len(smiles), self.batch):
            mols = []
            for text in smiles[begin : begin + self.batch]:
                mol = chem.MolFromSmiles(text) if text else None
                if mol is None:
                    raise ValueError(f"'{text}' is no SMILES of a molecule")
                mols.append(mol)
            found.append(self._predicted(graphs(mols)))
        return torch.cat(found) if found else torch.zeros(0)

    def _predicted(self, graphs: Graphs) -> Tensor:
        kinds = self.edges(torch.eye(KINDS)).view(KINDS, WIDTH, WIDTH)
        state = functional.leaky_relu(self.inward(graphs.atoms))
        for _ in range(ROUNDS):
            met = torch.zeros_like(state)
            for matrix, (start, end) in zip(kinds, graphs.bonds, strict=True):
                if len(start):
                    met.index_add_(0, end, state[start] @ matrix)
            message = torch.addmm(self.bias, state, self.own).addcmul_(met, graphs.share)
            state = self.gru(functional.leaky_relu_(message), state)
        return self.outward(self._read(state, graphs.owner, graphs.n))[:, 0]

    def _read(self, state: Tensor, owner: Tensor, n: int) -> Tensor:
        """Set2set: (n, 2 WIDTH)."""
        query = state.new_zeros((n, 2 * WIDTH))
        hidden, cell = state.new_zeros((n, WIDTH)), state.new_zeros((n, WIDTH))
        for _ in range(READS):
            hidden, cell = self.reader(query, (hidden, cell))
            match = (state * hidden[owner]).sum(1)
            most = state.new_full((n,), -torch.inf).scatter_reduce(0, owner, match, "amax")
            weight = (match - most[owner]).exp()
            total = state.new_zeros(n).index_add(0, owner, weight)
            read = torch.zeros_like(hidden).index_add(0, owner, state * (weight / total[owner])[:, None])
            query = torch.cat([hidden, read], 1)
        return query


@dataclass(frozen=True)
class Graphs:
    """Molecules as one graph: atoms (atoms, FEATURES), owner (atoms,) their molecule, share (atoms, 1) one over the
    number of neighbours, bonds by kind as (starts, ends) in both directions, and n molecules."""

    atoms: Tensor
    owner: Tensor
    share: Tensor
    bonds: tuple[tuple[Tensor, Tensor], ...]
    n: int


def graphs(mols: Sequence[Any]) -> Graphs:
    """The molecules as one graph."""
    hot: list[tuple[int, int]] = []
    hydrogens: list[int] = []
    owner: list[int] = []
    starts: list[list[int]] = [[] for _ in range(KINDS)]
    stops: list[list[int]] = [[] for _ in range(KINDS)]
    for molecule, mol in enumerate(mols):
        first = len(owner)
        for atom in mol.GetAtoms():
            row, number = len(owner), atom.GetAtomicNum()
            owner.append(molecule)
            hydrogens.append(atom.GetTotalNumHs())
            hot.append((row, _ELEMENT.get(number, 5)))
            if atom.GetIsAromatic():
                hot.append((row, 9))
            hybrid = _HYBRID.get(int(atom.GetHybridization()))
            if hybrid is not None:
                hot.append((row, hybrid))
            if 1 <= number <= HEAVIEST:
                hot.append((row, 13 + number))
        for bond in mol.GetBonds():
            one, two = first + bond.GetBeginAtomIdx(), first + bond.GetEndAtomIdx()
            kind = _BOND.get(int(bond.GetBondType()), 0)
            starts[kind] += [one, two]
            stops[kind] += [two, one]
    atoms = torch.zeros((len(owner), FEATURES))
    rows, columns = torch.tensor(hot).T
    atoms[rows, columns] = 1.0
    atoms[:, 13] = torch.tensor(hydrogens, dtype=torch.float32)
    bonds = tuple((torch.tensor(a).long(), torch.tensor(b).long()) for a, b in zip(starts, stops, strict=True))
    degree = torch.cat([end for _, end in bonds]).bincount(minlength=len(owner))
    return Graphs(atoms, torch.tensor(owner), 1 / degree.clamp(min=1)[:, None], bonds, len(mols))


_ELEMENT = {1: 0, 6: 1, 7: 2, 8: 3, 9: 4}
_HYBRID = {2: 10, 3: 11, 4: 12}  # rdkit's numbers of sp, sp2, sp3
_BOND = {1: 0, 2: 1, 3: 2, 12: 3}  # rdkit's numbers of single, double, triple, aromatic
