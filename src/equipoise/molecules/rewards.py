"""Rewards of molecules: functions of SMILES, joined by `*`, as log R with a floor.

| name | R |
|---|---|
| `seh`, `seh_published` | the sEH proxy over 8, as trained or as published |
| `qed` | the quantitative estimate of drug-likeness over 0.7, at most 1 (Bickerton et al. 2012) |
| `sa` | (10 - SA) / 9 of the synthetic accessibility score (Ertl and Schuffenhauer 2009), from rdkit's Contrib |
| `size` | 1 up to 37 heavy atoms, a factor exp(-1/4) for each more |
| `vina` | docking into sEH, on the proxy's scale (`equipoise.molecules.docking`); seconds a molecule |
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.contracts import Reward
from equipoise.molecules.chemistry import rdkit_chem
from equipoise.molecules.space import smiles_of
from equipoise.trajectories import Columns

Score = Callable[[Sequence[str]], Tensor]
"""SMILES -> (n,) R, not negative."""

FLOOR = 0.1
"""The least R: to the power 32 it is e^-74, what published runs clip at."""

FAILED = -20.0
"""The least log R that a function of a user's own may return, which is that of what failed."""

AT_ONCE = 8
"""Molecules asked for between two writes to a file of values: what an interruption loses, at most."""

HEAVY = 37
"""Heavy atoms from which `size` counts."""


def seh(folder: Path | None, root: str) -> Score:
    """The proxy over 8."""
    from equipoise import data
    from equipoise.molecules.proxy import SEHProxy

    proxy = SEHProxy(data.find("seh_proxy", folder), root=root)  # type: ignore[arg-type]
    return lambda smiles: proxy(smiles) / 8


def vina(folder: Path | None) -> Score:
    """Docking into sEH, on the scale of `seh`."""
    from equipoise import data
    from equipoise.molecules.docking import Docking, as_reward

    docking = Docking(data.find("seh_receptor", folder))
    return lambda smiles: as_reward(docking(smiles))


def qed(smiles: Sequence[str]) -> Tensor:
    """min(QED / 0.7, 1), of each molecule.

    Example:
        >>> round(float(qed(["CC(=O)Oc1ccccc1C(=O)O"])[0]), 2)
        0.79
    """
    chem = rdkit_chem()
    from rdkit.Chem import QED

    return torch.tensor([min(QED.qed(chem.MolFromSmiles(text)) / 0.7, 1.0) for text in smiles])


def sa(smiles: Sequence[str]) -> Tensor:
    """(10 - SA) / 9: 1 for the easiest molecule, 0 for the hardest.

    Raises:
        ImportError: an rdkit without its Contrib folder.
    """
    chem, scorer = rdkit_chem(), _scorer()
    return torch.tensor([(10 - scorer.calculateScore(chem.MolFromSmiles(text))) / 9 for text in smiles])


def size(smiles: Sequence[str]) -> Tensor:
    """exp(-(heavy atoms beyond 37) / 4).

    Example:
        >>> size(["CCO", "C" * 41]).tolist()
        [1.0, 0.3678794503211975]
    """
    chem = rdkit_chem()
    beyond = [max(0, chem.MolFromSmiles(text).GetNumHeavyAtoms() - HEAVY) for text in smiles]
    return torch.tensor([math.exp(-count / 4) for count in beyond])


def score(name: str, folder: Path | None = None) -> Score:
    """The product of the named scores, as `seh*qed`.

    Raises:
        ValueError: an unknown name.
    """
    known: dict[str, Callable[[], Score]] = {
        "seh": lambda: seh(folder, "as_trained"),
        "seh_published": lambda: seh(folder, "as_published"),
        "qed": lambda: qed,
        "sa": lambda: sa,
        "size": lambda: size,
        "vina": lambda: vina(folder),
    }
    parts = [part.strip() for part in name.split("*")]
    unknown = [part for part in parts if part not in known]
    if unknown:
        raise ValueError(
            f"reward '{unknown[0]}': one of {', '.join(known)}, a product of them such as seh*qed, or module:function"
        )
    scores = [known[part]() for part in parts]

    def product(smiles: Sequence[str]) -> Tensor:
        value = scores[0](smiles)
        for each in scores[1:]:
            value = value * each(smiles)
        return value

    return product


