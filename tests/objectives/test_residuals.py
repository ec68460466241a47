"""Residuals: the exact flow balances all of them, padding is not read, weights are shared out, misuse is an error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from equipoise.objectives import residuals
from equipoise.objectives.divergences import divergence
from equipoise.objectives.names import WEIGHTINGS
from equipoise.objectives.trust_pcl import path_consistency
from objectives.problems import FLOAT, Grid, agree, grid

Steps = Callable[[Grid, Tensor], tuple[Tensor, Tensor]]


def balanced() -> tuple[Grid, Tensor]:
    """A grid whose forward policy is the one that its backward policy and rewards define, and its log-flow: by dynamic
    programming from the far corner, F(s) = R(s) + sum over children of F(s') P_B(s | s')."""
    graph = grid()
    flow = torch.empty(graph.side**2, dtype=FLOAT)
    logits = torch.full((graph.side**2, 3), -torch.inf, dtype=FLOAT)
    backward = graph.log_backward.detach()
    for state in reversed(range(graph.side**2)):
        x, y = divmod(state, graph.side)
        logits[state, 2] = graph.log_reward[state]
        if x < graph.side - 1:
            logits[state, 0] = flow[state + graph.side] + backward[state + graph.side, 0]
        if y < graph.side - 1:
            logits[state, 1] = flow[state + 1] + backward[state + 1, 1]
        flow[state] = logits[state].logsumexp(0)
    return replace(graph, forward_logits=logits.masked_fill(~graph.allowed, 0.0)), flow


def state_target(graph: Grid) -> Tensor:
    """log R of every visited state, the object's own at the end."""
    return graph.log_reward[graph.state]


def stops(graph: Grid) -> Tensor:
    return graph.log_forward[:, 2][graph.state]


STEPWISE: dict[str, Steps] = {
    "detailed": lambda g, flow: residuals.detailed_balance(flow, g.log_pf, g.log_pb, g.target, g.length),
    "forward_looking": lambda g, flow: residuals.forward_looking_balance(
        flow - state_target(g), g.log_pf, g.log_pb, state_target(g), g.length
    ),
    "modified": lambda g, flow: residuals.modified_detailed_balance(
        stops(g), g.log_pf, g.log_pb, state_target(g), g.length
    ),
    "sub_trajectory": lambda g, flow: residuals.sub_trajectory_balance(flow, g.log_pf, g.log_pb, g.target, g.length),
}


@pytest.mark.parametrize("name", STEPWISE)
def test_the_flow_of_the_target_balances_every_step(name: str) -> None:
    graph, flow = balanced()
    values, weights = STEPWISE[name](graph, flow[graph.state])
    torch.testing.assert_close(values, torch.zeros_like(values), atol=1e-12, rtol=0)
    assert bool((weights >= 0).all())


def test_the_flow_of_the_target_balances_whole_trajectories_and_draws_the_target() -> None:
    graph, flow = balanced()
    log_pf, log_pb = graph.log_pf.sum(1), graph.log_pb.sum(1)
    values = residuals.trajectory_balance(flow[0], log_pf, log_pb, graph.target)
    torch.testing.assert_close(values, torch.zeros_like(values), atol=1e-12, rtol=0)
    marginal = torch.zeros(graph.side**2, dtype=FLOAT).index_add(0, graph.objects, log_pf.exp())
    agree(marginal, graph.log_reward.softmax(0))


def test_a_perturbed_policy_is_out_of_balance_on_the_edges_that_it_changed() -> None:
    graph, flow = balanced()
    changed = graph.forward_logits.clone()
    changed[0, 0] += 1.0
    values, _ = residuals.detailed_balance(
        flow[graph.state], replace(graph, forward_logits=changed).log_pf, graph.log_pb, graph.target, graph.length
    )
    assert bool((values[:, 0].abs() > 0.1).all())
    torch.testing.assert_close(values[:, 1:], torch.zeros_like(values[:, 1:]), atol=1e-12, rtol=0)


def test_guided_balance_draws_the_target_whatever_the_guide_and_without_it_is_trajectory_balance() -> None:
    """A model with residual 0 for a guide over the paths to each object has the target for marginal."""
    graph, flow = balanced()
    noise = torch.randn(len(graph.length), generator=torch.Generator().manual_seed(2), dtype=FLOAT)
    same = graph.objects[:, None] == graph.objects
    log_guide = noise - torch.where(same, noise, -torch.inf).logsumexp(1)
    log_pb, log_z = graph.log_pb.sum(1), flow[0]
    guided = residuals.guided_trajectory_balance
    log_pf = log_guide + graph.target - log_z
    values = guided(log_z, log_pf, log_pb, log_guide, graph.target, mix=1.0)
    torch.testing.assert_close(values, torch.zeros_like(values), atol=1e-12, rtol=0)
    marginal = torch.zeros(graph.side**2, dtype=FLOAT).index_add(0, graph.objects, log_pf.exp())
    agree(marginal, graph.log_reward.softmax(0))
    half = guided(log_z, log_pf, log_pb, log_guide, graph.target, mix=0.5)
    plain = residuals.trajectory_balance(log_z, log_pf, log_pb, graph.target)
    agree(guided(log_z, log_pf, log_pb, log_guide, graph.target, mix=0.0), plain)
    agree(half, (plain + values) / 2)


