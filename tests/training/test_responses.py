"""Post-training losses: equal to TRL's on the same tensors, and each one's gradient against its coefficient."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from equipoise.objectives import importance, policy_gradient, preferences
from equipoise.training import responses
from equipoise.training.balance import RESIDUALS, balance
from equipoise.training.responses import TOKEN_MEANS
from equipoise.training.terms import Term
from equipoise.trajectories import Fixed, Scores, Trajectories

RECORD: dict[str, Any] = json.loads((Path(__file__).parent.parent / "language" / "trl_losses.json").read_text())
SETTINGS = RECORD["settings"]
ALPHA = 0.3


class Nothing:
    """A sampler that is never asked."""

    version = torch.zeros((), dtype=torch.int64)
    offers = frozenset({"log_pf", "log_prior"})


def term(make: Callable[..., Term], **settings: Any) -> Term:
    return make("loss", "source", Nothing(), **settings)


def batch() -> tuple[Trajectories, Scores, Tensor]:
    """The record's tensors, and log_pf as a leaf."""
    length = torch.tensor(RECORD["length"])
    named = {name: torch.tensor(RECORD[name], dtype=torch.float64) for name in ("log_pf", "log_behaviour", "log_prior")}
    n, steps = named["log_pf"].shape
    leaf = named["log_pf"].clone().requires_grad_()
    mask = torch.arange(steps) < length[:, None]
    rows = Trajectories(
        path={"token": torch.zeros((n, steps), dtype=torch.int64)},
        length=length,
        objects={"row": torch.arange(n)[:, None]},
        context=None,
        group=torch.arange(n) // SETTINGS["group"] * 3 + 5,
        log_reward=torch.tensor(RECORD["log_reward"], dtype=torch.float64),
        version=torch.zeros(n, dtype=torch.int64),
        key=torch.full((n,), -1),
        fixed={"log_behaviour": Fixed(named["log_behaviour"], torch.zeros(n, dtype=torch.int64))},
    )
    return rows, Scores(mask=mask, log_pf=leaf * mask, log_prior=named["log_prior"] * mask), leaf


