"""Values in `fixed` beside a path: put there, taken away, and renewed when what computed them has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from equipoise.trajectories import Fixed, Trajectories

GUIDE = "log_guide"
"""(n, steps): log-probability of each step under a guide that leads backwards from the object."""

ARRIVED = "arrived"
"""(n,): whether a walk back reached the start, 1 or 0."""

PARENTS = "parents"
"""(n, steps, numbers): of the state that each step leads to, its parents and which of them the step comes from."""

LAGGED = "log_pb_lagged"
"""(n, steps): log-probability of each step under a copy of the backward policy that lags behind."""


def with_fixed(trajectories: Trajectories, name: str, value: Tensor) -> Trajectories:
    """The rows with a value that is computed at each draw, (n, steps) or (n,), and so has no version but 0.

    Example:
        >>> from equipoise.trajectories import ends
        >>> with_fixed(ends(("a", "b")), "weight", torch.ones(2)).fixed["weight"].version.tolist()
        [0, 0]
    """
    version = torch.zeros(len(trajectories), dtype=torch.int64)
    return replace(trajectories, fixed={**trajectories.fixed, name: Fixed(value, version)})


def without_fixed(trajectories: Trajectories, name: str) -> Trajectories:
    """The rows without that value, as they were before `with_fixed`.

    Example:
        >>> from equipoise.trajectories import ends
        >>> rows = with_fixed(ends(("a", "b")), "weight", torch.ones(2))
        >>> dict(without_fixed(rows, "weight").fixed)
        {}
    """
    return replace(trajectories, fixed={key: kept for key, kept in trajectories.fixed.items() if key != name})


def renewed(
    trajectories: Trajectories, name: str, version: Tensor, compute: Callable[[Trajectories], Tensor]
) -> Trajectories:
    """The rows with the value of this version: computed where it is absent or of another one, kept elsewhere.

    Args:
        trajectories: n of them.
        name: of the value.
        version: () int64, of what computes it now.
        compute: the stale rows, m of them -> their value, (m, steps) or (m, steps, ...).

    Example:
        >>> from equipoise.trajectories import ends
        >>> rows = ends(("a", "b"))
        >>> held = renewed(rows, "log_prior", torch.tensor(3), lambda stale: torch.zeros(len(stale), 0))
        >>> held.fixed["log_prior"].version.tolist()
        [3, 3]
        >>> renewed(held, "log_prior", torch.tensor(3), lambda stale: 1 / 0) is held
        True
    """
    held = trajectories.fixed.get(name)
    current = version.cpu().expand(len(trajectories)).clone()
    stale = torch.ones_like(current, dtype=torch.bool) if held is None else torch.ne(held.version, current)
    if not stale.any():
        return trajectories
    fresh = trajectories[stale]
    found = compute(fresh)
    shape = (len(trajectories), trajectories.steps, *found.shape[2:])
    value = found.new_zeros(shape) if held is None else held.value.clone()
    value[stale, : fresh.steps] = found.to(value.dtype)
    return replace(trajectories, fixed={**trajectories.fixed, name: Fixed(value, current)})
