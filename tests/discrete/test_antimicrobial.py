"""The peptide classifier against the predictions of the network that it was, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from equipoise import data
from equipoise.discrete import AMPClassifier
from equipoise.discrete.antimicrobial import RESIDUES
from equipoise.discrete.environments.stopped import StoppedStrings
from equipoise.recipes.peptides import antimicrobial_reward, show_peptides


@pytest.fixture(scope="module")
def classifier(data_folder: Path) -> AMPClassifier:
    return AMPClassifier(data.find("amp_classifier", data_folder))


def golden(data_folder: Path) -> tuple[list[str], torch.Tensor]:
    rows = [line.split("\t") for line in data.find("amp_golden", data_folder).read_text().splitlines()[1:]]
    return [row[0] for row in rows], torch.tensor([float(row[1]) for row in rows])


def test_logits_are_the_reference_predictions(classifier: AMPClassifier, data_folder: Path) -> None:
    sequences, logits = golden(data_folder)
    assert len(sequences) == 30
    assert (classifier(sequences) - logits).abs().max() < 1e-4
    assert abs(float(classifier([""])) + 2.8525) < 1e-4
    assert classifier([]).shape == (0,)
    one_by_one = torch.cat([classifier([sequence]) for sequence in sequences[:5]])
    assert torch.allclose(one_by_one, classifier(sequences)[:5], atol=1e-5)


def test_the_reward_is_the_probability_of_the_peptide_that_a_state_spells(data_folder: Path) -> None:
    sequences, logits = golden(data_folder)
    letters = torch.full((len(sequences), 60), -1)
    for row, sequence in enumerate(sequences):
        letters[row, : len(sequence)] = torch.tensor([RESIDUES.index(letter) for letter in sequence])
    space = StoppedStrings(letters=20, length=60)
    objects = space.objects(space.state_of(letters))
    assert show_peptides(objects) == sequences
    assert torch.allclose(antimicrobial_reward(data_folder)(objects, None), logits.sigmoid().log(), atol=1e-4)


def test_what_is_no_peptide_is_refused(classifier: AMPClassifier, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="peptide 1 has the letter 'B'"):
        classifier(["AR", "ABR"])
    with pytest.raises(ValueError, match="peptide 0 has 61 residues"):
        classifier(["A" * 61])
    with pytest.raises(ValueError, match=r"lack 'token_embedding.weight'"):
        AMPClassifier({})
    with pytest.raises(FileNotFoundError, match="no weights"):
        AMPClassifier(tmp_path / "nowhere.safetensors")
