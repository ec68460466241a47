"""The experiment on antibodies: what steering by an energy does, and does not. Imports no torch until it is run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise.recipes.antibody_configuration import Antibody
from equipoise.recipes.tables import EVALUATION

FIGURES = {
    "energy": "energy",
    "improved_fraction": "below native",
    "contact": "contact",
    "clash": "clash",
    "connectivity": "connectivity",
    "second_energy": "second energy",
    "amino_acid_recovery": "recovery",
    "ca_rmsd": "CA RMSD",
    "diversity": "diversity",
    "top1_energy": "top 1",
    "top1_binding_energy": "top 1, binding",
    "residual_std": "residual's std",
    "seen_energy": "energy, seen",
    "seen_energy_native": "native, seen",
    "denoiser_evaluations": "denoiser evaluations",
}

PAIRED = {
    "energy": "energy",
    "second_energy": "second energy",
    "amino_acid_recovery": "recovery",
    "ca_rmsd": "CA RMSD",
    "diversity": "diversity",
}

PAIRS = (
    ("rtb", "diffusion"),
    ("tb", "diffusion"),
    ("tb", "diffusion (equal evaluations)"),
    ("paper", "diffusion"),
    ("tb", "tb (shuffled)"),
    ("rtb", "tb"),
)
"""Runs that are compared: the first less the second."""

STEPS = 200
JUDGED = 50


def evaluations(config: Antibody) -> float:
    """Denoiser evaluations of one step, states counted once whatever they are for.

    In `tb` and `rtb`, new designs are drawn by `time_steps` each, all designs are scored once without gradients (in
    `rtb` by the prior too) and at `subsample` steps with; natives that are denoised cost one.

    Example:
        >>> evaluations(Antibody(mode="tb", batch=16, designs=8, natives=8, time_steps=25, subsample=5))
        688.0
    """
    with_gradient = config.subsample or config.time_steps
    scored = config.batch * (with_gradient + (config.time_steps if config.subsample else 0))
    if config.mode == "diffusion":
        return float(config.batch)
    if config.mode == "paper":
        return float(config.batch + scored)
    drawn = config.time_steps * config.batch * (0.5 if config.source == "replay" else 1.0)
    prior = config.batch * config.time_steps if config.mode == "rtb" else 0
    return drawn + scored + prior + (config.natives if config.mode == "tb" else 0)


def _arms(seed: int, folder: Path) -> dict[str, Antibody]:
    """What one checkpoint is forked into: equal steps, and as many denoiser evaluations as `tb` has.

    The checkpoint is the same for all seeds: it is trained among the runs of seed 0.
    """
    shared: dict[str, Any] = {"seed": seed, "steps": STEPS, "every": STEPS // 2, "judged": JUDGED}
    forked = {**shared, "prior": folder.parent / "seed-0" / "prior"}
    tb = Antibody(mode="tb", **forked)
    equal = round(evaluations(tb))
    paper = round(equal / evaluations(Antibody(mode="paper", batch=1, **forked)))
    steps = Antibody.prior_steps
    prior = Antibody(mode="diffusion", schedule="cosine", **{**shared, "steps": steps, "every": steps // 4})
    return {
        **({"prior": prior} if seed == 0 else {}),
        "diffusion": Antibody(mode="diffusion", **forked),
        "diffusion (equal evaluations)": Antibody(mode="diffusion", batch=equal, **forked),
        "tb": tb,
        "rtb": Antibody(mode="rtb", batch=10, designs=5, **forked),
        "paper": Antibody(mode="paper", batch=paper, **forked),
        "tb (shuffled)": Antibody(mode="tb", shuffle=True, **forked),
    }


ABFLOWNET2025: dict[str, Any] = {
    "about": "antibody H3 loops: denoising, with balance, against the prior, on natives alone, with shuffled energies",
    "source": "Abir et al. 2025, arXiv:2505.12358 (AbFlowNet). Here 58 complexes of a benchmark (CC BY 4.0), "
    "split by antigen, a stand-in energy that is no affinity, and all seeds fork the checkpoint among seed 0's; the "
    "published figures need SAbDab, PyRosetta and GPUs",
    "runs": _arms,
    "figures": FIGURES,
    "curves": ("energy", "second_energy", "ca_rmsd"),
    "judged": True,
    "slow": True,
    "paired": True,
}


def write_paired(found: Mapping[str, Sequence[Path]], out: Path) -> None:
    """Writes `paired.md`: differences of two runs' figures, complexes resampled in pairs; each is a mean of seeds."""
    lines = ["| runs | figure | difference | 95 % | complexes | seeds |", "|---|---|---|---|---|---|"]
    for first, second in PAIRS:
        held = [_by_complex(found.get(label, ())) for label in (first, second)]
        if all(held):
            lines += _rows(f"{first} - {second}", held, min(len(found[first]), len(found[second])))
    (out / "paired.md").write_text("\n".join(lines) + "\n")


def _rows(label: str, held: Sequence[Mapping[str, Mapping[str, float]]], seeds: int) -> list[str]:
    from equipoise.antibody.judge import bootstrap

    lines = []
    for name, heading in PAIRED.items():
        values = [{key: figures[name] for key, figures in run.items()} for run in held]
        mean, low, high = bootstrap(values[0], values[1])
        common = len(values[0].keys() & values[1].keys())
        lines.append(f"| {label} | {heading} | {mean:.3f} | {low:.3f} to {high:.3f} | {common} | {seeds} |")
    return lines


def _by_complex(paths: Sequence[Path]) -> dict[str, dict[str, float]]:
    """Each complex's figures, meaned over the seeds in which it was judged."""
    files = [path / EVALUATION for path in paths]
    runs = [json.loads(file.read_text()).get("complexes", {}) for file in files if file.exists()]
    names = {name for run in runs for name in run}
    found = {}
    for name in sorted(names):
        several = [run[name] for run in runs if name in run]
        found[name] = {key: sum(figures[key] for figures in several) / len(several) for key in several[0]}
    return found
