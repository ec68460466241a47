"""What a run has found so far: good molecules, and modes among them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from equipoise.contracts import Source
from equipoise.molecules.chemistry import rdkit_chem
from equipoise.molecules.space import fingerprint_of, smiles_of
from equipoise.trajectories import Trajectories

SIMILAR = 0.5
"""Tanimoto similarity from which two molecules are of one mode."""


class Found:
    """A source that passes another's draws on, and counts the good molecules among them.

    A good molecule is a mode where it is less similar than `SIMILAR` to every mode found before it.

    Args:
        inner: the source.
        threshold: log R from which a molecule is good.

    Source: the modes of Bengio et al. 2021, arXiv:2106.04399, in the order of discovery.
    """

    def __init__(self, inner: Source, *, threshold: float) -> None:
        self.inner, self.threshold = inner, threshold
        self.provides: frozenset[str] = getattr(inner, "provides", frozenset())
        self._good: dict[str, None] = {}
        self._modes: list[str] = []
        self._prints: list[Any] = []

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """The inner source's draw."""
        drawn = self.inner.draw(n, generator)
        assert drawn.log_reward is not None
        good = drawn[(drawn.log_reward >= self.threshold).nonzero()[:, 0]]
        for smiles in smiles_of(good.objects):
            self._meet(smiles)
        return drawn

    def _meet(self, smiles: str) -> None:
        if not smiles or smiles in self._good:
            return
        self._good[smiles] = None
        bits = _print(smiles)
        if not self._prints or max(_similarities(bits, self._prints)) < SIMILAR:
            self._modes.append(smiles)
            self._prints.append(bits)

    def figures(self) -> dict[str, float]:
        """good_found and modes_found."""
        return {"good_found": len(self._good), "modes_found": len(self._modes)}

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """The inner source is told."""
        self.inner.observe(trajectories, residual)

    def state_dict(self) -> dict[str, Any]:
        """The inner source's state, and what was found."""
        return {"inner": self.inner.state_dict(), "good": tuple(self._good), "modes": tuple(self._modes)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where `state_dict` was called."""
        self.inner.load_state_dict(state["inner"])
        self._good, self._modes = dict.fromkeys(state["good"]), list(state["modes"])
        self._prints = [_print(smiles) for smiles in self._modes]


def _print(smiles: str) -> Any:
    return fingerprint_of(rdkit_chem().MolFromSmiles(smiles))


def _similarities(bits: Any, others: list[Any]) -> list[float]:
    from rdkit.DataStructs import BulkTanimotoSimilarity

    return BulkTanimotoSimilarity(bits, others)
