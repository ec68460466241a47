"""Property: whatever is done to flags, config.yaml, checkpoints or tables, a command ends well or with one clean line.

    pytest -m slow tests/cli/test_fuzz.py

makes 2,000 mutations; the fast suite makes a few of each kind.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from equipoise.cli import main

JUNK = (
    *(
        "",
        "0",
        "-1",
        "1e999",
        "-1e-9",
        "nan",
        "inf",
        "None",
        "null",
        "true",
        "[]",
        "{}",
        "[1, [2]]",
        "~",
        "'",
        '"',
        "%",
    ),
    *("99999999999999999999999", "3.5", "alpha", "reverse_kl", "deviation", "flow", "detailed", "--", "-", "--steps"),
    *("\x07", "é", "!!python/object/apply:os.getcwd []", "&a *a", "os:system", "math:inf", "/", ".."),
    "equipoise.recipes.demonstration:motif",
)
TINY = ["--steps", "2", "--every", "1", "--batch", "4", "--hidden", "4"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small runs and a table, to be spoiled in copies."""
    folder = tmp_path_factory.mktemp("runs")
    table = folder / "table.tsv"
    table.write_text("word\treward\n" + "".join(f"{a}{b}\t{1 + (a == b)}\n" for a in "XYZ" for b in "XYZ"))
    assert main(["train", "hypergrid", *TINY, "--side", "4", "--out", str(folder / "grid")]) == 0
    assert main(["train", "strings", *TINY, "--table", str(table), "--out", str(folder / "words")]) == 0
    (folder / "grid" / "DONE").unlink()
    return folder


def spoiled(text: bytes, chance: random.Random) -> bytes:
    """One mutation of a file."""
    blob = bytearray(text)
    where = chance.randrange(len(blob) + 1)
    kind = chance.randrange(5)
    if kind == 0:
        return bytes(blob[:where])
    if kind == 1:
        blob[where:where] = chance.choice(JUNK).encode()
    if kind == 2:
        blob[min(where, len(blob) - 1)] = chance.randrange(256)
    lines = bytes(blob).split(b"\n")
    line = chance.randrange(len(lines))
    if kind == 3:
        del lines[line]
    if kind == 4:
        name, _, _ = lines[line].partition(b":" if b":" in lines[line] else b"\t")
        lines[line] = name + chance.choice([b": ", b"\t", b" "]) + chance.choice(JUNK).encode()
    return b"\n".join(lines)


def of_configuration(runs: Path, out: Path, chance: random.Random) -> list[str]:
    run = chance.choice(["grid", "words"])
    path = out.with_suffix(".yaml")
    path.write_bytes(spoiled((runs / run / "config.yaml").read_bytes(), chance))
    task = "hypergrid" if run == "grid" else "strings"
    return ["train", task, "--config", str(path), *TINY, "--out", str(out)]


def of_values(runs: Path, out: Path, chance: random.Random) -> list[str]:
    values = yaml.safe_load((runs / "grid" / "config.yaml").read_text())
    name = chance.choice(list(values))
    values[name] = chance.choice([*JUNK, 0, -1, 1e308, 10**30, True, None, [], [1, "x"], {"a": 1}, values["hidden"]])
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(values))
    return ["train", "hypergrid", "--config", str(path), *TINY, "--out", str(out)]


def of_flags(runs: Path, out: Path, chance: random.Random) -> list[str]:
    words = ["train", "hypergrid", "--side", "4", "--loss", "alpha", "--order", "0.5", "--rewards", "0.1", "0.5", "2"]
    words += [*TINY, "--out", str(out)]
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(words))
        change = chance.randrange(3)
        if change == 0 and words[place] != str(out):
            words[place] = chance.choice(JUNK)
        elif change == 1 and words[place].startswith("--"):
            words[place] = words[place][: chance.randint(0, len(words[place]))] + chance.choice(["", "x", "=3", "="])
        else:
            words.insert(place, chance.choice([*JUNK, "--learning-rate", "--log-z", "--dim"]))
    return words


def of_runs(runs: Path, out: Path, chance: random.Random) -> list[str]:
    run = chance.choice(["grid", "words"])
    shutil.copytree(runs / run, out)
    for _ in range(chance.randint(1, 3)):
        path = chance.choice(sorted(path for path in out.rglob("*") if path.is_file()))
        if chance.random() < 0.1:
            path.unlink()
        else:
            path.write_bytes(spoiled(path.read_bytes(), chance))
    command = chance.choice([["evaluate", str(out), "--json"], ["resume", str(out)], ["sample", str(out), "--n", "2"]])
    return chance.choice([command, ["list", str(out)], ["cite", str(out)]])


def of_tables(runs: Path, out: Path, chance: random.Random) -> list[str]:
    path = out.with_suffix(chance.choice([".tsv", ".npy"]))
    path.write_bytes(spoiled((runs / "table.tsv").read_bytes(), chance))
    words = ["train", "strings", "--table", str(path), *TINY, "--out", str(out)]
    more = chance.choice([[], ["--alphabet", "XYZ"], ["--missing", "0.5"], ["--growth", "prepend_append"]])
    return [*words, *more]


KINDS: dict[str, Callable[[Path, Path, random.Random], list[str]]] = {
    "configuration": of_configuration,
    "values": of_values,
    "flags": of_flags,
    "runs": of_runs,
    "tables": of_tables,
}


def hold(kind: str, seed: int, runs: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = KINDS[kind](runs, out, random.Random(f"{kind}/{seed}"))
    capsys.readouterr()
    try:
        status = main(words)
    except SystemExit as stop:
        assert not stop.code, f"{words} left with {stop.code}"
        return
    except BaseException as error:
        raise AssertionError(f"seed {seed}: {words} raised {type(error).__name__}: {error}") from error
    said = capsys.readouterr().err
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert status in (0, 1) and len(errors) == status, f"seed {seed}: {words} ended with {status}: {said}"
    assert "Traceback" not in said


@pytest.mark.parametrize("count", [25, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_mutations_end_in_clean_errors(
    kind: str,
    count: int,
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in range(count):
        hold(kind, seed, runs, tmp_path / f"out-{seed}", capsys)
        shutil.rmtree(tmp_path / f"out-{seed}", ignore_errors=True)
