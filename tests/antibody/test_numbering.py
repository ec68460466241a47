"""Variable domains by a sequence model: what is made of its numbers, and that they agree with motifs."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from antibody import small
from equipoise.antibody import numbering
from equipoise.antibody.folder import read_folder
from equipoise.antibody.loops import loops_of
from equipoise.antibody.structures import Chain, printed


def chain(letters: str) -> Chain:
    return Chain("H", letters, torch.zeros(len(letters), 3, 3), tuple(map(str, range(1, len(letters) + 1))))


@pytest.fixture
def fresh() -> Iterator[None]:
    for cached in (numbering._model, numbering._domain):
        cached.cache_clear()
    yield
    for cached in (numbering._model, numbering._domain):
        cached.cache_clear()


class Told:
    """A model that numbers one domain that begins at the third residue, with a gap at number 10."""

    def __init__(self, **settings: Any) -> None:
        self.asked: list[str] = []

    def number(self, sequences: dict[str, str]) -> None:
        self.asked += sequences.values()

    def to_scheme(self, scheme: str) -> dict[str, Any]:
        letters = self.asked[-1]
        if letters.startswith("W"):
            return {"chain": {"error": "Score less than cut off.", "chain_type": "F", "query_start": None}}
        numbers = [*range(1, 53), 52, *range(53, 83), 82, 82, 82, *range(83, 114)]
        pairs: list[tuple[tuple[int, str], str]] = [((number, " "), "A") for number in numbers]
        pairs.insert(9, ((10, " "), "-"))
        told = {"numbering": pairs, "chain_type": "H", "error": None, "query_start": 2}
        return {"chain": told}


def test_a_domain_has_the_loops_of_its_numbers_from_where_it_begins(
    monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    module = types.ModuleType("anarcii")
    module.Anarcii = Told  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "anarcii", module)
    domain = numbering.predicted(chain("GG" + "A" * 117 + "SS"))
    assert domain is not None and domain.role == "H" and domain.end == 119
    assert domain.loops == {"H1": (27, 34), "H2": (53, 59), "H3": (100, 108)}
    assert numbering.predicted(chain("W" * 100)) is None
    model = numbering._model()
    assert numbering.predicted(chain("W" * 100)) is None and numbering.predicted(chain("GAGA")) is None
    assert len(model.asked) == 2  # the same letters once, short chains never


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    monkeypatch.setitem(sys.modules, "anarcii", None)
    with pytest.raises(ImportError, match=r"equipoise\[anarcii\]"):
        numbering.predicted(chain("A" * 100))


@pytest.mark.slow
def test_it_agrees_with_motifs_on_frameworks_of_usual_length(fresh: None) -> None:
    pytest.importorskip("anarcii")
    for letters, role in ((small.HEAVY.format("DRGGYFDY"), "H"), (small.LIGHT, "L")):
        found = numbering.predicted(chain(letters))
        counted = loops_of(letters, ["0"] * len(letters), role)
        assert found is not None and found.role == role and found.loops == counted.loops


@pytest.mark.slow
def test_it_finds_the_loops_of_real_complexes(fresh: None, data_folder: Path) -> None:
    pytest.importorskip("anarcii")
    folder = data_folder / "antibody"
    by_motif = {one.name: one for one in read_folder(folder, domain_of=printed).structures}
    by_model = {one.name: one for one in read_folder(folder, domain_of=numbering.predicted).structures}
    assert by_model.keys() >= by_motif.keys()
    same = [
        by_model[name].loop_text(loop) == one.loop_text(loop)
        for name, one in by_motif.items()
        for loop in one.loops
        if loop in by_model[name].loops
    ]
    assert len(same) > 250 and sum(same) / len(same) > 0.95
