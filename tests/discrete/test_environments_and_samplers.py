"""Contract: every environment and every discrete sampler keeps its promises; broken ones are caught."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from equipoise.contracts import Behaviour, Enumerable, check_environment, check_sampler
from equipoise.discrete.environments.assignments import Assignments
from equipoise.discrete.environments.bags import Bags
from equipoise.discrete.environments.bits import AppendedBits, PlacedBits
from equipoise.discrete.environments.hypergrid import Hypergrid, corners, cosine, deceptive
from equipoise.discrete.environments.sets import Sets
from equipoise.discrete.environments.stopped import StoppedStrings
from equipoise.discrete.environments.strings import AppendStrings, InsertStrings, PrependAppendStrings
from equipoise.discrete.exact import state_graph
from equipoise.discrete.policies.mlp import MLP, Uniform
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.trajectories import ends

ENVIRONMENTS: dict[str, Enumerable] = {
    "grid": Hypergrid(dim=2, side=5),
    "grid of side 2": Hypergrid(dim=3, side=2),
    "line": Hypergrid(dim=1, side=7),
    "append": AppendStrings(letters=3, length=4),
    "one letter": AppendStrings(letters=5, length=1),
    "prepend and append": PrependAppendStrings(letters=3, length=4),
    "two letters, both ends": PrependAppendStrings(letters=2, length=5),
    "insert": InsertStrings(letters=3, length=4),
    "two letters, anywhere": InsertStrings(letters=2, length=5),
    "stopped": StoppedStrings(letters=3, length=3),
    "stopped at once": StoppedStrings(letters=2, length=1),
    "assignments": Assignments(positions=4, values=2),
    "bags": Bags(letters=3, full=5),
    "sets": Sets(elements=6, full=3),
    "whole set": Sets(elements=4, full=4),
    "appended bits": AppendedBits(bits=6, word=2),
    "placed bits": PlacedBits(bits=6, word=2),
}


def sampler(
    environment: Enumerable, *, backward: str = "learned", prior: bool = True, seed: int = 0
) -> DiscreteSampler:
    torch.manual_seed(seed)
    heads = {"forward": environment.actions, "backward": environment.back_actions, "flow": 0}
    policy = MLP(environment.features, (24,), heads)
    with torch.no_grad():
        policy.out.weight.mul_(5)
    reference = Uniform({"forward": environment.actions}) if prior else None
    return DiscreteSampler(environment, policy, backward=backward, prior=reference, flows=True)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_environment_keeps_the_contract(name: str) -> None:
    check_environment(ENVIRONMENTS[name])


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize("backward", ["uniform", "learned"])
def test_every_sampler_keeps_the_contract(name: str, backward: str) -> None:
    check_sampler(sampler(ENVIRONMENTS[name], backward=backward))


def test_scores_are_exactly_the_policy_along_the_path() -> None:
    environment = ENVIRONMENTS["prepend and append"]
    mine = sampler(environment)
    drawn = mine.sample(20, generator=torch.Generator().manual_seed(1))
    scores = mine.score(drawn, frozenset({"log_pf", "log_pb", "log_prior", "entropy", "log_inflow", "log_outflow"}))
    for row in range(20):
        for t in range(int(drawn.length[row])):
            state, child = drawn.path["state"][row, t][None], drawn.path["state"][row, t + 1][None]
            action = drawn.path["action"][row, t][None]
            edges = mine.log_edges(state)["log_pf"][0]
            assert scores.get("log_pf")[row, t].isclose(edges[action[0]], atol=1e-5)
            assert scores.get("entropy")[row, t].isclose(torch.special.entr(edges.exp()).sum(), atol=1e-5)
            back = environment.back_action(state, action)[0]
            assert scores.get("log_pb")[row, t].isclose(mine.log_back(child)[0, back], atol=1e-5)
            allowed = environment.allowed(state).sum()
            assert scores.get("log_prior")[row, t].isclose(-allowed.log(), atol=1e-5)
            assert scores.get("log_inflow")[row, t + 1].isclose(_inflow(mine, child), atol=1e-4)


def _inflow(mine: DiscreteSampler, child: Tensor) -> Tensor:
    """The flow into a state, parent by parent, over all states that there are."""
    environment = mine.environment
    assert isinstance(environment, Enumerable)
    flows = []
    for state in environment.states()[: state_graph(environment).inner]:
        state = state[None]
        for action in environment.allowed(state)[0].nonzero().flatten():
            if torch.equal(environment.step(state, action[None]), child):
                flows.append(mine.policy(environment.encode(state))["forward"][0, action])
    return torch.logsumexp(torch.stack(flows), 0)


def test_samples_follow_the_policy_and_exploration_mixes_in_the_uniform_one() -> None:
    environment = Hypergrid(dim=2, side=5)
    mine = sampler(environment)
    origin = environment.initial(1)
    policy = mine.log_edges(origin)["log_pf"][0].exp().detach()
    for epsilon in (0.0, 0.5):
        drawn = mine.sample(20_000, behaviour=Behaviour(epsilon=epsilon), generator=torch.Generator().manual_seed(2))
        share = drawn.path["action"][:, 0].bincount(minlength=3) / 20_000
        expected = (1 - epsilon) * policy + epsilon / 3
        assert torch.allclose(share, expected, atol=4 * 0.5 / 20_000**0.5)


def test_exploration_never_enters_a_score() -> None:
    mine = sampler(Hypergrid(dim=2, side=5))
    drawn = mine.sample(
        50, behaviour=Behaviour(epsilon=0.7, temperature=3.0), generator=torch.Generator().manual_seed(3)
    )
    edges = mine.log_edges(drawn.path["state"][:, 0])["log_pf"]
    expected = edges.gather(1, drawn.path["action"][:, :1])[:, 0]
    assert torch.allclose(mine.score(drawn, frozenset({"log_pf"})).get("log_pf")[:, 0], expected, atol=1e-6)


def test_paths_drawn_backwards_follow_the_backward_policy() -> None:
    environment = PrependAppendStrings(letters=2, length=2)
    mine = sampler(environment)
    word = torch.tensor([[0, 1]])
    drawn = mine.sample_to(ends(word.expand(20_000, -1)), generator=torch.Generator().manual_seed(4))
    removed_last = (drawn.path["state"][:, 1, 0] == 1).double().mean()
    expected = mine.log_back(environment.state_of(word))[0, 0].exp().double()
    assert removed_last.isclose(expected, atol=4 * 0.5 / 20_000**0.5)


def test_kept_steps_stay_and_the_rest_is_drawn() -> None:
    mine = sampler(Hypergrid(dim=2, side=8))
    generator = torch.Generator().manual_seed(5)
    start = mine.sample(200, generator=generator)
    keep = torch.minimum(start.length - 1, torch.full((200,), 2))
    drawn = mine.sample(200, start=start, keep=keep, generator=generator)
    assert (drawn.length > keep).all() and (drawn.length != start.length).any()
    for row in range(200):
        kept = slice(0, int(keep[row]))
        assert torch.equal(drawn.path["action"][row, kept], start.path["action"][row, kept])


def test_the_notes_log_partitions_are_those_of_the_landscapes() -> None:
    # Hypergrid figures of `corners` at (dim, side, R0), computed apart for this project.
    known = {(2, 8, 0.1): 3.1090609589, (4, 8, 0.1): 6.3449, (4, 8, 0.01): 5.3031, (4, 8, 0.001): 5.1005}
    known |= {(2, 64, 0.1): 7.0980, (2, 64, 0.01): 6.7345, (2, 64, 0.001): 6.6897, (4, 20, 0.1): 9.9764}
    for (dim, side, r0), log_z in known.items():
        points = torch.cartesian_prod(*[torch.arange(side)] * dim).reshape(-1, dim)
        assert abs(float(torch.logsumexp(corners(side, r0)(points, None).double(), 0)) - log_z) < 6e-5


def test_points_on_a_boundary_are_outside_the_ring_whatever_the_rounding() -> None:
    # On a side of 16, x = 3 and x = 12 lie exactly .3 from the middle; in floating point 12/15 - .5 exceeds .3.
    value = corners(16, 0.1)(torch.tensor([[3], [12]]), None)
    assert value[0] == value[1]
    assert value[0].isclose(torch.tensor(0.6, dtype=torch.float64).log())


@pytest.mark.parametrize("landscape", [corners, cosine, deceptive])
def test_every_landscape_is_finite_and_refuses_a_reward_of_zero(landscape: type) -> None:
    points = torch.cartesian_prod(torch.arange(9), torch.arange(9))
    assert torch.isfinite(landscape(9)(points, None)).all()
    with pytest.raises(ValueError, match="R0 is 0"):
        landscape(9, 0.0)


class Teleport(Hypergrid):
    """Breaks the contract: two actions lead to one child."""

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        return super().step(state, torch.where(action == 1, 0, action))


class Peeking(AppendStrings):
    """Breaks the contract: a Python branch on data."""

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        return super().step(state, action) if bool(state.sum() >= 0) else state


class Forgetful(PrependAppendStrings):
    """Breaks the contract: a parent that exists is denied."""

    def parents(self, state: Tensor) -> Tensor:
        return super().parents(state) & (torch.arange(2) == 0)


@pytest.mark.parametrize(
    ("environment", "promise"),
    [
        (Teleport(dim=2, side=4), "lead to one child"),
        (Peeking(letters=2, length=3), "one graph"),
        (Forgetful(letters=2, length=3), "denies the edge"),
    ],
)
def test_a_broken_environment_is_caught(environment: Enumerable, promise: str) -> None:
    with pytest.raises(ValueError, match=promise):
        check_environment(environment)


class Greedy(DiscreteSampler):
    """Breaks the contract: reads beyond the length."""

    def score(self, trajectories, needs, *, generator=None):  # type: ignore[no-untyped-def]
        scores = super().score(trajectories, needs, generator=generator)
        scores.log_pf[:, 0] += trajectories.path["action"].sum(1) * 1e-3  # type: ignore[index]
        return scores


def test_a_sampler_that_reads_padding_is_caught() -> None:
    environment = Hypergrid(dim=2, side=5)
    mine = Greedy(environment, MLP(environment.features, (24,), {"forward": environment.actions}))
    with pytest.raises(ValueError, match="beyond a row's length"):
        check_sampler(mine)


def test_misuse_of_a_sampler_is_a_clear_error() -> None:
    environment = Hypergrid(dim=2, side=5)
    policy = MLP(environment.features, (24,), {"forward": environment.actions})
    mine = DiscreteSampler(environment, policy)
    drawn = mine.sample(2, generator=torch.Generator())
    with pytest.raises(ValueError, match=r"not \['log_flow'\]"):
        mine.score(drawn, frozenset({"log_flow"}))
    with pytest.raises(ValueError, match="noise"):
        mine.sample(2, behaviour=Behaviour(noise=0.1), generator=torch.Generator())
    with pytest.raises(ValueError, match="both 'start' and 'keep'"):
        mine.sample(2, start=drawn, generator=torch.Generator())
    with pytest.raises(ValueError, match="needs a head 'backward'"):
        DiscreteSampler(environment, policy, backward="learned")
    with pytest.raises(ValueError, match="prior has trainable parameters"):
        DiscreteSampler(environment, policy, prior=MLP(environment.features, (4,), {"forward": environment.actions}))
    with pytest.raises(ValueError, match="'uniform', 'learned'"):
        DiscreteSampler(environment, policy, backward="unifrom")
    with pytest.raises(ValueError, match="epsilon is 2"):
        Behaviour(epsilon=2)
