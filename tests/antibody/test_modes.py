"""Modes of the task: what blinds `paper` mode, and the task from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from antibody import small
from equipoise.antibody.natives import Natives, SeveralEach
from equipoise.cli import main
from equipoise.objectives import partition
from equipoise.objectives.divergences import divergence
from equipoise.recipes.antibody_configuration import Antibody
from equipoise.recipes.antibody_experiments import evaluations, write_paired
from equipoise.recipes.experiments import EXPERIMENTS
from equipoise.training.balance import RESIDUALS, balance
from equipoise.training.terms import backward
from equipoise.trajectories import Trajectories

pytest.importorskip("gemmi", reason="gemmi is not installed (extra 'antibody')")

TINY = "network: [8, 4, 1]\npatch: [6, 6]\njudged: 3\n"
WORDS = [
    "--steps",
    "3",
    "--every",
    "2",
    "--batch",
    "4",
    "--designs",
    "2",
    "--natives",
    "2",
    "--time-steps",
    "3",
    "--subsample",
    "2",
]


def gradient(rows: Trajectories, energies: torch.Tensor, table: nn.Embedding) -> tuple[torch.Tensor, float]:
    """The balance term's gradient in the networks, and its value, with log Z of each complex at its best."""
    sampler = small.sampler(steps=3)
    log_z = partition.Conditional(lambda trajectories: trajectories.group, table)
    rows = Trajectories(**{**vars(rows), "log_reward": -energies})
    term = balance("b", "s", sampler, RESIDUALS["trajectory"], divergence("reverse_kl"), log_z)
    # With the square, the best log Z of a complex is minus the mean of its log-ratios.
    with torch.no_grad():
        table.weight.zero_()
        first = backward([term], rows, 0, torch.Generator())[0].residual
        assert first is not None
        for row in rows.group.unique().tolist():
            table.weight[row] = -first[rows.group == row].mean()
    loss = backward([term], rows, 0, torch.Generator())[0]
    parts = [value.grad.flatten() for value in sampler.parameters() if value.grad is not None]
    return torch.cat(parts), float(loss.value.detach())


def test_on_native_loops_alone_with_log_z_of_the_complex_energies_do_not_matter() -> None:
    """Loss and gradient are those of any other energies, permuted among complexes or thrown away."""
    sampler = small.sampler(steps=3)
    source = Natives(sampler.patches, torch.arange(3), sampler=sampler)
    rows = source.draw(12, torch.Generator().manual_seed(0))
    energies = torch.tensor([-30.0, 5.0, 80.0])
    found = [gradient(rows, by[rows.group], nn.Embedding(3, 1)) for by in (energies, energies[[2, 0, 1]], 0 * energies)]
    for other, value in found[1:]:
        assert value == pytest.approx(found[0][1], rel=1e-3)
        assert torch.allclose(other, found[0][0], rtol=1e-2, atol=1e-3 * float(found[0][0].abs().max()))


def test_on_several_designs_of_a_complex_energies_do_matter() -> None:
    sampler = small.sampler(steps=3)
    context, _ = SeveralEach(torch.arange(3), 4)(12, torch.Generator().manual_seed(0))
    rows = sampler.sample(12, context=context, generator=torch.Generator().manual_seed(1))
    energies = 30 * torch.randn(12, generator=torch.Generator().manual_seed(2))
    first, second = (gradient(rows, value, nn.Embedding(3, 1))[0] for value in (energies, energies.roll(1)))
    assert float((first - second).norm()) > 0.05 * float(first.norm())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw, out = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("out") / "prepared"
    for place, loop in enumerate(("DRGGYFDY", "EDYW", "GYSYAMD")):
        small.write_complex(raw / f"1ab{place}.pdb", loop, seed=place)
    (raw / "bad.pdb").write_text("nothing")
    assert main(["antibody", "prepare", str(raw), "--out", str(out)]) == 0
    (out.parent / "tiny.yaml").write_text(TINY)
    return out


