"""Parents that travel with a path: what is replayed asks for none again, and its scores do not change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

pytest.importorskip("rdkit")

import torch
from torch import Tensor

from equipoise.contracts import check_sampler
from equipoise.discrete.lagged import LaggedBackward
from equipoise.discrete.rows import packed_parents, unpacked_parents
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.molecules.graph import MoleculeSpace
from equipoise.molecules.policy import ReactionPolicy
from equipoise.molecules.reactions import Parent, Reactions
from equipoise.molecules.rewards import MoleculeReward, qed
from equipoise.sampling.fixed import PARENTS, without_fixed
from equipoise.sampling.replay import Replay
from equipoise.sampling.rollouts import Rollouts
from equipoise.trajectories import Trajectories, concatenate, from_bytes, to_bytes
from molecules.small import listable

LOG_PB = frozenset({"log_pb"})


class Counted(Reactions):
    """Reactions that count how often reversed templates were run on a molecule."""

    def __init__(self, chemistry: Any) -> None:
        super().__init__(chemistry, reversible=True)
        self.proposed = 0

    def _propose(self, smiles: str, templates: Iterable[int]) -> Iterable[Parent]:
        self.proposed += 1
        return super()._propose(smiles, templates)


class Asked(MoleculeSpace):
    """Molecules that count the states whose parents were asked."""

    states = 0

    def parents(self, state: Tensor) -> Tensor:
        self.states += len(state)
        return super().parents(state)

    def back_action(self, state: Tensor, action: Tensor) -> Tensor:
        self.states += len(state)
        return super().back_action(state, action)


def sampler_on(space: MoleculeSpace, *, learned: bool = False) -> DiscreteSampler:
    torch.manual_seed(0)
    heads = {"forward": space.actions} | ({"backward": space.back_actions} if learned else {})
    return DiscreteSampler(space, ReactionPolicy(space, (16,), heads), backward="learned" if learned else "uniform")


def drawn_from(space: MoleculeSpace, n: int, *, learned: bool = False) -> tuple[DiscreteSampler, Trajectories]:
    sampler = sampler_on(space, learned=learned)
    return sampler, sampler.sample(n, generator=torch.Generator().manual_seed(0))


def replayed(learned: bool) -> tuple[DiscreteSampler, Replay]:
    sampler = sampler_on(Asked(Counted(listable()), most=2), learned=learned)
    return sampler, Replay(Rollouts(sampler, MoleculeReward(qed)), fresh=0.5, capacity=100)


@pytest.mark.parametrize("learned", [False, True])
def test_what_is_replayed_asks_for_no_parents(learned: bool) -> None:
    """The second batch asks for the rows that no loss has seen, new ones; a third one, of stored rows, for nothing."""
    sampler, replay = replayed(learned)
    space: Any = sampler.environment
    generator = torch.Generator().manual_seed(0)
    first = sampler.renew(replay.draw(32, generator))
    assert space.states == 2 * int(first.length.sum())
    replay.observe(first, None)
    second = replay.draw(32, generator)
    new = second.key >= 32
    assert 16 <= int(new.sum()) < 32
    space.states = 0
    renewed = sampler.renew(second)
    assert space.states == 2 * int(second.length[new].sum())
    replay.observe(renewed, None)
    replay.fresh = 0.0
    third = replay.draw(32, generator)
    space.states, space.reactions.proposed = 0, 0
    found = sampler.score(sampler.renew(third), LOG_PB).get("log_pb")
    assert space.states == 0 and space.reactions.proposed == 0
    assert torch.equal(found, sampler.score(without_fixed(third, PARENTS), LOG_PB).get("log_pb"))
    assert space.states == 2 * int(third.length.sum())


def test_a_uniform_choice_of_a_stored_path_needs_no_chemistry() -> None:
    """log P_B by a process that has seen none of the molecules; a learned choice compares what the parents are."""
    sampler, drawn = drawn_from(MoleculeSpace(Counted(listable()), most=2), 24)
    stored = from_bytes(to_bytes(sampler.renew(drawn)))
    again = sampler_on(MoleculeSpace(Counted(listable()), most=2))
    found = again.score(stored, LOG_PB).get("log_pb")
    other: Any = again.environment
    assert other.reactions.proposed == 0
    assert torch.equal(found, sampler.score(drawn, LOG_PB).get("log_pb"))
    assert found.min() < -0.5


def test_kept_parents_are_a_tenth_of_the_path() -> None:
    sampler, drawn = drawn_from(MoleculeSpace(Reactions(listable(), reversible=True), most=2), 8)
    kept = sampler.renew(drawn).fixed[PARENTS].value
    assert kept.shape == (8, drawn.steps, 4)
    assert kept.nbytes < 0.11 * drawn.path["state"].nbytes


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("learned", [True, False])
def test_rows_with_and_without_kept_parents_score_alike(exact: bool, learned: bool) -> None:
    """Kept and absent rows in one batch, in an order that mixes lengths; and the sampler's contract."""
    sampler, drawn = drawn_from(MoleculeSpace(Reactions(listable(), reversible=True), most=2, exact=exact), 24,
                                learned=learned)  # fmt: skip
    odd = torch.arange(24) % 2 == 1
    mixed = concatenate([sampler.renew(drawn[odd]), drawn[~odd]])
    assert mixed.fixed[PARENTS].version.tolist() == [0] * 12 + [-1] * 12
    plain = concatenate([drawn[odd], drawn[~odd]])
    needs = frozenset({"log_pf", "log_pb"})
    one, two = sampler.score(mixed, needs), sampler.score(plain, needs)
    assert torch.equal(one.get("log_pb"), two.get("log_pb"))
    assert torch.equal(one.get("log_pf"), two.get("log_pf"))
    if exact:
        check_sampler(sampler)


def test_a_lagging_copy_shares_the_chemistry_and_the_kept_parents() -> None:
    space = Asked(Counted(listable()), most=2)
    sampler = sampler_on(space, learned=True)
    source = LaggedBackward(Rollouts(sampler, MoleculeReward(qed)), sampler)
    assert source.copy.space is space
    drawn = source.draw(16, torch.Generator().manual_seed(0))
    space.states = 0
    assert sampler.renew(drawn) is drawn
    sampler.score(drawn, LOG_PB)
    assert space.states == 0


def test_parents_are_packed_at_any_width() -> None:
    generator = torch.Generator().manual_seed(0)
    for width in (1, 63, 64, 65, 192):
        parents = torch.rand((5, width), generator=generator) < 0.5
        place = torch.randint(width, (5,), generator=generator)
        held = packed_parents(place, parents)
        assert held.shape == (5, 1 + -(-width // 64))
        assert [part.tolist() for part in unpacked_parents(held, width)] == [place.tolist(), parents.tolist()]
