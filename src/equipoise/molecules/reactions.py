"""Reactions forwards and backwards: products of a molecule, a slot and a block, and the exact parents of a molecule.

Molecules are canonical SMILES without stereo. What was computed is kept by SMILES in bounded tables, which change no
result: what was dropped is computed again.

*Exact parents* of a molecule m made by k reactions are all (parent, slot, block) whose products hold m and whose parent
can itself be made by k - 1 reactions. They are found by reversed templates, looked up among the blocks, and checked by
running the reaction forwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy

from equipoise.molecules.chemistry import Chemistry, rdkit_chem

if TYPE_CHECKING:
    from rdkit.Chem import Mol

NOTHING = -1
"""The block of a template with one reactant."""

LONGEST = 256
"""Characters of a SMILES, at most."""

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, order=True)
class Parent:
    """A way to a molecule: the molecule before, the slot it takes, and the block that is added (or `NOTHING`)."""

    smiles: str
    slot: int
    block: int


class Table(dict[Key, Value]):
    """A dictionary that forgets its oldest half when it is full."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __setitem__(self, key: Key, value: Value) -> None:
        if len(self) >= self.most:
            for old in list(self)[: self.most // 2]:
                del self[old]
        super().__setitem__(key, value)


class Reactions:
    """What can be made of what.

    Args:
        chemistry: templates and blocks.
        most_atoms: heavy atoms of a product, at most.
        most_products: distinct products of one reaction of one pair; where there are more, the first by SMILES.
        reversible: keep only products whose reversed reaction gives the same parent back, so that forward and backward
            steps agree by construction.
        kept: entries of each table.

    Example:
        >>> from equipoise.molecules.chemistry import chemistry
        >>> amide = "[C:1](=[O:2])[OH].[NH2:3][C:4]>>[C:1](=[O:2])[N:3][C:4]"
        >>> made = Reactions(chemistry([amide], ["CC(=O)O", "CN", "NCCN"]))
        >>> made.products("CC(=O)O", 0, 1)
        ('CNC(C)=O',)
        >>> [(parent.smiles, parent.block) for parent in made.parents("CNC(C)=O", 1)]
        [('CC(=O)O', 1), ('CN', 0)]
    """

    def __init__(
        self,
        chemistry: Chemistry,
        *,
        most_atoms: int = 60,
        most_products: int = 32,
        reversible: bool = False,
        kept: int = 400_000,
    ) -> None:
        self.chemistry, self.most_atoms, self.most_products = chemistry, most_atoms, most_products
        self.reversible = reversible
        self.block_mols = [rdkit_chem().MolFromSmiles(block) for block in chemistry.blocks]
        self._mols = Table[str, Any](20_000)
        self._open = Table[str, numpy.ndarray](kept)
        self._products = Table[tuple[str, int, int], tuple[str, ...]](kept)
        self._candidates = Table[str, tuple[Parent, ...]](kept)
        self._proposals = Table[str, tuple[Parent, ...]](kept)
        self._parents = Table[tuple[str, int], tuple[Parent, ...]](kept)
        self._reversed: list[list[Any]] | None = None
        self._slots: list[list[int]] = [[] for _ in chemistry.templates]
        for place, slot in enumerate(chemistry.slots):
            self._slots[slot.template].append(place)

    def __deepcopy__(self, memo: dict[int, Any]) -> Reactions:
        """Itself: copies of what holds it share what is known."""
        return self

    def mol(self, smiles: str) -> Mol:
        """The molecule, parsed."""
        found = self._mols.get(smiles)
        if found is None:
            found = rdkit_chem().MolFromSmiles(smiles)
            self._mols[smiles] = found
        return found

    def open(self, smiles: str) -> numpy.ndarray:
        """(slots,) bool: reactions open to a molecule, by the patterns of both reactants."""
        found = self._open.get(smiles)
        if found is None:
            mol = self.mol(smiles)
            match = numpy.array([mol.HasSubstructMatch(pattern) for pattern in self.chemistry.pattern_mols])
            found = match[self.chemistry.mine] & self.chemistry.open
            self._open[smiles] = found
        return found

    def products(self, smiles: str, slot: int, block: int) -> tuple[str, ...]:
        """Distinct products by SMILES, in order; empty where none is a sound molecule."""
        key = (smiles, slot, block)
        found = self._products.get(key)
        if found is None:
            found = self._run(smiles, slot, block)
            if self.reversible:
                me = Parent(smiles, slot, block)
                found = tuple(product for product in found if self._proposed(product, me))
            self._products[key] = found
        return found

    def parents(self, smiles: str, reactions: int) -> tuple[Parent, ...]:
        """The exact parents of a molecule made by that many reactions, in order; none for 0 reactions.

        Raises:
            ValueError: reactions below 0.
        """
        if reactions < 1:
            return ()
        key = (smiles, reactions)
        found = self._parents.get(key)
        if found is None:
            found = tuple(parent for parent in self.candidates(smiles) if self.reachable(parent.smiles, reactions - 1))
            self._parents[key] = found
        return found

    def known(self, smiles: str, reactions: int) -> bool:
        """Whether `parents` has the answer at hand."""
        return (smiles, reactions) in self._parents

    def learn(self, smiles: str, reactions: int, parents: tuple[Parent, ...]) -> None:
        """Takes over what `parents` of the same chemistry said elsewhere."""
        self._parents[smiles, reactions] = parents

    def reachable(self, smiles: str, reactions: int) -> bool:
        """Whether exactly that many reactions can make it, from a block."""
        if reactions == 0:
            block = self.chemistry.number.get(smiles)
            return block is not None and bool(self.chemistry.starts[block])
        return bool(self.parents(smiles, reactions))

    def candidates(self, smiles: str) -> tuple[Parent, ...]:
        """Parents by reversed templates that lead to the molecule when run forwards, reachable or not."""
        found = self._candidates.get(smiles)
        if found is None:
            # Each was proposed by the molecule itself, so that running it is all that is left of the check.
            found = tuple(way for way in self.proposals(smiles) if smiles in self._made(way))
            self._candidates[smiles] = found
        return found

    def _proposed(self, smiles: str, way: Parent) -> bool:
        """Whether the way is among the molecule's proposals; of those not yet known, its own template's alone."""
        found = self._proposals.get(smiles)
        template = self.chemistry.slots[way.slot].template
        return way in (self._propose(smiles, [template]) if found is None else found)

    def _made(self, way: Parent) -> tuple[str, ...]:
        """The products of a way, those that cannot be reversed among them unless they are known."""
        found = self._products.get((way.smiles, way.slot, way.block))
        return self._run(way.smiles, way.slot, way.block) if found is None else found

    def _run(self, smiles: str, slot: int, block: int) -> tuple[str, ...]:
        where = self.chemistry.slots[slot]
        reaction, mol = self.chemistry.reactions[where.template], self.mol(smiles)
        if where.other is None:
            made = reaction.RunReactants((mol,))
        else:
            partner = self.block_mols[block]
            made = reaction.RunReactants((mol, partner) if where.place == 0 else (partner, mol))
        write = rdkit_chem().MolToSmiles
        # Written before it is made sound: what symmetry makes twice is one string, and is read once.
        raw = {write(products[0], isomericSmiles=False) for products in made}
        found = dict(whole for text in raw if (whole := sound(text, self.most_atoms)) is not None)
        chosen = tuple(sorted(found)[: self.most_products])
        for product in chosen:
            self._mols[product] = found[product]
        return chosen

    def proposals(self, smiles: str) -> tuple[Parent, ...]:
        """Unchecked parents: what reversed templates propose, whose added reactant is a block, in order.

        Some do not lead to the molecule when run forwards, and some cannot be made themselves.
        """
        found = self._proposals.get(smiles)
        if found is None:
            found = tuple(sorted(set(self._propose(smiles, range(len(self._backwards))))))
            self._proposals[smiles] = found
        return found

    def _propose(self, smiles: str, templates: Iterable[int]) -> Iterable[Parent]:
        mol, number = self.mol(smiles), self.chemistry.number
        for template in templates:
            for variant, product in self._backwards[template]:
                if not mol.HasSubstructMatch(product):
                    continue
                for parts in variant.RunReactants((mol,)):
                    names = [name for part in parts if (name := fragment(part)) is not None]
                    if len(names) < len(parts):
                        continue
                    for slot in self._slots[template]:
                        chosen = self.chemistry.slots[slot]
                        block = NOTHING if chosen.other is None else number.get(names[chosen.other], NOTHING)
                        if chosen.other is None or block != NOTHING:
                            yield Parent(names[chosen.place], slot, block)

    @property
    def _backwards(self) -> list[list[Any]]:
        if self._reversed is None:
            self._reversed = [backwards(smarts) for smarts in self.chemistry.templates]
        return self._reversed


def sound(raw: str, most_atoms: int) -> tuple[str, Mol] | None:
    """Canonical SMILES of a product, and the molecule; None where it is not one sound molecule of that size."""
    if "." in raw:
        return None
    chem = rdkit_chem()
    mol = chem.MolFromSmiles(raw)
    if mol is None or mol.GetNumHeavyAtoms() > most_atoms:
        return None
    smiles = chem.MolToSmiles(mol, isomericSmiles=False)
    if "[" in smiles and any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()):
        return None
    return (smiles, mol) if len(smiles) <= LONGEST else None


