"""Identities 13 to 23 of the algebra: reinforcement learning, off-policy minimisers, residuals on graphs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from equipoise.objectives import policy_gradient, residuals, trust_pcl
from equipoise.objectives.divergences import Divergence, divergence
from objectives.problems import FLOAT, STRICT, Choice, Grid, agree, choice, every_loss, grid, kl, label

ALPHA, BETA = 0.4, 2.5


def prior(problem: Choice) -> Tensor:
    return torch.linspace(-1.0, 0.7, len(problem.logits), dtype=FLOAT).log_softmax(0)


def soft_value(problem: Choice) -> Tensor:
    """alpha log sum prior r^(1 / alpha)."""
    return ALPHA * (prior(problem) + problem.log_reward / ALPHA).logsumexp(0)


def posterior(problem: Choice) -> Tensor:
    return prior(problem) + (problem.log_reward - soft_value(problem)) / ALPHA


@pytest.mark.parametrize("behaviour", [0, 1, 2])
def test_trust_pcl_is_alpha_squared_rtb_on_every_trajectory(behaviour: int) -> None:
    """Identity 13: equal half squares up to alpha^2, policy gradients alpha^2, value gradients alpha, any samples."""
    problem = choice(seed=behaviour)
    log_z = torch.tensor(0.3, dtype=FLOAT, requires_grad=True)
    v_soft = (log_z.detach() * ALPHA).requires_grad_()
    rtb = residuals.relative_trajectory_balance(log_z, problem.log_p, prior(problem), problem.log_reward, BETA) ** 2 / 2
    pcl = trust_pcl.consistency(v_soft, problem.log_p, prior(problem), problem.log_reward, ALPHA) ** 2 / 2
    agree(pcl, ALPHA**2 * rtb)
    samples = torch.rand(len(rtb), dtype=FLOAT, generator=torch.Generator().manual_seed(behaviour))
    rtb_gradients = torch.autograd.grad((samples * rtb).sum(), (problem.logits, log_z))
    pcl_gradients = torch.autograd.grad((samples * pcl).sum(), (problem.logits, v_soft))
    agree(pcl_gradients[0], ALPHA**2 * rtb_gradients[0])
    agree(pcl_gradients[1], ALPHA * rtb_gradients[1])


@pytest.mark.parametrize(("log_z", "beta"), [(2.0, 0.5), (-1.3, 0.7), (0.0, 3.0)])
def test_the_conversion_of_rtb_to_trust_pcl_and_back_is_the_identity(log_z: float, beta: float) -> None:
    """Identity 13, the parameters: numbers and tensors."""
    there = trust_pcl.rtb_to_trust_pcl_params(log_z, beta)
    assert trust_pcl.trust_pcl_to_rtb_params(**there) == pytest.approx({"beta": beta, "logZ": log_z})
    tensors = trust_pcl.rtb_to_trust_pcl_params(torch.tensor(log_z), torch.tensor(beta))
    assert {name: float(value) for name, value in tensors.items()} == pytest.approx(there)


def test_the_return_of_kl_regularised_rl_is_the_soft_value_minus_a_kl() -> None:
    """Identity 14: E_p[log r] - alpha KL(p||prior) = V - alpha KL(p||posterior)."""
    problem = choice()
    returned = (problem.log_p.exp() * problem.log_reward).sum() - ALPHA * kl(problem.log_p, prior(problem))
    expected = soft_value(problem) - ALPHA * kl(problem.log_p, posterior(problem))
    agree(returned, expected)


@pytest.mark.parametrize("baseline", [-4.0, 0.0, 2.0])
def test_reinforce_with_the_kl_in_the_reward_ascends_the_return_for_any_baseline(baseline: float) -> None:
    """Identity 14, the gradient: E_p[(log_ratio - b) grad log p] = grad KL(p||posterior) = -grad J / alpha."""
    problem = choice()
    log_ratio = residuals.relative_trajectory_balance(0.0, problem.log_p, prior(problem), problem.log_reward, BETA)
    coefficient = policy_gradient.reinforce_kl(log_ratio, baseline="none") - baseline
    gradient = problem.gradient((problem.p * coefficient * problem.log_p).sum())
    returned = (problem.log_p.exp() * problem.log_reward).sum() - ALPHA * kl(problem.log_p, prior(problem))
    agree(gradient, -problem.gradient(returned) / ALPHA)


def test_the_kl_estimates_as_losses_follow_nothing_the_reverse_and_the_forward_kl() -> None:
    """Identity 15: E_p[grad k1] = 0, E_p[grad k2] = grad KL(p||prior), E_p[grad k3] = grad KL(prior||p)."""
    problem = choice()
    expected = {
        policy_gradient.k1: torch.zeros_like(problem.logits),
        policy_gradient.k2: problem.gradient(kl(problem.log_p, prior(problem))),
        policy_gradient.k3: problem.gradient(kl(prior(problem), problem.log_p)),
    }
    for term, gradient in expected.items():
        on_policy = problem.gradient((problem.p * term(problem.log_p, prior(problem))).sum())
        agree(on_policy, gradient)


@pytest.mark.parametrize("name", [*STRICT, "huber", "alpha"])
def test_off_policy_the_minimiser_is_the_target_and_the_constant_log_z(name: str) -> None:
    """Identity 16: for samples of any distribution of full support and each strictly convex g, found by descent."""
    loss = divergence(name, order=0.3) if name == "alpha" else divergence(name)
    problem = choice(5)
    samples = torch.tensor([0.4, 0.05, 0.25, 0.2, 0.1], dtype=FLOAT)
    logits = torch.zeros(5, dtype=FLOAT, requires_grad=True)
    log_z = torch.zeros((), dtype=FLOAT, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [logits, log_z], max_iter=400, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        log_p = logits.log_softmax(0)
        residual = residuals.trajectory_balance(log_z, log_p, torch.zeros(5, dtype=FLOAT), problem.log_reward)
        value = (samples * loss.loss(residual)).sum()
        value.backward()
        return value

    optimiser.step(closure)
    torch.testing.assert_close(logits.detach().softmax(0), problem.log_target.exp(), rtol=1e-5, atol=1e-7)
    assert float(log_z.detach()) == pytest.approx(float(problem.log_z), abs=1e-5)


@pytest.mark.parametrize(("loss", "f"), every_loss(), ids=label)
def test_weighted_by_the_likelihood_ratio_any_samples_give_the_divergence_gradient(
    loss: Divergence, f: Callable
) -> None:
    """Identity 17: E_mu[(p / mu) grad g] = grad D_f(p||target)."""
    problem = choice()
    samples = torch.linspace(1.0, 2.0, len(problem.logits), dtype=FLOAT)
    samples = samples / samples.sum()
    zeros = torch.zeros_like(problem.logits)
    residual = residuals.trajectory_balance(problem.log_z, problem.log_p, zeros, problem.log_reward)
    gradient = problem.gradient((samples * (problem.p / samples) * loss.loss(residual)).sum())
    target = problem.log_target.exp()
    expected = problem.gradient((target * f(problem.log_p.exp() / target)).sum())
    agree(gradient, expected)


def test_a_quarter_of_the_squared_difference_of_two_draws_has_the_kl_gradient() -> None:
    """Identity 18: E_{i,j~p}[grad (X_i - X_j)^2 / 4] = grad KL(p||target)."""
    problem, size = choice(), 7
    log_ratio = residuals.trajectory_balance(
        0.0, problem.log_p, torch.zeros_like(problem.logits), problem.log_reward
    ).expand(size, size)
    pairs = residuals.pairwise(log_ratio.T, log_ratio)
    weights = problem.p[:, None] * problem.p
    expected = problem.gradient(kl(problem.log_p, problem.log_target))
    agree(problem.gradient((weights * pairs**2 / 4).sum()), expected)


def test_dpo_with_bradley_terry_labels_is_minimised_by_the_rtb_posterior() -> None:
    """Identity 19: cross-entropy of sigma(alpha h) against sigma(log r_i - log r_j), h the pair's log-ratio to the
    prior, has its minimum at prior * r^(1 / alpha) / Z."""
    problem = choice(5)
    labels = torch.sigmoid(problem.log_reward[:, None] - problem.log_reward)

    def loss(log_p: Tensor) -> Tensor:
        log_ratio = (log_p - prior(problem)).expand(5, 5)
        margin = ALPHA * residuals.pairwise(log_ratio.T, log_ratio)
        cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits
        return cross_entropy(margin, labels)

    best = posterior(problem).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(best.log_softmax(0)), best)
    torch.testing.assert_close(gradient, torch.zeros(5, dtype=FLOAT), atol=1e-12, rtol=0)
    directions = torch.eye(5, dtype=FLOAT)[:4]
    with torch.no_grad():
        for direction in (*directions, *-directions):
            assert float(loss((best + 0.1 * direction).log_softmax(0)) - loss(best)) > 1e-6


def flows(graph: Grid) -> Tensor:
    """An arbitrary log-flow of every state, along the trajectories; the terminal entry is garbage."""
    table = torch.linspace(-1.0, 2.0, graph.side**2, dtype=FLOAT).sin()
    flow = table[graph.state]
    return flow.scatter(1, graph.length[:, None], 1e3)


def test_residuals_of_trajectories_and_segments_are_sums_of_those_of_edges() -> None:
    """Identity 20: telescoping. Trajectory balance with log Z = log F(source) is the sum over all edges, every
    segment's residual the sum over its own."""
    graph = grid()
    flow, pf, pb = flows(graph), graph.log_pf, graph.log_pb
    edges, _ = residuals.detailed_balance(flow, pf, pb, graph.target, graph.length)
    whole = residuals.trajectory_balance(flow[:, 0], pf.sum(1), pb.sum(1), graph.target)
    agree(whole, edges.sum(1))
    segments, _ = residuals.sub_trajectory_balance(flow, pf, pb, graph.target, graph.length)
    column = 0
    for start in range(graph.steps):
        for end in range(start + 1, graph.steps + 1):
            summed = torch.where(end <= graph.length, edges[:, start:end].sum(1), 0.0)
            agree(segments[:, column], summed)
            column += 1
    assert column == segments.shape[1]


