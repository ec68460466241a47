"""A chemistry: reaction templates and building blocks, and which block fits which reactant of which template.

A template is a reaction SMARTS of one or two reactants and one product. A *slot* is a template with the place that the
molecule takes in it; a block takes the other place, where there is one. Stereo marks, isotopes and atom numbers are
removed from blocks, since the templates say nothing of them; blocks that become equal are one. Blocks in several
pieces, such as salts, are left out: products would be in pieces too, or take atoms from two of them.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

if TYPE_CHECKING:
    from rdkit.Chem import Mol

FORMAT = 1
"""Of the cached matches: raised when their meaning changes."""


def rdkit_chem() -> Any:
    """`rdkit.Chem`, quiet.

    Raises:
        ImportError: rdkit is not installed.
    """
    if not _CHEM:
        try:
            from rdkit import Chem, RDLogger
        except ImportError as error:
            raise ImportError("molecules need rdkit: pip install 'equipoise[molecules]'") from error
        RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
        _CHEM.append(Chem)
    return _CHEM[0]


_CHEM: list[Any] = []


@dataclass(frozen=True)
class Slot:
    """A template and the place of the molecule in it; `other` is the block's place, None of one reactant."""

    template: int
    place: int
    other: int | None


@dataclass(frozen=True)
class Chemistry:
    """Templates and the blocks that fit them.

    Attributes:
        templates: reaction SMARTS.
        blocks: canonical SMILES without stereo and isotopes, in the order given; each can begin a route or be added.
        fits: (blocks, patterns) whether a block matches a reactant pattern.
        unused: SMILES of blocks that are left out: they fit no template, or are in several pieces.
        merged: how many blocks were equal to another, or became so without stereo and isotopes.
    """

    templates: tuple[str, ...]
    blocks: tuple[str, ...]
    fits: numpy.ndarray = field(repr=False)
    unused: tuple[str, ...] = ()
    merged: int = 0

    @cached_property
    def reactions(self) -> list[Any]:
        """The templates as rdkit's reactions."""
        return [_parsed(smarts, f"template {place}") for place, smarts in enumerate(self.templates)]

    @cached_property
    def patterns(self) -> tuple[str, ...]:
        """Distinct reactant patterns of all templates, without atom numbers."""
        return tuple(dict.fromkeys(name for names in self._names for name in names))

    @cached_property
    def pattern_mols(self) -> list[Mol]:
        """The patterns, parsed."""
        return [rdkit_chem().MolFromSmarts(pattern) for pattern in self.patterns]

    @cached_property
    def _names(self) -> list[list[str]]:
        return [[_without_numbers(mol) for mol in reaction.GetReactants()] for reaction in self.reactions]

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """Every template with every place of the molecule in it, in order."""
        found = []
        for template, names in enumerate(self._names):
            others = (None,) if len(names) == 1 else (1, 0)
            found += [Slot(template, place, other) for place, other in enumerate(others)]
        return tuple(found)

    @cached_property
    def mine(self) -> numpy.ndarray:
        """(slots,) the pattern that the molecule must match."""
        number = {name: place for place, name in enumerate(self.patterns)}
        return numpy.array([number[self._names[slot.template][slot.place]] for slot in self.slots])

    @cached_property
    def partners(self) -> numpy.ndarray:
        """(slots, blocks) whether a block matches the other reactant; none of a template with one reactant."""
        number = {name: place for place, name in enumerate(self.patterns)}
        found = numpy.zeros((len(self.slots), len(self.blocks)), dtype=bool)
        for place, slot in enumerate(self.slots):
            if slot.other is not None:
                found[place] = self.fits[:, number[self._names[slot.template][slot.other]]]
        return found

    @cached_property
    def open(self) -> numpy.ndarray:
        """(slots,) whether the other reactant can be had: some block fits it, or there is none."""
        alone = numpy.array([slot.other is None for slot in self.slots])
        return numpy.logical_or(alone, self.partners.any(axis=1))

    @cached_property
    def starts(self) -> numpy.ndarray:
        """(blocks,) whether some reaction is open to the block as the molecule."""
        return numpy.any(self.fits[:, self.mine] & self.open, axis=1)

    @cached_property
    def number(self) -> dict[str, int]:
        """The place of each block."""
        return {smiles: place for place, smiles in enumerate(self.blocks)}

    def summary(self) -> str:
        """Counts, and which blocks were left out."""
        words = f"{len(self.templates)} templates, {len(self.blocks)} blocks"
        if self.merged:
            words += f"; {self.merged} blocks are equal to others without stereo and isotopes"
        pieces = [block for block in self.unused if "." in block]
        alone = [block for block in self.unused if "." not in block]
        for blocks, why in ((alone, "fit no template"), (pieces, "are in several pieces")):
            if blocks:
                shown = ", ".join(blocks[:5]) + (", ..." if len(blocks) > 5 else "")
                words += f"; {len(blocks)} blocks {why} and are left out: {shown}"
        return words


