"""Variable domains by a sequence model in place of motifs: for frameworks of unusual length. The extra `anarcii`."""

from __future__ import annotations

from contextlib import redirect_stdout
from dataclasses import replace
from functools import cache
from importlib import import_module
from io import StringIO
from typing import Any

from equipoise.antibody.loops import Domain, numbered
from equipoise.antibody.structures import Chain

ROLE = {"H": "H", "K": "L", "L": "L"}
"""By the type of chain that the model tells: heavy, kappa or lambda."""

LEAST = 70
"""Residues of a variable domain, at least: shorter chains are not asked about."""


def predicted(chain: Chain) -> Domain | None:
    """A chain's variable domain by the Chothia numbers that ANARCII gives its residues; None where it finds none.

    Source: Greenshields-Watson et al. 2025, "ANARCII: A generalised language model for antigen receptor numbering",
    doi:10.1101/2025.04.16.648720. Its weights come with the package. A chain takes about a second on one core, and
    the same letters are asked about once.

    Raises:
        ImportError: anarcii is not installed.

    Use it where motifs miss a domain or count its loops wrongly (they assume a framework of usual length); a file that
    has Chothia numbers already does not need it. Of a chain of two domains (scFv) the first is taken.
    """
    return _domain(chain.letters)


@cache
def _domain(letters: str) -> Domain | None:
    if len(letters) < LEAST:
        return None
    model = _model()
    with redirect_stdout(StringIO()):  # it reports each conversion
        model.number({"chain": letters})
        found = model.to_scheme("chothia")["chain"]
    role = ROLE.get(found["chain_type"])
    if found["error"] is not None or role is None or found["query_start"] is None:
        return None
    inside = [number for (number, _), letter in found["numbering"] if letter != "-"]
    first = int(found["query_start"])
    whole = [0] * first + inside + [0] * (len(letters) - first - len(inside))
    return replace(numbered(whole, role), end=first + len(inside))


@cache
def _model() -> Any:
    try:
        anarcii = import_module("anarcii")
    except ImportError as error:
        raise ImportError("numbering by a model needs ANARCII: pip install 'equipoise[anarcii]'") from error
    return anarcii.Anarcii(seq_type="antibody", mode="accuracy", batch_size=1, cpu=True, ncpu=1, verbose=False)
