"""Every method of the discrete suite from its configuration: contracts, one optimum, and runs that are taken up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from equipoise.cli import main
from equipoise.contracts import check_sampler
from equipoise.discrete import exact
from equipoise.discrete.environments.bags import Bags
from equipoise.discrete.environments.hypergrid import Hypergrid
from equipoise.discrete.environments.strings import PrependAppendStrings
from equipoise.discrete.policies.edges import RelativeEdges
from equipoise.discrete.policies.maximum_entropy import MaximumEntropy, log_paths
from equipoise.discrete.policies.mlp import MLP
from equipoise.discrete.policies.separate import Separate
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.recipes.configuration import Discrete
from equipoise.recipes.discrete import DiscreteRun, build
from equipoise.training.loop import Loop
from equipoise.trajectories import Columns, from_bytes, to_bytes

WORDS = PrependAppendStrings(letters=3, length=3)
QUICK = Discrete(batch=32, steps=300, learning_rate=1e-2, hidden=(32, 32), epsilon=0.1)
METHODS: dict[str, dict[str, Any]] = {
    "prioritized": {"source": "prioritized"},
    "relative edges": {"network": "relative_edges"},
    "relative edges, learned": {"network": "relative_edges", "backward": "learned"},
    "wide and deep": {"network": "wide_and_deep"},
    "guided": {"method": "guided", "guide_mix_last": 0.0},
    "guided, released": {"method": "guided", "guide_loss": "released", "guide_mix_last": 0.0},
    "guided, prioritized, relative edges": {
        "method": "guided",
        "source": "prioritized",
        "network": "relative_edges",
        "guide_mix_last": 0.0,
    },
    "maximum entropy": {"backward": "maximum_entropy"},
    "likelihood": {"backward": "likelihood"},
    "pessimistic": {"backward": "pessimistic", "source": "replay"},
    "local search": {"search": "local_search"},
    "metropolis hastings": {"search": "metropolis_hastings", "source": "prioritized"},
    "teacher": {"search": "teacher"},
    "thompson": {"search": "thompson"},
    "temperatures": {"search": "temperatures"},
    "separate, repeated": {"backward": "learned", "separate": True, "updates": 2},
}


def problem(config: Discrete) -> DiscreteRun:
    held = torch.randn(27, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def reward(objects: Columns, context: Columns = None) -> Tensor:
        assert isinstance(objects, Tensor)
        return held[(objects * torch.tensor([9, 3, 1])).sum(1)]

    return build(config, WORDS, reward, show=lambda objects: [])


@pytest.mark.parametrize("name", METHODS)
def test_every_method_goes_on_bit_for_bit(name: str) -> None:
    config = replace(QUICK, steps=8, **METHODS[name])
    first, second = Loop(problem(config).run), Loop(problem(config).run)
    for _ in range(3):
        first.advance()
    second.load_state_dict(from_bytes(to_bytes(first.state_dict())))
    for _ in range(3):
        first.advance()
        second.advance()
    for mine, other in zip(first.run.modules.values(), second.run.modules.values(), strict=True):
        for key, value in mine.state_dict().items():
            assert torch.equal(value, other.state_dict()[key])
    assert first.run.evaluate()["reward_calls"] == second.run.evaluate()["reward_calls"] > 0


@pytest.mark.parametrize("name", METHODS)
def test_every_method_s_sampler_keeps_the_contract(name: str) -> None:
    run = problem(replace(QUICK, **METHODS[name]))
    drawn = next(iter(run.run.sources.values())).draw(32, torch.Generator().manual_seed(0))
    check_sampler(run.sampler, n=32, context=drawn.context, group=drawn.group)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_the_rewards_as_its_optimum(name: str) -> None:
    run = problem(replace(QUICK, steps=2000, batch=64, learning_rate=5e-3, **METHODS[name]))
    run.prepare(None)
    loop = Loop(run.run)
    for _ in range(2000):
        loop.advance()
    figures = run.judge.figures()
    assert figures["total_variation"] < 0.01 and abs(figures["log_z_error"]) < 0.02


def test_relative_edges_sum_to_one_over_the_distinct_children() -> None:
    """f(s, s') / sum over children, from the scorer itself, against the sampler's actions; one flow an edge."""
    for space in (WORDS, Bags(letters=3, full=3), Hypergrid(dim=2, side=3)):
        torch.manual_seed(0)
        policy = RelativeEdges(space, (12, 12), {"forward": space.actions})
        sampler = DiscreteSampler(space, policy)
        check_sampler(sampler)
        graph = exact.state_graph(space)
        log_pf = exact.log_policy(sampler, graph)
        for place in range(0, graph.inner, 3):
            state = graph.states[place][None]
            flows: dict[int, float] = {}
            for action in space.allowed(state)[0].nonzero()[:, 0]:
                child = space.step(state, action[None])
                pair = policy.parent(_embedded(policy, state)) + policy.child(_embedded(policy, child))
                flows[int(space.index(child))] = float(
                    policy.score(torch.nn.functional.leaky_relu(pair)).detach().exp()
                )
            for action in space.allowed(state)[0].nonzero()[:, 0]:
                child = int(space.index(space.step(state, action[None])))
                share = flows[child] / sum(flows.values())
                assert float(log_pf[place, action].exp()) == pytest.approx(share, rel=1e-4)


def _embedded(policy: RelativeEdges, state: Tensor) -> Tensor:
    features = policy.environment.encode(state)
    first, last = policy.layers
    return last(torch.nn.functional.leaky_relu(first(features)))


def test_paths_of_largest_entropy_are_all_as_likely() -> None:
    """Each path to x has 1 / (number of its paths) under P_B, counted one by one; the uniform choice has not."""
    graph = exact.state_graph(WORDS)
    listed = list(exact.trajectories_of(graph))
    count = torch.tensor([states[-1] for states, _ in listed]).bincount(minlength=len(graph.states))
    assert torch.allclose(log_paths(graph)[graph.inner :].exp(), count[graph.inner :].double())
    policy = MLP(WORDS.features, (4,), {"forward": WORDS.actions})
    log_pb = exact.log_backward(DiscreteSampler(WORDS, policy, backward=MaximumEntropy(WORDS)), graph)
    uniform = exact.log_backward(DiscreteSampler(WORDS, policy), graph)
    differs = 0
    for states, actions in listed:
        steps = torch.tensor(actions)
        back = WORDS.back_action(graph.states[states[:-1]], steps)
        total = float(log_pb[states[1:], back].sum().exp())
        assert total == pytest.approx(1 / int(count[states[-1]]), rel=1e-5)
        differs += abs(total - float(uniform[states[1:], back].sum().exp())) > 1e-3
    assert differs


def test_a_separate_backward_network_leaves_the_forward_one_alone() -> None:
    run = problem(replace(QUICK, method="guided"))
    assert isinstance(run.sampler.policy, Separate) and sorted(run.run.modules) == ["backward", "log_z", "policy"]
    term = run.run.terms[1]
    drawn = run.run.sources["on_policy"].draw(32, torch.Generator().manual_seed(0))
    term.loss(drawn, run.sampler.score(drawn, frozenset({"log_pf", "log_pb"})), 0).value.backward()
    assert all(value.grad is None for value in run.run.modules["policy"].parameters())
    assert any(value.grad is not None for value in run.run.modules["backward"].parameters())


def test_what_cannot_be_is_refused_with_a_word() -> None:
    for settings, word in (
        ({"method": "guided", "backward": "pessimistic"}, "backward policy of its own"),
        ({"levels": 4}, "odd"),
        ({"times": 9}, "members"),
        ({"percentile": 1.0}, "percentile"),
        ({"search": "thompson", "network": "relative_edges"}, "mlp"),
        ({"search": "teacher", "method": "guided"}, "trajectory balance"),
        ({"search": "teacher", "method": "db"}, "trajectory balance"),
    ):
        with pytest.raises(ValueError, match=word):
            problem(replace(QUICK, **settings))


def test_the_command_line_reaches_each(tmp_path: Any) -> None:
    common = ["train", "hypergrid", "--side", "4", "--steps", "3", "--every", "3", "--hidden", "8"]
    for place, words in enumerate(
        (
            ["--method", "guided", "--source", "prioritized"],
            ["--search", "local-search", "--network", "relative-edges"],
            ["--backward", "maximum-entropy", "--search", "thompson"],
        )
    ):
        assert main([*common, *words, "--out", str(tmp_path / str(place))]) == 0


def test_no_task_has_more_than_25_flags() -> None:
    import dataclasses

    from equipoise.cli.flags import hidden
    from equipoise.recipes.tasks import TASKS

    for task in TASKS.values():
        assert len(dataclasses.fields(task.config)) - len(hidden(task.config)) <= 25