def test_soft_q_learning_is_detailed_balance_of_the_flow_its_values_define() -> None:
    """Identity 21: with reward log P_B (and the target at the stop), F = logsumexp Q and P_F = softmax Q."""
    graph = grid()
    values = graph.forward_logits.detach().masked_fill(~graph.allowed, -torch.inf)
    reward = graph.log_pb.scatter_add(1, graph.length[:, None] - 1, graph.target[:, None])
    next_q = values[graph.state[:, 1:]]
    soft_q, weights = residuals.soft_q(graph.pick(values, graph.state[:, :-1]), reward, next_q, graph.length)
    flow = values.logsumexp(1)[graph.state]
    policy = graph.pick(values.log_softmax(1), graph.state[:, :-1])
    balance, expected_weights = residuals.detailed_balance(flow, policy, graph.log_pb, graph.target, graph.length)
    agree(soft_q, balance)
    agree(weights, expected_weights)


def test_flow_matching_is_detailed_balance_of_the_policies_its_edge_flows_define() -> None:
    """Identity 22: for an edge s -> s' the residual of detailed balance is that of flow matching at s', whatever the
    parent s."""
    graph = grid()
    edge = graph.forward_logits.detach().masked_fill(~graph.allowed, -torch.inf)  # log F(s -> s'), by action
    x, y = graph.coordinates
    from_left = torch.where(x > 0, edge[(x - 1).clamp(min=0) * graph.side + y, 0], -torch.inf)
    from_below = torch.where(y > 0, edge[x * graph.side + (y - 1).clamp(min=0), 1], -torch.inf)
    inflow = torch.stack([from_left, from_below], 1).logsumexp(1)
    outflow = edge.logsumexp(1)
    policy = graph.pick(edge.log_softmax(1), graph.state[:, :-1])
    entered = torch.stack([from_left - inflow, from_below - inflow, torch.zeros_like(inflow)], 1)
    stop = graph.length[:, None]
    log_inflow = inflow[graph.state].scatter(1, stop, edge[graph.objects, 2][:, None])
    balance, _ = residuals.detailed_balance(
        outflow[graph.state], policy, graph.pick(entered, graph.state[:, 1:]), graph.target, graph.length
    )
    matching, _ = residuals.flow_matching(log_inflow, outflow[graph.state], graph.target, graph.length)
    agree(matching, balance)


def test_path_consistency_is_minus_alpha_sub_trajectory_balance() -> None:
    """Identity 23: with reward alpha log P_B, log R at the stop, and V = alpha log F, on every segment."""
    graph = grid()
    flow = flows(graph)
    at_the_stop = (ALPHA * graph.target)[:, None]
    reward = (ALPHA * graph.log_pb).scatter_add(1, graph.length[:, None] - 1, at_the_stop)
    consistency, _ = trust_pcl.path_consistency(ALPHA * flow, graph.log_pf, reward, graph.length, alpha=ALPHA)
    segments, _ = residuals.sub_trajectory_balance(flow, graph.log_pf, graph.log_pb, graph.target, graph.length)
    agree(consistency, -ALPHA * segments)
