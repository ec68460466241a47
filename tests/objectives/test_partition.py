"""Estimators of log Z: groups in any order, constants that centre the slopes, and refusals."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import equipoise.partition
from equipoise.objectives import partition, residuals
from equipoise.objectives.divergences import DIVERGENCES, Divergence, divergence
from equipoise.partition import group_mean
from objectives.problems import FLOAT, agree, label

LOSSES = [
    *(divergence(name) for name in DIVERGENCES if name != "alpha"),
    *(divergence("alpha", order=order) for order in (-2.0, 0.3, 1 + 1e-9, 3.0)),
    *(divergence(name, temper=0.3) for name in ("forward_kl", "jensen_shannon", "le_cam", "jeffreys", "huber")),
    divergence(slope=lambda r: r + torch.tanh(r)),
]
ESTIMATES: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    "group_mean": partition.group_mean,
    "leave_one_out": partition.leave_one_out,
    "mean_reward": partition.mean_reward,
    "pairwise": partition.pairwise,
    **{
        f"deviation {name}": lambda x, group, name=name: partition.deviation_constant(x, name, group)
        for name in ("forward_kl", "jensen_shannon", "total_variation", "shifted_cosh")
    },
}


def sample(seed: int = 0, rows: int = 11, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """Log-ratios in three groups, of 2, 4 and 5 rows, interleaved and oddly named."""
    noise = torch.Generator().manual_seed(seed)
    group = torch.tensor([7, -3, 7, 2**40, -3, 2**40, 2**40, -3, 2**40, -3, 2**40])[:rows]
    return scale * torch.randn(len(group), generator=noise, dtype=FLOAT), group


def by_hand(name: str, x: list[float]) -> list[float]:
    """The simple estimates of one group, in Python."""
    others = [[y for j, y in enumerate(x) if j != i] for i in range(len(x))]
    return {
        "group_mean": [-sum(x) / len(x)] * len(x),
        "leave_one_out": [-sum(rest) / len(rest) for rest in others],
        "mean_reward": [sum(x) / len(x)] * len(x),
        "pairwise": [-x[(i + 1) % len(x)] for i in range(len(x))],
    }[name]


@pytest.mark.parametrize("name", ["group_mean", "leave_one_out", "mean_reward", "pairwise"])
def test_an_estimate_is_that_of_each_group_by_itself(name: str) -> None:
    x, group = sample()
    expected = torch.empty_like(x)
    for name_of_group in group.unique():
        rows = group == name_of_group
        expected[rows] = torch.tensor(by_hand(name, x[rows].tolist()), dtype=FLOAT)
    agree(ESTIMATES[name](x, group), expected)
    agree(ESTIMATES[name](x, None), torch.tensor(by_hand(name, x.tolist()), dtype=FLOAT))


@pytest.mark.parametrize("loss", LOSSES, ids=label)
def test_the_slopes_of_each_group_sum_to_zero_at_the_deviation_constant(loss: Divergence) -> None:
    x, group = sample()
    constant = partition.deviation_constant(x, loss, group)
    slopes = loss.slope(x + constant)
    for name in group.unique():
        rows = group == name
        assert float(slopes[rows].sum()) == pytest.approx(0.0, abs=1e-10)
        assert float(constant[rows].max() - constant[rows].min()) == 0.0
        alone = partition.deviation_constant(x[rows], loss)
        torch.testing.assert_close(constant[rows], alone, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("loss", LOSSES, ids=label)
def test_the_deviation_constant_is_the_best_of_all_constants(loss: Divergence) -> None:
    x, _ = sample(seed=3)
    constant = partition.deviation_constant(x, loss)
    best = partition.deviation(x, loss).mean()
    agree(best, loss.loss(x + constant).mean())
    for shift in torch.linspace(-5, 5, 41, dtype=FLOAT):
        assert float(loss.loss(x + constant + shift).mean()) >= float(best) - 1e-12


@pytest.mark.parametrize("order", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_bisection_finds_the_closed_form(order: float) -> None:
    x, group = sample(seed=5)
    loss = divergence("alpha", order=order)
    solved = partition.deviation_constant(x, divergence(slope=loss.slope), group)
    torch.testing.assert_close(partition.deviation_constant(x, loss, group), solved, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("order", [-5.0, 0.0, 1 - 1e-12, 1 + 1e-6, 5.0])
def test_the_closed_form_overflows_nowhere_and_keeps_its_digits(order: float) -> None:
    """With thousands of nats between rows the largest exponent rules: C = -max X above order 1, -min X below, both up
    to log B / |order - 1|; near order 1 it is minus the mean."""
    x = torch.tensor([-4000.0, -3999.0, 0.0, 4000.0])
    constant = partition.deviation_constant(x, divergence("alpha", order=order))
    assert bool(constant.isfinite().all())
    if abs(order - 1) < 1e-3:
        assert float(constant[0]) == pytest.approx(999.75, rel=1e-2)
        narrow = torch.tensor([0.5, -0.25, 1.0], dtype=FLOAT)
        near = partition.deviation_constant(narrow, divergence("alpha", order=order))
        expected = narrow.mean() + (order - 1) * narrow.var(unbiased=False) / 2
        assert float(near[0]) == pytest.approx(-float(expected), abs=1e-11)
    else:
        extreme = x.max() if order > 1 else x.min()
        assert abs(float(constant[0] + extreme)) <= 1.3863 / abs(order - 1) + 1e-2
        assert bool(partition.deviation(x, divergence("alpha", order=order)).isfinite().all())


def test_the_median_of_an_even_group_is_the_midpoint_as_are_all_intervals_of_minimisers() -> None:
    x = torch.tensor([0.0, 1.0, 2.0, 10.0], dtype=FLOAT)
    assert partition.deviation_constant(x, "total_variation").tolist() == [-1.5] * 4
    assert partition.deviation_constant(x[:3], "total_variation").tolist() == [-1.0] * 3
    far = torch.tensor([0.0, 10.0], dtype=FLOAT)
    agree(partition.deviation_constant(far, "huber"), torch.full_like(far, -5.0))
    near = torch.tensor([0.1, 0.2], dtype=FLOAT)
    agree(partition.deviation_constant(near, "clipped"), torch.full_like(near, -0.15))


@pytest.mark.parametrize("name", ESTIMATES)
def test_estimates_are_detached_and_keep_the_dtype(name: str) -> None:
    x, group = sample()
    for dtype in (torch.float32, torch.float64):
        estimate = ESTIMATES[name](x.to(dtype).requires_grad_(), group)
        assert not estimate.requires_grad
        assert estimate.dtype == dtype
        assert estimate.shape == x.shape
    assert ESTIMATES[name](x.bfloat16(), group).dtype == torch.float32
    deviation = partition.deviation(x.requires_grad_(), "forward_kl", group)
    assert deviation.requires_grad and deviation.shape == x.shape


def test_sums_are_taken_in_float64() -> None:
    x = torch.tensor([1e8, 1.0, -1e8, 1.0], dtype=torch.float32)
    assert partition.group_mean(x).tolist() == [-0.5] * 4


@given(seed=st.integers(0, 1000), order=st.permutations(range(11)))
@pytest.mark.parametrize("name", [name for name in ESTIMATES if name != "pairwise"])
def test_estimates_move_with_the_rows(name: str, seed: int, order: list[int]) -> None:
    x, group = sample(seed)
    moved = ESTIMATES[name](x[order], group[order])
    torch.testing.assert_close(moved, ESTIMATES[name](x, group)[order], rtol=1e-12, atol=1e-12)


@given(seed=st.integers(0, 1000), shift=st.integers(-5, 5))
@pytest.mark.parametrize("name", ESTIMATES)
def test_the_names_of_groups_and_their_interleaving_do_not_matter(name: str, seed: int, shift: int) -> None:
    x, group = sample(seed)
    renamed = torch.where(group == 7, 100, shift * 10 - group % 7)
    agree(ESTIMATES[name](x, renamed), ESTIMATES[name](x, group))
    together = group.argsort(stable=True)
    agree(ESTIMATES[name](x, group)[together], ESTIMATES[name](x[together], group[together]))


@given(
    name=st.sampled_from(list(ESTIMATES)),
    alone=st.integers(-100, 100),
    values=st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=6),
)
def test_a_group_of_one_is_refused_by_its_name(name: str, alone: int, values: list[float]) -> None:
    group = torch.full((len(values),), alone + 1)
    group[1] = alone
    with pytest.raises(ValueError, match=f"group {alone} has one trajectory"):
        ESTIMATES[name](torch.tensor(values), group)


@given(
    name=st.sampled_from(list(ESTIMATES)),
    row=st.integers(0, 4),
    bad=st.sampled_from([float("nan"), float("inf"), -float("inf")]),
)
def test_the_first_row_that_is_not_finite_is_named(name: str, row: int, bad: float) -> None:
    x = torch.zeros(5)
    x[row:] = bad
    with pytest.raises(ValueError, match=rf"\[{row}\] is -?(nan|inf); expected finite numbers"):
        ESTIMATES[name](x, None)


@pytest.mark.parametrize(
    ("x", "group", "message"),
    [
        (torch.zeros(0), None, r"shape \(0,\); expected \(batch,\), at least two rows"),
        (torch.zeros(1), None, "group 0 has one trajectory"),
        (torch.zeros(2, 2), None, r"shape \(2, 2\); expected \(batch,\)"),
        (torch.zeros(2), torch.zeros(3, dtype=torch.int64), r"group is torch.int64 of shape \(3,\); expected integers"),
        (torch.zeros(2), torch.zeros(2), r"group is torch.float32 of shape \(2,\)"),
    ],
)
def test_shapes_that_make_no_groups_are_refused(x: Tensor, group: Tensor | None, message: str) -> None:
    for estimate in ESTIMATES.values():
        with pytest.raises(ValueError, match=message):
            estimate(x, group)


def test_an_unknown_divergence_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'pearson'"):
        partition.deviation(torch.zeros(2), "pearsn")


@pytest.mark.parametrize("name", [name for name in partition.ESTIMATORS if name != "learned"])
def test_an_estimator_by_name_is_its_function_of_the_batch(name: str) -> None:
    x, group = sample()
    target = x.flip(0)
    batch = SimpleNamespace(group=group)
    expected = {
        "group_mean": partition.group_mean(x, group),
        "leave_one_out": partition.leave_one_out(x, group),
        "mean_reward": partition.mean_reward(target, group),
        "pairwise": partition.pairwise(x, group),
        "deviation": partition.deviation_constant(x, "hellinger", group),
    }
    estimate = partition.estimator(name, "hellinger")
    assert torch.equal(estimate(x, target, batch), expected[name])
    assert torch.equal(pickle.loads(pickle.dumps(estimate))(x, target, batch), expected[name])


def test_a_learned_log_z_is_a_parameter_that_residuals_train() -> None:
    learned = partition.estimator("learned")
    assert isinstance(learned, partition.Learned) and isinstance(learned, nn.Module)
    assert [name for name, _ in learned.named_parameters()] == ["log_z"]
    x = torch.tensor([1.0, 3.0])
    assert float(learned(x, x, None).detach()) == 0.0
    assert float(partition.Learned(0.0).log_z.detach()) == 0.0
    assert partition.Learned(2).log_z.dtype == torch.float32
    optimiser = torch.optim.SGD(learned.parameters(), lr=0.5)
    for _ in range(60):
        optimiser.zero_grad()
        divergence("reverse_kl").loss(x + learned(x, x, None)).mean().backward()
        optimiser.step()
    assert float(learned.log_z.detach()) == pytest.approx(-2.0, abs=1e-5)
    assert partition.estimator("learned") is not learned


def test_a_conditional_log_z_is_a_network_of_the_batch_and_checks_its_shape() -> None:
    batch = SimpleNamespace(group=torch.tensor([1, 0, 1]))
    x = torch.zeros(3)
    table = partition.Conditional(lambda trajectories: trajectories.group, nn.Embedding(2, 1))
    log_z = table(x, x, batch)
    assert log_z.shape == (3,) and float(log_z[0].detach()) == float(log_z[2].detach())
    assert sum(parameter.numel() for parameter in table.parameters()) == 2
    wide = partition.Conditional(lambda trajectories: trajectories.group, nn.Embedding(2, 4))
    with pytest.raises(ValueError, match=r"gave shape \(3, 4\); expected \(3,\)"):
        wide(x, x, batch)


@pytest.mark.parametrize(
    ("name", "loss", "message"),
    [
        ("grup_mean", None, "unknown estimator of log Z 'grup_mean': did you mean 'group_mean'"),
        ("deviation", None, "needs its divergence"),
        ("deviation", "alpha", "alpha needs an order"),
    ],
)
def test_an_estimator_that_cannot_be_made_is_refused(name: str, loss: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        partition.estimator(name, loss)


def test_the_group_mean_gives_relative_log_partition_variance() -> None:
    """The number of torchgfn's relative log-partition variance: the mean of half of (score - mean score)^2."""
    scores = torch.tensor([0.5, -1.0, 2.0, 0.25], dtype=FLOAT)
    loss = divergence("reverse_kl").loss(scores + group_mean(scores)).mean()
    assert float(loss) == pytest.approx(float(((scores - scores.mean()) ** 2 / 2).mean()), abs=1e-15)


def test_pairwise_residuals_are_differences_within_the_group() -> None:
    x, group = sample()
    residual = x + partition.pairwise(x, group)
    rows = (group == 7).nonzero()[:, 0]
    expected = residuals.pairwise(x[rows], x[rows.flip(0)])
    agree(residual[rows], expected)


def test_the_short_path_gives_the_same_names() -> None:
    for name in equipoise.partition.__all__:
        assert getattr(equipoise.partition, name) is getattr(partition, name)
    assert set(equipoise.partition.__all__) == set(partition.__all__)
