"""How far the policy has moved from who drew a batch: in steps, and as a KL."""

from __future__ import annotations

from dataclasses import replace

from equipoise.training.policy_gradient import BEHAVIOUR
from equipoise.training.terms import Loss, Term, path_sum
from equipoise.trajectories import Scores, Trajectories


def with_staleness(term: Term) -> Term:
    """The same term, with the metrics `staleness` and, where the source kept `log_behaviour`, `kl_behaviour`.

    `staleness` is the mean over rows of the sampler's version less the row's; `kl_behaviour` the mean over rows of
    log_behaviour - log_pf summed over steps, an unbiased estimate of KL(behaviour||model) on rows as they were drawn
    (not on rows that a replay chose). Gradients are the term's own.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> from equipoise.trajectories import ends
        >>> sampler = SimpleNamespace(version=torch.tensor(5))
        >>> term = Term("t", "s", sampler, lambda *given: Loss(torch.zeros(())), frozenset({"log_pf"}))
        >>> rows = ends(torch.zeros(2, 1))
        >>> scores = Scores(mask=torch.zeros(2, 0, dtype=torch.bool), log_pf=torch.zeros(2, 0))
        >>> with_staleness(term).loss(rows, scores, 0).metrics
        {'staleness': tensor(5.)}
    """

    def loss(trajectories: Trajectories, scores: Scores, step: int) -> Loss:
        found = term.loss(trajectories, scores, step)
        metrics = {"staleness": (term.sampler.version.cpu() - trajectories.version).float().mean()}
        kept = trajectories.fixed.get(BEHAVIOUR)
        if kept is not None and scores.log_pf is not None and bool((kept.version >= 0).all()):
            moved = (kept.value - scores.log_pf.detach()) * scores.mask
            metrics["kl_behaviour"] = path_sum(moved).mean()
        return replace(found, metrics=found.metrics | metrics)

    return replace(term, loss=loss)