def trained(folder: Path, out: Path, *words: str) -> Path:
    start = ["train", "antibody", "--config", str(folder.parent / "tiny.yaml"), "--data", str(folder), *WORDS]
    assert main([*start, "--prior-steps", "2", "--held-out", "1", *words, "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("mode", ["diffusion", "tb", "rtb", "paper"])
def test_every_mode_trains_is_judged_and_designs_loops_of_a_new_complex(
    mode: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = trained(folder, tmp_path / "run", "--mode", mode, *(["--log-z", "learned"] if mode == "rtb" else []))
    assert (out / "prior" / "DONE").exists() == (mode != "diffusion")
    capsys.readouterr()
    assert main(["evaluate", str(out), "--data", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    wanted = {"energy", "energy_native", "amino_acid_recovery", "ca_rmsd", "diversity", "improved_fraction"}
    wanted |= {"top1_energy", "top1_binding_energy", "residual_mean", "residual_std"}
    assert wanted <= set(found) and len(found["complexes"]) == 3 and wanted <= set(found["complexes"]["1ab0_H3"])
    assert main(["evaluate", str(out), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["complexes"]) == 1  # the one that is held out
    new = tmp_path / "new.pdb"
    small.write_complex(new, "ARNDC", seed=7)
    assert main(["sample", str(out), "--complex", str(new), "-n", "2", "--out", str(tmp_path / "designs")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and len(lines[1].split("\t")[2]) == 5
    assert sorted(path.name for path in (tmp_path / "designs").iterdir()) == ["new_H3_0001.pdb", "new_H3_0002.pdb"]
    assert main(["sample", str(out), "-n", "2"]) == 0


def test_a_run_that_is_taken_up_ends_where_it_would_have(folder: Path, tmp_path: Path) -> None:
    whole, cut = (trained(folder, tmp_path / name, "--mode", "tb") for name in ("whole", "cut"))
    for path in (cut / "DONE", *(cut / "checkpoints").glob("step-00000003*")):
        path.unlink()
    assert main(["resume", str(cut)]) == 0
    last = "checkpoints/step-00000003.safetensors"
    assert (cut / last).read_bytes() == (whole / last).read_bytes()
    assert (cut / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_what_does_not_fit_is_refused_before_anything_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dg.tsv").write_text("1ab0\t-3.0\n")
    (tmp_path / "energies_of_loops.py").write_text(
        "import torch\ndef nan(objects, context):\n    return torch.full((len(objects['letter']),), torch.nan)\n"
    )
    out = str(tmp_path / "run")
    for words, message in (
        (["--energy", "table=dg.tsv"], "needs one of every design"),
        (["--mode", "paper", "--energy", "table=dg.tsv", "--held-out", "1"], "a missing energy is never guessed"),
        (["--energy", "contact"], "did you mean 'contacts'"),
        (["--energy", "energies_of_loops:nan", "--held-out", "1"], "no finite number"),
        (["--mode", "paper", "--log-z", "group_mean"], "no group"),
        (["--mode", "paper", "--shuffle"], "leave out --shuffle"),
        (["--batch", "6", "--designs", "4"], "a multiple was expected"),
        (["--loops", "H9"], "one or more of H1"),
        (["--loops", "H3", "H3"], "each once"),
        (["--held-out", "9"], "hold out fewer"),
        (["--data", str(tmp_path / "nowhere")], "no folder"),
    ):
        assert main(["train", "antibody", "--data", str(folder), "--out", out, *words]) == 1
        assert message in capsys.readouterr().err, words
        assert not Path(out).exists()


def test_the_experiment_s_arms_have_one_checkpoint_equal_steps_and_equal_evaluations(tmp_path: Path) -> None:
    first, second = (EXPERIMENTS["abflownet2025"].runs(seed, tmp_path / f"seed-{seed}") for seed in (0, 1))
    forked = {label: config for label, config in first.items() if label != "prior"}
    assert "prior" in first and forked.keys() == second.keys()
    priors = {config.prior for config in (*forked.values(), *second.values()) if isinstance(config, Antibody)}
    assert priors == {tmp_path / "seed-0" / "prior"}
    assert len({config.steps for config in forked.values()}) == 1
    counts = {label: evaluations(config) for label, config in forked.items() if isinstance(config, Antibody)}
    dear = [count for label, count in counts.items() if label != "diffusion"]
    assert max(dear) / min(dear) < 1.05 and len(dear) == 5


def test_paired_differences_are_written_for_runs_that_are_there(tmp_path: Path) -> None:
    figures = dict.fromkeys(("energy", "second_energy", "amino_acid_recovery", "ca_rmsd", "diversity"), 1.0)
    for label, more in (("rtb", -2.0), ("diffusion", 0.0)):
        (tmp_path / label).mkdir()
        shifted = {name: value + more for name, value in figures.items()}
        (tmp_path / label / "evaluation.json").write_text(json.dumps({"complexes": {"a": shifted, "b": shifted}}))
    write_paired({label: [tmp_path / label] for label in ("rtb", "diffusion")}, tmp_path)
    lines = (tmp_path / "paired.md").read_text().splitlines()
    assert len(lines) == 2 + 5 and "| rtb - diffusion | energy | -2.000 | -2.000 to -2.000 | 2 | 1 |" in lines
