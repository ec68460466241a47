"""Theorem and invariant: chunks give the whole batch's gradient; a run resumes bit for bit; parts must fit together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equipoise.discrete.environments.hypergrid import Hypergrid, corners
from equipoise.discrete.policies.mlp import MLP, Uniform
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.objectives import partition
from equipoise.objectives.divergences import divergence
from equipoise.sampling.rollouts import Rollouts
from equipoise.training.balance import RESIDUALS, Residual, balance, informative_groups
from equipoise.training.loop import Loop, NotFinite, Run
from equipoise.training.terms import Loss, Term, backward
from equipoise.trajectories import Trajectories, ends, from_bytes, to_bytes

GRID = Hypergrid(dim=2, side=6)


UNGUIDED = [name for name in RESIDUALS if name != "guided"]
"""Residuals of any source; the guided one needs a guide's, and is held to its theorems with it (test_guide)."""


def grid_sampler(*, backward_policy: str = "learned", dtype: torch.dtype = torch.float32) -> DiscreteSampler:
    torch.manual_seed(0)
    policy = MLP(GRID.features, (16,), {"forward": 3, "backward": 3, "flow": 0}).to(dtype)
    return DiscreteSampler(GRID, policy, backward=backward_policy, prior=Uniform({"forward": 3}), flows=True)


def states_reward(trajectories: Trajectories) -> Tensor:
    states = trajectories.path["state"]
    inside = torch.arange(states.shape[1]) <= trajectories.length[:, None]
    return corners(6)(states[..., :-1], None).float() * inside


def conditions(n: int, generator: torch.Generator) -> tuple[None, Tensor]:
    return None, torch.randint(3, (n,), generator=generator) * 7


def grid_run(
    *, residual: str = "trajectory", log_z: str | None = "learned", loss: str = "reverse_kl", **changes: Any
) -> Run:
    sampler = grid_sampler()
    estimator = None if log_z is None else partition.estimator(log_z, divergence(loss))
    modules: dict[str, nn.Module] = {"policy": sampler}
    if isinstance(estimator, nn.Module):
        modules["log_z"] = estimator
    source = Rollouts(sampler, corners(6), state_reward=states_reward)
    term = balance("balance", "rollouts", sampler, RESIDUALS[residual], divergence(loss), estimator)
    run = Run(
        modules=modules,
        learning_rate={name: lambda step: 1e-2 for name in modules},
        terms=(term,),
        sources={"rollouts": source},
        batch={"rollouts": 8},
        steps=20,
        seed=3,
    )
    return replace(run, **changes)


def gradients(run: Run, chunk: int | None, step: Callable[[], Trajectories]) -> list[Tensor]:
    for module in run.modules.values():
        module.zero_grad()
    backward(run.terms, step(), 0, torch.Generator().manual_seed(0), chunk)
    return [
        torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for module in run.modules.values()
        for parameter in module.parameters()
    ]


