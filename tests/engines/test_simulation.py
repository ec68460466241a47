"""The simulation of searchers and learner against what can be worked out by hand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    name = "asynchrony_simulation"
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_with_nothing_ahead_one_searcher_is_the_synchronous_loop(simulation: ModuleType) -> None:
    times = simulation.Times(generation=0.3, training=0.2, reward=0.1)
    found = simulation.simulate(times, searchers=1, ahead=0, cores=2)
    assert found.steps_per_second == pytest.approx(simulation.synchronous(times), rel=0.01)


@pytest.mark.parametrize("searchers", [1, 2, 4, 8])
@pytest.mark.parametrize(("generation", "training", "reward"), [(0.1, 0.1, 0.0), (0.3, 0.1, 0.0), (0.02, 0.02, 0.3)])
def test_no_schedule_passes_the_bound_and_enough_ahead_comes_near_it(
    simulation: ModuleType, searchers: int, generation: float, training: float, reward: float
) -> None:
    times = simulation.Times(generation=generation, training=training, reward=reward)
    most = simulation.bound(times, searchers, 2)
    found = simulation.simulate(times, searchers=searchers, ahead=2 * searchers, cores=2).steps_per_second
    assert 0.8 * most < found < 1.01 * most  # searchers that began together ask for cores together


def test_one_core_has_no_more_than_its_work(simulation: ModuleType) -> None:
    times = simulation.Times(generation=0.1, training=0.3)
    found = simulation.simulate(times, searchers=3, ahead=3, cores=1)
    assert found.steps_per_second == pytest.approx(1 / 0.4, rel=0.01)


def test_what_is_slowest_is_named(simulation: ModuleType) -> None:
    times = simulation.Times(generation=0.5, training=0.01, message=0.02)
    rows = dict(simulation.curve(times, (1, 1000)))
    assert rows[1].bottleneck == "searchers" and rows[1000].bottleneck == "buffer"
    assert rows[1000].steps_per_second == pytest.approx(1 / 0.04, rel=0.02)  # an order and a delivery a batch
