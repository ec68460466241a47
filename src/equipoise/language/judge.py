"""What a language model is held to: how many problems it solves, greedily and by chance, and how far it has moved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from equipoise.language.network import Frozen
from equipoise.language.problems import Prompts
from equipoise.language.rewards import TextReward
from equipoise.language.sampler import LanguageModel
from equipoise.language.verifiers import Verifier
from equipoise.language.warm_up import answered, solutions
from equipoise.trajectories import Trajectories

AT_A_TIME = 256
"""Responses generated at a time while judging."""

DRAWN = 8
"""Responses drawn for each problem, for the figures that need several."""

SEVERAL = 100
"""Problems for which several are drawn."""


@dataclass(frozen=True)
class LanguageJudge:
    """Figures on problems apart from those that were trained on.

    Attributes:
        sampler: what is judged.
        problems: the test's.
        verifier: of a response: 1 where it is right.
        origin: the model that post-training began with.
        exact: a problem has one right response, whose probability is the chance to be right.
        seed: of what is drawn; the same at every evaluation, so that judging changes no run.
    """

    sampler: LanguageModel
    problems: Prompts
    verifier: Verifier
    origin: Frozen
    exact: bool
    seed: int = 0
    _prior: dict[str, float] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        """Accuracies of the model and of the one it began with, the KL between them, and how responses differ."""
        if not self._prior:
            with self.origin.lent(self.sampler.network):
                self._prior.update({f"{name}_prior": value for name, value in self._accuracies().items()})
        return {**self._accuracies(), **self._prior, **self._spread()}

    def forget(self) -> None:
        """The origin has changed: what was known of it is judged anew."""
        self._prior.clear()

    def greedy_accuracy(self) -> float:
        """Share of problems whose likeliest response is right."""
        rows = torch.arange(len(self.problems))
        return self._mean(
            [self._right(self.sampler.greedy(self.problems.rows(part))) for part in rows.split(AT_A_TIME)]
        )

    def _accuracies(self) -> dict[str, float]:
        sampled = self._exact_accuracy() if self.exact else self._drawn_accuracy()
        return {"greedy_accuracy": self.greedy_accuracy(), "sampled_accuracy": sampled}

    def _exact_accuracy(self) -> float:
        token, length = solutions(self.sampler, self.problems.tokenizer, self.problems.problems)
        found = []
        for part in torch.arange(len(self.problems)).split(AT_A_TIME):
            rows = answered(self.sampler, self.problems.rows(part), token[part], length[part])
            with torch.no_grad():
                found.append(self.sampler.score(rows, frozenset({"log_pf"})).get("log_pf").sum(1).exp())
        return self._mean(found)

    def _drawn_accuracy(self) -> float:
        return self._mean([self._right(rows) for rows in self._draws(DRAWN)])

    def _spread(self) -> dict[str, float]:
        """KL(model||origin) by its own responses, and the share of distinct ones among those of a problem."""
        moved, distinct = [], []
        for rows in self._draws(DRAWN):
            with torch.no_grad():
                log_pf = self.sampler.score(rows, frozenset({"log_pf"})).get("log_pf").sum(1)
                with self.origin.lent(self.sampler.network):
                    moved.append(log_pf - self.sampler.score(rows, frozenset({"log_pf"})).get("log_pf").sum(1))
            distinct += [_distinct(rows, place) for place in torch.arange(len(rows)).split(DRAWN)]
        return {"kl_to_prior": self._mean(moved), "distinct_responses": sum(distinct) / len(distinct)}

    def _draws(self, each: int) -> list[Trajectories]:
        generator = torch.Generator().manual_seed(self.seed)
        chosen = torch.arange(min(SEVERAL, len(self.problems))).repeat_interleave(each)
        size = AT_A_TIME // each * each
        return [
            self.sampler.sample(len(part), context=self.problems.rows(part), generator=generator)
            for part in chosen.split(size)
        ]

    def _right(self, rows: Trajectories) -> Tensor:
        return TextReward(self.verifier, self.problems.tokenizer)(rows.objects, rows.context)

    def _mean(self, parts: list[Tensor]) -> float:
        return float(torch.cat(parts).double().mean())


def _distinct(rows: Trajectories, place: Tensor) -> float:
    """The share of distinct responses among these rows."""
    objects: Any = rows[place].objects
    joined = torch.cat([objects["length"][:, None], objects["token"]], 1)
    return len(joined.unique(dim=0)) / len(place)
