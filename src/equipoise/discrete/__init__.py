"""Objects built step by step: environments, policies, the sampler, and exact figures by dynamic programming."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["AMPClassifier"]

if TYPE_CHECKING:
    from equipoise.discrete.antimicrobial import AMPClassifier


def __getattr__(name: str) -> Any:
    if name == "AMPClassifier":
        return import_module("equipoise.discrete.antimicrobial").AMPClassifier
    raise AttributeError(f"module 'equipoise.discrete' has no attribute '{name}'")
