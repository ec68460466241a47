"""Docking: boxes and scales, and Vina itself where it is installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("rdkit")

import torch

from equipoise.molecules.docking import Box, Docking, as_reward
from equipoise.molecules.rewards import score


def test_energies_lie_on_the_scale_of_the_proxy() -> None:
    """The proxy's target is 4 - (E + 8.6) / 1.1, and its reward is over 8: by hand at E = -9.7, and none above 0."""
    assert torch.allclose(as_reward(torch.tensor([-9.7, 0.0, 3.0])), torch.tensor([5 / 8, *[(4 - 8.6 / 1.1) / 8] * 2]))


@pytest.mark.parametrize("size", [(0.0, 1.0, 1.0), (20.0, 20.0, 127.0), (float("nan"), 1.0, 1.0)])
def test_a_box_has_edges(size: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="edges of 1 to 126"):
        Box((0.0, 0.0, 0.0), size)


def test_an_exhaustiveness_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="exhaustiveness 0"):
        Docking(Path("receptor.pdbqt"), exhaustiveness=0)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "meeko", None)
    with pytest.raises(ImportError, match=r"equipoise\[docking\]"):
        Docking(Path("receptor.pdbqt"))(["CC"])


def test_a_file_that_is_no_receptor_is_named(tmp_path: Path) -> None:
    pytest.importorskip("vina")
    pytest.importorskip("meeko")
    path = tmp_path / "receptor.pdbqt"
    path.write_text("no atoms here\n")
    with pytest.raises(ValueError, match=r"receptor\.pdbqt' cannot be used as a receptor"):
        Docking(path)(["CCO"])


def test_what_vina_has_no_atoms_for_is_worth_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A boronic acid, as 43 blocks of the default chemistry have, and a dummy atom; the maps are not needed."""
    vina = pytest.importorskip("vina")
    pytest.importorskip("meeko")
    docking = Docking(Path("receptor.pdbqt"))
    monkeypatch.setattr(docking, "_opened", lambda: vina.Vina(sf_name="vina", cpu=1, verbosity=0))
    assert docking(["OB(O)c1ccccc1", "*CC"]).tolist() == [0.0, 0.0]


@pytest.mark.slow
def test_a_known_binder_docks_better_than_ethanol_and_again_alike(data_folder: Path) -> None:
    """Dicyclohexylurea is a classical inhibitor of sEH."""
    pytest.importorskip("vina")
    pytest.importorskip("meeko")
    docking = Docking(data_folder / "seh" / "4jnc.nohet.aligned.pdbqt.gz", exhaustiveness=1)
    urea, ethanol, again = docking(["O=C(NC1CCCCC1)NC1CCCCC1", "CCO", "O=C(NC1CCCCC1)NC1CCCCC1"]).tolist()
    assert urea < -7 < -4 < ethanol < 0
    assert again == urea
    value = score("vina*qed", data_folder)(["O=C(NC1CCCCC1)NC1CCCCC1"])
    assert 0.3 < float(value) < 0.7