def chemistry(templates: Sequence[str], blocks: Sequence[str], *, cache: Path | None = None) -> Chemistry:
    """A chemistry of reaction SMARTS and block SMILES.

    Args:
        templates: reaction SMARTS of one or two reactants and one product.
        blocks: SMILES.
        cache: folder in which the matches of blocks and patterns are kept, by a hash of the content; None: computed.

    Raises:
        ValueError: a template or a block that cannot be read, by its number and text; no block that fits.

    Example:
        >>> amide = "[C:1](=[O:2])[OH].[NH2:3][C:4]>>[C:1](=[O:2])[N:3][C:4]"
        >>> made = chemistry([amide], ["CC(=O)O", "CN", "CCC"])
        >>> made.blocks, made.unused
        (('CC(=O)O', 'CN'), ('CCC',))
    """
    return _made(
        [(f"template {n}", text) for n, text in enumerate(templates, 1)],
        [(f"block {n}", text) for n, text in enumerate(blocks, 1)],
        cache,
    )


def read_chemistry(templates: Path, blocks: Path, *, cache: Path | None = None) -> Chemistry:
    """A chemistry of two files, plain or gzipped.

    A line of templates is a SMARTS; of blocks a SMILES, and after a space or a tab whatever else. A table whose first
    line names a column `smarts` or `smiles` is read by that column. Blank lines and comments, which begin with #, are
    passed, before that line too.

    Raises:
        ValueError: a line that cannot be read: file, line and text.
        FileNotFoundError: no such file.
    """
    return _made(_lines(templates, "smarts"), _lines(blocks, "smiles"), cache)


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/equipoise/molecules`, or the same below ~/.cache."""
    folder = os.environ.get("XDG_CACHE_HOME")
    return (Path(folder) if folder else Path.home() / ".cache") / "equipoise" / "molecules"


def unpacked(path: Path) -> bytes:
    """What a file holds, unpacked where its name ends in .gz."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def _lines(path: Path, column: str) -> list[tuple[str, str]]:
    if not path.is_file():
        raise FileNotFoundError(f"no file '{path}': one {column.upper()} a line was expected")
    try:
        lines = unpacked(path).decode("utf-8-sig", "replace").splitlines()  # names need not be UTF-8; the rest is ASCII
    except (gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"'{path}' is no whole gzip file: {error}") from error
    rows = [(number, row) for number, row in enumerate(lines, 1) if row.strip() and not row.lstrip().startswith("#")]
    heads = [head.strip() for head in rows[0][1].split("\t")] if rows else []
    place = heads.index(column) if column in heads else None
    found = []
    for number, row in rows[place is not None :]:
        cells = row.split("\t") if place is not None else row.split()
        text = cells[place or 0].strip() if len(cells) > (place or 0) else ""
        found.append((f"'{path}', line {number}", text))
    return found


def _made(templates: list[tuple[str, str]], blocks: list[tuple[str, str]], cache: Path | None) -> Chemistry:
    if not templates or not blocks:
        raise ValueError(f"{len(templates)} templates and {len(blocks)} blocks: at least one of each was expected")
    reactions = [_parsed(text, where) for where, text in templates]
    given = list(dict.fromkeys(_canonical(text, where) for where, text in blocks))
    canonical = [block for block in given if "." not in block]
    smarts = tuple(text for _, text in templates)
    whole = Chemistry(smarts, tuple(canonical), numpy.zeros((0, 0)))
    whole.__dict__["reactions"] = reactions
    fits = _matches(whole, cache)
    whole = Chemistry(smarts, whole.blocks, fits)
    whole.__dict__["reactions"] = reactions
    used = whole.starts | whole.partners.any(0)
    if not whole.starts.any():
        raise ValueError(
            f"none of the {len(given)} blocks fits a template whose other reactant is a block too; "
            f"{len(given) - len(canonical)} are in several pieces"
        )
    kept = {block: None for block, keep in zip(canonical, used, strict=True) if keep}
    unused = tuple(block for block in given if block not in kept)
    found = Chemistry(smarts, tuple(kept), fits[used], unused, len(blocks) - len(given))
    found.__dict__["reactions"] = reactions
    return found


def _parsed(smarts: str, where: str) -> Any:
    rdkit_chem()
    from rdkit.Chem import rdChemReactions

    try:
        reaction = rdChemReactions.ReactionFromSmarts(smarts)
    except (ValueError, RuntimeError):
        reaction = None
    if reaction is None or not smarts:
        raise ValueError(f"{where}: '{smarts[:120]}' is no reaction SMARTS")
    shape = reaction.GetNumReactantTemplates(), reaction.GetNumProductTemplates()
    if shape not in ((1, 1), (2, 1)):
        raise ValueError(
            f"{where}: '{smarts[:120]}' has {shape[0]} reactants and {shape[1]} products: "
            "one or two reactants and one product were expected"
        )
    reaction.Initialize()
    return reaction


def _canonical(smiles: str, where: str) -> str:
    chem = rdkit_chem()
    mol = chem.MolFromSmiles(smiles) if smiles else None
    if mol is None or not mol.GetNumAtoms():
        raise ValueError(f"{where}: '{smiles[:120]}' is no SMILES of a molecule")
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(0)
    found = chem.MolToSmiles(mol, isomericSmiles=False)
    return chem.MolToSmiles(chem.MolFromSmiles(found), isomericSmiles=False)


def _without_numbers(mol: Mol) -> str:
    chem = rdkit_chem()
    bare = chem.Mol(mol)
    for atom in bare.GetAtoms():
        atom.SetAtomMapNum(0)
    return chem.MolToSmarts(bare)


def _matches(whole: Chemistry, cache: Path | None) -> numpy.ndarray:
    """(blocks, patterns); from the cache where it holds a whole file of the same content."""
    import rdkit

    content = repr((FORMAT, rdkit.__version__, whole.patterns, whole.blocks))
    name = hashlib.sha256(content.encode()).hexdigest()[:32]
    shape = (len(whole.blocks), len(whole.patterns))
    path = None if cache is None else cache / f"{name}.npy"
    if path is not None and path.is_file():
        try:
            held = numpy.load(path, allow_pickle=False)
            if held.shape == shape and held.dtype == bool:
                return held
        except Exception:
            pass  # numpy raises six kinds: a file that was cut short or damaged is computed anew
    chem, patterns = rdkit_chem(), whole.pattern_mols
    mols = [chem.MolFromSmiles(block) for block in whole.blocks]
    found = numpy.array([[mol.HasSubstructMatch(pattern) for pattern in patterns] for mol in mols], dtype=bool)
    if path is not None:
        with contextlib.suppress(OSError):  # a cache that cannot be written: computed anew the next time too
            _write_whole(path, found)
    return found.reshape(shape)


def _write_whole(path: Path, array: numpy.ndarray) -> None:
    """Written aside and renamed, so that a reader finds all of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    held = io.BytesIO()
    numpy.save(held, array)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(held.getvalue())
    os.replace(file.name, path)
