"""Estimators of log Z: what is added to a log-ratio to make it a residual.

An estimator is called as (log_ratio, target, trajectories) -> log Z, () or (batch,), in nats: log_ratio is the residual
without its log_z, target is beta * log_reward, and `trajectories.group` (batch,) names the condition that shares a
log Z. `estimator` gives one by its name. The functions behind the batch's own estimators take the group itself.

All of these detach: what the batch knows of its own log Z is a constant of the loss. Theorems decide that. For the
group mean (squared loss) and for each divergence's deviation constant the gradient is the same with and without, since
the slopes of a group sum to 0 (identity 10). For leave-one-out and pairwise it is not: detached, the squared loss has
the exact on-policy gradient of KL(model||target), and leave-one-out is RLOO batch by batch (identities 7 and 8); not
detached they have B / (B - 1) times and twice that. The mean reward holds no gradient.

Sums are float64, results have the dtype of the input. A group of one is an error: its residual would be 0 whatever the
model does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from equipoise.objectives.arguments import known, real
from equipoise.objectives.deviations import deviation, deviation_constant
from equipoise.objectives.divergences import Divergence, chosen
from equipoise.objectives.groups import grouped
from equipoise.objectives.names import ESTIMATORS

__all__ = [
    "ESTIMATORS",
    "Conditional",
    "Estimator",
    "Grouped",
    "Learned",
    "deviation",
    "deviation_constant",
    "estimator",
    "group_mean",
    "leave_one_out",
    "mean_reward",
    "pairwise",
]


class Grouped(Protocol):
    """What an estimator reads of a batch of trajectories."""

    @property
    def group(self) -> Tensor: ...


Estimator = Callable[[Tensor, Tensor, Any], Tensor]


def group_mean(log_ratio: Tensor, group: Tensor | None = None) -> Tensor:
    """log Z = -mean over the group of log_ratio, detached: the residuals of a group sum to 0.

    With the half square the loss is half the group's variance, VarGrad; its expected on-policy gradient is
    (1 - 1/B) grad KL(model||target) for groups of B.

    Source: Richter et al., 2020, "VarGrad: A Low-Variance Gradient Estimator for Variational Inference", arXiv
        2010.10436; Bartoldson et al., 2025, "Trajectory Balance with Asynchrony", arXiv 2503.18929, eq. 4. Detached by
        identity 10: the gradient is the same either way.

    Args:
        log_ratio: Residuals without log_z, (batch,), nats.
        group: Ids of conditions, integers (batch,); None: one group.

    Returns:
        log Z of each row's group, (batch,), in the dtype of log_ratio.

    Raises:
        ValueError: A group of one, a log_ratio that is not finite, or shapes that differ.

    Example:
        >>> import torch
        >>> group_mean(torch.tensor([1.0, 3.0, 10.0, 20.0]), torch.tensor([7, 7, 5, 5]))
        tensor([ -2.,  -2., -15., -15.])

    Use it with the reverse KL when each condition is drawn several times. For another divergence the constant that
    minimises the loss is `deviation_constant`, not the mean.
    """
    values, groups = grouped("log_ratio", log_ratio, group)
    return groups.of_rows(-groups.mean(values)).to(real("log_ratio", log_ratio).dtype)


def leave_one_out(log_ratio: Tensor, group: Tensor | None = None) -> Tensor:
    """log Z of a row = -mean of log_ratio over the others of its group, detached.

    The residuals are B / (B - 1) times those of `group_mean`; the half square's gradient is RLOO's on every batch and
    its on-policy expectation exactly grad KL(model||target).

    Source: Kool et al., 2019, "Buy 4 REINFORCE Samples, Get a Baseline for Free!"; Ahmadian et al., 2024, "Back to
        Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in LLMs", arXiv 2402.14740.
        Detached by identity 8.

    Args:
        log_ratio: Residuals without log_z, (batch,), nats.
        group: Ids of conditions, integers (batch,); None: one group.

    Returns:
        log Z for each row, (batch,), in the dtype of log_ratio.

    Raises:
        ValueError: A group of one, a log_ratio that is not finite, or shapes that differ.

    Example:
        >>> import torch
        >>> leave_one_out(torch.tensor([1.0, 2.0, 6.0]))
        tensor([-4.0000, -3.5000, -1.5000])

    Use it where groups are small and the scale of the gradient matters. With another divergence than the reverse KL
    the slopes of a group no longer sum to 0.
    """
    values, groups = grouped("log_ratio", log_ratio, group)
    others = groups.of_rows(groups.total(values)) - values
    return (-others / groups.of_rows(groups.count - 1)).to(real("log_ratio", log_ratio).dtype)


def pairwise(log_ratio: Tensor, group: Tensor | None = None) -> Tensor:
    """log Z of a row = -log_ratio of the next row of its group, the last row's being the first; detached.

    The residual is the difference of two log-ratios, in which the true log Z cancels. Detached, the half square has
    the exact on-policy gradient of KL(model||target), since the partner is independent of the row (identity 4).

    Source: Venkatraman et al., 2024, arXiv 2405.20971 (their code's back-and-forth pairs).

    Args:
        log_ratio: Residuals without log_z, (batch,), nats.
        group: Ids of conditions, integers (batch,); None: one group.

    Returns:
        log Z for each row, (batch,), in the dtype of log_ratio.

    Raises:
        ValueError: A group of one, a log_ratio that is not finite, or shapes that differ.

    Example:
        >>> import torch
        >>> pairwise(torch.tensor([1.0, 10.0, 2.0, 20.0]), torch.tensor([0, 1, 0, 1]))
        tensor([ -2., -20.,  -1., -10.])

    Use it to compare with contrastive losses: it is noisier than `leave_one_out`, and who the partner is depends on
    the order of the rows within a group.
    """
    values, groups = grouped("log_ratio", log_ratio, group)
    order, starts = groups.index.argsort(stable=True), groups.starts()
    following = order.roll(-1)
    following[starts + groups.count.long() - 1] = order[starts]
    partner = torch.empty_like(values)
    partner[order] = values[following]
    return -partner.to(real("log_ratio", log_ratio).dtype)


def mean_reward(target: Tensor, group: Tensor | None = None) -> Tensor:
    """log Z = mean of the target over the group: the constant of Kimi's mirror descent.

    It leaves out the mean log-ratio of model and reference that `group_mean` holds, so residuals do not sum to 0. The
    on-policy gradient of the squared loss is that of the KL all the same, as with any constant (identity 4).

    Source: Kimi Team, 2025, "Kimi k1.5: Scaling Reinforcement Learning with LLMs", arXiv 2501.12599.

    Args:
        target: beta * log_reward, (batch,), nats.
        group: Ids of conditions, integers (batch,); None: one group.

    Returns:
        log Z of each row's group, (batch,), in the dtype of target, detached.

    Raises:
        ValueError: A group of one, a target that is not finite, or shapes that differ.

    Example:
        >>> import torch
        >>> mean_reward(torch.tensor([0.0, 1.0, 5.0, 5.0]), torch.tensor([0, 0, 1, 1]))
        tensor([0.5000, 0.5000, 5.0000, 5.0000])

    Use it to reproduce Kimi's loss near the reference; far from it the constant is off by the KL.
    """
    values, groups = grouped("target", target, group)
    return groups.of_rows(groups.mean(values)).to(real("target", target).dtype)


class Learned(nn.Module):
    """log Z as one parameter, trained with the residual.

    Source: Malkin et al., 2022, arXiv 2201.13259.

    Args:
        initial: Value at the start, nats.

    Example:
        >>> import torch
        >>> log_z = Learned(2.0)
        >>> log_z(torch.zeros(3), torch.zeros(3), None)
        Parameter containing:
        tensor(2., requires_grad=True)

    Use it where all trajectories share one condition; its learning rate should be 10 to 1,000 times the policy's. Until
    the model has converged it is not log Z: on-policy it tends to log Z minus the Renyi divergence of the loss's order,
    so to the ELBO under the half square (identity 6).
    """

    def __init__(self, initial: float = 0.0) -> None:
        super().__init__()
        self.log_z = nn.Parameter(torch.tensor(float(initial), dtype=torch.float32))

    def forward(self, log_ratio: Tensor, target: Tensor, trajectories: object) -> Tensor:
        """The parameter, (); what a batch says is not read."""
        return self.log_z


class Conditional(nn.Module):
    """log Z as a function of the condition: network(features(trajectories)).

    Source: the conditional GFlowNets of Bengio et al., 2023, "GFlowNet Foundations", arXiv 2111.09266.

    Args:
        features: Trajectories to the network's input, (batch, ...): an embedding of the context, a one-hot of the
            group.
        network: Features to (batch,) or (batch, 1), nats.

    Raises:
        ValueError: On use, where the network's output has another shape.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> table = Conditional(lambda trajectories: trajectories.group, nn.Embedding(10, 1))
        >>> table(torch.zeros(2), torch.zeros(2), SimpleNamespace(group=torch.tensor([3, 3]))).shape
        torch.Size([2])

    Use it where conditions are many and each is drawn once; where each is drawn several times `group_mean` needs no
    training.
    """

    def __init__(self, features: Callable[[Any], Tensor], network: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.network = network

    def forward(self, log_ratio: Tensor, target: Tensor, trajectories: object) -> Tensor:
        """log Z of each row's condition, (batch,)."""
        log_z = self.network(self.features(trajectories))
        if tuple(log_z.shape) not in (tuple(log_ratio.shape), (*log_ratio.shape, 1)):
            raise ValueError(f"the network of log Z gave shape {tuple(log_z.shape)}; expected {tuple(log_ratio.shape)}")
        return log_z.view_as(log_ratio)


def estimator(name: str, divergence: Divergence | str | None = None) -> Estimator:
    """The estimator of log Z with this name, called as (log_ratio, target, trajectories).

    Args:
        name: One of ESTIMATORS. "learned" is a fresh `Learned`, a module to be trained.
        divergence: The loss's own; "deviation" needs it, the others do not read it.

    Raises:
        ValueError: The name is unknown (the nearest is named), or "deviation" is given no divergence.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> batch = SimpleNamespace(group=torch.tensor([0, 0]))
        >>> estimator("deviation", "reverse_kl")(torch.tensor([1.0, 3.0]), torch.zeros(2), batch)
        tensor([-2., -2.])

    Use it where the choice comes from a configuration; in Python the functions themselves say the same.
    """
    known("estimator of log Z", name, ESTIMATORS)
    if name == "learned":
        return Learned()
    if name == "mean_reward":
        return of_target
    if name != "deviation":
        return partial(of_log_ratio, BY_LOG_RATIO[name])
    if divergence is None:
        raise ValueError('the deviation estimator needs its divergence: estimator("deviation", "forward_kl")')
    return partial(of_divergence, chosen(divergence))


BY_LOG_RATIO = {"group_mean": group_mean, "leave_one_out": leave_one_out, "pairwise": pairwise}


def of_log_ratio(
    function: Callable[[Tensor, Tensor], Tensor], log_ratio: Tensor, target: Tensor, trajectories: Grouped
) -> Tensor:
    """An estimator that reads the log-ratios."""
    return function(log_ratio, trajectories.group)


def of_target(log_ratio: Tensor, target: Tensor, trajectories: Grouped) -> Tensor:
    """The estimator that reads the targets."""
    return mean_reward(target, trajectories.group)


def of_divergence(divergence: Divergence, log_ratio: Tensor, target: Tensor, trajectories: Grouped) -> Tensor:
    """The estimator that minimises the batch's own loss."""
    return deviation_constant(log_ratio, divergence, trajectories.group)