def test_modified_detailed_balance_is_detailed_balance_of_the_flow_that_stopping_defines() -> None:
    graph = grid()
    modified, weights = residuals.modified_detailed_balance(
        stops(graph), graph.log_pf, graph.log_pb, state_target(graph), graph.length
    )
    flow = state_target(graph) - stops(graph)
    plain, _ = residuals.detailed_balance(flow, graph.log_pf, graph.log_pb, graph.target, graph.length)
    edge = torch.arange(graph.steps) < graph.length[:, None] - 1
    agree(modified, torch.where(edge, plain, 0.0))
    at_once = graph.length == 1
    assert at_once.any() and bool((modified[at_once] == 0).all())
    assert weights[at_once].tolist() == [[1.0] + [0.0] * (graph.steps - 1)]
    agree(weights[~at_once], edge[~at_once] / (graph.length[~at_once, None] - 1).double())


def test_forward_looking_balance_without_partial_rewards_is_detailed_balance() -> None:
    graph = grid()
    flow = torch.linspace(-1, 1, graph.side**2, dtype=FLOAT)[graph.state]
    partial = torch.zeros_like(flow).scatter(1, graph.length[:, None], graph.target[:, None])
    looking = residuals.forward_looking_balance(flow, graph.log_pf, graph.log_pb, partial, graph.length)
    plain = residuals.detailed_balance(flow, graph.log_pf, graph.log_pb, graph.target, graph.length)
    agree(looking, plain)


@pytest.mark.parametrize("name", [*STEPWISE, "flow_matching", "soft_q", "path"])
def test_nothing_is_read_beyond_the_length(name: str) -> None:
    """Garbage, NaN included, changes neither residuals nor weights nor gradients, and outside residuals are 0."""
    noise = torch.Generator().manual_seed(0)
    length, steps = torch.tensor([1, 3, 4]), 4
    inside = torch.arange(steps) < length[:, None]
    visited = torch.arange(steps + 1) <= length[:, None]
    before_end = torch.arange(steps + 1) < length[:, None]
    pf, pb = torch.randn(2, 3, steps, generator=noise, dtype=FLOAT)
    flow, other = torch.randn(2, 3, steps + 1, generator=noise, dtype=FLOAT)
    actions = torch.randn(3, steps, 2, generator=noise, dtype=FLOAT)
    target = torch.tensor([0.3, -1.0, 2.0], dtype=FLOAT)

    def results(garbage: float) -> tuple[Tensor, Tensor, list[Tensor]]:
        def spoiled(tensor: Tensor, kept: Tensor) -> Tensor:
            return torch.where(kept, tensor, garbage).requires_grad_()

        a, b = spoiled(pf, inside), spoiled(pb, inside)
        f, o = spoiled(flow, before_end), spoiled(other, visited)
        q = spoiled(actions, (torch.arange(steps) < length[:, None] - 1)[:, :, None])
        functions: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
            "detailed": lambda: residuals.detailed_balance(f, a, b, target, length),
            "forward_looking": lambda: residuals.forward_looking_balance(f, a, b, o, length),
            "modified": lambda: residuals.modified_detailed_balance(f, a, b, o, length),
            "sub_trajectory": lambda: residuals.sub_trajectory_balance(f, a, b, target, length),
            "flow_matching": lambda: residuals.flow_matching(o, f, target, length),
            "soft_q": lambda: residuals.soft_q(a, b, q, length),
            "path": lambda: path(f, a, b, length),
        }
        values, weights = functions[name]()
        inputs = [tensor for tensor in (a, b, f, o, q) if tensor.requires_grad]
        loss = (weights * divergence("forward_kl").loss(values)).sum()
        gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
        return values.detach(), weights, [g for g in gradients if g is not None]

    clean, spoilt = results(0.0), results(float("nan"))
    assert bool(clean[0].isfinite().all())
    assert torch.equal(clean[0], spoilt[0]) and torch.equal(clean[1], spoilt[1])
    for expected, gradient in zip(clean[2], spoilt[2], strict=True):
        assert torch.equal(expected, gradient)
    agree(clean[1].sum(), torch.tensor(3.0, dtype=FLOAT))
    assert bool((clean[0][clean[1] == 0] == 0).all())


