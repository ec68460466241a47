"""Relative edge flows: a forward policy that scores the child as well as the state."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.contracts import Environment

MOST_STATES = 2048
"""States whose children are scored at a time where no gradients are recorded, so that a judge's memory is bounded."""


class RelativeEdges(nn.Module):
    """P_F(s'|s) = f(s, s') / sum over the children c of s of f(s, c), log f a network of two embedded states.

    One encoder e embeds states and children; log f(s, c) = w . act(A e(s) + B e(c)): A e(s) is computed once a state.
    An edge has one flow whatever the number of actions that make it: an environment's allowed actions lead to distinct
    children, and an action's probability is its child's. Other heads are linear in e(s).

    Source: Shen et al. 2023, "Towards understanding and improving GFlowNet training", arXiv:2305.07170, section 4.2
    (SSR: S x S -> R+).

    Args:
        environment: whose states are scored.
        hidden: widths of the encoder's layers; the last is the embedding's and the scorer's.
        heads: name and width of each output, "forward" among them; a head of width 0 is a scalar, (n,).
        condition: width of the condition's features, joined to those of the state and of its children.

    Raises:
        ValueError: no hidden layer, or no head "forward".

    Example:
        >>> from equipoise.discrete.environments.strings import PrependAppendStrings
        >>> words = PrependAppendStrings(letters=2, length=3)
        >>> policy = RelativeEdges(words, (16, 16), {"forward": words.actions, "backward": 2})
        >>> {name: tuple(out.shape) for name, out in policy(words.initial(5), None).items()}
        {'backward': (5, 2), 'forward': (5, 4)}

    Use it where what a child is says more than which action makes it: prepending C to A and appending A to C are one
    edge's worth of knowledge. It evaluates every child, so a step costs about as many times more as there are actions.
    """

    on_states = True

    def __init__(
        self, environment: Environment, hidden: tuple[int, ...], heads: Mapping[str, int], *, condition: int = 0
    ) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1 or heads.get("forward") != environment.actions:
            raise ValueError(
                f"hidden layers {hidden}, heads {dict(heads)}: at least one positive width, and a head 'forward' of "
                f"{environment.actions}, were expected"
            )
        self.environment, self.actions = environment, environment.actions
        self.heads = {name: width for name, width in heads.items() if name != "forward"}
        self.widths = [max(width, 1) for width in self.heads.values()]
        sizes = [environment.features + condition, *hidden]
        self.layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        self.trunk = nn.ModuleList(self.layers)
        self.parent, self.child = nn.Linear(sizes[-1], sizes[-1]), nn.Linear(sizes[-1], sizes[-1], bias=False)
        self.score = nn.Linear(sizes[-1], 1)
        self.out = nn.Linear(sizes[-1], sum(self.widths)) if self.heads else None

    def forward(self, state: Tensor, condition: Tensor | None) -> dict[str, Tensor]:
        embedded = self._embedded(state, condition)
        found: dict[str, Tensor] = {}
        if self.out is not None:
            parts = self.out(embedded).split(self.widths, dim=1)
            found = {
                name: part if width else part[:, 0]
                for (name, width), part in zip(self.heads.items(), parts, strict=True)
            }
        if torch.is_grad_enabled() or len(state) <= MOST_STATES:
            return found | {"forward": self._log_flows(state, embedded, condition)}
        pieces = torch.arange(len(state)).split(MOST_STATES)
        flows = [
            self._log_flows(state[rows], embedded[rows], None if condition is None else condition[rows])
            for rows in pieces
        ]
        return found | {"forward": torch.cat(flows)}

    def _log_flows(self, state: Tensor, embedded: Tensor, condition: Tensor | None) -> Tensor:
        """log f of every action's child, 0 where there is none."""
        allowed = self.environment.allowed(state) & ~self.environment.terminal(state)[:, None]
        row, action = allowed.nonzero(as_tuple=True)
        child = self.environment.step(state[row], action)
        below = self._embedded(child, None if condition is None else condition[row])
        scored = functional.leaky_relu(self.parent(embedded)[row] + self.child(below))
        flow = functional.linear(scored, self.score.weight, self.score.bias)[:, 0]
        return flow.new_zeros(allowed.shape).masked_scatter(allowed, flow)

    def _embedded(self, state: Tensor, condition: Tensor | None) -> Tensor:
        features = self.environment.encode(state)
        features = features if condition is None else torch.cat([features, condition], 1)
        for place, layer in enumerate(self.layers):
            features = functional.linear(features, layer.weight, layer.bias)
            features = functional.leaky_relu(features) if place + 1 < len(self.layers) else features
        return features
