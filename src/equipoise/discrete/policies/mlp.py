"""Policies over encoded states: modules from features to named heads.

A policy's output is a dict: `forward` (n, actions) and `backward` (n, back_actions) logits, and `flow` (n,), the
log-flow of the state. Where edge flows are learned, the forward logits are the log-flows of the edges.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.contracts import Environment


@runtime_checkable
class Recalling(Protocol):
    """A policy that need not evaluate again what it evaluated while drawing; `inputs` are those of its forward."""

    products: int

    def keeping(self, *inputs: Any) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The heads, and as many tensors (n, width) as `products` says, of which row i is a function of input row i."""
        ...

    def recalled(self, products: Sequence[Tensor], *inputs: Any) -> dict[str, Tensor]:
        """The heads of the same inputs, differentiable in the parameters, from what was kept of them."""
        ...


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
        self.products = len(sizes)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return self._through(features, functional.linear)

    def keeping(self, features: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The heads, and the product of each layer."""
        kept: list[Tensor] = []

        def multiply(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            kept.append(functional.linear(rows, weight, bias))
            return kept[-1].clone()  # which the activation may overwrite

        return self._through(features, multiply), kept

    def recalled(self, products: Sequence[Tensor], features: Tensor) -> dict[str, Tensor]:
        """The heads with the gradient of `forward`, from the products that `keeping` gave: none is made again."""
        left = iter(products)
        return self._through(features, lambda rows, weight, bias: _Recalled.apply(next(left), rows, weight, bias))

    def _through(self, features: Tensor, multiply: Callable[[Tensor, Tensor, Tensor], Tensor]) -> dict[str, Tensor]:
        # Weights are read directly: calling a module costs as much as multiplying sixteen rows by one.
        for layer in self.layers:
            features = functional.leaky_relu(multiply(features, layer.weight, layer.bias), inplace=True)
        parts = multiply(features, self.out.weight, self.out.bias).split(self.widths, dim=1)
        named = zip(self.heads.items(), parts, strict=True)
        return {name: part if width else part[:, 0] for (name, width), part in named}


class _Recalled(torch.autograd.Function):
    """rows @ weight.T + bias, of which the value is given and the gradients are computed."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (rows, weight) = gradients, ctx.saved_tensors
        return None, gradient @ weight, (rows.t() @ gradient).t(), gradient.sum(0)


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


def backward_policy(environment: Environment, backward: nn.Module | str) -> nn.Module | None:
    """The frozen module that `backward` says, or None: the policy's own head is learned.

    Raises:
        ValueError: another word than 'uniform' and 'learned'.
    """
    if isinstance(backward, nn.Module):
        return backward
    if backward == "learned":
        return None
    if backward == "uniform":
        return Uniform({"backward": environment.back_actions})
    raise ValueError(f"backward policy '{backward}': use 'uniform', 'learned' or a frozen module")
