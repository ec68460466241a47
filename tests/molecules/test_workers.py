"""Processes that compute exact parents: the same parents, the same run, and what happens when one dies."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rdkit")

import torch

from equipoise.molecules.graph import MoleculeSpace
from equipoise.molecules.reactions import Reactions
from equipoise.molecules.workers import Workers, _chemistry_line, serve
from equipoise.recipes import Molecules, train
from equipoise.recipes.tasks import task
from equipoise.training.loop import Loop
from molecules.small import AMIDE, AMINATION, BLOCKS, listable
from molecules.test_kept_parents import Counted, drawn_from

SMILES = ("CNC(C)=O", "CC(=O)NCC(=O)NCCN", "CC(=O)NCCNC(C)=O", "c1ccccc1", "CC(=O)NCCN")


@pytest.fixture(scope="module")
def pair() -> Iterator[Workers]:
    """Two processes, begun once for the tests that only ask."""
    workers = Workers(Reactions(listable(), reversible=True), 2)
    yield workers
    workers.close()


def test_two_processes_tell_the_parents_that_this_one_computes(pair: Workers) -> None:
    """Of 120 molecules that were drawn, and of their ancestors; nothing is left to compute."""
    _, drawn = drawn_from(MoleculeSpace(Reactions(listable(), reversible=True), most=2), n=120)
    objects: Any = drawn.objects
    keys = [(smiles, count) for smiles in (*objects["smiles"], *SMILES) if smiles for count in (1, 2)]
    told = Counted(pair.reactions.chemistry)
    pair.reactions = told
    pair.learn(keys)
    assert len(pair.running) == 2
    here = Reactions(listable(), reversible=True)
    for smiles, count in keys:
        parents = told.parents(smiles, count)
        assert parents == here.parents(smiles, count)
        for way in parents if count == 2 else ():
            assert told.parents(way.smiles, 1) == here.parents(way.smiles, 1)
    assert told.proposed == 0
    assert here.parents(SMILES[2], 2)


def test_what_is_known_is_not_asked(pair: Workers) -> None:
    pair.reactions = Reactions(listable(), reversible=True)
    pair.reactions.learn("CNC(C)=O", 1, ())
    pair.learn([("CNC(C)=O", 1), ("CC(=O)NCCN", 1), ("CC(=O)NCCN", 1)])
    assert pair.reactions.parents("CNC(C)=O", 1) == ()
    assert len(pair.reactions.parents("CC(=O)NCCN", 1)) == 2


def test_a_request_is_answered_line_by_line_with_ancestors_once() -> None:
    reactions = Reactions(listable(), reversible=True)
    told = io.StringIO()
    asked = json.dumps([["CC(=O)NCCNC(C)=O", [1, 2]], ["CC(=O)NCCN", [1]]])
    serve(io.StringIO(_chemistry_line(reactions) + asked + "\n"), told)
    (line,) = told.getvalue().splitlines()
    found = {(smiles, count): ways for smiles, count, ways in json.loads(line)}
    assert set(found) == {("CC(=O)NCCNC(C)=O", 1), ("CC(=O)NCCNC(C)=O", 2), ("CC(=O)NCCN", 1)}
    assert len(json.loads(line)) == 3
    for (smiles, count), ways in found.items():
        assert [tuple(way) for way in ways] == [
            (way.smiles, way.slot, way.block) for way in reactions.parents(smiles, count)
        ]


def configured(folder: Path, **settings: Any) -> Molecules:
    (folder / "templates.smarts").write_text(f"{AMIDE}\n{AMINATION}\n")
    (folder / "blocks.smi").write_text("\n".join(BLOCKS[::2]) + "\n")
    files = (str(folder / "templates.smarts"), str(folder / "blocks.smi"))
    given = {"state": "molecule", "reward": "qed", "reactions": 2, "steps": 3, "batch": 8, "every": 3, "hidden": (16,)}
    return Molecules(chemistry=files, **{**given, **settings}).resolved()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def steps_of(config: Molecules, kill: int | None = None) -> tuple[list[dict[str, float]], Any]:
    """The metrics of a few steps; a process is killed before one of them."""
    built: Any = task("molecules").build(config, None)
    loop, found = Loop(built.run), []
    for step in range(config.steps):
        if step == kill:
            built.sampler.environment.workers.running[0].process.kill()
        found.append({name: float(value) for name, value in loop.advance().items()})
    return found, built


@pytest.mark.parametrize("backward", ["uniform", pytest.param("likelihood", marks=pytest.mark.slow)])
def test_a_run_is_the_same_with_two_processes_and_with_one_that_dies(tmp_path: Path, backward: str) -> None:
    alone, plain = steps_of(configured(tmp_path, backward=backward))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        together, helped = steps_of(configured(tmp_path, backward=backward, workers=2))
    assert together == alone
    workers = helped.sampler.environment.workers
    assert len(workers.running) == 2
    helped.run.close()
    assert workers.running == []
    with pytest.warns(RuntimeWarning, match=r"exit code -?\d+\), 1 of 2 are left") as said:
        assert steps_of(configured(tmp_path, backward=backward, workers=2), kill=1)[0] == alone
    assert len(said) == 1
    for one, two in zip(plain.sampler.parameters(), helped.sampler.parameters(), strict=True):
        assert torch.equal(one, two)


def test_when_all_have_died_this_process_computes_and_says_so_once(tmp_path: Path) -> None:
    workers = Workers(Reactions(listable(), reversible=True), 1)
    workers.learn([("CNC(C)=O", 1)])
    workers.running[0].process.kill()
    with pytest.warns(RuntimeWarning, match="none is left"):
        workers.learn([("CC(=O)NCCN", 1)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        workers.learn([("CC(=O)NCCN", 1)])
    assert workers.running == []
    assert not workers.reactions.known("CC(=O)NCCN", 1)
    assert len(workers.reactions.parents("CC(=O)NCCN", 1)) == 2


def test_processes_end_with_the_run_and_with_whoever_began_them(tmp_path: Path) -> None:
    """At the end of training; at an interpreter's exit; and where it is killed, since their pipes close."""
    built: Any = train(configured(tmp_path, workers=1, steps=1, every=1))
    assert built.sampler.environment.workers.running == []
    code = (
        "import os, sys; from equipoise.molecules.reactions import Reactions; from molecules.small import tiny\n"
        "from equipoise.molecules.workers import Workers; workers = Workers(Reactions(tiny(), reversible=True), 1)\n"
        "workers.learn([('CNC(C)=O', 1)]); print(workers.running[0].process.pid, 'torch' in sys.modules, flush=True)\n"
        "if {}: os.kill(os.getpid(), 9)"
    )
    path = os.pathsep.join(sys.path)
    for killed in (False, True):
        shown = subprocess.run(
            [sys.executable, "-c", code.format(killed)], env={**os.environ, "PYTHONPATH": path}, capture_output=True
        )
        pid, torch_is_there = shown.stdout.decode().split()
        assert torch_is_there == "False"
        for _ in range(100):
            if ended(int(pid)):
                break
            time.sleep(0.05)
        assert ended(int(pid))


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")  # one that has ended and whose parent has not asked is a zombie
    return stat.exists() and stat.read_text().rsplit(") ", 1)[1].startswith("Z")


def test_workers_without_exact_parents_are_refused(tmp_path: Path) -> None:
    for settings in ({"state": "route"}, {"parents": "unchecked"}):
        with pytest.raises(ValueError, match="they compute exact parents, which --state molecule has"):
            configured(tmp_path, workers=2, **settings)
    with pytest.raises(ValueError, match="from 0 to 1000"):
        configured(tmp_path, workers=-1)
    reactions = Reactions(listable(), reversible=True)
    with pytest.raises(ValueError, match="leave the workers out"):
        MoleculeSpace(reactions, most=2, exact=False, workers=Workers(reactions, 1))
    with pytest.raises(ValueError, match="at least one process"):
        Workers(reactions, 0)
