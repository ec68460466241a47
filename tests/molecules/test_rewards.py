"""Rewards of molecules: the proxy's golden values, and what is refused, remembered and kept."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("rdkit")

import torch

from equipoise.molecules import SEHProxy
from equipoise.molecules.rewards import MoleculeReward, of_smiles, qed, sa, score, size


@pytest.fixture(scope="module")
def golden(data_folder: Path) -> list[dict[str, str]]:
    with (data_folder / "seh" / "golden.tsv").open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.mark.parametrize("root", ["as_trained", "as_published"])
def test_the_proxy_has_its_golden_values_either_way(root: str, golden: list[dict[str, str]], data_folder: Path) -> None:
    proxy = SEHProxy(data_folder / "seh" / "proxy.safetensors", root=root)  # type: ignore[arg-type]
    found = proxy([row["smiles"] for row in golden])
    expected = torch.tensor([float(row[f"root_{root}"]) for row in golden])
    assert float((found - expected).abs().max()) < 1e-4


def test_a_prediction_does_not_depend_on_the_other_molecules(golden: list[dict[str, str]], data_folder: Path) -> None:
    smiles = [row["smiles"] for row in golden]
    weights = data_folder / "seh" / "proxy.safetensors"
    alone = torch.cat([SEHProxy(weights)([text]) for text in smiles[:6]])
    assert torch.allclose(alone, SEHProxy(weights, batch=5)(smiles)[:6], atol=1e-5)
    assert SEHProxy(weights)([]).shape == (0,)


def test_the_proxy_names_what_it_cannot_read(data_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"'C1CC\(' is no SMILES"):
        SEHProxy(data_folder / "seh" / "proxy.safetensors")(["CC", "C1CC("])


def test_scores_lie_where_they_should() -> None:
    aspirin, long = "CC(=O)Oc1ccccc1C(=O)O", "C" * 45
    assert float(qed([aspirin])[0]) == pytest.approx(0.5501 / 0.7, abs=1e-3)
    assert float(sa([aspirin])[0]) == pytest.approx((10 - 1.58) / 9, abs=1e-2)
    assert size([aspirin, long]).tolist() == pytest.approx([1.0, math.exp(-2)])
    product = score("qed*sa*size")([aspirin, long])
    assert torch.allclose(product, qed([aspirin, long]) * sa([aspirin, long]) * size([aspirin, long]))


def test_an_unknown_reward_is_refused() -> None:
    with pytest.raises(ValueError, match="reward 'logp': one of seh, "):
        score("qed*logp")


def test_a_value_that_is_no_number_names_its_molecule() -> None:
    reward = of_smiles(lambda smiles: torch.tensor([math.nan if text == "CCN" else 0.0 for text in smiles]))
    with pytest.raises(ValueError, match="the reward of 'CCN' is nan"):
        reward(("CCO", "CCN"), None)


def test_a_value_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="for 2 molecules"):
        of_smiles(lambda smiles: torch.zeros(len(smiles), 1))(("CCO", "CCN"), None)


def test_each_molecule_is_asked_for_once_and_what_failed_never() -> None:
    asked: list[str] = []

    def counted(smiles: list[str]) -> torch.Tensor:
        asked.extend(smiles)
        return torch.arange(len(smiles)).float()

    reward = of_smiles(counted)
    assert reward(("CCO", "CCN", "CCO", ""), None).tolist() == [0.0, 1.0, 0.0, -20.0]
    assert reward(("CCN", "CCO"), None).tolist() == [1.0, 0.0]
    assert asked == ["CCO", "CCN"]


def test_values_outlive_an_interruption(tmp_path: Path) -> None:
    """A file whose last line was cut short gives what is whole, and is taken up."""
    held = tmp_path / "values.jsonl"
    MoleculeReward(size, disk=held)(("CCO", "CCN"))
    held.write_bytes(held.read_bytes() + b'["CCC", 0.')
    asked: list[str] = []

    def counted(smiles: Sequence[str]) -> torch.Tensor:
        asked.extend(smiles)
        return size(smiles)

    again = MoleculeReward(counted, disk=held)
    again(("CCO", "CCN", "CCC"))
    assert asked == ["CCC"]
    MoleculeReward(counted, disk=held)(("CCO", "CCN", "CCC"))
    assert asked == ["CCC"]