def path(value: Tensor, log_pf: Tensor, reward: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    return path_consistency(value, log_pf, reward, length, alpha=0.5)


def weights_by_hand(length: list[int], steps: int, weighting: str, decay: float) -> Tensor:
    rate = decay if weighting.startswith("geometric") else 1.0
    rows = []
    for n in length:
        row = []
        for i in range(steps):
            for j in range(i + 1, steps + 1):
                taken = j <= n
                taken = taken and {"detailed": j == i + 1, "trajectory": (i, j) == (0, n)}.get(weighting, True)
                row.append(rate ** (j - i) if taken else 0.0)
        rows.append(row)
    weights = torch.tensor(rows, dtype=FLOAT)
    if weighting in ("geometric", "equal"):
        return len(length) * weights / weights.sum()
    return weights / weights.sum(1, keepdim=True)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("decay", [0.4, 1.0, 1.9])
def test_segment_weights_are_shared_out_as_named(weighting: str, decay: float) -> None:
    length = [1, 4, 2]
    zeros = torch.zeros(3, 4, dtype=FLOAT)
    _, weights = residuals.sub_trajectory_balance(
        torch.zeros(3, 5, dtype=FLOAT),
        zeros,
        zeros,
        torch.zeros(3, dtype=FLOAT),
        torch.tensor(length),
        weighting=weighting,
        decay=decay,
    )
    agree(weights, weights_by_hand(length, 4, weighting, decay))


def test_the_limits_of_sub_trajectory_balance_are_detailed_and_trajectory_balance() -> None:
    graph = grid()
    flow = torch.linspace(-1, 1, graph.side**2, dtype=FLOAT)[graph.state]
    loss = divergence("hellinger").loss

    def row_losses(weighting: str, decay: float = 0.9) -> Tensor:
        values, weights = residuals.sub_trajectory_balance(
            flow, graph.log_pf, graph.log_pb, graph.target, graph.length, weighting=weighting, decay=decay
        )
        return (weights * loss(values)).sum(1)

    edges, weights = residuals.detailed_balance(flow, graph.log_pf, graph.log_pb, graph.target, graph.length)
    detailed = (weights * loss(edges)).sum(1)
    whole = residuals.trajectory_balance(flow[:, 0], graph.log_pf.sum(1), graph.log_pb.sum(1), graph.target)
    agree(row_losses("detailed"), detailed)
    agree(row_losses("trajectory"), loss(whole))
    torch.testing.assert_close(row_losses("geometric_within", 1e-9), detailed, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(row_losses("geometric_within", 1e9), loss(whole), rtol=1e-6, atol=1e-6)


def test_short_segments_late_in_a_long_trajectory_keep_their_digits() -> None:
    steps = 2000
    log_pf = torch.full((1, steps), -7.3)
    flow, zeros, length = torch.zeros(1, steps + 1), torch.zeros(1, steps), torch.tensor([steps])
    values, _ = residuals.sub_trajectory_balance(flow, log_pf, zeros, torch.zeros(1), length)
    assert float(values[0, -1]) == pytest.approx(-7.3, rel=1e-6)


def test_the_terminal_state_of_flow_matching_has_the_weight_asked_for() -> None:
    zeros = torch.zeros(2, 4)
    _, weights = residuals.flow_matching(zeros, zeros, torch.zeros(2), torch.tensor([1, 3]), terminal_weight=8.0)
    torch.testing.assert_close(weights, torch.tensor([[1.0, 0.0, 0.0], [0.1, 0.1, 0.8]]))


def test_soft_q_learning_takes_states_in_which_actions_are_forbidden() -> None:
    next_q = torch.tensor([[[0.5, -torch.inf], [-torch.inf, -torch.inf]]], requires_grad=True)
    values, _ = residuals.soft_q(torch.ones(1, 2), torch.zeros(1, 2), next_q, torch.tensor([2]))
    values.sum().backward()
    assert values.tolist() == [[0.5, 1.0]]
    assert next_q.grad is not None and next_q.grad.tolist() == [[[-1.0, 0.0], [0.0, 0.0]]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_residuals_of_half_precision_are_float32(dtype: torch.dtype) -> None:
    row, step = torch.tensor([-1000.0, -3.0]).to(dtype), torch.tensor([[-0.5, -0.25]]).to(dtype)
    assert residuals.trajectory_balance(torch.tensor(0.01).to(dtype), row, row, row).dtype == torch.float32
    assert residuals.relative_trajectory_balance(0.0, row, row, row, 2.0).dtype == torch.float32
    flow, target = torch.zeros(1, 3, dtype=dtype), torch.zeros(1, dtype=dtype)
    for function in (residuals.detailed_balance, residuals.sub_trajectory_balance):
        values, weights = function(flow, step, step, target, torch.tensor([2]))
        assert values.dtype == weights.dtype == torch.float32


def test_the_constant_may_be_a_number_a_scalar_or_one_of_each_row() -> None:
    row = torch.tensor([1.0, 2.0])
    for log_z in (0.5, torch.tensor(0.5), torch.tensor([0.5, 0.5])):
        assert residuals.trajectory_balance(log_z, row, row, row).tolist() == [-0.5, -1.5]
    for beta in (2.0, torch.tensor(2.0), torch.tensor([2.0, 2.0])):
        assert residuals.relative_trajectory_balance(0.5, row, row, row, beta).tolist() == [-1.5, -3.5]


ROW, STEP, STATE, LENGTH = torch.zeros(2), torch.zeros(2, 3), torch.zeros(2, 4), torch.tensor([1, 3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: residuals.trajectory_balance(0.0, STEP, ROW, ROW), r"log_pf has shape \(2, 3\); expected \(batch,\)"),
        (lambda: residuals.trajectory_balance(0.0, ROW, ROW[:1], ROW), r"log_pb has shape \(1,\); expected \(2,\)"),
        (lambda: residuals.trajectory_balance(torch.zeros(3), ROW, ROW, ROW), r"log_z has shape \(3,\)"),
        (lambda: residuals.relative_trajectory_balance(0.0, ROW, ROW, ROW, 0.0), "beta is 0.0; expected a positive"),
        (lambda: residuals.relative_trajectory_balance(0.0, ROW, ROW, ROW, torch.tensor([1.0, -1])), "beta is "),
        (lambda: residuals.relative_trajectory_balance(0.0, ROW, ROW, ROW, float("nan")), "beta is nan"),
        (lambda: residuals.relative_trajectory_balance(0.0, ROW, ROW, ROW, torch.ones(3)), r"beta has shape \(3,\)"),
        (lambda: residuals.guided_trajectory_balance(0.0, ROW, ROW, ROW, ROW, mix=1.5), "mix is 1.5"),
        (lambda: residuals.pairwise(ROW, STEP), r"second has shape \(2, 3\)"),
        (lambda: residuals.detailed_balance(STEP, STEP, STEP, ROW, LENGTH), r"log_flow has shape \(2, 3\)"),
        (lambda: residuals.detailed_balance(STATE, STEP, STATE, ROW, LENGTH), r"log_pb has shape \(2, 4\)"),
        (lambda: residuals.detailed_balance(STATE, STEP, STEP, STEP, LENGTH), r"target has shape \(2, 3\)"),
        (lambda: residuals.detailed_balance(STATE, STEP, STEP, ROW, LENGTH - 1), r"length\[0\] is 0; expected 1 to 3"),
        (lambda: residuals.detailed_balance(STATE, STEP, STEP, ROW, LENGTH + 1), r"length\[1\] is 4; expected 1 to 3"),
        (lambda: residuals.detailed_balance(STATE, STEP, STEP, ROW, ROW), "length is torch.float32"),
        (lambda: residuals.detailed_balance(STATE, ROW, ROW, ROW, LENGTH), r"expected \(batch, steps\)"),
        (lambda: residuals.forward_looking_balance(STATE, STEP, STEP, STEP, LENGTH), "state_target has shape"),
        (lambda: residuals.modified_detailed_balance(STEP, STEP, STEP, STATE, LENGTH), "log_stop has shape"),
        (lambda: residuals.flow_matching(STATE, STEP, ROW, LENGTH), "log_outflow has shape"),
        (lambda: residuals.flow_matching(ROW, ROW, ROW, LENGTH), r"expected \(batch, steps \+ 1\)"),
        (lambda: residuals.flow_matching(STATE, STATE, ROW, LENGTH, terminal_weight=0.0), "terminal_weight is 0.0"),
        (lambda: residuals.soft_q(STEP, STEP, STEP, LENGTH), r"expected \(batch, steps, actions\)"),
        (lambda: residuals.sub_trajectory_balance(STATE, STEP, STEP, ROW, LENGTH, decay=0.0), "decay is 0.0"),
        (
            lambda: residuals.sub_trajectory_balance(STATE, STEP, STEP, ROW, LENGTH, weighting="geometrc"),
            "unknown weighting 'geometrc': did you mean 'geometric'",
        ),
    ],
)
def test_misuse_is_an_error_that_names_what_was_given(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@given(shapes=st.lists(st.lists(st.integers(1, 3), max_size=2).map(tuple), min_size=3, max_size=3))
def test_only_vectors_of_one_length_make_a_trajectory_residual(shapes: list[tuple[int, ...]]) -> None:
    tensors = [torch.zeros(shape) for shape in shapes]
    if len(set(shapes)) == 1 and len(shapes[0]) == 1:
        assert residuals.trajectory_balance(0.0, *tensors).shape == shapes[0]
    else:
        with pytest.raises(ValueError, match="has shape"):
            residuals.trajectory_balance(0.0, *tensors)
