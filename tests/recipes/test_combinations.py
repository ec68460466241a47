"""Methods together: what one draws the other keeps, networks of their own are told the condition, and refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from equipoise.discrete import exact
from equipoise.discrete.environments.hypergrid import Hypergrid
from equipoise.discrete.environments.strings import AppendStrings, PrependAppendStrings
from equipoise.discrete.guide import SubstructureGuide
from equipoise.discrete.policies.ensemble import Tempered
from equipoise.discrete.policies.maximum_entropy import log_paths
from equipoise.recipes.configuration import Discrete
from equipoise.recipes.discrete import DiscreteRun, build
from equipoise.recipes.leaderboard import rows
from equipoise.recipes.tables import Compared, compared_lines
from equipoise.sampling.prioritized import PercentileReplay
from equipoise.sampling.rollouts import Rollouts
from equipoise.training.loop import Loop
from equipoise.trajectories import Columns, Trajectories

WORDS = PrependAppendStrings(letters=3, length=3)
QUICK = Discrete(batch=16, steps=40, hidden=(16,), epsilon=0.1)


def problem(config: Discrete, space: Any = WORDS) -> DiscreteRun:
    held = torch.randn(27, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def reward(objects: Columns, context: Columns = None) -> Tensor:
        assert isinstance(objects, Tensor)
        return held[(objects * torch.tensor([9, 3, 1])).sum(1)]

    return build(config, space, reward, show=lambda objects: [])


@pytest.mark.parametrize("search", ["thompson", "temperatures"])
@pytest.mark.parametrize(
    "settings",
    [
        {"backward": "likelihood"},
        {"backward": "pessimistic", "source": "replay"},
        {"backward": "learned", "separate": True},
        {"method": "guided"},
    ],
    ids=["likelihood", "pessimistic", "separate", "guided"],
)
def test_a_policy_with_a_condition_stands_beside_a_backward_network(search: str, settings: dict[str, Any]) -> None:
    run = problem(replace(QUICK, search=search, **settings))
    before = [value.clone() for value in run.run.modules["backward"].parameters()]
    loop = Loop(run.run)
    for _ in range(3):
        loop.advance()
    after = run.run.modules["backward"].parameters()
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_policies_of_two_exponents_differ_by_more_than_a_factor() -> None:
    """Those of R^beta / Z do, and their flows too: a network that cannot say so has another optimum."""
    torch.manual_seed(0)
    policy = Tempered(4, (16,), {"forward": 3, "flow": 0})
    found = policy(torch.cat([torch.ones(2, 4), torch.tensor([[-1.0], [1.0]])], 1))
    first, second = found["forward"]
    assert not torch.allclose(first / first[0], second / second[0], atol=1e-3)
    assert abs(float((found["flow"][0] - found["flow"][1]).detach())) > 1e-3


def test_what_the_teacher_finds_is_kept_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tensor] = []
    plain = Rollouts.draw

    def recorded(self: Rollouts, n: int, generator: torch.Generator) -> Trajectories:
        found = plain(self, n, generator)
        assert isinstance(found.objects, Tensor)
        drawn.append(found.objects)
        return found

    monkeypatch.setattr(Rollouts, "draw", recorded)
    run = problem(replace(QUICK, search="teacher", source="prioritized"))
    loop = Loop(run.run)
    for _ in range(3):
        loop.advance()
    kept = next(inner for inner in _nested(next(iter(run.run.sources.values()))) if isinstance(inner, PercentileReplay))
    assert len(drawn) == 6  # each time the student's, then the teacher's
    assert len(kept) == len(torch.cat(drawn).unique(dim=0))
    assert run.run.evaluate()["reward_calls"] == sum(map(len, drawn))


def test_a_teacher_walks_as_its_student_does() -> None:
    """Left to right by a transformer, whose paths hold no states."""
    run = problem(
        replace(QUICK, search="teacher", network="transformer", hidden=(16,)), AppendStrings(letters=3, length=3)
    )
    loop = Loop(run.run)
    for _ in range(3):
        loop.advance()
    assert torch.isfinite(torch.tensor(run.run.evaluate()["total_variation"]))


def test_paths_are_counted_in_logarithms() -> None:
    """On a grid the state (a, b) has (a + b)! / (a! b!) paths."""
    grid = Hypergrid(dim=2, side=40)
    graph = exact.state_graph(grid)
    place = grid.objects(graph.states[graph.inner :]).double()
    expected = torch.lgamma(place.sum(1) + 1) - torch.lgamma(place + 1).sum(1)
    assert torch.allclose(log_paths(graph)[graph.inner :], expected, rtol=1e-12)


def test_what_cannot_be_is_refused_with_a_word() -> None:
    for settings, word in (
        ({"method": "fm", "backward": "likelihood"}, "train nothing"),
        ({"method": "rtb", "backward": "pessimistic", "source": "replay"}, "train nothing"),
        ({"source": "replay", "batch": 1}, "no new row"),
        ({"search": "thompson", "batch": 15}, "multiple of 2"),
        ({"search": "thompson", "network": "transformer"}, "needs an mlp"),
    ):
        with pytest.raises(ValueError, match=word):
            problem(replace(QUICK, **settings))
    with pytest.raises(ValueError, match="draws 64"):
        rows(0, {"mine": {"batch": 64}})
    with pytest.raises(ValueError, match="subtract a constant"):
        SubstructureGuide(WORDS).add(WORDS.state_of(torch.tensor([[0, 1, 2]])), torch.tensor([800.0]))


def test_a_table_says_how_many_seeds_have_a_figure() -> None:
    records = [{"rounds": 40.0}, {"rounds": None}, {"rounds": None}]
    *_, line = compared_lines({"tb": records}, {"rounds": Compared("rounds")}, {})
    assert "| 1 of 3 |" in line


def _nested(source: Any) -> list[Any]:
    found = [source]
    while hasattr(found[-1], "inner"):
        found.append(found[-1].inner)
    return found