def evaluated(made: Term, order: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A term's value and its gradient in log_pf; the rows in another order where one is given."""
    rows, scores, leaf = batch()
    if order is not None:
        assert scores.log_pf is not None and scores.log_prior is not None
        rows = rows[order]
        scores = Scores(mask=scores.mask[order], log_pf=scores.log_pf[order], log_prior=scores.log_prior[order])
    value = made.loss(rows, scores, 0).value
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


TRL: dict[str, Callable[[], Term]] = {
    "grpo": lambda: term(responses.grpo, kl_weight=SETTINGS["kl"], clip=SETTINGS["clip"]),
    "dr_grpo": lambda: term(
        responses.grpo,
        normalise=False,
        kl_weight=0.0,
        clip=SETTINGS["clip"],
        tokens="longest",
        longest=SETTINGS["longest"],
    ),
    "cispo": lambda: term(responses.cispo, ceiling=SETTINGS["ceiling"]),
    "rloo": lambda: term(responses.rloo, alpha=lambda step: SETTINGS["kl"], clip=SETTINGS["clip"]),
}


@pytest.mark.parametrize("name", list(TRL))
def test_losses_are_those_of_trl_on_the_same_tensors(name: str) -> None:
    assert RECORD["origin"].startswith("TRL 1.")
    value, gradient = evaluated(TRL[name]())
    expected = RECORD["losses"][name]
    torch.testing.assert_close(value, torch.tensor(expected["value"], dtype=torch.float64), atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(gradient, torch.tensor(expected["gradient"], dtype=torch.float64), atol=1e-12, rtol=1e-9)


MADE: dict[str, Callable[[], Term]] = {
    **TRL,
    "reinforce": lambda: term(responses.reinforce),
    "online_dpo": lambda: term(responses.online_dpo, alpha=lambda step: ALPHA),
}


@pytest.mark.parametrize("name", list(MADE))
def test_losses_do_not_depend_on_the_order_of_rows(name: str) -> None:
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    value, gradient = evaluated(MADE[name]())
    shuffled, theirs = evaluated(MADE[name](), order)
    torch.testing.assert_close(shuffled, value)
    torch.testing.assert_close(theirs, gradient)


@pytest.mark.parametrize("name", list(MADE))
def test_garbage_beyond_a_responses_length_changes_nothing(name: str) -> None:
    rows, scores, _ = batch()
    clean = MADE[name]().loss(rows, scores, 0).value
    rows.fixed["log_behaviour"].value[~scores.mask] = 7.0
    torch.testing.assert_close(MADE[name]().loss(rows, scores, 0).value, clean)


def by_hand(row: Callable[[int, list[int]], float]) -> Tensor:
    """A coefficient of each row, from its own place and those of its group."""
    size, n = SETTINGS["group"], len(RECORD["length"])
    groups = [list(range(first, first + size)) for first in range(0, n, size)]
    return torch.tensor([row(place, groups[place // size]) for place in range(n)], dtype=torch.float64)


def paths(name: str) -> list[float]:
    return [sum(values[:length]) for values, length in zip(RECORD[name], RECORD["length"], strict=True)]


def per_step(coefficient: Tensor) -> Tensor:
    mask = torch.arange(5) < torch.tensor(RECORD["length"])[:, None]
    return coefficient[:, None] * mask / len(coefficient)


def test_reinforce_is_the_score_less_its_groups_mean() -> None:
    score = RECORD["log_reward"]
    expected = by_hand(lambda place, group: -(score[place] - sum(score[other] for other in group) / len(group)))
    torch.testing.assert_close(evaluated(MADE["reinforce"]())[1], per_step(expected))


def test_with_nothing_moved_dr_grpo_over_a_sum_is_reinforce() -> None:
    rows, scores, leaf = batch()
    here = Fixed(leaf.detach().clone(), rows.version)
    rows = Trajectories(**{**vars(rows), "fixed": {"log_behaviour": here}})
    term(responses.grpo, normalise=False, kl_weight=0.0, tokens="sum").loss(rows, scores, 0).value.backward()
    torch.testing.assert_close(leaf.grad, evaluated(MADE["reinforce"]())[1])


def test_kimis_mirror_descent_is_balance_with_the_mean_score_for_log_z() -> None:
    from equipoise.objectives import partition
    from equipoise.objectives.divergences import divergence

    log_z = partition.estimator("mean_reward")
    made = balance(
        "kimi",
        "source",
        Nothing(),  # type: ignore[arg-type]
        RESIDUALS["relative"],
        divergence("reverse_kl"),
        log_z,
        beta=lambda step, rows: 1 / ALPHA,
        temper=lambda step: ALPHA,
    )
    log_pf, log_prior, score = paths("log_pf"), paths("log_prior"), RECORD["log_reward"]
    expected = by_hand(
        lambda place, group: (
            -(
                (score[place] - sum(score[other] for other in group) / len(group))
                - ALPHA * (log_pf[place] - log_prior[place])
            )
        )
    )
    torch.testing.assert_close(evaluated(made)[1], per_step(expected))


def test_online_dpo_pushes_the_best_up_and_the_worst_down_by_its_sigmoid() -> None:
    log_pf, log_prior, score = paths("log_pf"), paths("log_prior"), RECORD["log_reward"]

    def coefficient(place: int, group: list[int]) -> float:
        best, worst = max(group, key=lambda row: score[row]), min(group, key=lambda row: score[row])
        margin = ALPHA * ((log_pf[best] - log_prior[best]) - (log_pf[worst] - log_prior[worst]))
        push = ALPHA / (1 + torch.tensor(margin).exp().item()) * len(group)
        return -push if place == best else push if place == worst else 0.0

    torch.testing.assert_close(evaluated(MADE["online_dpo"]())[1], per_step(by_hand(coefficient)), atol=1e-7, rtol=0)
    value, _ = evaluated(MADE["online_dpo"]())
    margins = []
    for group in (range(0, 4), range(4, 8)):
        best, worst = max(group, key=lambda row: score[row]), min(group, key=lambda row: score[row])
        margins.append(ALPHA * ((log_pf[best] - log_prior[best]) - (log_pf[worst] - log_prior[worst])))
    expected = -torch.nn.functional.logsigmoid(torch.tensor(margins, dtype=torch.float64)).mean()
    torch.testing.assert_close(value, expected)


def test_a_group_without_a_preference_has_no_dpo_loss() -> None:
    log_pf = torch.tensor([-1.0, -2.0, -1.0, -3.0], requires_grad=True)
    group, score = torch.tensor([0, 0, 1, 1]), torch.tensor([1.0, 1.0, 0.0, 2.0])
    loss = preferences.online_dpo(log_pf, torch.zeros(4), score, group, alpha=1.0)
    (gradient,) = torch.autograd.grad(loss.mean(), log_pf)
    assert gradient[:2].tolist() == [0.0, 0.0] and (gradient[2:] != 0).all()


@pytest.mark.parametrize("clip_high", [None, 0.5])
def test_the_gradient_of_the_surrogate_is_the_clipped_coefficient(clip_high: float | None) -> None:
    chosen = torch.Generator().manual_seed(0)
    log_pf = torch.randn((40, 6), generator=chosen, dtype=torch.float64).mul(0.4).requires_grad_()
    behaviour = torch.randn((40, 6), generator=chosen, dtype=torch.float64).mul(0.4)
    coefficient = torch.randn(40, generator=chosen, dtype=torch.float64)
    value = importance.ppo_surrogate(coefficient, log_pf, behaviour, clip=0.2, clip_high=clip_high)
    (gradient,) = torch.autograd.grad(value.sum(), log_pf)
    expected = importance.ppo_clip(coefficient, log_pf, behaviour, clip=0.2, clip_high=clip_high)
    torch.testing.assert_close(gradient, expected)
    ratio, high = (log_pf - behaviour).exp().detach(), 1 + (clip_high or 0.2)
    plain = torch.maximum(coefficient[:, None] * ratio, coefficient[:, None] * ratio.clamp(0.8, high))
    torch.testing.assert_close(value.detach(), plain)
    assert 0.1 < (gradient == 0).double().mean() < 0.9


def test_the_means_over_tokens_are_what_they_say() -> None:
    length = torch.tensor(RECORD["length"], dtype=torch.float64)
    gradients = {}
    for tokens in TOKEN_MEANS:
        longest = 8 if tokens == "longest" else None
        made = term(responses.grpo, normalise=False, kl_weight=0.0, tokens=tokens, longest=longest)
        gradients[tokens] = evaluated(made)[1]
    whole = gradients["sum"]
    torch.testing.assert_close(gradients["longest"], whole / 8)
    torch.testing.assert_close(gradients["tokens"], whole / length.mean())
    torch.testing.assert_close(gradients["response"], whole / length[:, None])


def test_settings_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match="one of response"):
        term(responses.grpo, tokens="words")
    with pytest.raises(ValueError, match="goes with 'longest' alone"):
        term(responses.grpo, tokens="longest")
    with pytest.raises(ValueError, match="alpha is 0"):
        preferences.online_dpo(torch.zeros(2), torch.zeros(2), torch.tensor([0.0, 1.0]), alpha=0.0)
    rows, scores, _ = batch()
    bare = Trajectories(**{**vars(rows), "fixed": {}})
    with pytest.raises(ValueError, match="log_behaviour"):
        MADE["grpo"]().loss(bare, scores, 0)
    with pytest.raises(ValueError, match="without a log_reward"):
        MADE["reinforce"]().loss(Trajectories(**{**vars(rows), "log_reward": None}), scores, 0)


def test_the_surrogate_stands_beside_the_other_coefficients() -> None:
    assert policy_gradient.ppo_surrogate is importance.ppo_surrogate
