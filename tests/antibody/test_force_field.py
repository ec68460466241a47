"""Energies of a force field: two small chains, together and far apart."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from equipoise.antibody.force_field import binding_energy
from equipoise.antibody.geometry import backbone
from equipoise.antibody.residues import IDEAL


def written(path: Path, apart: float) -> Path:
    """Two chains of three alanines, backbone and CB alone, that many angstrom apart."""
    lines = []
    for chain, height in (("H", 0.0), ("A", apart)):
        for place in range(3):
            atoms = backbone(torch.eye(3)[None], torch.tensor([[3.8 * place, height, 0.0]]))[0].tolist()
            for atom, (x, y, z) in zip(IDEAL, atoms, strict=True):
                lines.append(
                    f"ATOM  {len(lines) + 1:5d}  {atom:<3s} ALA {chain}{place + 1:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
                    f"  1.00  0.00          {atom[0]:>2s}"
                )
        lines.append("TER")
    path.write_text("\n".join([*lines, "END", ""]))
    return path


def test_two_chains_bind_when_they_are_near_and_not_when_they_are_far(tmp_path: Path) -> None:
    pytest.importorskip("openmm")
    pytest.importorskip("pdbfixer")
    near = binding_energy(written(tmp_path / "near.pdb", 9.0), ["H"], iterations=100)
    far = binding_energy(written(tmp_path / "far.pdb", 900.0), ["H"], iterations=0)
    assert near["binding"] == pytest.approx(near["complex"] - near["antibody"] - near["antigen"])
    assert abs(far["binding"]) < 0.02
    assert abs(near["binding"]) > 5 * abs(far["binding"])
    assert near["complex"] < 0 < far["complex"]


def test_chains_that_the_file_does_not_have_are_named(tmp_path: Path) -> None:
    pytest.importorskip("openmm")
    pytest.importorskip("pdbfixer")
    path = written(tmp_path / "near.pdb", 9.0)
    for antibody, given in ((["L"], "L"), (["H", "A"], "H A"), ([], "none")):
        with pytest.raises(ValueError, match=f"chains H A and the antibody's are said to be {given}: "):
            binding_energy(path, antibody)


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openmm", None)
    with pytest.raises(ImportError, match=r"equipoise\[openmm\]"):
        binding_energy(written(tmp_path / "near.pdb", 9.0), ["H"])
