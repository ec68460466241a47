"""Molecules made by reactions: chemistries, spaces, rewards and policies. Needs rdkit (`equipoise[molecules]`)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "Chemistry": "equipoise.molecules.chemistry",
    "read_chemistry": "equipoise.molecules.chemistry",
    "Reactions": "equipoise.molecules.reactions",
    "MoleculeSpace": "equipoise.molecules.graph",
    "RouteSpace": "equipoise.molecules.routes",
    "SEHProxy": "equipoise.molecules.proxy",
}

__all__ = ["Chemistry", "MoleculeSpace", "Reactions", "RouteSpace", "SEHProxy", "read_chemistry"]

if TYPE_CHECKING:
    from equipoise.molecules.chemistry import Chemistry, read_chemistry
    from equipoise.molecules.graph import MoleculeSpace
    from equipoise.molecules.proxy import SEHProxy
    from equipoise.molecules.reactions import Reactions
    from equipoise.molecules.routes import RouteSpace


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'equipoise.molecules' has no attribute '{name}'")
