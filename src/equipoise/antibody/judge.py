"""Judging designs: energies and their parts, recovery, distance to nature, diversity; per complex and in all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from equipoise.antibody.energies import Energy, StandIn
from equipoise.antibody.patches import Patches
from equipoise.antibody.residues import SCALE
from equipoise.antibody.sampler import LoopSampler
from equipoise.trajectories import Trajectories

TERMS = ("log_pf", "log_pb")
PATHS = 16
"""Designs of each complex whose paths the residual's figures are of."""


class LoopJudge:
    """Figures of a sampler's designs, drawn with seeds of its own: judging changes no run.

    Args:
        sampler: judged as it is at each call.
        energy: of the reward.
        second: an energy that was never the reward: what falls under the reward's and not under it was exploited.
        beta: the reward's exponent.
        designs: of each complex.
        seed: of the draws.
    """

    def __init__(
        self, sampler: LoopSampler, energy: Energy, second: StandIn, *, beta: float, designs: int = 32, seed: int = 0
    ) -> None:
        self.sampler, self.energy, self.second = sampler, energy, second
        self.beta, self.designs, self.seed = beta, designs, seed

    def by_complex(self, rows: Sequence[int]) -> dict[str, dict[str, float]]:
        """The figures of each of these patches, by name."""
        return {self.sampler.patches.names[row]: self.of(row) for row in rows}

    def figures(self, rows: Sequence[int], prefix: str = "") -> dict[str, float]:
        """Means over these patches."""
        return {f"{prefix}{name}": value for name, value in mean_of(self.by_complex(rows)).items()}

    def of(self, row: int) -> dict[str, float]:
        """The figures of one patch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + row)
        before = self.sampler.evaluations.clone()
        context = torch.full((self.designs,), row)
        drawn = self.sampler.sample(self.designs, context=context, generator=generator)
        assert isinstance(drawn.objects, Mapping)
        found = figures_of(drawn.objects, row, self.sampler.patches, self.energy, self.second)  # type: ignore[arg-type]
        found |= self._residual(drawn[torch.arange(min(PATHS, self.designs))])
        self.sampler.evaluations.copy_(before)
        return found

    @torch.no_grad()
    def _residual(self, drawn: Trajectories) -> dict[str, float]:
        """The model's path against the target's, up to log Z: its mean is minus an estimate of log Z (the ELBO)."""
        other = "log_prior" if "log_prior" in self.sampler.offers else "log_pb"
        scores = self.sampler.score(drawn, frozenset({"log_pf", other}))
        energy = self.energy(drawn.objects, drawn.context)  # type: ignore[arg-type]
        ratio = (scores.get("log_pf") - scores.get(other)).double().sum(1) + self.beta * energy.double()
        return {"residual_mean": float(ratio.mean()), "residual_std": float(ratio.std())}


def figures_of(
    objects: Mapping[str, Tensor], row: int, patches: Patches, energy: Energy, second: StandIn
) -> dict[str, float]:
    """Figures of n designs of one patch.

    `improved_fraction` is the share with less energy than the native loop; `ca_rmsd` is taken without superposition,
    in angstrom; `diversity` is the mean share of letters in which two designs differ. `top1_...` are of the design
    whose ranks by energy and by binding energy (the contacts' part) have the smallest sum. `second_...` are of the
    energy that was never the reward.
    """
    n = len(objects["letter"])
    rows = torch.full((n,), row)
    size = int(patches.lengths[row])
    native = {name: value[row : row + 1] for name, value in patches.native().items()}
    own, there = energy(objects, rows), energy(native, rows[:1])
    parts, native_parts = second_parts(energy, patches, objects, rows), second_parts(energy, patches, native, rows[:1])
    letter = objects["letter"][:, :size]
    apart = SCALE * (objects["position"][:, :size] - native["position"][:, :size])
    best = int((_ranks(own) + _ranks(parts["contact"])).argmin())
    differing = (letter[:, None] != letter).double().mean(-1)
    judged, native_judged = second(objects, rows), second(native, rows[:1])
    found = {
        "energy": float(own.mean()),
        "energy_native": float(there),
        "improved_fraction": float((own < there).double().mean()),
        "amino_acid_recovery": float((letter == native["letter"][:, :size]).double().mean()),
        "ca_rmsd": float(apart.square().sum(-1).mean(1).sqrt().mean()),
        "diversity": float(differing.sum() / max(n * (n - 1), 1)),
        "top1_energy": float(own[best]),
        "top1_binding_energy": float(parts["contact"][best]),
        "binding_energy_native": float(native_parts["contact"]),
        "second_energy": float(judged.mean()),
        "second_energy_native": float(native_judged),
        "second_improved_fraction": float((judged < native_judged).double().mean()),
    }
    return found | {name: float(value.mean()) for name, value in parts.items()}


def second_parts(energy: Energy, patches: Patches, objects: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """The parts of an energy that has them, else those of the stand-in."""
    return (energy if isinstance(energy, StandIn) else StandIn(patches)).parts(objects, rows)


def _ranks(value: Tensor) -> Tensor:
    """How many are smaller, so that equals share a rank."""
    return (value[:, None] > value).sum(1)


def mean_of(by_complex: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The mean over complexes and loops of each figure; of `top1_...` over H3 alone, where that is designed.

    Example:
        >>> mean_of({"a_H3": {"energy": 1.0, "top1_energy": 1.0}, "a_L1": {"energy": 3.0, "top1_energy": 5.0}})
        {'energy': 2.0, 'top1_energy': 1.0}
    """
    each = list(by_complex.values())
    third = [figures for name, figures in by_complex.items() if name.endswith("_H3")] or each
    counted = {name: third if name.startswith("top1_") else each for name in each[0]}
    return {name: sum(figures[name] for figures in few) / len(few) for name, few in counted.items()}


def bootstrap(
    first: Mapping[str, float], second: Mapping[str, float], *, draws: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of first - second over the complexes of both, and its 95 % interval by resampling complexes in pairs.

    Source: Efron and Tibshirani, 1993, "An introduction to the bootstrap", the percentile interval.

    Args:
        first: a figure by complex.
        second: the same figure of another run.

    Raises:
        ValueError: no complex in common.

    Example:
        >>> bootstrap({"a": 1.0, "b": 2.0}, {"a": 0.0, "b": 1.0})
        (1.0, 1.0, 1.0)
    """
    names = sorted(first.keys() & second.keys())
    if not names:
        raise ValueError("the two runs have no complex in common")
    apart = torch.tensor([first[name] - second[name] for name in names], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    means = apart[torch.randint(len(names), (draws, len(names)), generator=generator)].mean(1)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return float(apart.mean()), low, high
