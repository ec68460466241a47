"""Figures of samples, what is found while training, and pictures."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("rdkit")

import torch

from equipoise.discrete.policies.mlp import Uniform
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.molecules.chemistry import chemistry
from equipoise.molecules.evaluation import (
    backward_reach,
    circles,
    greedy_modes,
    molecule_figures,
    replay_rate,
    sample_figures,
    scaffolds,
    similarity,
    sound_share,
)
from equipoise.molecules.found import Found
from equipoise.molecules.reactions import Reactions
from equipoise.molecules.rewards import MoleculeReward, of_smiles, qed
from equipoise.molecules.routes import RouteSpace
from equipoise.training.loop import Loop
from equipoise.trajectories import ends, from_bytes, to_bytes
from molecules.small import AMIDE, tiny
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
    assert not {"top_10", "top_100", "top_100_distance"} & {*found}
    assert sample_figures(["", ""], torch.zeros(2), threshold=0.0) == {"valid": 0.0}


def test_the_best_hundred_are_measured_where_there_are_so_many() -> None:
    """Rings of 3 to 103 atoms, of which the smallest is the worst."""
    rings = [f"C1{'C' * length}1" for length in range(2, 103)]
    found = sample_figures(rings, torch.arange(101.0), threshold=0.0)
    pairs = [float(similarity(rings[one : one + 1], rings[1:one]).sum()) for one in range(2, 101)]
    assert found["top_100"] == 50.5
    assert found["top_100_distance"] == pytest.approx(1 - sum(pairs) / 4950, abs=1e-5)


def test_figures_are_of_r_whatever_the_reward_is_written_in() -> None:
    """The same sample by QED and by a user's log QED."""
    run = run_on(tiny(), state="route", steps=1)
    users = of_smiles(lambda smiles: qed(smiles).clamp(min=0.1).log())
    figures = [molecule_figures(run.sampler, reward, n=32, threshold=0.5) for reward in (MoleculeReward(qed), users)]
    assert figures[0] == pytest.approx(figures[1], abs=1e-6)
    assert 0.1 < figures[0]["sample_mean"] < 1 and figures[0]["sample_good"] > 0


def test_where_everything_failed_nothing_is_walked() -> None:
    space = RouteSpace(Reactions(chemistry([AMIDE], ["OC(=O)C1CC1", "NC1CC1"]), most_atoms=5), most=1)
    sampler = DiscreteSampler(space, Uniform({"forward": space.actions}))
    assert molecule_figures(sampler, MoleculeReward(qed), n=8) == {"sample_valid": 0.0}
    drawn = sampler.sample(8, generator=torch.Generator().manual_seed(0))
    assert backward_reach(sampler, drawn, torch.Generator()) == 0.0
    assert replay_rate(sampler, drawn) == 0.0


def test_sound_molecules_are_written_as_they_are() -> None:
    assert sound_share(["CCO", "OCC", "C1CC(", "C[C@H](N)O", "CCN"]) == 2 / 5


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
    alone = Route("CN", (Step(7, 1, "", "CO"),), "CO")
    titles = [[place.get_title() for place in route_rows([one], ["a"], most=1).axes] for one in (route, alone)]
    assert titles == [["a", "+ block, template 0", "gives"], ["a", "template 7", "gives"]]


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
