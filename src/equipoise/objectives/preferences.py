"""Preferences between the responses of a group: the best is to be likelier than the worst, compared with the prior."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from equipoise.objectives.arguments import positive, rows
from equipoise.objectives.groups import grouped


def online_dpo(
    log_pf: Tensor, log_prior: Tensor, score: Tensor, group: Tensor | None = None, *, alpha: float
) -> Tensor:
    """loss of a group = -log sigmoid(alpha (d_best - d_worst)), d = log_pf - log_prior; as rows that sum to it.

    Half of it stands at the best row and half at the worst, times rows / groups, so that the mean over the batch is
    the mean over groups. Its gradient is the coefficient -+ alpha sigmoid(-alpha (d_best - d_worst)) on their log_pf.
    A group whose scores agree has no preference, and 0. Of equal scores the first row counts.

    Source: Guo et al., 2024, "Direct Language Model Alignment from Online AI Feedback", arXiv 2402.04792, of pairs;
        best and worst of a group: Noukhovitch et al., 2024, "Asynchronous RLHF", arXiv 2410.18252.

    Args:
        log_pf: Log-probability of the response under the trained model, (batch,), nats, with its gradient.
        log_prior: The same response's under the frozen reference, (batch,).
        score: Of the response, (batch,), before any temperature.
        group: Ids of prompts, integers (batch,); None: one group.
        alpha: Temperature of the KL, DPO's beta, > 0.

    Returns:
        The loss of each row, (batch,), differentiable in log_pf.

    Raises:
        ValueError: Shapes differ, alpha is not positive, a group has one row, or a score is not finite.

    Example:
        >>> import torch
        >>> log_pf = torch.tensor([-1.0, -2.0, -3.0])
        >>> online_dpo(log_pf, log_pf, torch.tensor([0.0, 1.0, 0.5]), alpha=0.1)
        tensor([1.0397, 1.0397, 0.0000])

    Use it where scores are good for comparing alone, as those of a judge. It learns from two responses a group,
    whatever their number, and the margin between their scores does not count.
    """
    log_pf, log_prior = rows({"log_pf": log_pf, "log_prior": log_prior.detach()})
    positive("alpha", alpha)
    values, groups = grouped("score", score, group)
    rows({"log_pf": log_pf, "score": score})
    order, starts = groups.in_order(-values), groups.starts()
    best, last = order[starts], starts + groups.count.long() - 1
    # The last of those in order that share the lowest score is not the first row: sort again by score alone.
    worst = groups.in_order(values)[starts]
    differs = (values[best] > values[order[last]]).to(log_pf.dtype)
    shift = log_pf - log_prior
    loss = -logsigmoid(alpha * (shift[best] - shift[worst])) * differs * (len(log_pf) / len(starts) / 2)
    return torch.zeros_like(log_pf).index_add(0, best, loss).index_add(0, worst, loss)
