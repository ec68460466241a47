"""The learner's side of the engine against the inline engine, without Ray; the same on Ray is in test_ray.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from engines.here import loop_of, metrics
from equipoise.recipes.configuration import Hypergrid, Training
from equipoise.recipes.diffusion_configuration import Gaussians25
from equipoise.recipes.engines import run_of
from equipoise.recipes.hypergrid import hypergrid
from equipoise.recipes.language_configuration import Arithmetic
from equipoise.training.engines.buffer import Buffer
from equipoise.trajectories import from_bytes, to_bytes

GRID = Hypergrid(side=8, steps=12, every=12, hidden=(16,), batch=16, epsilon=0.1)
SUMS = Arithmetic(steps=4, every=4, batch=8, responses=4, width=16, warm_up=0.0, judged=20, reference_reset=2)


def parameters(loop_modules: dict[str, torch.nn.Module]) -> list[torch.Tensor]:
    return [parameter for module in loop_modules.values() for parameter in module.parameters()]


@pytest.mark.parametrize(
    "config",
    [
        GRID,
        dataclasses.replace(GRID, source="replay", method="vargrad"),
        dataclasses.replace(GRID, method="fl_db"),
        SUMS,
        dataclasses.replace(SUMS, source="replay"),
    ],
    ids=["grid", "grid, replay", "grid, state rewards", "sums", "sums, replay"],
)
def test_one_searcher_and_a_barrier_give_the_inline_engine_bit_for_bit(config: Training) -> None:
    inline, _ = loop_of(config)
    apart, begun = loop_of(dataclasses.replace(config, engine="ray", barrier=True))
    for one, other in zip(metrics(inline, config.steps), metrics(apart, config.steps), strict=True):
        assert one == {name: other[name] for name in one}
    for one, other in zip(*(parameters(dict(loop.run.modules)) for loop in (inline, apart)), strict=True):
        assert torch.equal(one, other)
    assert begun[0].buffer.count == config.steps


def test_a_diffusion_model_is_served_too() -> None:
    config = Gaussians25(method="tb", steps=3, batch=16, time_steps=6, noise=0.0, every=3)
    inline, _ = loop_of(config)
    apart, _ = loop_of(dataclasses.replace(config, engine="ray", barrier=True))
    for one, other in zip(metrics(inline, 3), metrics(apart, 3), strict=True):
        assert one == {name: other[name] for name in one}


def test_several_searchers_with_a_barrier_are_a_function_of_the_seed_and_on_policy() -> None:
    config = dataclasses.replace(GRID, engine="ray", searchers=4, barrier=True)
    first, second = (metrics(loop_of(config)[0], 12) for _ in range(2))
    assert first == second and all(entry["staleness"] == 0.0 for entry in first)


def test_without_a_barrier_batches_are_as_old_as_admitted() -> None:
    loop, _ = loop_of(dataclasses.replace(GRID, engine="ray", searchers=3, lag=3))
    assert [entry["staleness"] for entry in metrics(loop, 12)] == [0.0, 1.0, 2.0, *[3.0] * 9]


def test_a_learner_that_dies_takes_up_all_that_was_acknowledged(tmp_path: Path) -> None:
    config = dataclasses.replace(GRID, engine="ray", searchers=2, lag=3)
    first, begun = loop_of(config, tmp_path)
    metrics(first, 5)
    saved = to_bytes(first.state_dict())
    metrics(first, 3)
    held = dict(begun[0].buffer.line or {})
    waiting = {ticket: blob for ticket, blob in held.values()}
    second, again = loop_of(config, tmp_path)
    second.load_state_dict(from_bytes(saved))
    metrics(second, 1)
    line = {ticket: blob for ticket, blob in (again[0].buffer.line or {}).values()}
    assert waiting and all(line[ticket] == blob for ticket, blob in waiting.items())
    assert again[0].buffer.position == 5
    metrics(second, 6)
    assert second.step == 12


def test_with_a_barrier_a_run_that_is_taken_up_ends_bit_for_bit_where_it_would_have(tmp_path: Path) -> None:
    config = dataclasses.replace(GRID, engine="ray", searchers=2, barrier=True)
    whole, _ = loop_of(config)
    expected = metrics(whole, 12)
    first, _ = loop_of(config, tmp_path)
    metrics(first, 5)
    saved = to_bytes(first.state_dict())
    metrics(first, 2)
    second, _ = loop_of(config, tmp_path)
    second.load_state_dict(from_bytes(saved))
    assert metrics(second, 7) == expected[5:]


def test_what_a_searchers_reward_says_stops_the_run_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, begun = loop_of(dataclasses.replace(GRID, engine="ray"))
    metrics(loop, 2)

    def broken(objects: object, context: object) -> torch.Tensor:
        raise ValueError("no licence for the docking program")

    monkeypatch.setattr(begun[0].searchers[0], "reward", broken)
    with pytest.raises(ValueError, match="searcher 0: no licence for the docking program"):
        metrics(loop, 9)


def test_figures_say_what_waits_and_who() -> None:
    loop, _ = loop_of(dataclasses.replace(GRID, engine="ray", searchers=2, lag=2))
    assert "queue" not in loop.run.evaluate()
    metrics(loop, 2)
    loop.run.evaluate()
    metrics(loop, 2)
    found = loop.run.evaluate()
    assert found["queue"] == 3.0 and found["searchers_replaced"] == 0.0
    assert found["searcher_rows_per_second"] > 0 and 0 <= found["learner_idle"] <= 1
    assert sum(found[f"searcher_rows_per_second/{number}"] for number in range(2)) == pytest.approx(
        found["searcher_rows_per_second"]
    )


def test_a_buffer_that_forgot_everything_is_given_the_weights_again() -> None:
    loop, begun = loop_of(dataclasses.replace(GRID, engine="ray"))
    metrics(loop, 3)
    here = begun[0]

    def forget() -> None:
        here.before_take = lambda: None
        here.buffer = Buffer(ahead=here.buffer.ahead)

    here.before_take = forget
    metrics(loop, 3)
    assert here.buffer.version == 6 and here.buffer.first == 3


def test_what_the_engine_cannot_serve_is_refused() -> None:
    config = dataclasses.replace(GRID, engine="ray")
    with pytest.raises(ValueError, match="must be a function of a module"):
        run_of("hypergrid", config, hypergrid(config), lambda objects: objects.float().sum(1))
    with pytest.raises(ValueError, match="a multiple is expected"):
        dataclasses.replace(config, searchers=3, barrier=True)
    with pytest.raises(ValueError, match="with --engine ray alone"):
        dataclasses.replace(GRID, searchers=3)
    with pytest.raises(ValueError, match="go with --engine ray"):
        dataclasses.replace(GRID, address="10.0.0.1:6379")
