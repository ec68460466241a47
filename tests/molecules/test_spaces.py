"""Both spaces of molecules: their contracts, what they hold, and their exact targets."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("rdkit")

import torch

from equipoise.contracts import check_environment, check_sampler
from equipoise.discrete import exact
from equipoise.discrete.policies.maximum_entropy import log_paths
from equipoise.discrete.policies.mlp import Uniform
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.molecules.chemistry import chemistry
from equipoise.molecules.evaluation import backward_reach, replay_rate, replayed, sound_share
from equipoise.molecules.graph import MoleculeSpace, packed, unpacked
from equipoise.molecules.listing import ListedMolecules, ListedRoutes
from equipoise.molecules.policy import ReactionPolicy
from equipoise.molecules.reactions import Reactions
from equipoise.molecules.rewards import MoleculeReward, qed
from equipoise.molecules.routes import RouteSpace
from equipoise.molecules.routes_text import Route, Step, routes_of
from equipoise.molecules.space import BLOCK, smiles_of
from equipoise.trajectories import ends, from_bytes, to_bytes
from molecules.small import AMIDE, listable, tiny


def space_of(state: str, most: int = 2, chosen: Any = None) -> Any:
    reactions = Reactions(tiny() if chosen is None else chosen, reversible=state == "molecule")
    return (ListedMolecules if state == "molecule" else ListedRoutes)(reactions, most=most)


def sampler_on(space: Any, *, learned: bool = False) -> DiscreteSampler:
    heads = {"forward": space.actions, "flow": 0} | ({"backward": space.back_actions} if learned else {})
    torch.manual_seed(0)
    return DiscreteSampler(space, ReactionPolicy(space, (32, 32), heads), backward="learned" if learned else "uniform")


@pytest.mark.parametrize("state", ["route", "molecule"])
@pytest.mark.parametrize("most", [1, 2])
def test_a_space_keeps_the_contract(state: str, most: int) -> None:
    check_environment(space_of(state, most), trace=False)


@pytest.mark.parametrize(("state", "learned"), [("route", False), ("molecule", False), ("molecule", True)])
def test_a_sampler_of_molecules_keeps_the_contract(state: str, learned: bool) -> None:
    check_sampler(sampler_on(space_of(state), learned=learned), n=32)


def test_both_spaces_hold_the_same_molecules_and_routes_are_paths_of_the_graph() -> None:
    """The number of routes of each molecule, counted in the tree, against paths through exact parents."""
    routes, molecules = space_of("route"), space_of("molecule")
    tree, graph = exact.state_graph(routes), exact.state_graph(molecules)
    names = smiles_of(molecules.objects(graph.terminal))
    paths = dict(zip(names, log_paths(graph)[graph.inner :].exp().tolist(), strict=True))
    count: dict[str, int] = {}
    for name in smiles_of(routes.objects(tree.terminal)):
        count[name] = count.get(name, 0) + 1
    assert len(names) == len(set(names)) == len(count) > 20
    assert max(count.values()) > min(count.values())
    assert count == {name: round(number) for name, number in paths.items()}


def test_in_route_mode_a_molecule_has_its_number_of_routes_times_its_reward() -> None:
    """The sampler that balances over routes, by dynamic programming; the marginal from the molecules' own graph."""
    routes, molecules = space_of("route"), space_of("molecule")
    reward = MoleculeReward(qed)
    tree, graph = exact.state_graph(routes), exact.state_graph(molecules)
    frozen = DiscreteSampler(routes, Uniform({"forward": routes.actions}))
    weight = exact.log_rewards(tree, reward).exp()
    flow = exact.target_flows(tree, exact.log_backward(frozen, tree), weight)
    log_pf = torch.full((tree.inner, routes.actions), -torch.inf, dtype=torch.float64)
    for level in tree.levels:
        rows = level.rows[level.parent]
        log_pf[rows, level.action] = (flow[level.child] / flow[rows]).log()
    model = exact.terminal_distribution(tree, log_pf)
    marginal: dict[str, float] = {}
    for name, mass in zip(smiles_of(routes.objects(tree.terminal)), model.tolist(), strict=True):
        marginal[name] = marginal.get(name, 0.0) + mass
    names = smiles_of(molecules.objects(graph.terminal))
    expected = log_paths(graph)[graph.inner :].exp() * exact.log_rewards(graph, reward).exp()
    expected = expected / expected.sum()
    found = torch.tensor([marginal[name] for name in names], dtype=torch.float64)
    assert torch.allclose(found, expected, atol=1e-12)
    assert not torch.allclose(found, exact.log_rewards(graph, reward).softmax(0), atol=1e-3)


def test_uniform_exact_parents_balance_exactly_over_molecules() -> None:
    """P_F from the flows of uniform P_B over exact parents draws every molecule in proportion to R."""
    molecules = space_of("molecule")
    graph = exact.state_graph(molecules)
    frozen = DiscreteSampler(molecules, Uniform({"forward": molecules.actions}))
    weight = exact.log_rewards(graph, MoleculeReward(qed)).exp()
    flow = exact.target_flows(graph, exact.log_backward(frozen, graph), weight)
    log_pf = torch.full((graph.inner, molecules.actions), -torch.inf, dtype=torch.float64)
    for level in graph.levels:
        rows = level.rows[level.parent]
        log_pb = exact.log_backward(frozen, graph)[level.child, level.back].exp()
        log_pf[rows, level.action] = (flow[level.child] * log_pb / flow[rows]).log()
    model = exact.terminal_distribution(graph, log_pf)
    assert float((model - weight / weight.sum()).abs().sum()) < 1e-12