@pytest.mark.parametrize("residual", UNGUIDED)
@pytest.mark.parametrize("log_z", ["learned", "deviation"])
def test_chunks_give_the_gradient_of_the_whole_batch(residual: str, log_z: str) -> None:
    chosen = log_z if RESIDUALS[residual].partition else None
    run = grid_run(residual=residual, log_z=chosen, loss="forward_kl")
    source = run.sources["rollouts"]
    drawn = source.draw(24, torch.Generator().manual_seed(1))
    drawn = replace(drawn, group=torch.arange(24) % 3)  # groups straddle the chunks
    whole, parts = (gradients(run, chunk, lambda: drawn) for chunk in (None, 5))
    assert any(gradient.abs().max() > 1e-4 for gradient in whole)
    for first, second in zip(whole, parts, strict=True):
        assert torch.allclose(first, second, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("residual", UNGUIDED)
def test_every_residual_vanishes_at_the_target_and_only_there(residual: str) -> None:
    """With flows, policies and log Z taken from dynamic programming on R, every residual is 0 on every trajectory."""
    from discrete.balanced import Balanced

    environment = Hypergrid(dim=2, side=4)
    sampler = Balanced(environment, corners(4), prior=residual == "relative")
    drawn = sampler.sample(50, generator=torch.Generator().manual_seed(0))
    drawn = replace(drawn, log_reward=sampler.log_reward_of(drawn))
    drawn = replace(drawn, fixed={**sampler.renew(drawn).fixed, **sampler.state_rewards(drawn)})
    chosen = RESIDUALS[residual]
    scores = sampler.score(drawn, chosen.needs - {"log_reward_state"})
    flow_relative = sampler.relative_flow(scores, drawn) if residual == "forward_looking" else scores
    target = drawn.fixed["log_reward_state"].value if "log_reward_state" in chosen.needs else drawn.log_reward
    assert target is not None
    found = chosen.function(flow_relative, drawn, target)
    value = found + sampler.log_z if chosen.partition else found[0]
    assert value.abs().max() < 1e-9
    reward = target + torch.rand_like(target)
    moved = chosen.function(flow_relative, drawn, reward)
    assert (moved + sampler.log_z if chosen.partition else moved[0]).abs().max() > 1e-2


def test_a_run_taken_up_from_a_checkpoint_ends_bit_for_bit_where_it_would_have() -> None:
    whole = Loop(grid_run())
    for _ in range(20):
        whole.advance()
    first = Loop(grid_run())
    for _ in range(7):
        first.advance()
    blob = to_bytes(first.state_dict())
    second = Loop(grid_run())
    second.load_state_dict(from_bytes(blob))
    for _ in range(13):
        second.advance()
    assert second.step == 20
    assert to_bytes(second.state_dict()) == to_bytes(whole.state_dict())


def test_evaluating_more_often_does_not_change_a_run() -> None:
    plain, watched = Loop(grid_run()), Loop(grid_run())
    for _ in range(5):
        plain.advance()
        watched.advance()
        watched.run.terms[0].sampler.sample(9, generator=torch.Generator().manual_seed(1))
    assert to_bytes(plain.state_dict()) == to_bytes(watched.state_dict())


def test_a_term_trains_nothing_that_it_detaches() -> None:
    run = grid_run()
    sampler = run.terms[0].sampler

    def of_backward_alone(trajectories: Trajectories, scores: Any, step: int) -> Loss:
        return Loss(-(scores.get("log_pb").sum(1) + 0 * scores.get("log_pf").detach().sum(1)).mean())

    term = Term("pessimistic", "rollouts", sampler, of_backward_alone, frozenset({"log_pf", "log_pb"}))
    assert isinstance(sampler, DiscreteSampler)
    assert isinstance(sampler.policy, MLP)
    head = sampler.policy.out.bias
    drawn = run.sources["rollouts"].draw(8, torch.Generator().manual_seed(0))
    backward([term], drawn, 0, torch.Generator())
    assert head.grad is not None and head.grad[3:6].abs().max() > 0 and not head.grad[:3].any()


def test_terms_of_one_source_share_its_draw_and_its_scoring() -> None:
    run = grid_run()
    calls = []
    sampler = run.terms[0].sampler
    score = sampler.score
    sampler.score = lambda *given, **named: calls.append(1) or score(*given, **named)  # type: ignore[method-assign]
    twice = replace(run, terms=(run.terms[0], replace(run.terms[0], name="again", weight=lambda step: 0.5)))
    metrics = Loop(twice).advance()
    assert len(calls) == 1
    assert torch.equal(metrics["balance/loss"], metrics["again/loss"])


def test_groups_without_two_distinct_objects_are_skipped_and_counted() -> None:
    objects = torch.tensor([[0, 0], [1, 1], [0, 0], [0, 0], [2, 2], [3, 3]])
    rows = ends(objects, group=torch.tensor([5, 5, 9, 9, 7, 7]), log_reward=torch.zeros(6))
    kept, skipped = informative_groups(rows)
    assert kept.tolist() == [True, True, False, False, True, True] and int(skipped) == 1
    names = ends(("a", "b", "c", "c"), group=torch.tensor([0, 0, 1, 1]))
    assert informative_groups(names)[0].tolist() == [True, True, False, False]
    with pytest.raises(ValueError, match="each of the batch's 2 groups is one trajectory"):
        informative_groups(ends(("c", "d"), group=torch.tensor([1, 2])))


def test_a_batch_that_teaches_nothing_moves_nothing_and_stops_nothing() -> None:
    """Every group holds one object: a sampler that is sure of each answer. Its next batch may hold another."""
    run = grid_run(log_z="group_mean")
    drawn = run.sources["rollouts"].draw(4, torch.Generator().manual_seed(1))
    same = replace(drawn[torch.tensor([0, 0, 1, 1])], group=torch.tensor([0, 0, 1, 1]))
    sampler = run.terms[0].sampler
    found = run.terms[0].loss(same, sampler.score(same, run.terms[0].needs), 0)
    assert int(found.metrics["groups_skipped"]) == 2
    assert torch.isfinite(found.metrics["log_z"])
    assert float(found.value.detach()) == 0.0
    assert found.residual is not None and not found.residual.any()
    found.value.backward()
    gradients = [
        value.grad for module in run.modules.values() for value in module.parameters() if value.grad is not None
    ]
    assert gradients and not any(gradient.any() for gradient in gradients)


def test_skipped_groups_neither_train_nor_are_observed() -> None:
    run = grid_run(log_z="group_mean")
    drawn = run.sources["rollouts"].draw(8, torch.Generator().manual_seed(1))
    same = drawn[torch.tensor([0, 0, 1, 2])]
    mixed = replace(same, group=torch.tensor([0, 0, 1, 1]))
    loss = run.terms[0].loss
    sampler = run.terms[0].sampler
    found = loss(mixed, sampler.score(mixed, run.terms[0].needs), 0)
    rest = mixed[torch.tensor([2, 3])]
    alone = loss(rest, sampler.score(rest, run.terms[0].needs), 0)
    assert int(found.metrics["groups_skipped"]) == 1
    assert torch.allclose(found.value, alone.value)
    assert found.residual is not None and not found.residual[:2].any() and found.residual[2:].any()


def test_a_loss_that_is_not_finite_stops_before_the_parameters_move() -> None:
    run = grid_run()
    poisoned = replace(
        run.terms[0],
        loss=lambda trajectories, scores, step: Loss(
            scores.get("log_pf").sum() * float("nan"), torch.tensor([1.0, -7.0])
        ),
    )
    loop = Loop(replace(run, terms=(poisoned,)))
    before = to_bytes(loop.state_dict()["modules"])
    with pytest.raises(NotFinite, match="step 0; the largest residual is 7"):
        loop.advance()
    assert to_bytes(loop.state_dict()["modules"]) == before


def test_a_run_that_does_not_fit_together_is_an_error_when_it_is_built() -> None:
    run = grid_run()
    term = run.terms[0]
    other = grid_sampler()
    for change, message in (
        ({"learning_rate": {}}, "learning_rate names"),
        ({"batch": {"other": 3}}, "batch names"),
        ({"terms": (replace(term, source="nowhere"),)}, "draws from 'nowhere'"),
        ({"terms": (replace(term, needs=frozenset({"log_pff"})),)}, "needs \\['log_pff'\\]"),
        ({"terms": (term, replace(term, sampler=other))}, "different samplers"),
        ({"terms": (replace(term, sampler=other),)}, "is in no module"),
        ({"modules": {**run.modules, "twice": run.modules["policy"]}}, "in two modules"),
    ):
        with pytest.raises(ValueError, match=message):
            Loop(replace(run, **change))


def test_a_residual_and_its_log_z_must_agree() -> None:
    sampler = grid_sampler()
    with pytest.raises(ValueError, match="needs an estimator"):
        balance("b", "s", sampler, RESIDUALS["trajectory"], divergence("reverse_kl"), None)
    with pytest.raises(ValueError, match="in its flows"):
        balance("b", "s", sampler, RESIDUALS["detailed"], divergence("reverse_kl"), partition.Learned())


def test_a_users_own_residual_is_one_function() -> None:
    sampler = grid_sampler()

    def from_the_start(scores: Any, trajectories: Trajectories, target: Tensor) -> Tensor:
        return scores.get("log_pf").sum(1) - scores.get("log_pb").sum(1) - target

    own = Residual(frozenset({"log_pf", "log_pb"}), from_the_start)
    library = RESIDUALS["trajectory"]
    drawn = Rollouts(sampler, corners(6)).draw(8, torch.Generator().manual_seed(0))
    scores = sampler.score(drawn, own.needs)
    assert drawn.log_reward is not None
    mine, theirs = (chosen.function(scores, drawn, drawn.log_reward) for chosen in (own, library))
    assert torch.allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda points: torch.full((len(points),), torch.nan), "index 0 is nan"),
        (lambda points: torch.where(torch.arange(len(points)) == 2, -torch.inf, 0.0), "index 2 is -inf"),
        (lambda points: torch.zeros(len(points), 1), r"\(5, 1\) for 5 objects"),
        (lambda points: torch.zeros(len(points), dtype=torch.int64), "int64"),
        (lambda points: 0.0, "returned float"),
    ],
)
def test_a_reward_off_its_contract_is_named(value: Callable[[Tensor], Any], message: str) -> None:
    source = Rollouts(grid_sampler(), lambda points, context: value(points))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        source.draw(5, torch.Generator())
