"""Adam, without the second of CPU that PyTorch's own takes to begin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer


class Adam(torch.optim.Adam):
    """PyTorch's Adam; whoever takes a step does not import the compiler's front end.

    PyTorch keeps an optimiser's methods from being compiled, and each imports `torch._dynamo` at its first call to say
    so: a second of CPU, which is a fifth of a short run. Here the functions behind them are called as they are, so that
    this optimiser must not be called from a function that is given to `torch.compile`.

    Source: Kingma and Ba, 2015, arXiv:1412.6980.

    Example:
        >>> layer = torch.nn.Linear(1, 1)
        >>> optimiser = Adam(layer.parameters(), lr=0.1, fused=True)
        >>> layer(torch.ones(1, 1)).sum().backward()
        >>> optimiser.step()
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _plain(Optimizer.add_param_group)(self, param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        _plain(Optimizer.zero_grad)(self, set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return _plain(Optimizer.state_dict)(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up where `state_dict` was called, with moments laid out in memory as their parameters are.

        The fused step goes through the memory of all three in one order, whatever their strides say; a saved moment is
        contiguous, and a compiled run's weights are not (`compiling.Flat`).
        """
        _plain(Optimizer.load_state_dict)(self, state_dict)
        for parameter, state in self.state.items():
            for name in ("exp_avg", "exp_avg_sq"):
                if name in state:
                    state[name] = torch.empty_like(parameter, requires_grad=False).copy_(state[name])

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        _plain(torch.optim.Adam.step)(self)


def _plain(method: Callable[..., Any]) -> Callable[..., Any]:
    """The function that was wrapped, or the method itself where none was."""
    return getattr(method, "__wrapped__", method)
