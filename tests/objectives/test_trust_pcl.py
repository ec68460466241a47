"""Trust-PCL: the published consistency, the conversion, and refusals. Identities 13 and 23 hold the theorems."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import equipoise.trust_pcl
from equipoise.objectives import trust_pcl
from equipoise.objectives.trust_pcl import rtb_to_trust_pcl_params, trust_pcl_to_rtb_params
from objectives.problems import FLOAT, agree

ROW = torch.zeros(2)


def test_the_reference_numbers_of_the_conversion() -> None:
    """torchgfn 2.4.1, `gfn.utils.trust_pcl`, run: (2.0, 0.5) and its inverse (2.0, 4.0)."""
    assert rtb_to_trust_pcl_params(2.0, 0.5) == {"alpha": 2.0, "v_soft_s0": 4.0}
    assert trust_pcl_to_rtb_params(2.0, 4.0) == {"beta": 0.5, "logZ": 2.0}
    assert all(type(value) is float for value in rtb_to_trust_pcl_params(2.0, 0.5).values())


@given(log_z=st.floats(-1e3, 1e3), beta=st.floats(1e-3, 1e3))
def test_there_and_back_is_the_identity(log_z: float, beta: float) -> None:
    there = rtb_to_trust_pcl_params(log_z, beta)
    back = trust_pcl_to_rtb_params(there["alpha"], there["v_soft_s0"])
    assert back["beta"] == pytest.approx(beta, rel=1e-12)
    assert back["logZ"] == pytest.approx(log_z, rel=1e-12)


def test_tensors_are_converted_to_tensors_with_their_gradient() -> None:
    log_z = torch.tensor([1.0, 2.0], dtype=FLOAT, requires_grad=True)
    beta = torch.tensor(0.5, dtype=FLOAT, requires_grad=True)
    value = rtb_to_trust_pcl_params(log_z, beta)["v_soft_s0"]
    value.sum().backward()
    assert log_z.grad is not None and log_z.grad.tolist() == [2.0, 2.0]
    assert beta.grad is not None and float(beta.grad) == pytest.approx(-3.0 / 0.25)


def test_the_consistency_is_the_general_one_with_the_coefficients_of_rtb() -> None:
    """-V(s_0) + sum_t [r_t - (tau + lambda) log pi + lambda log pi~], step by step as Nachum et al. write it."""
    noise = torch.Generator().manual_seed(0)
    pf, prior = torch.randn(2, 4, 6, generator=noise, dtype=FLOAT)
    log_reward = torch.randn(4, generator=noise, dtype=FLOAT)
    value, entropy, relative = 0.8, 0.0, 0.3
    expected = []
    for row in range(4):
        total = -value
        for t in range(6):
            reward = float(log_reward[row]) if t == 5 else 0.0
            total += reward - (entropy + relative) * float(pf[row, t]) + relative * float(prior[row, t])
        expected.append(total)
    given_ = trust_pcl.consistency(torch.tensor(value, dtype=FLOAT), pf.sum(1), prior.sum(1), log_reward, relative)
    agree(given_, torch.tensor(expected, dtype=FLOAT))


def test_path_consistency_vanishes_for_the_soft_values_of_a_small_problem() -> None:
    """Two steps, two actions each; values by soft backups, the policy by softmax of the soft advantages."""
    alpha, rewards = 0.5, torch.tensor([[0.3, -0.7], [1.0, 0.2], [-0.4, 0.9]], dtype=FLOAT)
    leaf = alpha * (rewards / alpha).logsumexp(1)
    root_q = torch.stack([rewards[0, 0] + leaf[1], rewards[0, 1] + leaf[2]])
    root = alpha * (root_q / alpha).logsumexp(0)
    root_policy, leaf_policy = (root_q / alpha).log_softmax(0), (rewards / alpha).log_softmax(1)
    rows = [(a, b) for a in (0, 1) for b in (0, 1)]
    garbage = torch.tensor(9.0, dtype=FLOAT)
    value = torch.stack([torch.stack([root, leaf[1 + a], garbage]) for a, _ in rows])
    log_pf = torch.stack([torch.stack([root_policy[a], leaf_policy[1 + a, b]]) for a, b in rows])
    reward = torch.stack([torch.stack([rewards[0, a], rewards[1 + a, b]]) for a, b in rows])
    consistency, weights = trust_pcl.path_consistency(value, log_pf, reward, torch.full((4,), 2), alpha=alpha)
    torch.testing.assert_close(consistency, torch.zeros(4, 3, dtype=FLOAT), atol=1e-12, rtol=0)
    agree(weights, torch.full((4, 3), 1 / 3, dtype=FLOAT))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rtb_to_trust_pcl_params(2.0, 0.0), "beta is 0.0; expected a positive finite number"),
        (lambda: rtb_to_trust_pcl_params(2.0, -1.0), "beta is -1.0"),
        (lambda: rtb_to_trust_pcl_params(math.nan, 1.0), "logZ is nan; expected a finite number"),
        (lambda: rtb_to_trust_pcl_params(torch.zeros(2), torch.zeros(2)), r"beta is \[0.0, 0.0\]"),
        (lambda: trust_pcl_to_rtb_params(math.inf, 1.0), "alpha is inf"),
        (lambda: trust_pcl_to_rtb_params(1.0, math.inf), "v_soft_s0 is inf"),
        (lambda: trust_pcl.consistency(0.0, ROW, ROW, ROW, 0.0), "alpha is 0.0"),
        (lambda: trust_pcl.consistency(0.0, ROW, ROW[:1], ROW, 1.0), r"log_prior has shape \(1,\); expected \(2,\)"),
        (lambda: trust_pcl.consistency(torch.zeros(3), ROW, ROW, ROW, 1.0), r"v_soft has shape \(3,\)"),
        (
            lambda: trust_pcl.path_consistency(
                torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2, dtype=torch.int64), alpha=1.0
            ),
            r"value has shape \(2, 3\); expected \(2, 4\)",
        ),
    ],
)
def test_misuse_is_an_error_that_names_what_was_given(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_the_short_path_gives_the_same_names() -> None:
    for name in equipoise.trust_pcl.__all__:
        assert getattr(equipoise.trust_pcl, name) is getattr(trust_pcl, name)
