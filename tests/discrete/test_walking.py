"""Compiled walks, with the compiler's part done in eager: the same moves, whichever lanes a chunk moves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from equipoise import compiling
from equipoise.compiling import PATIENCE, WASTE, Compiler, Flat, NotCompiled
from equipoise.discrete.choices import inverse_cdf, inverse_cdf_of_few, uniforms
from equipoise.discrete.environments.hypergrid import Hypergrid
from equipoise.discrete.policies.mlp import MLP
from equipoise.discrete.walking import Choice, Lanes, compiled_walk, walk

GRID = Hypergrid(dim=2, side=12)


@pytest.fixture
def traced_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions are traced at their first call and then run as the graph that would be compiled."""
    monkeypatch.setattr(compiling, "lowered", lambda graph, inputs: graph)
    monkeypatch.setattr(compiling, "PATIENCE", 1)


def lanes(network: nn.Module, n: int, condition: bool = False) -> Lanes:
    def act(state: Tensor, condition: Tensor | None, choice: Choice) -> tuple[Tensor, Tensor]:
        logits = network(GRID.encode(state))["forward"]
        if condition is not None:
            logits = logits + torch.tensor([0.0, 0.0, 1.0]) * condition
        action = choice(logits, GRID.allowed(state))
        return action, GRID.step(state, action)

    noises = uniforms(GRID.horizon, n, torch.Generator().manual_seed(3))
    conditions = torch.linspace(-3, 1, n)[:, None] if condition else None
    return Lanes(GRID.initial(n), GRID.terminal, act, noises, conditions)


@pytest.mark.parametrize("condition", [False, True])
@pytest.mark.parametrize("n", [1, 3, 7, 16, 33])
def test_chunks_of_fewer_lanes_make_the_moves_of_single_steps(n: int, condition: bool, traced_only: None) -> None:
    torch.manual_seed(0)
    network = MLP(GRID.features, (16,), {"forward": 3})
    given = lanes(network, n, condition)
    compiler = Compiler(Flat([network]))
    with torch.no_grad():
        grid = compiled_walk(compiler, network, "sampling", given)
        lane, number, state, action = walk(given)
    found = {(int(a), int(b)): (c.tolist(), int(d)) for a, b, c, d in zip(*grid.visits(), strict=True)}
    assert found == {
        (int(a), int(b)): (c.tolist(), int(d)) for a, b, c, d in zip(lane, number, state, action, strict=True)
    }
    assert GRID.terminal(grid.state[:, -1]).all()
    stays = grid.state[:, 1:] == grid.state[:, :-1]
    assert stays.all(2)[~grid.live[:, 1:]].all()
    if n == 33:
        assert {33, 9} <= {key[2] for key in compiler._made if isinstance(key, tuple)}


def test_a_bucket_of_its_own_is_earned_by_what_padding_wastes() -> None:
    compiler = Compiler(Flat([nn.Linear(1, 1)]))

    def asked(size: int) -> int:
        key = compiler.smallest(("rows",), size)
        compiler._made[key] = lambda *inputs: inputs
        return key[-1]

    for size in (128, 192, 128)[: PATIENCE - 1]:
        with pytest.raises(NotCompiled):
            compiler.smallest(("rows",), size)
    assert asked(128) == 192  # the largest that was missed
    calls = 0
    while asked(128) == 192:
        calls += 1
    assert calls == pytest.approx(WASTE / (192 / 128 - 1), abs=1)
    assert asked(100) == 128
    for _ in range(PATIENCE - 1):
        with pytest.raises(NotCompiled):
            compiler.smallest(("rows",), 256)
    assert asked(256) == 256


@pytest.mark.parametrize("actions", [1, 2, 5, 16])
def test_sums_of_columns_choose_what_the_search_does(actions: int) -> None:
    generator = torch.Generator().manual_seed(0)
    policy = torch.rand((4000, actions), generator=generator)
    policy[torch.rand(policy.shape, generator=generator) < 0.4] = 0.0  # actions that are not allowed
    policy[:, 0] += 1e-3
    uniform = uniforms(1, 4000, generator)[0]
    found = inverse_cdf_of_few(policy, uniform)
    assert torch.equal(found, inverse_cdf(policy, uniform))
    assert policy.gather(1, found[:, None]).all()