@pytest.mark.parametrize("state", ["route", "molecule"])
def test_flows_tell_blocks_apart(state: str) -> None:
    """Two states that differ in the block to be added have different products, so that their flows must differ."""
    space = space_of(state)
    seen = space.view(states := exact.state_graph(space).states)
    flow = sampler_on(space).policy(states, None)["flow"]
    same: dict[tuple[object, ...], dict[int, float]] = {}
    for row in seen.rows(BLOCK):
        key = (seen.smiles[row], int(seen.reactions[row]), int(seen.slot[row]))
        same.setdefault(key, {})[int(seen.block[row])] = float(flow[row])
    assert max(map(len, same.values())) > 1
    assert all(len(set(flows.values())) == len(flows) for flows in same.values())


@pytest.mark.parametrize("state", ["route", "molecule"])
def test_routes_replay_backward_walks_reach_the_start_and_molecules_are_sound(state: str) -> None:
    reactions = Reactions(listable(), reversible=state == "molecule")
    space = (MoleculeSpace if state == "molecule" else RouteSpace)(reactions, most=2)
    sampler = sampler_on(space)
    generator = torch.Generator().manual_seed(0)
    drawn = sampler.sample(200, generator=generator)
    assert replay_rate(sampler, drawn) == 1.0
    assert backward_reach(sampler, drawn, generator) == 1.0
    assert sound_share(smiles_of(drawn.objects)) == 1.0
    again = sampler.sample_to(ends(drawn.objects), generator=generator)
    assert replay_rate(sampler, again) == 1.0
    assert [route.product for route in routes_of(space, again)] == list(smiles_of(drawn.objects))


def test_a_route_with_a_wrong_product_does_not_replay() -> None:
    reactions = Reactions(tiny())
    slot = next(place for place, where in enumerate(reactions.chemistry.slots) if where.place == 1)
    right = Route("CN", (Step(0, slot, "CC(=O)O", "CNC(C)=O"),), "CNC(C)=O")
    wrong = Route("CN", (Step(0, slot, "CC(=O)O", "CCNC(C)=O"),), "CCNC(C)=O")
    assert replayed(reactions, right)
    assert not replayed(reactions, wrong)


def test_a_stored_trajectory_is_read_with_nothing_but_the_chemistry() -> None:
    """What a killed run has on disk is scored alike by a process that has never seen its molecules."""
    for state in ("route", "molecule"):
        first = sampler_on(space_of(state))
        drawn = from_bytes(to_bytes(first.sample(16, generator=torch.Generator().manual_seed(1))))
        again = sampler_on(space_of(state))
        needs = frozenset({"log_pf", "log_pb"})
        assert torch.equal(first.score(drawn, needs).get("log_pf"), again.score(drawn, needs).get("log_pf"))


def test_a_reaction_that_gives_nothing_ends_in_a_failed_object() -> None:
    """Products of more than five atoms are none, so that every trajectory fails."""
    reactions = Reactions(chemistry([AMIDE], ["OC(=O)C1CC1", "NC1CC1"]), most_atoms=5)
    space = RouteSpace(reactions, most=1)
    check_environment(space, trace=False)
    drawn = sampler_on(space).sample(8, generator=torch.Generator().manual_seed(0))
    assert smiles_of(drawn.objects) == ("",) * 8
    assert MoleculeReward(qed)(drawn.objects).exp().tolist() == pytest.approx([0.1] * 8)
    assert (space.state_of(drawn.objects) == drawn.path["state"][torch.arange(8), drawn.length]).all()


def test_numbers_hold_smiles_of_every_length_that_is_allowed() -> None:
    words = ["", "C", "CCCCCCCC", "CCCCCCCCC", "C" * 256]
    assert unpacked(packed(words)) == words
    with pytest.raises(ValueError, match="257 characters"):
        packed(["C" * 257])


def test_a_space_of_exact_parents_needs_reversible_reactions() -> None:
    with pytest.raises(ValueError, match="reversible=True"):
        MoleculeSpace(Reactions(tiny()), most=1)


def test_molecules_can_be_given_as_smiles() -> None:
    sampler = sampler_on(space_of("molecule"))
    walked = sampler.sample_to(ends(("CNC(C)=O",)), generator=torch.Generator().manual_seed(0))
    (route,) = routes_of(sampler.environment, walked)
    assert route.product == "CNC(C)=O"
    assert route.text().endswith("--> CNC(C)=O")


@pytest.mark.parametrize("state", ["route", "molecule"])
def test_flows_of_edges_have_a_level_where_there_is_no_choice_too(state: str) -> None:
    """Without one the flow of a forced edge is 1, whatever it should be, and no other policy has a parameter more."""
    space = space_of(state, 1)
    states = space.states()[~space.terminal(space.states())]
    allowed = space.allowed(states)
    forced = (allowed.sum(1) == 1) & (space.view(states).kind == BLOCK)
    plain, edges = (ReactionPolicy(space, (32,), {"forward": space.actions}, edges=flag) for flag in (False, True))
    assert forced.sum() > 3
    assert plain(states, None)["forward"][forced][allowed[forced]].unique().tolist() == [0.0]
    assert len(edges(states, None)["forward"][forced][allowed[forced]].unique()) > 3
    assert {*edges.state_dict()} - {*plain.state_dict()} == {"level.weight", "level.bias"}