def canonical(smiles: str) -> str | None:
    """The canonical SMILES without stereo, of a molecule in one piece; else None."""
    chem = rdkit_chem()
    if "." in smiles:
        return None
    mol = chem.MolFromSmiles(smiles)
    return None if mol is None else chem.MolToSmiles(mol, isomericSmiles=False)


def fragment(mol: Mol) -> str | None:
    """Canonical SMILES of what a reversed template leaves, hydrogens filled in; None where that is no molecule."""
    chem = rdkit_chem()
    for fill in (False, True):
        part = chem.Mol(mol)
        for bond in part.GetBonds():  # patterns by element ([#7]~[#6]) leave aromatic bonds between unmarked atoms
            if bond.GetBondType() == chem.BondType.AROMATIC:
                for each in (bond, bond.GetBeginAtom(), bond.GetEndAtom()):
                    each.SetIsAromatic(True)
        for atom in part.GetAtoms():
            atom.SetAtomMapNum(0)
            if fill or not atom.GetIsAromatic():
                atom.SetNoImplicit(False)
                atom.SetNumRadicalElectrons(0)
                atom.SetNumExplicitHs(0)
        try:
            chem.SanitizeMol(part)
        except ValueError:
            continue
        if not any(atom.GetNumRadicalElectrons() for atom in part.GetAtoms()):
            return canonical(chem.MolToSmiles(part, isomericSmiles=False))
    return None


