"""Rewards of molecules: the proxy's golden values, and what is refused, remembered and kept."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("rdkit")

import torch

from equipoise.molecules import SEHProxy
from equipoise.molecules.rewards import MoleculeReward, of_smiles, qed, sa, score, size
from equipoise.recipes.molecules import reward_of
from equipoise.recipes.molecules_configuration import Molecules


def nothing(smiles: list[str]) -> torch.Tensor:
    return torch.zeros(len(smiles))


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


def test_a_file_of_values_keeps_rewards_apart(tmp_path: Path) -> None:
    """Lines of another name, and what is no finite number, are passed over."""
    held = tmp_path / "values.jsonl"
    MoleculeReward(size, disk=held, name="size")(("CCO",))
    held.write_text(held.read_text() + '["qed", "CCN", NaN]\n["qed", "CCC", "x"]\n["CC", 0.5]\n["qed", "CC", 0.5]\n')
    asked: list[str] = []

    def counted(smiles: Sequence[str]) -> torch.Tensor:
        asked.extend(smiles)
        return torch.full((len(smiles),), 0.25)

    again = MoleculeReward(counted, disk=held, name="qed")
    assert again.values(("CCO", "CCN", "CCC", "CC")).tolist() == [0.25, 0.25, 0.25, 0.5]
    assert asked == ["CCO", "CCN", "CCC"]
    assert MoleculeReward(counted, disk=held, name="size").values(("CCO",)).tolist() == [1.0]


def test_a_run_gives_its_file_the_name_of_its_reward(tmp_path: Path) -> None:
    config = Molecules(reward="qed*size", rewards_file=tmp_path / "values.jsonl")
    reward_of(config)(("CCO",), None)
    reward_of(config, nothing)(("CCO",), None)
    names = [json.loads(line)[0] for line in (tmp_path / "values.jsonl").read_text().splitlines()]
    assert names == ["qed*size", f"{__name__}:nothing"]


def test_what_was_asked_for_before_a_failure_is_kept(tmp_path: Path) -> None:
    """Of 20 molecules the 11th is no number and the 18th interrupts: eight at a time are asked for."""
    held = tmp_path / "values.jsonl"
    smiles = ["C" * length for length in range(1, 21)]

    def failing(smiles: Sequence[str]) -> torch.Tensor:
        if "C" * 18 in smiles:
            raise KeyboardInterrupt
        return torch.tensor([math.nan if text == "C" * 11 else 0.5 for text in smiles])

    with pytest.raises(ValueError, match=f"reward of '{'C' * 11}' is nan"):
        MoleculeReward(failing, disk=held)(tuple(smiles))
    assert len(held.read_text().splitlines()) == 15
    smiles.remove("C" * 11)
    with pytest.raises(KeyboardInterrupt):
        MoleculeReward(failing, disk=held)(tuple(smiles))
    assert len(held.read_text().splitlines()) == 15
    assert MoleculeReward(failing, disk=held).values((*smiles[:15], "")).tolist()[:15] == [0.5] * 15


def test_what_was_refused_once_is_refused_again(tmp_path: Path) -> None:
    held = tmp_path / "values.jsonl"
    reward = MoleculeReward(lambda smiles: torch.full((len(smiles),), -math.inf), disk=held)
    for _ in range(2):
        with pytest.raises(ValueError, match="the reward of 'CCO' is -inf"):
            reward(("CCO",))
    assert held.read_text() == ""


def test_a_log_reward_below_that_of_what_failed_is_refused() -> None:
    reward = of_smiles(lambda smiles: torch.tensor([-20.0 if text == "CCO" else -25.0 for text in smiles]))
    assert reward(("CCO", ""), None).tolist() == [-20.0, -20.0]
    with pytest.raises(ValueError, match=r"log R of 'CCN' is -25, below -20, .* add a constant"):
        reward(("CCN",), None)
