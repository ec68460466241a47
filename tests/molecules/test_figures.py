"""Figures of samples, what is found while training, and pictures."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("rdkit")

import torch

from equipoise.molecules.evaluation import circles, greedy_modes, sample_figures, scaffolds, similarity
from equipoise.molecules.found import Found
from equipoise.training.loop import Loop
from equipoise.trajectories import ends, from_bytes, to_bytes
from molecules.small import tiny
from molecules.trained import run_on

FIVE = ["c1ccccc1CCO", "c1ccccc1CCN", "CC(=O)NCC1CC1", "CCCCCCCC", "O=C(O)c1ccncc1"]


def test_similarity_is_one_with_itself_and_agrees_with_rdkit() -> None:
    from rdkit import Chem, DataStructs
    from rdkit.Chem import rdFingerprintGenerator

    maker = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    prints = [maker.GetFingerprint(Chem.MolFromSmiles(text)) for text in FIVE]
    expected = [[DataStructs.TanimotoSimilarity(one, two) for two in prints] for one in prints]
    assert torch.allclose(similarity(FIVE, FIVE), torch.tensor(expected), atol=1e-6)


def test_modes_are_good_and_differ_from_all_before() -> None:
    value = torch.tensor([3.0, 2.9, 2.0, 1.0, 0.5])
    near = float(similarity(FIVE[:1], FIVE[1:2])[0, 0])
    assert greedy_modes(FIVE, value, least=1.0, most_similar=near) == [FIVE[0], FIVE[2], FIVE[3]]
    assert greedy_modes(FIVE, value, least=1.0, most_similar=1.0) == FIVE[:4]
    assert circles(FIVE, most_similar=near) == 4


def test_scaffolds_are_counted_once() -> None:
    assert scaffolds(FIVE[:2]) == {"c1ccccc1"}
    assert scaffolds(FIVE) == {"c1ccccc1", "C1CC1", "", "c1ccncc1"}


def test_figures_of_a_sample_are_those_of_its_parts() -> None:
    smiles = [FIVE[0], FIVE[0], FIVE[1], ""]
    found = sample_figures(smiles, torch.tensor([4.0, 4.0, 1.0, 0.0]), threshold=2.0, known=frozenset(FIVE[1:2]))
    assert (found["mean"], found["valid"], found["unique"]) == (3.0, 0.75, pytest.approx(2 / 3))
    assert (found["novel"], found["good"], found["modes"]) == (pytest.approx(2 / 3), 1, 1)
    assert found["top_100_distance"] == pytest.approx(1 - float(similarity(FIVE[:1], FIVE[1:2])[0, 0]))
    assert sample_figures(["", ""], torch.zeros(2), threshold=0.0) == {"valid": 0.0}


class Given:
    """A source that gives the same molecules at every draw."""

    def draw(self, n: int, generator: torch.Generator) -> Any:
        return ends(tuple(FIVE), log_reward=torch.tensor([3.0, 2.9, 2.0, 1.0, 0.5]))

    def observe(self, trajectories: Any, residual: Any) -> None:
        """Nothing is kept."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is no state."""


def test_what_was_found_is_counted_once_and_survives_a_checkpoint() -> None:
    found = Found(Given(), threshold=1.0)
    found.draw(5, torch.Generator())
    figures = found.figures()
    assert figures["good_found"] == 4
    again = Found(Given(), threshold=1.0)
    again.load_state_dict(from_bytes(to_bytes(found.state_dict())))
    again.draw(5, torch.Generator())
    assert again.figures() == figures


def test_a_grid_and_routes_are_drawn() -> None:
    pytest.importorskip("matplotlib")
    from equipoise.molecules.routes_text import Route, Step
    from equipoise.plots.molecules import molecule_grid, picture, route_rows

    image = picture(FIVE[0])
    assert image.shape == (360, 360, 3)
    assert 0.001 < float((image[..., :3].min(2) < 0.9).mean()) < 0.5
    assert len(molecule_grid(FIVE, ["a"] * 5, columns=2).axes) == 6
    route = Route("CN", (Step(0, 1, "CC(=O)O", "CNC(C)=O"),) * 4, "CNC(C)=O")
    assert len(route_rows([route, route], ["a", "b"], most=2).axes) == 10


@pytest.mark.slow
@pytest.mark.parametrize("state", ["route", "molecule"])
def test_flow_matching_comes_near_its_target(state: str) -> None:
    run = run_on(tiny(), state=state, method="fm", steps=300)
    loop = Loop(run.run)
    for _ in range(300):
        loop.advance()
    assert run.run.evaluate()["total_variation"] < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("state", ["route", "molecule"])
@pytest.mark.parametrize(
    "settings",
    [
        {"method": "tb"},
        {"method": "subtb"},
        {"method": "db"},
        {"loss": "forward_kl"},
        {"loss": "alpha", "order": 0.75},
        {"loss": "jeffreys"},
    ],
    ids=["tb", "subtb", "db", "forward_kl", "alpha", "jeffreys"],
)
def test_a_sampler_of_thousands_of_molecules_reaches_its_target(state: str, settings: dict[str, Any]) -> None:
    steps = 2500 if settings.get("method") in ("db", "subtb") else 1500  # flows of every state take longer
    run = run_on(state=state, steps=steps, **settings)
    loop = Loop(run.run)
    for _ in range(steps):
        loop.advance()
    assert run.run.evaluate()["total_variation"] <= 0.05
