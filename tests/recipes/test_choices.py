"""The divergence of a step, and the term that moves with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from equipoise.objectives.divergences import divergence
from equipoise.recipes.choices import divergence_of
from equipoise.recipes.configuration import Hypergrid
from equipoise.recipes.hypergrid import hypergrid

ANNEALED = Hypergrid(side=4, steps=5, hidden=(8,), loss="alpha", order=(0.5, 1.0), log_z="deviation")


def test_an_order_goes_from_the_first_step_to_the_last() -> None:
    assert [divergence_of(ANNEALED, step).order for step in range(6)] == [0.5, 0.625, 0.75, 0.875, 1.0, 1.0]
    assert divergence_of(replace(ANNEALED, order=2.0), 3).order == 2.0
    assert divergence_of(replace(ANNEALED, steps=1)).order == 0.5


@pytest.mark.parametrize("log_z", ["deviation", "learned"])
def test_a_term_at_a_step_is_the_term_of_that_steps_order(log_z: Any) -> None:
    moving = hypergrid(replace(ANNEALED, log_z=log_z))
    term = moving.run.terms[0]
    drawn = moving.run.sources["on_policy"].draw(16, torch.Generator().manual_seed(0))
    scores = moving.sampler.score(drawn, term.needs)
    for step, order in ((0, 0.5), (2, 0.75), (4, 1.0)):
        still = hypergrid(replace(ANNEALED, log_z=log_z, order=order)).run.terms[0]
        assert torch.equal(term.loss(drawn, scores, step).value, still.loss(drawn, scores, step).value)
    ends = [float(term.loss(drawn, scores, step).value.detach()) for step in (0, 4)]
    assert ends[0] != ends[1]
    if log_z == "learned":
        value = divergence("reverse_kl").loss(term.loss(drawn, scores, 4).residual).mean()  # type: ignore[arg-type]
        assert float(value) == pytest.approx(ends[1], rel=1e-6)
