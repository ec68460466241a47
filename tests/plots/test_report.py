"""The report and the files of figures, of tiny runs: complete, well-formed, self-contained, and hard to break."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from equipoise.cli import main
from equipoise.plots.events import write_events
from equipoise.plots.exhibits import figures_of
from equipoise.plots.files import offered
from equipoise.plots.records import names, read_runs
from equipoise.plots.report import write_report
from equipoise.recipes.discrete import DiscreteRun
from equipoise.recipes.runs import open_run
from equipoise.training.folder import RunFolder

VOID = {"meta", "br", "hr", "img", "link", "input"}
TINY = ["--steps", "20", "--every", "10", "--side", "4", "--hidden", "8", "--batch", "8"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three runs: a grid in two dimensions by two methods, and one in three."""
    folder = tmp_path_factory.mktemp("runs")
    for name, *flags in (("tb",), ("subtb", "--method", "subtb"), ("cube", "--method", "vargrad", "--dim", "3")):
        assert main(["train", "hypergrid", *TINY, *flags, "--out", str(folder / name)]) == 0
    return folder


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A copy of them, to be spoiled."""
    return shutil.copytree(trained, tmp_path / "runs")


class Page(HTMLParser):
    """The elements of a page, held to be closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def made(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the three runs."""
    out = tmp_path_factory.mktemp("made") / "new" / "report.html"
    assert write_report([trained / "tb", trained / "subtb", trained / "cube"], out) == []
    return out


def report(*paths: Path, out: Path) -> tuple[Page, list[str]]:
    warnings = write_report(paths, out)
    return Page(out.read_text()), warnings


def test_a_report_says_what_was_run_and_how_it_went(trained: Path, made: Path) -> None:
    page = Page(made.read_text())
    assert "Equipoise: 3 runs" in page.text
    for words in ("sub_trajectory / reverse_kl / flow / on_policy", "trajectory / reverse_kl / group_mean / on_policy"):
        assert words in page.text.replace("\u00a0", " ")
    last = RunFolder(trained / "tb").metrics()[-1]
    assert f"{last['total_variation']:#.4g}" in page.text
    assert f"{last['log_z_error']:+#.4g}".replace("-", "−") in page.text
    assert f"{last['mean_reward']:#.4g} ({last['mean_reward_exact']:#.4g})" in page.text
    drawn = [figure["aria-label"] for figure in page.all("svg") if "aria-label" in figure]
    assert drawn[:3] == ["Total variation", "log Z", "Mean reward"]
    assert drawn[3:] == 2 * ["Target beside sampler", "Target beside sampler", "Residuals"] + [
        "Sampler against target",
        "Residuals",
    ]
    assert page.text.count("perfect sampler would") == 3 + 6
    assert "learning_rate_log_z" in page.text
    assert json.loads((trained / "tb" / "environment.json").read_text())["platform"] in page.text
    assert len(page.all("details")) == 6


def test_a_report_is_whole_in_one_file_and_fits_a_phone(made: Path) -> None:
    source = made.read_text()
    page = Page(source)
    assert "http:" not in source
    assert "https:" not in source
    assert "@import" not in source
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.found}
    for _, attributes in page.found:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
        assert not any(name.startswith("on") for name in attributes)
    metas = page.all("meta")
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    ids = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    tables = source.count("<table")
    assert len(re.findall(r'<div class="scroll"[^>]*><table', source)) == tables == 7


def test_the_same_runs_give_the_same_page(runs: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_report([runs / "cube"], tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_what_a_run_is_called_is_never_markup(runs: Path, tmp_path: Path) -> None:
    hostile = runs / "<img src=x onerror=alert(1)>&$\\frac{\"'\n\u202e"
    (runs / "cube").rename(hostile)
    config = hostile / "config.yaml"
    config.write_text(config.read_text() + "out: '</table><script>alert(2)</script>'\n")
    page, _ = report(hostile, out=tmp_path / "report.html")
    assert page.all("img") == page.all("script") == []
    assert "<img src=x onerror=alert(1)>&$" in page.text
    assert "</table><script>alert(2)</script>" in page.text


def test_a_run_without_a_whole_checkpoint_is_reported_as_far_as_it_goes(runs: Path, tmp_path: Path) -> None:
    for checkpoint in (runs / "tb" / "checkpoints").glob("*.safetensors"):
        checkpoint.write_bytes(b"")
    (runs / "tb" / "DONE").unlink()
    page, (warning,) = report(runs / "tb", runs / "cube", out=tmp_path / "report.html")
    assert "tb: no figures of its sampler: " in warning
    assert "has no whole checkpoint" in warning
    assert "has no whole checkpoint" in page.text
    assert "at step 20" in page.text
    assert len([figure for figure in page.all("svg") if figure.get("aria-label") == "Residuals"]) == 1


def test_a_run_without_any_checkpoint_is_said_to_be_untrained(runs: Path, tmp_path: Path) -> None:
    shutil.rmtree(runs / "tb" / "checkpoints")
    page, (warning,) = report(runs / "tb", out=tmp_path / "report.html")
    assert "untrained" in warning and "untrained" in page.text


def test_a_folder_that_is_no_run_is_listed_with_the_reason(runs: Path, tmp_path: Path) -> None:
    (runs / "subtb" / "config.yaml").write_text("- not\n- a mapping\n")
    page, warnings = report(runs / "cube", tmp_path / "nothing", runs / "subtb", out=tmp_path / "report.html")
    assert [warning.partition(":")[0] for warning in warnings] == ["nothing", "subtb"]
    assert "holds no run: no config.yaml in it" in page.text
    assert "a mapping of names to values was expected" in page.text


def test_what_cannot_be_read_of_a_run_leaves_the_rest(runs: Path) -> None:
    metrics = runs / "tb" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:-25])
    (run,) = read_runs([runs / "tb"])
    assert (run.problems, [record["step"] for record in run.metrics]) == ((), [0, 10])
    metrics.write_text('[1]\n{"loss": 1}\n{"step": 5}\n')
    (runs / "tb" / "environment.json").write_text("[]")
    (runs / "tb" / "DONE").write_text("")
    (run,) = read_runs([runs / "tb"])
    assert (run.metrics, run.environment, run.done) == ([{"step": 5}], {}, None)
    assert [problem.partition(" ")[0] for problem in run.problems] == ["environment.json", "DONE"]
    metrics.write_text('{"step": 0}\n{"step": \n')
    assert "metrics.jsonl cannot be read" in read_runs([runs / "tb"])[0].problems[1]


def test_a_report_outlives_numbers_that_are_none(runs: Path, tmp_path: Path) -> None:
    (runs / "cube" / "metrics.jsonl").write_text('{"step": 0, "total_variation": NaN, "log_z_error": Infinity}\n')
    page, warnings = report(runs / "cube", out=tmp_path / "report.html")
    assert warnings == []
    assert "Learning curves" not in page.text
    assert "Residuals" in page.text


def test_a_broken_checkpoint_a_run_just_begun_and_an_unknown_task_are_survived(runs: Path, tmp_path: Path) -> None:
    newest = max((runs / "cube" / "checkpoints").glob("*.safetensors"))
    newest.write_bytes(b"")
    (runs / "subtb" / "metrics.jsonl").unlink()
    (runs / "subtb" / "DONE").unlink()
    for name, before, after in (("tb", "task: hypergrid", "task: grid"), ("subtb", "reward: corners", "reward: no:no")):
        config = runs / name / "config.yaml"
        config.write_text(config.read_text().replace(before, after))
    page, warnings = report(runs / "cube", runs / "subtb", runs / "tb", out=tmp_path / "report.html")
    assert "its sha256 is not the one that was noted" in warnings[0]
    assert ["no figures of its sampler" in warning for warning in warnings] == [False, True, True]
    assert "no record yet" in page.text
    assert "unknown task 'grid'" in page.text
    assert "Sampler against target" in page.text


def test_an_offer_that_fails_leaves_the_others(runs: Path) -> None:
    stored = open_run(runs / "cube")
    assert isinstance(stored.built, DiscreteRun)
    broken = dataclasses.replace(stored.built, reward=lambda objects, context: torch.full((len(objects),), torch.inf))
    exhibits, problems = offered(dataclasses.replace(stored, built=broken))
    assert [exhibit.name for exhibit in exhibits] == ["probabilities"]
    assert [problem.partition(":")[0] for problem in problems] == ["no residuals"]


def test_runs_have_names_of_their_own(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "c\n"]
    assert names(paths) == [str(paths[0]), str(paths[1]), "c?"]


def test_a_run_given_twice_is_one(runs: Path) -> None:
    assert [run.name for run in read_runs([runs / "tb", runs / "subtb" / ".." / "tb"])] == ["tb"]


def test_a_run_offers_figures_that_say_what_a_perfect_sampler_would_show(runs: Path) -> None:
    exhibits = figures_of(open_run(runs / "tb"))
    assert [exhibit.name for exhibit in exhibits] == ["heat_maps", "residuals"]
    assert all("A perfect sampler would" in exhibit.caption for exhibit in exhibits)
    assert [exhibit.narrow is not None for exhibit in exhibits] == [True, False]


@pytest.mark.parametrize("method", ["db", "fm", "fl_db", "modified_db", "rtb"])
def test_every_method_has_its_figures(method: str, tmp_path: Path) -> None:
    out = str(tmp_path / method)
    assert main(["train", "hypergrid", *TINY, "--method", method, "--loss", "forward_kl", "--out", out]) == 0
    names = [exhibit.name for exhibit in figures_of(open_run(Path(out)))]
    assert names == ["heat_maps", "residuals"]


def command(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str], str]:
    capsys.readouterr()
    status = main(words)
    said = capsys.readouterr()
    return status, said.out.splitlines(), said.err


def test_the_commands_print_the_files_that_they_wrote(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tb, cube = str(runs / "tb"), str(runs / "cube")
    assert command("report", cube, capsys=capsys) == (0, ["report.html"], "")
    status, written, _ = command("plot", tb, capsys=capsys)
    kinds = ["total_variation", "log_z", "mean_reward", "heat_maps", "residuals"]
    assert (status, written) == (0, [f"{tb}/plots/{kind}.png" for kind in kinds])
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in written)
    status, written, _ = command("plot", cube, cube + "/../subtb", "--out", "figures", capsys=capsys)
    assert [Path(path).name for path in written] == [
        *(f"{kind}.png" for kind in kinds[:3]),
        "cube-probabilities.png",
        "cube-residuals.png",
        "subtb-heat_maps.png",
        "subtb-residuals.png",
    ]


def test_the_commands_answer_errors_with_one_line(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = str(tmp_path / "nothing")
    for words, expected in (
        (("report",), "no run is given"),
        (("plot",), "no run is given"),
        (("report", nothing), "holds no run"),
        (("report", nothing, nothing + "2"), "(nor is there one in the 1 other)"),
        (("plot", nothing), "holds no run"),
        (("plot", nothing, "--tensorboard"), "holds no run"),
        (("plot", str(runs / "tb"), "--tensorboard", "--out", "x"), "leave --out away"),
        (("report", str(runs / "tb"), "--out", str(tmp_path)), "is a folder"),
        (("report", str(runs / "tb"), "--ou", "x"), "did you mean '--out'?"),
    ):
        status, out, error = command(*words, capsys=capsys)
        assert (status, out) == (1, [])
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert expected in error


def test_events_hold_every_metric_and_are_written_anew(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = RunFolder(runs / "tb")
    write_events(folder)
    assert command("plot", str(runs / "tb"), "--tensorboard", capsys=capsys)[:2] == (
        0,
        [str(folder.path / "tensorboard")],
    )
    assert len(list((folder.path / "tensorboard").iterdir())) == 1
    found = accumulator.EventAccumulator(str(folder.path / "tensorboard"))
    found.Reload()
    told = [(event.step, event.value) for event in found.Scalars("total_variation")]
    assert told == [(record["step"], pytest.approx(record["total_variation"], rel=1e-6)) for record in folder.metrics()]
    assert "loss" in found.Tags()["scalars"]
    assert "step" not in found.Tags()["scalars"]


def test_without_an_extra_the_error_names_it(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    tb = str(runs / "tb")
    for words, extra in (
        (("report", tb), "plots"),
        (("plot", tb), "plots"),
        (("plot", tb, "--tensorboard"), "tensorboard"),
    ):
        status, _, error = command(*words, capsys=capsys)
        assert status == 1
        assert error.endswith(f"pip install 'equipoise[{extra}]'\n")
