"""Unchecked parents: walks back are lost, by how much they should be, and REINFORCE learns to avoid it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import pytest

pytest.importorskip("rdkit")

import torch

from equipoise.discrete.policies.separate import Separate
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.molecules.chemistry import chemistry
from equipoise.molecules.evaluation import backward_reach
from equipoise.molecules.graph import MoleculeSpace
from equipoise.molecules.policy import ReactionPolicy
from equipoise.molecules.reactions import Reactions
from equipoise.recipes import Molecules, train
from equipoise.recipes.tasks import task
from equipoise.sampling.fixed import ARRIVED
from equipoise.sampling.retraced import Walks
from equipoise.training.backward import backward_reinforce
from equipoise.trajectories import ends
from molecules.small import AMIDE

BLOCKS = ["OC(=O)c1ccccc1", "CC(=O)O", "CC(=O)NCCN"]
"""The third holds an amide of its own, which a reversed template takes apart too."""

MADE = "CC(=O)NCCNC(=O)c1ccccc1"


def space_of(*, exact: bool) -> MoleculeSpace:
    return MoleculeSpace(Reactions(chemistry([AMIDE], BLOCKS), reversible=True), most=1, exact=exact)


def sampler_on(space: MoleculeSpace, *, learned: bool = False) -> DiscreteSampler:
    torch.manual_seed(0)
    ahead = ReactionPolicy(space, (16,), {"forward": space.actions})
    if not learned:
        return DiscreteSampler(space, ahead)
    back = ReactionPolicy(space, (16,), {"backward": space.back_actions})
    return DiscreteSampler(space, Separate(space, ahead, back), backward="learned")


def test_exact_parents_are_the_proposals_that_lead_somewhere() -> None:
    reactions = Reactions(chemistry([AMIDE], BLOCKS), reversible=True)
    exact, proposed = reactions.parents(MADE, 1), reactions.proposals(MADE)
    assert len(exact) == 2
    assert len(proposed) == 3
    (dead,) = set(proposed) - set(exact)
    assert dead.smiles == "NCCNC(=O)c1ccccc1"
    assert BLOCKS[dead.block] == "CC(=O)O"


def test_a_uniform_walk_over_proposals_is_lost_as_often_as_it_should_be() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = ends((MADE,) * 900)
    for exact, share in ((True, 1.0), (False, 2 / 3)):
        found = backward_reach(sampler_on(space_of(exact=exact)), rows, generator)
        assert abs(found - share) <= 4 * math.sqrt(share * (1 - share) / 900)


def test_a_lost_walk_is_scored_by_the_choices_that_lost_it() -> None:
    space = space_of(exact=False)
    sampler = sampler_on(space)
    walked = sampler.sample_to(ends((MADE,) * 50), generator=torch.Generator().manual_seed(0))
    lost = ~space.arrived(walked)
    assert 0 < int(lost.sum()) < 50
    log_pb = sampler.score(walked, frozenset({"log_pb"})).get("log_pb").sum(1)
    assert torch.allclose(log_pb, torch.full((50,), -math.log(3)))


def test_reinforce_learns_to_reach_the_start() -> None:
    space = space_of(exact=False)
    sampler = sampler_on(space, learned=True)
    walks, generator = Walks(sampler, space.arrived), torch.Generator().manual_seed(0)
    term = backward_reinforce("walks", sampler)
    optimiser = torch.optim.Adam(sampler.parameters(), lr=0.02)
    shares = []
    for _ in range(60):
        walks.ends = ends((MADE,) * 64)
        drawn = walks.draw(64, generator)
        loss = term.loss(drawn, sampler.score(drawn, frozenset({"log_pb"})), 0)
        optimiser.zero_grad()
        loss.value.backward()
        optimiser.step()
        shares.append(float(drawn.fixed[ARRIVED].value.mean()))
    assert 0.4 < shares[0] < 0.9
    assert shares[-1] > 0.97


def test_walks_are_drawn_once_from_each_end() -> None:
    space = space_of(exact=False)
    walks = Walks(sampler_on(space), space.arrived)
    with pytest.raises(ValueError, match="draw from the inner source first"):
        walks.draw(4, torch.Generator())


def configured(folder: Path, parents: Literal["exact", "unchecked"]) -> Molecules:
    (folder / "templates.smarts").write_text(AMIDE + "\n")
    (folder / "blocks.smi").write_text("\n".join(BLOCKS) + "\n")
    files = (str(folder / "templates.smarts"), str(folder / "blocks.smi"))
    return Molecules(
        chemistry=files, state="molecule", parents=parents, backward="reinforce", reward="qed", reactions=1,
        steps=3, batch=8, every=3, hidden=(16,),
    )  # type: ignore[arg-type]  # fmt: skip


def test_a_run_trains_its_backward_policy_by_reinforce(tmp_path: Path) -> None:
    built = train(configured(tmp_path, "unchecked"))
    assert 0 <= built.evaluate()["backward_reach"] <= 1


def test_reinforce_over_exact_parents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="and here all do"):
        task("molecules").build(configured(tmp_path, "exact"), None)
