"""What a run's file, folder and prior settle: modes begun from another's file, priors, paths, means, figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from antibody import small
from equipoise.antibody.judge import mean_of
from equipoise.antibody.natives import Natives
from equipoise.cli.flags import parse_config
from equipoise.recipes.antibody_configuration import Antibody, Mode
from equipoise.recipes.mappings import to_mapping
from equipoise.recipes.runs import open_run, train

SETTLED = {
    "diffusion": (None, None),
    "tb": ("trajectory", "group_mean"),
    "rtb": ("relative", "group_mean"),
    "paper": ("trajectory", "learned"),
}


def begun(stored: Antibody, mode: Mode, tmp_path: Path, *words: str) -> Antibody:
    """`train antibody --config FILE --mode MODE`, as it would be stored."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"task": "antibody", **to_mapping(stored.resolved())}))
    words = ("--mode", mode, *words)
    return parse_config(Antibody, words, prog="train", config=tmp_path / "config.yaml", given={}).resolved()


@pytest.mark.parametrize("mode", SETTLED)
@pytest.mark.parametrize("stored", SETTLED)
def test_a_mode_begun_from_another_s_file_has_its_own_residual_and_log_z(
    stored: Mode, mode: Mode, tmp_path: Path
) -> None:
    found = begun(Antibody(mode=stored), mode, tmp_path)
    # A learned log Z is one of the grouped modes' choices too, and stays.
    kept = stored == "paper" and mode in ("tb", "rtb")
    assert (found.residual, found.log_z) == ((SETTLED[mode][0], "learned") if kept else SETTLED[mode])
    assert replace(found, log_z=None).method == Antibody(mode=mode).method
    assert begun(found, mode, tmp_path) == found


def test_a_log_z_of_one_s_own_stays_where_the_mode_takes_it(tmp_path: Path) -> None:
    assert begun(Antibody(mode="tb", log_z="leave_one_out"), "rtb", tmp_path).log_z == "leave_one_out"
    assert begun(Antibody(mode="tb"), "rtb", tmp_path, "--log-z", "learned").log_z == "learned"
    with pytest.raises(ValueError, match="no group"):
        Antibody(mode="paper", log_z="group_mean")


def test_a_run_s_file_names_its_data_wherever_one_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = Antibody(mode="paper", data=Path("complexes"), energy="table=dg.tsv").resolved()
    assert found.data == tmp_path / "complexes" and found.energy == f"table={tmp_path / 'dg.tsv'}"
    assert Antibody().resolved().data is None and Antibody().resolved().energy == "contacts"


def test_the_first_design_is_meaned_over_h3_where_that_is_designed() -> None:
    figures = {f"1abc_{loop}": {"energy": value, "top1_energy": value} for loop, value in (("H3", 1.0), ("L1", 4.0))}
    assert mean_of(figures) == {"energy": 2.5, "top1_energy": 1.0}
    figures["1abc_H2"] = figures.pop("1abc_H3")
    assert mean_of(figures) == {"energy": 2.5, "top1_energy": 2.5}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gemmi", reason="gemmi is not installed (extra 'antibody')")
    folder = tmp_path_factory.mktemp("raw")
    for place, loop in enumerate(("DRGGYFDY", "EDYW", "GYSYAMD", "ARNDC")):
        small.write_complex(folder / f"1ab{place}.pdb", loop, seed=place)
    (folder / "bad.pdb").write_text("nothing")
    return folder


@pytest.fixture
def tiny(raw: Path) -> Antibody:
    sizes = {"network": (8, 4, 1), "patch": (6, 6), "judged": 3, "time_steps": 3, "subsample": 2}
    counts = {"steps": 1, "every": 1, "batch": 6, "designs": 3, "natives": 2, "prior_steps": 1, "held_out": 2}
    return Antibody(mode="diffusion", data=raw, source="on_policy", **sizes, **counts)  # type: ignore[arg-type]


LEFT_OUT = pytest.mark.filterwarnings("ignore:.*left out")


def test_what_is_left_out_of_a_folder_is_said(tiny: Antibody, raw: Path) -> None:
    with pytest.warns(RuntimeWarning, match=r"1 left out, first bad: 'bad\.pdb' .* 'equipoise antibody prepare' lists"):
        train(tiny)
    lost = [line for line in (raw / "1ab0.pdb").read_text().splitlines() if line[21:26] != f"H{102:4d}"]
    (raw / "1ab9.pdb").write_text("\n".join(lost))
    try:
        with pytest.warns(RuntimeWarning, match="3 left out"):  # the file, the loop, and a complex that has no other
            train(tiny)
    finally:
        (raw / "1ab9.pdb").unlink()


@LEFT_OUT
def test_a_prior_that_has_seen_what_is_only_judged_on_is_refused(tiny: Antibody, tmp_path: Path) -> None:
    assert tiny.data is not None
    other = tmp_path / "other"
    for place in range(4):
        small.write_complex(other / f"2ab{place}.pdb", seed=place)
    first = tmp_path / "prior"
    train(replace(tiny, out=first))
    run = replace(tiny, mode="rtb", prior=first, batch=6)
    train(replace(run, held_out=1))
    for name, wrong in (("more", {"held_out": 3}), ("loops", {"loops": ("H3", "H2")}), ("data", {"data": other})):
        with pytest.raises(ValueError, match=r"is no prior of this task with 3 steps.*--held-out"):
            train(replace(run, out=tmp_path / name, **wrong))


@LEFT_OUT
@pytest.mark.parametrize(
    ("mode", "shown"), [("tb", "residuals-balance"), ("rtb", "residuals"), ("paper", "residuals-balance")]
)
def test_residuals_are_drawn_of_every_mode_that_has_them(
    mode: Mode, shown: str, tiny: Antibody, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    from equipoise.plots import exhibits

    train(replace(tiny, mode=mode, out=tmp_path / "run"))  # 3 designs do not divide 1,000
    assert [one.name for one in exhibits.figures_of(open_run(tmp_path / "run"))] == [shown]


def test_conditions_of_natives_are_those_that_are_trained_on() -> None:
    rows, group = Natives(small.patches(), torch.tensor([0, 2])).conditions(40, torch.Generator().manual_seed(0))
    assert set(rows.tolist()) == {0, 2} and torch.equal(rows, group)
