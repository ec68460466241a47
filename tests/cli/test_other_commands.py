"""The command line beyond training: samples, lists, citations, tables of one's own, the demonstration."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy
import pytest
import torch

from equipoise.cli import main
from equipoise.recipes import Hypergrid, Strings, demonstration, papers, train
from equipoise.recipes.bibliography import PAPERS
from equipoise.recipes.configuration import METHODS, LossName, Training
from equipoise.recipes.mappings import from_mapping, to_mapping
from equipoise.recipes.strings import read_table

TINY = ["--steps", "6", "--every", "2", "--batch", "4", "--hidden", "8"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "a"
    assert main(["train", "hypergrid", *TINY, "--side", "4", "--out", str(out)]) == 0
    return out


def output(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(words) == 0
    return capsys.readouterr().out


def error(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(words) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_samples_are_drawn_by_seed_with_their_own_probability(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = output(capsys, "sample", str(run), "--n", "500")
    assert first == output(capsys, "sample", str(run), "--n", "500")
    assert first != output(capsys, "sample", str(run), "--n", "500", "--seed", "1")
    head, *lines = first.splitlines()
    assert head.split("\t") == ["object", "log_reward", "log_probability"] and len(lines) == 500
    probability = {line.split("\t")[0]: float(line.split("\t")[2]) for line in lines}
    assert 0.5 < sum(numpy.exp(list(probability.values()))) <= 1 + 1e-4
    target = tmp_path / "deep" / "samples.tsv"
    output(capsys, "sample", str(run), "--n", "500", "--out", str(target))
    assert target.read_text() == first
    assert "not overwritten" in error(capsys, "sample", str(run), "--out", str(target))
    assert "at least one draw" in error(capsys, "sample", str(run), "--n", "0")


def test_lists_name_every_choice_and_every_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = output(capsys, "list")
    for name in (*METHODS, *LossName.__args__, "hypergrid", "strings", "tfbind8", "deviation", "on_policy"):
        assert name in shown
    line = output(capsys, "list", str(run.parent))
    assert str(run) in line and "done" in line and "total_variation" in line
    assert "no runs below" in output(capsys, "list", str(tmp_path))
    assert "no folder" in error(capsys, "list", str(tmp_path / "nowhere"))


def test_every_method_and_task_can_be_cited(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in papers.names():
        assert papers.papers_named(name)
    assert "2201.13259" in output(capsys, "cite", "tb")
    assert {"2106.04399", "2201.13259"} <= set(word.strip("{},") for word in output(capsys, "cite", str(run)).split())
    assert output(capsys, "cite").count("@misc") == len(PAPERS)
    assert "did you mean 'subtb'" in error(capsys, "cite", "subtbb")


def words_table(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


WORDS = [f"{a}{b}\t{1 + 2 * (a == b)}" for a in "XYZ" for b in "XYZ"]


@pytest.mark.parametrize("growth", ["append", "prepend_append"])
def test_a_table_of_ones_own_is_the_target(tmp_path: Path, capsys: pytest.CaptureFixture[str], growth: str) -> None:
    table = words_table(tmp_path / "table.tsv", ["# a comment", "word reward", *WORDS])
    out = str(tmp_path / "a")
    more = ["--learning-rate", "0.01", "--batch", "16", "--hidden", "32", "--growth", growth]
    assert main(["train", "strings", "--table", str(table), *TINY, "--steps", "300", *more, "--out", out]) == 0
    shown = output(capsys, "evaluate", out, "--json")
    figures = {entry.split(":")[0].strip(' "{'): float(entry.split(":")[1].strip(" }\n")) for entry in shown.split(",")}
    assert abs(figures["log_z_exact"] - float(numpy.log(15.0))) < 1e-6
    assert figures["total_variation"] < 0.05
    assert all(line.split("\t")[0].strip("XYZ") == "" for line in output(capsys, "sample", out).splitlines()[1:])


def test_tables_are_read_in_every_documented_form(tmp_path: Path) -> None:
    for separator in ("\t", ",", "  ", ";"):
        rows = [row.replace("\t", separator) for row in WORDS]
        table = read_table(words_table(tmp_path / "t.txt", rows))
        assert table.alphabet == "XYZ" and table.length == 2
        assert torch.allclose(table.log_reward.exp()[[0, 1, 4]], torch.tensor([3.0, 1.0, 3.0], dtype=torch.float64))
    reversed_ = read_table(words_table(tmp_path / "t.txt", WORDS[:8]), alphabet="ZYX", missing=7.0)
    assert torch.allclose(reversed_.log_reward.exp()[0], torch.tensor(7.0, dtype=torch.float64))
    numpy.save(tmp_path / "t.npy", numpy.arange(1.0, 9.0))
    array = read_table(tmp_path / "t.npy", alphabet="AB")
    assert array.length == 3 and float(array.log_reward[5].exp()) == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*WORDS[:3], "YX\t0", *WORDS[4:]], "line 4: the reward is 0"),
        ([*WORDS[:3], "YX\tnan", *WORDS[4:]], "line 4: the reward is nan"),
        ([*WORDS[:3], "YX\t-1", *WORDS[4:]], "line 4: the reward is -1"),
        ([*WORDS[:3], "YX", *WORDS[4:]], "line 4: 'YX': a string and a number"),
        ([*WORDS[:3], "YX\tmany", *WORDS[4:]], "a string and a number"),
        ([*WORDS, "YXX\t1"], "line 10: 'YXX' has 3 letters; 2 were expected"),
        ([*WORDS, "XY\t1"], "line 10: 'XY' is there already, in line 2"),
        (WORDS[:7], "lacks 2 of 9 strings, the first 'ZY'"),
        (["# nothing"], "holds no string"),
    ],
)
def test_a_table_off_its_format_is_refused_by_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[str], message: str
) -> None:
    table = words_table(tmp_path / "table.tsv", rows)
    line = error(capsys, "train", "strings", "--table", str(table), "--out", str(tmp_path / "a"))
    assert message in line and not (tmp_path / "a").exists()


def test_arrays_off_their_format_are_refused(tmp_path: Path) -> None:
    for array, message in (
        (numpy.ones(7), r"shape \(7,\)"),
        (numpy.ones((2, 4)), r"shape \(2, 4\)"),
        (numpy.array([1.0, 2.0, 0.0, 1.0]), "entry 2: the reward is 0"),
        (numpy.array(["a", "b"]), "no .npy array of numbers"),
    ):
        numpy.save(tmp_path / "t.npy", array)
        with pytest.raises(ValueError, match=message):
            read_table(tmp_path / "t.npy", alphabet="AB")
    with pytest.raises(ValueError, match="name the letters"):
        read_table(tmp_path / "t.npy")
    with pytest.raises(ValueError, match="each once"):
        read_table(tmp_path / "t.npy", alphabet="AA")
    with pytest.raises(ValueError, match="line 1: 'Z' is not one of the letters 'XY'"):
        read_table(words_table(tmp_path / "t.tsv", ["ZZ 1"]), alphabet="XY")


def test_a_function_in_python_is_a_reward(tmp_path: Path) -> None:
    def high_corner(points: torch.Tensor) -> torch.Tensor:
        return points.sum(1).double() / 2

    config = Hypergrid(side=4, steps=300, hidden=(16,), learning_rate=1e-2, out=tmp_path / "a")
    built = train(config, reward=high_corner)
    points = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    figures = built.evaluate()
    assert figures["log_z_exact"] == pytest.approx(float(torch.logsumexp(high_corner(points), 0)))
    assert figures["total_variation"] < 0.1
    assert "high_corner" in (tmp_path / "a" / "config.yaml").read_text()


def test_configurations_survive_a_round_trip_and_refuse_what_they_do_not_know() -> None:
    for config in (Hypergrid(rewards=(1.0, 2.0), out=Path("a")), Strings(alphabet="AB", length=3, missing=0.5)):
        assert from_mapping(type(config), to_mapping(config)) == config
    with pytest.raises(ValueError, match=r"unknown setting 'sidee' \(did you mean 'side'"):
        from_mapping(Hypergrid, {"sidee": 3})
    with pytest.raises(ValueError, match="side is '3': a whole number was expected"):
        from_mapping(Hypergrid, {"side": "3"})


def test_the_demonstration_trains_judges_and_reports_and_goes_on_when_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    small = {"steps": 4, "every": 2, "hidden": (8,), "time_steps": 6, "prior_steps": 5}
    small |= {"judged": 20, "warm_up": 0.0, "width": 16}

    def shortened(config: Training) -> Training:
        names = {entry.name for entry in dataclasses.fields(config)} & set(small)
        return dataclasses.replace(config, **{name: small[name] for name in names})

    short = [dataclasses.replace(part, config=shortened(part.config)) for part in demonstration.PARTS]
    short.append(dataclasses.replace(short[0], name="impossible", needs="no_such_package"))
    monkeypatch.setattr(demonstration, "PARTS", short)
    out = tmp_path / "demo"
    shown = output(capsys, "demo", "--out", str(out))
    sums = importlib.util.find_spec("transformers") is not None
    assert shown.count("total variation") == 5 and shown.count("greedy: right answers") == sums
    assert not (out / "impossible").exists()
    assert "<html" in (out / "report.html").read_text()
    metrics = {path: path.read_bytes() for path in out.rglob("metrics.jsonl")}
    (out / short[0].name / "DONE").unlink()
    assert output(capsys, "demo", "--out", str(out)).count("total variation") == 5
    assert {path: path.read_bytes() for path in out.rglob("metrics.jsonl")} == metrics


def test_help_and_lists_import_no_torch() -> None:
    import subprocess

    code = "import sys; from equipoise.cli import main; main({}); assert 'torch' not in sys.modules, sys.modules"
    for words in (["--help"], ["train", "--help"], ["list"], ["cite", "tb"]):
        subprocess.run([sys.executable, "-c", code.format(words)], check=True, capture_output=True)


def test_the_flags_name_exactly_what_there_is() -> None:
    from equipoise.objectives.names import DIVERGENCES, ESTIMATORS
    from equipoise.recipes.configuration import LogZName, ResidualName
    from equipoise.training.balance import RESIDUALS

    assert set(LossName.__args__) == set(DIVERGENCES)
    assert set(LogZName.__args__) == {*ESTIMATORS, "flow"}
    assert set(ResidualName.__args__) == {*RESIDUALS, "consistency"}
