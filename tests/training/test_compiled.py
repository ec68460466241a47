"""Invariant: a compiled run is the eager one to float tolerance, whatever part of it is compiled."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise import compiling
from equipoise.recipes.configuration import Discrete, Hypergrid, Strings
from equipoise.recipes.discrete_configuration import BitSequences, Peptides
from equipoise.recipes.tasks import task, task_of
from equipoise.training.loop import Loop, NotFinite
from equipoise.trajectories import Columns, from_bytes, to_bytes

GRID = Hypergrid(dim=2, side=8, hidden=(32, 32), steps=40)


def counted(objects: Columns, context: Columns = None) -> torch.Tensor:
    """A reward of strings that grows with the number of their first letter."""
    assert isinstance(objects, torch.Tensor)
    return (objects == 0).sum(1).double()


def words(**changes: Any) -> Strings:
    return Strings(alphabet="ACGT", length=5, hidden=(32, 32), steps=40, reward="own", **changes)


def loop_of(config: Discrete) -> Loop:
    built = task(task_of(config)).build(config, counted if getattr(config, "reward", "") == "own" else None)
    return Loop(built.run)


def losses(loop: Loop, steps: int) -> list[float]:
    """The sum of the terms' losses at each step."""
    records = [loop.advance() for _ in range(steps)]
    return [sum(float(value) for name, value in record.items() if name.endswith("loss")) for record in records]


def differ(config: Discrete, steps: int = 20) -> float:
    """The largest relative difference of the losses of an eager and a compiled run."""
    eager = torch.tensor(losses(loop_of(config), steps))
    compiled = torch.tensor(losses(loop_of(replace(config, compile=True)), steps))
    return float(((compiled - eager).abs() / eager.abs().clamp(min=1e-3)).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        GRID,
        replace(GRID, backward="uniform"),
        replace(GRID, epsilon=0.2, loss="forward_kl"),
        replace(GRID, source="replay"),
        words(),
        words(growth="prepend_append", backward="learned"),
        words(network="wide_and_deep"),
        words(epsilon=0.3, method="db"),
        words(updates=2),  # what a draw evaluated is not to be used once the policy has changed
        replace(GRID, method="db"),
        replace(GRID, method="subtb"),
        replace(words(), network="transformer"),
        replace(words(), network="transformer", method="subtb", epsilon=0.1),
        BitSequences(bits=8, word=2, form="any_position", hidden=(16, 16), steps=40, method="db"),
        Peptides(hidden=(16, 16), steps=40, length=6, reward="own"),
    ],
    ids=lambda config: (
        f"{type(config).__name__}-{config.backward}-{config.source}-{config.loss}-{config.method}-{config.network}"
        f"-{config.updates}"
    ),
)
def test_a_training_step_in_one_call_has_the_eager_losses(config: Discrete) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # nothing went on in eager
        assert differ(config) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [replace(GRID, method=method) for method in ("vargrad", "fm", "rtb", "guided")]
    + [replace(GRID, backward="pessimistic"), words(search="temperatures")],
    ids=lambda config: f"{type(config).__name__}-{config.method}-{config.backward}",
)
def test_what_is_not_compiled_goes_on_in_eager_and_is_said_once(config: Discrete) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        assert differ(config) < 1e-4
    said = [str(warning.message) for warning in caught if "--compile" in str(warning.message)]
    assert said and len(set(said)) == len(said)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tb", "guided"])  # in one call, and in several, with PyTorch's own step
@pytest.mark.parametrize(("first", "then"), [(True, True), (True, False), (False, True)])
def test_a_run_is_taken_up_compiled_or_not(first: bool, then: bool, method: str) -> None:
    loop = loop_of(replace(GRID, compile=first, method=method))
    losses(loop, 10)
    saved = from_bytes(to_bytes(loop.state_dict()))
    whole = losses(loop, 10)
    taken_up = loop_of(replace(GRID, compile=then, method=method))
    taken_up.load_state_dict(saved)
    again = losses(taken_up, 10)
    assert torch.allclose(torch.tensor(again), torch.tensor(whole), rtol=1e-4)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_leaves_the_parameters() -> None:
    loop = loop_of(replace(GRID, compile=True))
    losses(loop, 6)
    log_z: Any = loop.run.modules["log_z"]
    with torch.no_grad():
        log_z.log_z.fill_(float("inf"))
    before = [parameter.clone() for parameter in loop.run.modules["policy"].parameters()]
    with pytest.raises(NotFinite):
        loop.advance()
    assert all(map(torch.equal, before, loop.run.modules["policy"].parameters()))


@pytest.mark.slow
def test_groups_keep_their_learning_rates_and_the_norm_its_bound() -> None:
    def moved(compiles: bool) -> list[torch.Tensor]:
        run = loop_of(replace(GRID, compile=compiles)).run
        rates = {"policy": lambda step: 1e-3 / (1 + step), "log_z": lambda step: 0.1}
        loop = Loop(replace(run, clip=0.5, learning_rate=rates))
        losses(loop, 8)
        return [parameter.detach().clone() for module in run.modules.values() for parameter in module.parameters()]

    for eager, compiled in zip(moved(False), moved(True), strict=True):
        assert torch.allclose(eager, compiled, rtol=1e-4, atol=1e-6)


def test_where_compiling_fails_the_run_goes_on_in_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: Any) -> None:
        raise RuntimeError("no C++ compiler was found")

    monkeypatch.setattr(compiling, "lowered", fails)
    with pytest.warns(RuntimeWarning, match="no C\\+\\+ compiler was found") as caught:
        assert differ(GRID, steps=6) < 1e-4
    assert len([warning for warning in caught if "--compile" in str(warning.message)]) == 1


@pytest.mark.parametrize("function", [torch.nonzero, lambda rows: rows[rows > 0], lambda rows: rows.unique()])
def test_what_has_sizes_that_depend_on_values_is_not_traced(function: Any) -> None:
    with pytest.raises(ValueError, match="depend on values"):
        compiling.traced(lambda rows: (function(rows),), (torch.ones(4),))


def test_parameters_are_views_of_one_vector_and_keep_their_values() -> None:
    layer = torch.nn.Linear(2, 3)
    weight = layer.weight.detach().clone()
    flat = compiling.Flat([layer])
    assert torch.equal(layer.weight, weight)
    assert torch.equal(flat.bare[:6], weight.t().flatten())  # input by input
    flat.bare.zero_()
    layer.weight.sum().backward()
    assert flat.value.grad is not None
    assert not layer.weight.any() and flat.value.grad.sum() == 6


def test_compiled_code_lies_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiling.Compiler(compiling.Flat([torch.nn.Linear(1, 1)]))
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "equipoise" / "inductor")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
