"""Invariant: heads from what was kept of an evaluation are that evaluation's, in value and in gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from equipoise.discrete.environments.strings import PrependAppendStrings
from equipoise.discrete.policies.mlp import MLP, Recalling
from equipoise.discrete.policies.wide_and_deep import WideAndDeep
from equipoise.discrete.rows import Drawn, recorded

WORDS = PrependAppendStrings(letters=3, length=4)
HEADS = {"forward": WORDS.actions, "flow": 0}


def states(n: int) -> torch.Tensor:
    state, generator = WORDS.initial(n), torch.Generator().manual_seed(0)
    for _ in range(2):
        action = torch.multinomial(WORDS.allowed(state).double(), 1, generator=generator)[:, 0]
        state = WORDS.step(state, action)
    return state


@pytest.fixture
def double() -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("kind", ["mlp", "wide_and_deep"])
def test_recalled_heads_have_the_values_and_gradients_of_the_evaluation(kind: str, double: Any) -> None:
    torch.manual_seed(0)
    words = PrependAppendStrings(letters=3, length=4)
    state = states(6)
    policy: Any
    if kind == "mlp":
        policy, inputs = MLP(words.features, (7, 5), HEADS), (words.encode(state),)
    else:
        policy, inputs = WideAndDeep(words, (7, 5), HEADS, lines=64), (state, None)
        torch.nn.init.normal_(policy.table)
    parameters = list(policy.parameters())
    halves = [[None if each is None else each[rows] for each in inputs] for rows in (slice(4), slice(4, None))]
    with torch.no_grad():
        parts = [policy.keeping(*half) for half in halves]
    products = [torch.cat(column) for column in zip(*(kept for _, kept in parts), strict=True)]
    assert len(products) == policy.products == 3
    found, expected = policy.recalled(products, *inputs), policy(*inputs)
    weights = {name: torch.randn_like(value) for name, value in expected.items()}
    for name in HEADS:
        assert torch.allclose(found[name], expected[name], atol=1e-12)
        assert torch.allclose(torch.cat([heads[name] for heads, _ in parts]), expected[name], atol=1e-12)

    def gradients(heads: Any) -> tuple[torch.Tensor, ...]:
        total = torch.stack([(weights[name] * heads[name]).sum() for name in HEADS]).sum()
        return torch.autograd.grad(total, parameters)

    first, second = gradients(found), gradients(expected)
    for mine, other in zip(first, second, strict=True):
        assert torch.allclose(mine, other, atol=1e-12) and mine.abs().sum() > 0


def test_what_was_kept_is_used_and_not_made_again() -> None:
    policy = MLP(3, (4,), {"forward": 2})
    assert isinstance(policy, Recalling)
    other = [torch.ones(5, 4), torch.full((5, 2), 7.0)]
    assert torch.equal(policy.recalled(other, torch.zeros(5, 3))["forward"], other[1])


def test_what_was_kept_belongs_to_one_draw_of_one_version() -> None:
    state, action, length = torch.zeros((4, 3, 4), dtype=torch.int64), torch.zeros((4, 2)), torch.full((4,), 2)
    draw = recorded(torch.tensor(7), {"state": state, "action": action}, length, state[:, 0], None)
    drawn, products = Drawn(), (torch.ones(4, 2, 5),)
    assert drawn.products_of(draw, 7) == ()
    drawn.keep(action, 7, products)
    assert drawn.products_of(draw, 7) is products
    assert drawn.products_of(replace(draw, log_reward=torch.zeros(4)), 7) is products
    assert drawn.products_of(draw, 8) == ()  # the policy was trained since
    assert drawn.products_of(draw[torch.arange(4)], 7) == ()  # other tensors, whatever they hold
