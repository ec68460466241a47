"""Docking as a reward: AutoDock Vina's best energy in a receptor's box. Seconds a molecule; the extra `docking`."""

from __future__ import annotations

import gzip
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.molecules.chemistry import rdkit_chem

LOWEST = 0.0
"""Energy of what does not dock, cannot be embedded, or holds an atom that Vina has no type for: kcal/mol."""


@dataclass(frozen=True)
class Box:
    """Where a ligand may lie: centre and edge lengths, in angstrom."""

    centre: tuple[float, float, float]
    size: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in self.centre) or not all(1 <= edge <= 126 for edge in self.size):
            raise ValueError(
                f"box of centre {self.centre} and size {self.size}: finite numbers, and edges of 1 to 126 angstrom, "
                "were expected"
            )


SEH_BOX = Box((-13.4, 26.3, -13.3), (20.013, 16.3, 18.5))
"""Of sEH, in the receptor file of Bengio et al. 2021."""


class Docking:
    """Vina's energies of molecules in one receptor, kcal/mol; the lower the better.

    A molecule is given hydrogens and a conformer (ETKDG, then MMFF), written by meeko, and docked. The same molecule,
    seed and exhaustiveness give the same energy. It is a score, not an affinity: compare it with docking alone.

    Args:
        receptor: pdbqt file, or gzipped.
        box: where to dock.
        exhaustiveness: of Vina's search; 8 is Vina's default, 2 takes a quarter of the time.
        seed: of conformers and search.
        cores: that Vina may use.

    Raises:
        ImportError: the extra is not installed.
        ValueError: a receptor that Vina cannot read, or an exhaustiveness below 1.

    Source: Eberhardt et al. 2021, "AutoDock Vina 1.2.0", doi:10.1021/acs.jcim.1c00203.

    Use it for a few hundred molecules, or with `--engine ray` and reward workers; a proxy for the rest.
    """

    def __init__(
        self, receptor: Path, box: Box = SEH_BOX, *, exhaustiveness: int = 2, seed: int = 1, cores: int = 1
    ) -> None:
        if exhaustiveness < 1 or cores < 1:
            raise ValueError(f"exhaustiveness {exhaustiveness}, cores {cores}: at least 1 was expected of each")
        self.receptor, self.box, self.exhaustiveness = receptor, box, exhaustiveness
        self.seed, self.cores = seed, cores
        self._vina: Any = None

    def __call__(self, smiles: Sequence[str]) -> Tensor:
        """(n,) energies; 0 of a molecule that has no conformer, an atom such as boron, or no pose below 0."""
        return torch.tensor([self.energy(text) for text in smiles])

    def energy(self, smiles: str) -> float:
        """The energy of the best pose found."""
        ligand = self._written(smiles)
        if ligand is None:
            return LOWEST
        vina = self._opened()
        try:
            vina.set_ligand_from_string(ligand)
        except TypeError:  # Vina has no type for an atom
            return LOWEST
        vina.dock(exhaustiveness=self.exhaustiveness, n_poses=1)
        found = vina.energies(n_poses=1)
        return min(LOWEST, float(found[0][0])) if len(found) else LOWEST

    def _written(self, smiles: str) -> str | None:
        chem = rdkit_chem()
        from rdkit.Chem import AllChem

        meeko = _extra("meeko")
        mol = chem.AddHs(chem.MolFromSmiles(smiles))
        placed: Any = AllChem
        if placed.EmbedMolecule(mol, randomSeed=self.seed) != 0:
            return None
        if placed.MMFFHasAllMoleculeParams(mol):
            placed.MMFFOptimizeMolecule(mol)
        (setup, *_) = meeko.MoleculePreparation().prepare(mol)
        text, fine, _ = meeko.PDBQTWriterLegacy.write_string(setup)
        return text if fine else None

    def _opened(self) -> Any:
        if self._vina is None:
            vina = _extra("vina").Vina(sf_name="vina", cpu=self.cores, seed=self.seed, verbosity=0)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "receptor.pdbqt"
                path.write_bytes(_plain(self.receptor))
                try:
                    vina.set_receptor(str(path))
                    vina.compute_vina_maps(center=list(self.box.centre), box_size=list(self.box.size))
                except (RuntimeError, TypeError, ValueError) as error:
                    raise ValueError(f"'{self.receptor}' cannot be used as a receptor: {error}") from error
            self._vina = vina
        return self._vina


def as_reward(energy: Tensor) -> Tensor:
    """R = (4 - (E + 8.6) / 1.1) / 8: the scale of the sEH proxy over 8, which was trained on such numbers.

    Source: the normalisation of targets in the data of Bengio et al. 2021, arXiv:2106.04399.

    Example:
        >>> as_reward(torch.tensor([-8.6, -13.0]))
        tensor([0.5000, 1.0000])
    """
    return (4 - (energy.clamp(max=0.0) + 8.6) / 1.1) / 8


def _plain(path: Path) -> bytes:
    blob = path.read_bytes()
    return gzip.decompress(blob) if path.suffix == ".gz" else blob


def _extra(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"docking needs Vina and meeko ({error}): pip install 'equipoise[docking]'") from error
