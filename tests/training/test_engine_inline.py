"""The virtual clock under other samplers: a grid and a diffusion model train on stale data as language models do."""

from __future__ import annotations

import dataclasses

import torch

from equipoise.recipes.configuration import Hypergrid
from equipoise.recipes.diffusion_configuration import Gaussians25
from equipoise.recipes.gaussians import gaussians25
from equipoise.recipes.hypergrid import hypergrid
from equipoise.sampling.delayed import Delayed, Searchers
from equipoise.training.loop import Loop
from equipoise.training.staleness import with_staleness
from equipoise.trajectories import from_bytes, to_bytes


def test_a_grid_is_learned_from_trajectories_that_are_exactly_four_steps_old() -> None:
    """At this learning rate seeds 0 to 2 end between 0.067 and 0.077 from 0.7, on-policy and four steps old alike."""
    config = Hypergrid(side=8, steps=250, hidden=(64,), batch=32, method="vargrad", every=250, learning_rate=5e-3)
    built = hypergrid(config)
    run = built.run
    source = Delayed(run.sources["on_policy"], 4)
    run = dataclasses.replace(
        run, sources={"on_policy": source}, terms=tuple(with_staleness(term) for term in run.terms)
    )
    loop = Loop(run)
    before = built.evaluate()["total_variation"]
    ages = [float(loop.advance()["staleness"]) for _ in range(250)]
    assert ages == [float(min(step, 4)) for step in range(250)]
    assert built.evaluate()["total_variation"] < 0.25 * before


def test_a_diffusion_model_is_trained_on_what_searchers_deliver_and_resumes_bit_for_bit() -> None:
    def loop() -> Loop:
        config = Gaussians25(method="tb", steps=40, batch=32, time_steps=10, noise=0.0, every=40)
        run = gaussians25(config).run
        sources = {"on_policy": Searchers(run.sources["on_policy"], 2, period=2, lag=1)}
        return Loop(dataclasses.replace(run, sources=sources, terms=tuple(with_staleness(term) for term in run.terms)))

    whole = loop()
    found = [whole.advance() for _ in range(40)]
    ages = [float(metrics["staleness"]) for metrics in found]
    assert all(1.0 <= age <= 2.0 for age in ages[4:])
    squares = torch.stack([metrics["residual_mean_square"] for metrics in found])
    assert squares[-10:].mean() < 0.8 * squares[:10].mean()
    first = loop()
    for _ in range(20):
        first.advance()
    second = loop()
    second.load_state_dict(from_bytes(to_bytes(first.state_dict())))
    for _ in range(20):
        second.advance()
    for one, other in zip(*(run.run.modules["policy"].parameters() for run in (whole, second)), strict=True):
        assert torch.equal(one, other)