class MoleculeReward:
    """log max(R, floor) of molecules, each asked for once; what failed has the floor.

    Args:
        score: SMILES -> (n,) R; or log R, with `log`.
        log: whether the score is log R already, which is at least `failed`, or refused.
        failed: log R of an object without a molecule.
        floor: the least R.
        kept: molecules whose value is remembered, at most.
        disk: a file to which every value is appended as it is known, a line of JSON each, and read from at the start:
            what was computed before an interruption is not computed again.
        name: of the score, which each line of the file begins with: several may share a file.

    Raises:
        ValueError: in a call, a value that is not finite or a log R below `failed`, with its SMILES, or another shape.

    Example:
        >>> reward = MoleculeReward(size)
        >>> reward(("CCO", "")).tolist()
        [0.0, -2.3025851249694824]
    """

    def __init__(
        self,
        score: Score,
        *,
        log: bool = False,
        failed: float = math.log(FLOOR),
        floor: float = FLOOR,
        kept: int = 2_000_000,
        disk: Path | None = None,
        name: str = "",
    ) -> None:
        self.score, self.log, self.failed, self.floor, self.kept = score, log, failed, floor, kept
        self.disk, self.name = disk, name
        self._known: dict[str, float] = {} if disk is None or not disk.is_file() else _read(disk, name)

    def __call__(self, objects: Columns, context: Columns = None) -> Tensor:
        smiles = smiles_of(objects)
        new = [text for text in dict.fromkeys(smiles) if text and text not in self._known]
        if new:
            if len(self._known) + len(new) > self.kept:
                self._known.clear()
                new = [text for text in dict.fromkeys(smiles) if text]
            self._learn(new)
        found = [self._known[text] if text else math.nan for text in smiles]
        value = torch.tensor(found)
        value = value if self.log else value.clamp(min=self.floor).log()
        return torch.where(torch.tensor([not text for text in smiles]), self.failed, value)

    def values(self, smiles: Sequence[str]) -> Tensor:
        """(n,) the score itself, of molecules; nan of ""."""
        self(tuple(smiles))
        return torch.tensor([self._known[text] if text else math.nan for text in smiles])

    def _learn(self, new: list[str]) -> None:
        many = len(new) if self.disk is None else AT_ONCE
        for begin in range(0, len(new), many):
            self._ask(new[begin : begin + many])

    def _ask(self, new: list[str]) -> None:
        values = self.score(new)
        if not isinstance(values, Tensor) or values.shape != (len(new),):
            given = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(
                f"the reward returned {given} for {len(new)} molecules: a tensor ({len(new)},) was expected"
            )
        numbers = values.detach().float().tolist()
        least = self.failed if self.log else -math.inf
        asked = list(zip(new, numbers, strict=True))
        found = {text: number for text, number in asked if math.isfinite(number) and number >= least}
        self._known |= found
        if self.disk is not None:
            _append(self.disk, ([self.name, *row] for row in found.items()))
        for text, number in asked:
            if not math.isfinite(number):
                raise ValueError(f"the reward of '{text}' is {number}: a finite number was expected")
            if number < least:
                raise ValueError(
                    f"the log R of '{text}' is {number:.6g}, below {least:g}, which what failed has: add a constant to "
                    "the reward, which changes no probability of a molecule, or clamp it"
                )


def _read(path: Path, name: str) -> dict[str, float]:
    """The values of that name; a last line that was cut short, and what is no finite number, are passed over."""
    found = {}
    for line in path.read_text().splitlines():
        try:
            given, smiles, value = json.loads(line)
        except (ValueError, TypeError):
            continue
        if given == name and isinstance(smiles, str) and isinstance(value, float) and math.isfinite(value):
            found[smiles] = value
    return found


def _append(path: Path, rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        torn = bool(file.seek(0, os.SEEK_END)) and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
        file.write(("\n" * torn + "".join(json.dumps(row) + "\n" for row in rows)).encode())
        file.flush()
        os.fsync(file.fileno())


def of_smiles(function: Callable[..., Any], *, disk: Path | None = None, name: str = "") -> Reward:
    """A user's reward, of a list of SMILES, as log R of objects; `FAILED` for what failed."""

    def scored(smiles: Sequence[str]) -> Tensor:
        try:
            return function(list(smiles))
        except Exception as error:
            raise ValueError(
                f"the reward raised {type(error).__name__}: {error}; first molecule '{smiles[0]}'"
            ) from error

    return MoleculeReward(scored, log=True, failed=FAILED, disk=disk, name=name)


_SCORERS: list[Any] = []


def _scorer() -> Any:
    if not _SCORERS:
        rdkit_chem()
        from rdkit.Chem import RDConfig

        path = Path(RDConfig.RDContribDir) / "SA_Score" / "sascorer.py"
        if not path.is_file():
            raise ImportError(f"the synthetic accessibility score needs rdkit's Contrib folder: no file '{path}'")
        spec = importlib.util.spec_from_file_location("sascorer", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        _SCORERS.append(module)
    return _SCORERS[0]
