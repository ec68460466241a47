"""The sampler of what grows at its end: its cache and its one pass agree, and it keeps every promise of a sampler."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from equipoise.contracts import Behaviour, check_sampler
from equipoise.discrete import exact
from equipoise.discrete.autoregressive import AutoregressiveSampler
from equipoise.discrete.environments.bits import AppendedBits, PlacedBits
from equipoise.discrete.environments.stopped import StoppedStrings
from equipoise.discrete.environments.strings import AppendStrings, PrependAppendStrings
from equipoise.discrete.policies import transformer
from equipoise.discrete.policies.mlp import MLP, Uniform
from equipoise.discrete.policies.transformer import CausalTransformer, PlacedTransformer
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.evaluation.likelihoods import log_probability
from equipoise.trajectories import Scores, Trajectories

SPACES: dict[str, AppendStrings] = {
    "strings": AppendStrings(letters=3, length=4),
    "stopped": StoppedStrings(letters=3, length=4),
    "bits": AppendedBits(bits=8, word=2),
}


def sampler(space: AppendStrings, *, widths: tuple[int, ...] = (16, 16)) -> AutoregressiveSampler:
    torch.manual_seed(0)
    heads = {"forward": space.actions, "flow": 0}
    policy = CausalTransformer(space.letters, space.length, heads, widths=widths, attention=2)
    with torch.no_grad():
        policy.out.weight.mul_(5)
    return AutoregressiveSampler(space, policy, prior=Uniform({"forward": space.actions}), flows=True)


@pytest.mark.parametrize("name", SPACES)
def test_it_keeps_the_contract(name: str) -> None:
    check_sampler(sampler(SPACES[name]))


def test_an_assignments_transformer_keeps_the_contract() -> None:
    space = PlacedBits(bits=8, word=2)
    heads = ("forward", "backward", "flow")
    policy = PlacedTransformer(space.positions, space.values, heads, widths=(16, 16), attention=2)
    prior = Uniform({"forward": space.actions})
    check_sampler(DiscreteSampler(space, policy, backward="learned", prior=prior, flows=True))


def test_a_step_with_the_cache_is_the_pass_over_all_steps() -> None:
    torch.manual_seed(0)
    policy = CausalTransformer(20, 60, {"forward": 21, "flow": 0}, widths=(64, 64, 64))
    tokens = torch.randint(20, (3, 60), generator=torch.Generator().manual_seed(1))
    at_once = policy(tokens, torch.ones((3, 61), dtype=torch.bool))
    heads, cache = policy.begin(3)
    stepwise: dict[str, list[Tensor]] = {name: [value] for name, value in heads.items()}
    for place in range(60):
        for name, value in policy.advance(tokens[:, place], cache).items():
            stepwise[name].append(value)
    for name, parts in stepwise.items():
        together = torch.stack(parts, 1).flatten(0, 1)
        assert (together - at_once[name]).abs().max() < 1e-5


def test_a_step_of_one_size_for_every_place_is_the_pass_over_all_steps() -> None:
    torch.manual_seed(0)
    policy = CausalTransformer(5, 7, {"forward": 6, "flow": 0}, widths=(16, 16), attention=4)
    tokens = torch.randint(5, (3, 7), generator=torch.Generator().manual_seed(1))
    at_once = policy(tokens)["forward"].view(3, 8, 6)
    assert torch.equal(at_once.flatten(0, 1), policy(tokens, torch.ones((3, 8), dtype=torch.bool))["forward"])
    cache = policy.cache(3)
    token, keys, values = torch.full((3,), 5), cache.keys, cache.values
    for place in range(8):
        logits, keys, values = policy.step(token, torch.tensor(place), keys, values)
        assert (logits - at_once[:, place]).abs().max() < 1e-5
        token = tokens[:, min(place, 6)]


class Called:
    """Stands for a compiler: calls the functions as they are."""

    def wanted(self, key: object) -> bool:
        return True

    def call(self, what: str, key: object, function: Any, *inputs: Tensor, module: object = None) -> Any:
        return function(*inputs)


@pytest.mark.parametrize("name", SPACES)
def test_what_is_compiled_draws_and_scores_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = sampler(SPACES[name])
    behaviour = Behaviour(temperature=1.5, epsilon=0.2)
    needs = frozenset({"log_pf", "log_pb", "log_flow", "log_prior"})

    def found() -> tuple[Trajectories, Scores]:
        drawn = made.sample(33, behaviour=behaviour, generator=torch.Generator().manual_seed(3))
        return drawn, made.score(drawn, needs)

    (drawn, scores), compiler = found(), Called()
    monkeypatch.setattr(made, "compiler", compiler)
    again, others = found()
    assert torch.equal(drawn.path["action"], again.path["action"]) and torch.equal(drawn.length, again.length)
    assert torch.equal(torch.as_tensor(drawn.objects), torch.as_tensor(again.objects))
    for need in needs:
        assert torch.allclose(scores.get(need), others.get(need), atol=1e-5), need


def test_many_rows_are_split_where_no_gradient_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    causal = CausalTransformer(4, 6, {"forward": 4, "flow": 0}, widths=(16,), attention=2)
    placed = PlacedTransformer(3, 2, ("forward", "backward"), widths=(16,), attention=2)
    tokens = torch.randint(4, (9, 6), generator=torch.Generator().manual_seed(1))
    valid = torch.arange(7) <= torch.arange(9)[:, None] % 7
    states = torch.randint(3, (11, 3), generator=torch.Generator().manual_seed(2))

    def every() -> dict[str, Tensor]:
        found = {**causal(tokens, valid), **{f"placed {name}": value for name, value in placed(states).items()}}
        return {**found, **{f"full {name}": value for name, value in causal(tokens).items()}}

    whole = every()
    monkeypatch.setattr(transformer, "MOST_WEIGHTS", 2 * 7**2 * 2)
    with torch.no_grad():
        parts = every()
    assert placed.most == 10
    for name, value in whole.items():
        assert torch.allclose(parts[name], value, atol=1e-6), name


def test_rows_that_leave_do_not_change_those_that_stay() -> None:
    torch.manual_seed(0)
    policy = CausalTransformer(4, 6, {"forward": 4}, widths=(16, 16), attention=2)
    _, whole = policy.begin(3)
    _, fewer = policy.begin(3)
    policy.advance(torch.tensor([0, 1, 2]), whole)
    policy.advance(torch.tensor([0, 1, 2]), fewer)
    fewer.take(torch.tensor([0, 2]))
    stayed = policy.advance(torch.tensor([3, 1]), fewer)["forward"]
    among = policy.advance(torch.tensor([3, 0, 1]), whole)["forward"]
    assert torch.allclose(stayed, among[[0, 2]], atol=1e-6)


@pytest.mark.parametrize("name", SPACES)
def test_samples_scores_and_dynamic_programming_agree(name: str) -> None:
    space = SPACES[name]
    mine, graph = sampler(space), exact.state_graph(space)
    model = exact.terminal_distribution(graph, exact.log_policy(mine, graph))
    assert abs(float(model.sum()) - 1) < 1e-6
    objects = space.objects(graph.terminal)
    found = log_probability(mine, objects, draws=1, generator=torch.Generator()).log_p
    assert (found - model.log()).abs().max() < 1e-5
    n = 30_000
    drawn = mine.sample(n, generator=torch.Generator().manual_seed(1))
    place = space.index(space.state_of(drawn.objects)) - graph.inner
    share = place.bincount(minlength=len(model)).double() / n
    assert ((share - model).abs() <= 6 * (model * (1 - model) / n).sqrt() + 1e-12).all()


def test_states_follow_from_actions() -> None:
    space = StoppedStrings(letters=3, length=4)
    mine = sampler(space)
    drawn = mine.sample(50, generator=torch.Generator().manual_seed(2))
    states = mine.visited(drawn)
    rows = torch.arange(50)
    assert torch.equal(states[rows, drawn.length], space.state_of(drawn.objects))
    inside = torch.arange(drawn.steps) < drawn.length[:, None]
    moved = space.step(states[:, :-1][inside], drawn.path["action"][inside])
    assert torch.equal(moved, states[:, 1:][inside])


def test_exploration_is_drawn_and_never_scored() -> None:
    mine = sampler(SPACES["strings"])
    policy = mine.log_edges(SPACES["strings"].initial(1))["log_pf"][0].exp().detach()
    explored = Behaviour(epsilon=0.5)
    drawn = mine.sample(20_000, behaviour=explored, generator=torch.Generator().manual_seed(3))
    share = drawn.path["action"][:, 0].bincount(minlength=3) / 20_000
    assert torch.allclose(share, 0.5 * policy + 0.5 / 3, atol=4 * 0.5 / 20_000**0.5)
    scored = mine.score(drawn, frozenset({"log_pf"})).get("log_pf")[:, 0]
    assert torch.allclose(scored, policy.log()[drawn.path["action"][:, 0]], atol=1e-5)


def test_inflow_outflow_and_entropy_are_those_of_the_general_sampler() -> None:
    space = StoppedStrings(letters=3, length=4)
    mine = sampler(space)
    drawn = mine.sample(20, generator=torch.Generator().manual_seed(4))
    needs = frozenset({"log_inflow", "log_outflow", "entropy", "log_prior", "kl_prior", "log_stop", "log_flow"})
    scores = mine.score(drawn, needs)
    states = mine.visited(drawn)
    inside = torch.arange(drawn.steps) < drawn.length[:, None]
    edges = mine.log_edges(states[:, :-1][inside])
    allowed = space.allowed(states[:, :-1][inside])
    entropy = torch.special.entr(edges["log_pf"].exp()).sum(1)
    taken = edges["log_pf"].gather(1, drawn.path["action"][inside][:, None])[:, 0]
    pairs = {
        "log_outflow": (scores.get("log_outflow")[:, :-1][inside], edges["log_flow"]),
        "log_inflow": (scores.get("log_inflow")[:, 1:][inside], edges["log_flow"] + taken),
        "entropy": (scores.get("entropy")[inside], entropy),
        "log_prior": (scores.get("log_prior")[inside], -allowed.sum(1).log()),
        "kl_prior": (scores.get("kl_prior")[inside], allowed.sum(1).log() - entropy),
        "log_stop": (scores.get("log_stop")[:, :-1][inside], edges["log_pf"][:, -1]),
    }
    for name, (found, expected) in pairs.items():
        assert torch.allclose(found, expected, atol=1e-4), name


def test_what_does_not_grow_at_its_end_alone_and_layers_that_differ_are_refused() -> None:
    policy = CausalTransformer(3, 4, {"forward": 3}, widths=(16,), attention=2)
    with pytest.raises(ValueError, match="PrependAppendStrings does not grow at its end alone"):
        AutoregressiveSampler(PrependAppendStrings(letters=3, length=4), policy)
    with pytest.raises(ValueError, match="prior is a MLP: the uniform policy"):
        frozen = MLP(4, (4,), {"forward": 3}).requires_grad_(False)
        AutoregressiveSampler(SPACES["strings"], policy, prior=frozen)  # type: ignore[arg-type]
    for widths in ((), (16, 8), (12,)):
        with pytest.raises(ValueError, match="give one width to all"):
            CausalTransformer(3, 4, {"forward": 3}, widths=widths)
    with pytest.raises(ValueError, match="noise"):
        sampler(SPACES["strings"]).sample(2, behaviour=Behaviour(noise=0.1), generator=torch.Generator())


@pytest.mark.parametrize("positions", [1, 3, 15, 20])
def test_keys_that_fill_a_vector_up_change_no_head_and_no_gradient(
    positions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    causal = CausalTransformer(3, positions, {"forward": 3}, widths=(16, 16), attention=2).double()
    placed = PlacedTransformer(positions, 3, ("forward", "flow"), widths=(16, 16), attention=2).double()
    tokens, valid = torch.randint(3, (5, positions)), torch.arange(positions + 1) <= torch.randint(positions, (5, 1))

    def heads() -> list[Tensor]:
        found = [causal(tokens, valid)["forward"], *placed(tokens + 1).values()]
        parameters = [*causal.parameters(), *placed.parameters()]
        loss = torch.stack([value.square().sum() for value in found]).sum()
        return [*found, *torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)]

    filled = heads()
    monkeypatch.setattr(transformer, "LEAST", 0)
    for mine, other in zip(filled, heads(), strict=True):
        assert torch.allclose(mine, other, rtol=1e-10, atol=1e-12)
