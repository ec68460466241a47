"""Prioritised replay, local search, the teacher and the bootstrap: what they draw, and what they leave invariant."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from equipoise.contracts import Reward
from equipoise.discrete import exact
from equipoise.discrete.environments.hypergrid import Hypergrid, corners
from equipoise.discrete.environments.strings import PrependAppendStrings
from equipoise.discrete.policies.ensemble import Ensemble
from equipoise.discrete.policies.mlp import MLP
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.sampling.calls import Calls, Tallied
from equipoise.sampling.local_search import LocalSearch, metropolis
from equipoise.sampling.members import Bootstrapped, Exponents, OneMember
from equipoise.sampling.prioritized import PercentileReplay, split_at
from equipoise.sampling.rollouts import Rollouts
from equipoise.sampling.teacher import Taught, teacher_log_reward
from equipoise.trajectories import Columns, Trajectories, from_bytes, to_bytes

WORDS = PrependAppendStrings(letters=2, length=3)


def sampler_of(space: PrependAppendStrings | Hypergrid, seed: int = 0) -> DiscreteSampler:
    torch.manual_seed(seed)
    heads = {"forward": space.actions, "backward": space.back_actions}
    policy = MLP(space.features, (16,), heads)
    with torch.no_grad():
        policy.out.weight.mul_(5)
    return DiscreteSampler(space, policy, backward="learned")


def table(space: PrependAppendStrings, seed: int = 3) -> tuple[Reward, Tensor]:
    held = torch.randn(space.letters**space.length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def reward(objects: Columns, context: Columns = None) -> Tensor:
        assert isinstance(objects, Tensor)
        return held[(objects * space.letters ** torch.arange(space.length - 1, -1, -1)).sum(1)]

    return reward, held


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_half_of_what_is_replayed_is_of_the_best_tenth_and_the_rest_of_the_others() -> None:
    grid = Hypergrid(dim=2, side=8)
    sampler = sampler_of(grid)

    def reward(objects: Columns, context: Columns = None) -> Tensor:
        assert isinstance(objects, Tensor)
        return (8.0 * objects[:, 0] + objects[:, 1]).double()  # no ties

    replay = PercentileReplay(Rollouts(sampler, reward), fresh=0.25, capacity=1000, percentile=0.8, again=sampler)
    for seed in range(20):
        replay.draw(40, chance(seed))
    for seed in range(40):
        drawn = replay.draw(40, chance(50 + seed))
        held = replay._log_rewards().sort().values  # pyright: ignore[reportPrivateUsage]
        assert len(held.unique()) == len(held) >= 30  # each object once
        least = held[int(0.8 * (len(held) - 1))]
        assert drawn.log_reward is not None
        assert bool((drawn.log_reward[10:25] >= least).all()) and bool((drawn.log_reward[25:] <= least).all())
        ends = grid.objects(drawn.path["state"][torch.arange(40), drawn.length])
        assert isinstance(drawn.objects, Tensor) and torch.equal(ends, drawn.objects)


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0, 2.0], [1.0, 2.0]])
def test_neither_side_of_a_percentile_is_empty(values: list[float]) -> None:
    best, others = split_at(torch.tensor(values), 0.9)
    assert len(best) and len(others)


def test_metropolis_hastings_leaves_the_rewards_distribution_as_it_is() -> None:
    """Exactly: the kernel of all paths back and forth, with the probabilities of the policies, on 8 strings."""
    sampler, (_, held) = sampler_of(WORDS), table(WORDS)
    graph = exact.state_graph(WORDS)
    forward, back = exact.log_policy(sampler, graph).double().softmax(1), exact.log_backward(sampler, graph).exp()
    listed = list(exact.trajectories_of(graph))
    kernel = torch.zeros((8, 8), dtype=torch.float64)
    for old_states, old_actions in listed:
        for new_states, new_actions in listed:
            if old_states[1] != new_states[1] or old_actions[0] != new_actions[0]:
                continue  # two steps are taken back; the rest of the path is what is kept
            there, again = 1.0, 1.0
            for step in (1, 2):
                old = _back(graph, old_states, old_actions, step, back)
                new = _back(graph, new_states, new_actions, step, back)
                there *= float(old * forward[new_states[step], new_actions[step]])
                again *= float(new * forward[old_states[step], old_actions[step]])
            x, y = old_states[-1] - graph.inner, new_states[-1] - graph.inner
            accepted = min(1.0, float((held[y] - held[x]).exp()) * again / there)
            # The kept step is one way to the kept state, which has one way only: its first letter.
            kernel[x, y] += there * accepted
    kernel += torch.diag(1 - kernel.sum(1))
    target = held.softmax(0)
    assert (target @ kernel - target).abs().max() < 1e-12


def _back(graph: exact.StateGraph, states: list[int], actions: list[int], step: int, back: Tensor) -> Tensor:
    action = graph.environment.back_action(graph.states[states[step]][None], torch.tensor([actions[step]]))
    return back[states[step + 1], action][0]


def test_metropolis_hastings_draws_the_target_from_any_policy() -> None:
    sampler, (reward, held) = sampler_of(WORDS), table(WORDS)
    search = LocalSearch(Rollouts(sampler, reward), sampler, reward, rounds=1, steps=2, accept="metropolis_hastings")
    now = search.inner.draw(4000, chance())
    for seed in range(10):
        now, _ = search._round(now, chance(seed + 1))  # pyright: ignore[reportPrivateUsage]
    assert isinstance(now.objects, Tensor)
    place = (now.objects * torch.tensor([4, 2, 1])).sum(1)
    share = place.bincount(minlength=8) / 4000
    assert (share - held.softmax(0)).abs().max() < 0.032  # four standard errors of a share of a half


def test_deterministic_search_never_loses_and_every_proposal_is_given() -> None:
    grid = Hypergrid(dim=2, side=8)
    sampler, calls = sampler_of(grid), Calls(corners(8))
    search = LocalSearch(Rollouts(sampler, calls), sampler, calls, rounds=4, steps=3)
    drawn = search.draw(40, chance())
    assert len(drawn) == 40 and calls.count == 40
    now = search.inner.draw(8, chance(1))
    for seed in range(4):
        after, _ = search._round(now, chance(seed))  # pyright: ignore[reportPrivateUsage]
        assert after.log_reward is not None and now.log_reward is not None
        assert bool((after.log_reward >= now.log_reward).all())
        now = after
    assert torch.equal(sampler.score(drawn, frozenset({"log_pf"})).mask.sum(1), drawn.length)


def test_metropolis_accepts_by_the_smaller_of_one_and_the_ratio() -> None:
    uniform = torch.rand(40_000, generator=chance())
    for gain in (-2.0, -0.5, 0.7):
        share = float(metropolis(torch.full((40_000,), gain), uniform).double().mean())
        assert share == pytest.approx(min(1.0, float(torch.tensor(gain).exp())), abs=0.01)


def test_the_teacher_s_reward_is_largest_where_the_student_draws_too_rarely() -> None:
    residual = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    log_reward = teacher_log_reward(residual, torch.zeros(5), surplus=3.0)
    order = log_reward.argsort(descending=True).tolist()
    assert order == [0, 1, 4, 3, 2]
    expected = torch.log(torch.log(1 + 1e-3 + torch.tensor([16.0, 4.0, 0.0, 1.0, 4.0])))
    assert torch.allclose(log_reward, expected, atol=1e-4)
    assert torch.allclose(
        teacher_log_reward(residual, torch.ones(5), surplus=3.0, share=0.5), expected + 0.5, atol=1e-4
    )


def test_a_lesson_is_the_student_s_batch_with_the_teacher_s_reward() -> None:
    reward, _ = table(WORDS)
    student, teacher = sampler_of(WORDS), sampler_of(WORDS, 1)
    taught = Taught(Rollouts(student, reward), Rollouts(teacher, reward), fraction=0.25)
    drawn = taught.draw(16, chance())
    residual = torch.linspace(-1, 1, 16)
    with pytest.raises(ValueError, match="train the student first"):
        taught.lessons.draw(16, chance())
    taught.observe(drawn, residual)
    lesson = taught.lessons.draw(16, chance())
    assert drawn.log_reward is not None and lesson.log_reward is not None
    assert torch.equal(lesson.path["state"], drawn.path["state"])
    assert torch.allclose(lesson.log_reward, teacher_log_reward(residual, drawn.log_reward))
    with pytest.raises(ValueError, match="residuals"):
        taught.observe(drawn, None)


def test_each_trajectory_is_given_to_different_members() -> None:
    space, reward = WORDS, table(WORDS)[0]
    member = OneMember(5)
    torch.manual_seed(0)
    policy = Ensemble(space.features, (8,), {"forward": space.actions}, members=5)
    sampler = DiscreteSampler(space, policy, condition=member.features, default=torch.zeros(5))
    calls = Calls(reward)
    source = Bootstrapped(Rollouts(sampler, calls, conditions=member), 5, 3)
    drawn = source.draw(12, chance())
    assert calls.count == 4 and isinstance(drawn.context, Tensor)
    members = drawn.context.view(3, 4).T
    assert all(len(set(row)) == 3 for row in members.tolist())
    assert torch.equal(drawn.path["action"][:4], drawn.path["action"][4:8])
    scores = sampler.score(drawn, frozenset({"log_pf"})).get("log_pf")
    assert not torch.allclose(scores[:4], scores[4:8])
    with pytest.raises(ValueError, match="multiple of times"):
        source.draw(10, chance())


def test_exponents_have_their_own_group() -> None:
    exponents = Exponents(0.5, 2.0, 5)
    context, group = exponents(200, chance())
    assert torch.equal(exponents.values[group], context) and len(group.unique()) == 5
    assert float(exponents.values[2]) == pytest.approx(1.0)


def test_calls_are_counted_over_a_run_that_is_taken_up() -> None:
    reward, _ = table(WORDS)
    first, second = Calls(reward), Calls(reward)
    source = Tallied(Rollouts(sampler_of(WORDS), first), first)
    rows: Trajectories = source.draw(7, chance())
    source.observe(replace(rows), None)
    again = Tallied(Rollouts(sampler_of(WORDS), second), second)
    again.load_state_dict(from_bytes(to_bytes(source.state_dict())))
    again.draw(3, chance())
    assert again.figures() == {"reward_calls": 10.0}
