"""A user's own reward: found by name, or given as a function, and held to the contract."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from equipoise.contracts import Reward
from equipoise.trajectories import Columns


def own_reward(name: str) -> Reward:
    """A user's reward, `module:function`: of (objects) or (objects, context), returning log R.

    Raises:
        ValueError: no such module or function.
    """
    return wrapped(own_function(name))


def own_function(name: str) -> Callable[..., Any]:
    """A user's function, `module:function`. Modules are looked for in the present folder too.

    Raises:
        ValueError: no such module or function.
    """
    module_name, _, attribute = name.partition(":")
    if not attribute or module_name.endswith(".py"):
        example = f"{module_name.removesuffix('.py')}:{attribute or 'function'}"
        raise ValueError(f"reward '{name}': module:function was expected, such as {example} for a file of this folder")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        function: Any = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:
        raise ValueError(f"reward '{name}' cannot be loaded: {error}") from error
    if not callable(function):
        raise ValueError(f"reward '{name}' is a {type(function).__name__}: a function of objects was expected")
    return function


def wrapped(function: Callable[..., Any]) -> Reward:
    """A reward of one argument or two as one of two; what it raises is a ValueError that names it."""
    name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', type(function).__name__)}"
    alone = _takes_one(function)

    def reward(objects: Columns, context: Columns = None) -> Tensor:
        try:
            return function(objects) if alone else function(objects, context)
        except Exception as error:
            raise ValueError(f"reward '{name}' raised {type(error).__name__}: {error}") from error

    return reward


def _takes_one(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a built-in function without a signature
        return False
    needed = [entry for entry in parameters if entry.default is entry.empty and entry.kind != entry.VAR_POSITIONAL]
    return len(needed) == 1