def backwards(smarts: str) -> list[Any]:
    """The reversed reactions of a template, with their product patterns.

    Atoms that a template takes away must be put back: where it allows several, there is one reversed reaction for each.
    """
    rdkit_chem()
    from rdkit.Chem import rdChemReactions

    reactants, _, product = smarts.split(">")  # agents between the arrows take no part
    found = []
    for written in dict.fromkeys((product, relaxed(product))):
        for version in expanded(_leaving(reactants, product)):
            reaction = rdChemReactions.ReactionFromSmarts(f"{written}>>{version}")
            reaction.Initialize()
            found.append((reaction, reaction.GetReactantTemplate(0)))
    return found


def relaxed(product: str) -> str:
    """The pattern of a product whose ring is written without aromatic atoms, by elements and connections alone.

    A ring that is aromatic once it is made does not match as it is written. What then matches too much is dropped by
    running the reaction forwards.
    """
    chem = rdkit_chem()
    pattern = chem.MolFromSmarts(product)
    chem.FastFindRings(pattern)
    if not any(atom.IsInRing() and not atom.GetIsAromatic() for atom in pattern.GetAtoms()):
        return product
    loose = chem.RWMol(pattern)
    for atom in pattern.GetAtoms():
        text, number = atom.GetSmarts(), atom.GetAtomMapNum()
        element = "*" if "," in text or not atom.GetAtomicNum() else f"#{atom.GetAtomicNum()}"
        loose.ReplaceAtom(atom.GetIdx(), chem.AtomFromSmarts(f"[{element}:{number}]" if number else f"[{element}]"))
    for bond in pattern.GetBonds():
        loose.ReplaceBond(bond.GetIdx(), chem.BondFromSmarts("~"))
    return chem.MolToSmarts(loose)


_ATOM = re.compile(r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]")
_NUMBER = re.compile(r":(\d+)\]$")
_ENTRY = r"[A-Z][a-z]?(?:H\d?)?[+-]?"
_LISTED = {
    "[#8;H1,$(O-[CH3])]": ("[OH]", "O-C"),
    "[#8;H1,$(O-[CH3]),$(O-[CH2]-[CH3])]": ("[OH]", "O-C", "O-C-C"),
    "[OH1,$(O(C))]": ("[OH]",),
}


def expanded(reactants: str) -> list[str]:
    """Reactants with every list of leaving atoms, such as [Cl,Br], replaced by each of its entries."""
    versions = [""]
    last = 0
    for match in _ATOM.finditer(reactants):
        versions = [version + reactants[last : match.start()] for version in versions]
        versions = [version + choice for version in versions for choice in _choices(match.group())]
        last = match.end()
    return [version + reactants[last:] for version in versions]


def _leaving(reactants: str, product: str) -> str:
    """Reactants whose atoms have a number only where the product has it too."""
    kept = {number[1] for atom in _ATOM.findall(product) if (number := _NUMBER.search(atom))}

    def plain(atom: re.Match[str]) -> str:
        number = _NUMBER.search(atom[0])
        return atom[0] if number is None or number[1] in kept else f"{atom[0][: number.start()]}]"

    return _ATOM.sub(plain, reactants)


def _choices(atom: str) -> tuple[str, ...]:
    if _NUMBER.search(atom):
        return (atom,)
    if atom in _LISTED:
        return _LISTED[atom]
    simple = re.fullmatch(rf"\[({_ENTRY}(?:,{_ENTRY})+)\]", atom)
    return (atom,) if simple is None else tuple(f"[{entry}]" for entry in simple[1].split(","))
