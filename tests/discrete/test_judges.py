"""The two judges of one sampler: what is sampled agrees with what is exact, where both can be had."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from equipoise.discrete.corners import corner_modes
from equipoise.discrete.environments.hypergrid import Hypergrid, corners
from equipoise.discrete.environments.strings import AppendStrings, PrependAppendStrings
from equipoise.discrete.judge import Judge, listable, published_l1, rewards_of
from equipoise.discrete.policies.mlp import MLP
from equipoise.discrete.sampled_judge import SampledJudge
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.evaluation.likelihoods import spearman
from equipoise.trajectories import Columns


def sampler_of(environment: AppendStrings | Hypergrid) -> DiscreteSampler:
    torch.manual_seed(0)
    policy = MLP(environment.features, (16,), {"forward": environment.actions, "backward": environment.back_actions})
    with torch.no_grad():
        policy.out.weight.mul_(3)
    return DiscreteSampler(environment, policy, backward="learned")


def letters(objects: Columns, context: Columns = None) -> Tensor:
    assert isinstance(objects, Tensor)
    return 0.3 * objects.sum(1).double() - 0.5 * (objects[:, 0] == objects[:, 1])


@pytest.mark.parametrize("kind", [AppendStrings, PrependAppendStrings])
def test_sampled_figures_are_the_exact_ones_but_for_their_noise(kind: type[AppendStrings]) -> None:
    sampler = sampler_of(kind(letters=3, length=4))
    listed, sampled = Judge(sampler, letters, 2.0), SampledJudge(sampler, letters, 2.0, n=20_000, draws=200)
    true, found = listed.figures(), sampled.figures()
    assert found["elbo"] == pytest.approx(true["log_z"], abs=0.05)  # without a log Z of its own, the exact ELBO
    assert found["log_z_importance"] == pytest.approx(true["log_z_exact"], abs=0.05)
    assert found["mean_reward"] == pytest.approx(true["mean_reward"], rel=0.02)
    assert found["elbo"] < found["log_z_importance"] and 0 < found["ess"] < 1
    words = listed.graph.environment.objects(listed.graph.terminal)
    log_p = listed.distribution().log()
    tree = kind is AppendStrings
    assert torch.allclose(sampled.log_probability(listed.graph.terminal), log_p, atol=1e-5 if tree else 0.5)
    told = sampled.correlations(words)
    assert told["spearman"] == pytest.approx(spearman(log_p, listed.log_target), abs=1e-6 if tree else 0.05)
    assert (told["log_p_error"] == 0.0) == tree


def test_the_best_of_a_sample_are_told_with_the_share_that_differ() -> None:
    judge = SampledJudge(sampler_of(AppendStrings(letters=2, length=2)), letters, 1.0)
    found = judge.best(lambda words: ["".join(map(str, row)) for row in torch.as_tensor(words).tolist()], n=64, k=2)
    assert found["top_reward"] == pytest.approx(math.exp(0.3)) and found["unique"] <= 4 / 64
    with pytest.raises(ValueError, match="the reward returned"):
        SampledJudge(judge.sampler, lambda words, context: torch.zeros(3), 1.0).check()


def test_the_sampled_l1_is_the_exact_one_and_a_floor_s_worth_of_noise() -> None:
    judge = Judge(sampler_of(Hypergrid(dim=2, side=8)), corners(8), 1.0, lambda: 0.0, modes=corner_modes(dim=2, side=8))
    found, true = published_l1(judge), judge.figures()
    assert abs(found["sampled_l1"] - true["l1"]) < 2 * found["sampled_l1_floor"]
    assert true["modes"] == 4 and true["mode_mass"] < true["mode_mass_exact"] == pytest.approx(10.4 / 22.4)
    assert rewards_of(judge)["sampled_mean_reward"] == pytest.approx(true["mean_reward"], rel=0.05)


def test_a_space_beyond_the_limit_is_not_listed() -> None:
    assert listable(Hypergrid(dim=2, side=8)) and not listable(Hypergrid(dim=2, side=2000))
