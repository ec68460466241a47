"""Policies over encoded states: modules from features to named heads.

A policy's output is a dict: `forward` (n, actions) and `backward` (n, back_actions) logits, and `flow` (n,), the
log-flow of the state. Where edge flows are learned, the forward logits are the log-flows of the edges.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional


class MLP(nn.Module):
    """A multilayer perceptron whose heads share all but the last layer.

    Source: the networks of Malkin et al. 2022, appendix B.1, arXiv:2201.13259 (leaky ReLU, two hidden layers of 256).

    Args:
        features: width of the input.
        hidden: width of each hidden layer.
        heads: name and width of each output; a head of width 0 is a scalar, (n,).

    Raises:
        ValueError: no hidden layer, or a width that is not positive.

    Example:
        >>> network = MLP(16, (32,), {"forward": 3, "flow": 0})
        >>> {name: tuple(out.shape) for name, out in network(torch.zeros(5, 16)).items()}
        {'forward': (5, 3), 'flow': (5,)}
    """

    def __init__(self, features: int, hidden: tuple[int, ...], heads: Mapping[str, int]) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise ValueError(f"hidden layers {hidden}: give at least one positive width, for example (256, 256)")
        self.heads = dict(heads)
        self.widths = [max(width, 1) for width in self.heads.values()]
        sizes = [features, *hidden]
        self.layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        self.trunk = nn.ModuleList(self.layers)
        self.out = nn.Linear(sizes[-1], sum(self.widths))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        # Weights are read directly: calling a module costs as much as multiplying sixteen rows by one.
        for layer in self.layers:
            features = functional.leaky_relu(functional.linear(features, layer.weight, layer.bias), inplace=True)
        parts = functional.linear(features, self.out.weight, self.out.bias).split(self.widths, dim=1)
        named = zip(self.heads.items(), parts, strict=True)
        return {name: part if width else part[:, 0] for (name, width), part in named}


class Uniform(nn.Module):
    """Logits of zero: the uniform policy over whatever is allowed. Nothing to train, nothing to evaluate."""

    def __init__(self, heads: Mapping[str, int]) -> None:
        super().__init__()
        self.heads = dict(heads)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {name: torch.zeros((len(features), width)) for name, width in self.heads.items()}


def reads_states(policy: nn.Module) -> bool:
    """Whether a policy is given states and conditions, (n, width) and (n, features) or None, in place of features."""
    return getattr(policy, "on_states", False)
