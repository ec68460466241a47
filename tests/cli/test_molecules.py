"""Molecules on the command line: trained, taken up, judged, sampled."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("rdkit")

import torch

from equipoise.cli import main
from molecules.small import AMIDE, AMINATION, BLOCKS


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    templates, blocks = tmp_path / "t.smarts", tmp_path / "b.smi"
    templates.write_text(f"{AMIDE}\n{AMINATION}\n")
    blocks.write_text("\n".join(BLOCKS))
    return str(templates), str(blocks)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def words(files: tuple[str, str], out: Path, *more: str) -> list[str]:
    small = ["--steps", "4", "--every", "2", "--batch", "8", "--reactions", "2", "--hidden", "16", "--reward", "qed"]
    return ["train", "molecules", "--chemistry", *files, *small, *more, "--out", str(out)]


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--state", "molecule", "--backward", "learned"),
        ("--state", "molecule", "--backward", "likelihood"),
        ("--source", "replay", "--method", "subtb"),
        ("--search", "temperatures", "--log-z", "group_mean", "--batch", "20"),
        ("--loss", "alpha", "--order", "0.75", "--log-z", "deviation"),
    ],
    ids=["route", "learned", "likelihood", "subtb", "conditioned", "alpha"],
)
def test_a_run_is_trained(files: tuple[str, str], tmp_path: Path, more: tuple[str, ...]) -> None:
    assert main(words(files, tmp_path / "run", *more)) == 0
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 2, 4]
    assert records[-1]["good_found"] >= records[-1]["modes_found"] >= 0


def test_samples_are_written_in_each_format(files: tuple[str, str], tmp_path: Path) -> None:
    from rdkit import Chem

    assert main(words(files, tmp_path / "run")) == 0
    for ending in ("csv", "smi", "sdf", "tsv"):
        assert main(["sample", str(tmp_path / "run"), "-n", "12", "--out", str(tmp_path / f"s.{ending}")]) == 0
    with (tmp_path / "s.csv").open() as file:
        rows = list(csv.DictReader(file))
    smiles = [line.split()[0] for line in (tmp_path / "s.smi").read_text().splitlines()]
    mols = list(Chem.SDMolSupplier(str(tmp_path / "s.sdf")))
    assert [row["smiles"] for row in rows] == smiles == [Chem.MolToSmiles(mol) for mol in mols]
    assert len(rows) == 12
    assert all(row["route"].endswith(f"--> {row['smiles']}") for row in rows)
    assert [mol.GetProp("route") for mol in mols] == [row["route"] for row in rows]
    assert (tmp_path / "s.tsv").read_text().startswith("object\tlog_reward")


def test_a_run_keeps_its_chemistry_and_lists_what_it_leaves_out(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are turned round, then removed, and the run moved: it draws what it drew."""
    blocks = Path(files[1])
    blocks.write_text(blocks.read_text() + "\nCCC\nCN.Cl\n")
    monkeypatch.chdir(tmp_path)
    assert main(words(("t.smarts", "b.smi"), Path("run"))) == 0
    said = capsys.readouterr().err
    assert "1 blocks fit no template and are left out: CCC; 1 blocks are in several pieces and are left out" in said
    assert (tmp_path / "run" / "chemistry" / "unused_blocks.txt").read_text() == "CCC\nCN.Cl\n"
    drawn = []
    for turn in (lambda: None, lambda: blocks.write_text("\n".join(reversed(BLOCKS))), blocks.unlink):
        turn()
        assert main(["sample", "run", "-n", "8"]) == 0
        drawn.append(capsys.readouterr().out)
    (tmp_path / "run").rename(tmp_path / "moved")
    monkeypatch.chdir("/")
    assert main(["sample", str(tmp_path / "moved"), "-n", "8"]) == 0
    assert {*drawn, capsys.readouterr().out} == {drawn[0]}


def test_a_run_killed_before_its_chemistry_was_kept_begins_again(files: tuple[str, str], tmp_path: Path) -> None:
    assert main(words(files, tmp_path / "run")) == 0
    for name in ("checkpoints", "chemistry"):
        shutil.rmtree(tmp_path / "run" / name)
    (tmp_path / "run" / "DONE").unlink()
    assert main(["resume", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "chemistry" / "blocks.txt").read_bytes() == Path(files[1]).read_bytes()


def test_rewards_beyond_a_number_are_written(files: tuple[str, str], tmp_path: Path) -> None:
    from equipoise.plots.exhibits import molecules
    from equipoise.recipes.runs import open_run

    def steep(smiles: list[str]) -> torch.Tensor:
        return torch.full((len(smiles),), 800.0)

    assert main(words(files, tmp_path / "run")) == 0
    run = open_run(tmp_path / "run", reward=steep)
    rows = list(csv.DictReader(run.built.formats[".csv"](4, torch.Generator()).splitlines()))  # type: ignore[attr-defined]
    assert [(row["reward"], row["log_reward"]) for row in rows] == [("inf", "800")] * 4
    pytest.importorskip("matplotlib")
    assert molecules(run)[0].figure.axes[0].get_title() == "R = inf"


def test_a_killed_run_ends_where_it_would_have(files: tuple[str, str], tmp_path: Path) -> None:
    from equipoise.recipes.runs import open_run

    more = ("--state", "molecule", "--source", "replay")
    assert main(words(files, tmp_path / "whole", *more)) == 0
    assert main([*words(files, tmp_path / "cut", *more)]) == 0
    folder = tmp_path / "cut"
    (folder / "DONE").unlink()
    for path in sorted((folder / "checkpoints").iterdir()):
        if "4" in path.name:
            path.unlink()
    assert main(["resume", str(folder)]) == 0
    assert (folder / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()
    assert open_run(folder).loop.step == 4


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--reward", "logp"), "reward 'logp': one of seh,"),
        (("--backward", "maximum_entropy"), "cannot be listed"),
        (("--reactions", "0"), "reactions 0"),
        (("--backward", "likelihood"), "each object has one path"),
    ],
)
def test_what_does_not_fit_is_refused(
    files: tuple[str, str], tmp_path: Path, more: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(files, tmp_path / "run", *more)) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_chemistry_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "molecules", "--chemistry", "enamine", "--out", str(tmp_path / "run")]) == 1
    assert "rgfn-small or hb-zinc10k, or two files" in capsys.readouterr().err
