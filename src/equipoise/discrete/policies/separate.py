"""Two networks in one policy, so that what trains the backward policy leaves the forward one alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from equipoise.contracts import Environment
from equipoise.discrete.policies.mlp import reads_states


class Separate(nn.Module):
    """A policy whose backward head is a network of its own; each network is evaluated only where its head is read.

    Source: the networks of Shen et al. 2023, arXiv:2305.07170, whose policies share no parameters.

    Args:
        environment: encodes the states.
        ahead: every head but "backward".
        back: the head "backward".
        condition: width of the condition's features, 0 where there is none.

    Example:
        >>> from equipoise.discrete.environments.strings import PrependAppendStrings
        >>> from equipoise.discrete.policies.mlp import MLP
        >>> words = PrependAppendStrings(letters=2, length=3)
        >>> ahead, back = MLP(words.features, (8,), {"forward": 4}), MLP(words.features, (8,), {"backward": 2})
        >>> sorted(Separate(words, ahead, back)(words.initial(5), None))
        ['backward', 'forward']

    Use it where a term trains the backward policy alone: with a shared trunk it would move the forward one too.
    """

    on_states = True

    def __init__(self, environment: Environment, ahead: nn.Module, back: nn.Module, *, condition: int = 0) -> None:
        super().__init__()
        self.environment, self.ahead, self.back = environment, ahead, back
        with torch.no_grad():
            told = torch.zeros(1, condition) if condition else None
            self.names = tuple(self.evaluated(ahead, environment.initial(1), told))

    def forward(self, state: Tensor, condition: Tensor | None = None) -> Mapping[str, Tensor]:
        return _Heads(self, state, condition)

    def evaluated(self, part: nn.Module, state: Tensor, condition: Tensor | None) -> Mapping[str, Tensor]:
        """One network's heads."""
        if reads_states(part):
            return part(state, condition)
        features = self.environment.encode(state)
        return part(features if condition is None else torch.cat([features, condition], 1))


class _Heads(Mapping[str, Tensor]):
    """Heads that are computed when they are first read."""

    def __init__(self, policy: Separate, state: Tensor, condition: Tensor | None) -> None:
        self._policy, self._state, self._condition = policy, state, condition
        self._found: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._found:
            if name not in self:
                raise KeyError(name)
            part = self._policy.back if name == "backward" else self._policy.ahead
            self._found |= self._policy.evaluated(part, self._state, self._condition)
        return self._found[name]

    def __contains__(self, name: object) -> bool:
        return name == "backward" or name in self._policy.names

    def __iter__(self) -> Iterator[str]:
        return iter((*self._policy.names, "backward"))

    def __len__(self) -> int:
        return len(self._policy.names) + 1
