"""The antibody task: from a configuration to a run, whatever the mode."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.antibody.designs import write_designs
from equipoise.antibody.energies import Energy, StandIn, Tabled, as_reward, exchanged, quasi_chemical, read_table
from equipoise.antibody.folder import load
from equipoise.antibody.judge import LoopJudge, mean_of
from equipoise.antibody.natives import Natives, SeveralEach
from equipoise.antibody.patches import Patches, cut, loop_texts
from equipoise.antibody.process import loop_process
from equipoise.antibody.sampler import LoopNetwork, LoopSampler
from equipoise.antibody.structures import Structure
from equipoise.contracts import Reward, Source
from equipoise.objectives import partition
from equipoise.objectives.divergences import Divergence
from equipoise.recipes.antibody_configuration import Antibody
from equipoise.recipes.antibody_priors import loop_prior
from equipoise.recipes.choices import annealed, divergence_of, falling, same_or_of
from equipoise.recipes.rewards import own_function, wrapped
from equipoise.sampling.calls import Calls, Tallied
from equipoise.sampling.replay import Replay
from equipoise.sampling.rollouts import Rollouts, rewarded
from equipoise.training import policy_gradient as rl
from equipoise.training.balance import RESIDUALS, LogZ, balance
from equipoise.training.loop import Run
from equipoise.training.terms import Term
from equipoise.trajectories import Columns, Trajectories

CLIP = 1.0
"""Largest norm of the gradient."""

SEEN = 6
"""Complexes of training that are judged too."""

STORED = 4096


@dataclass(frozen=True)
class LoopRun:
    """A run on antibody loops, and what its task is made of.

    Attributes:
        config: of the task.
        run: what the loop needs.
        sampler: the diffusion.
        reward: log R = -energy of designs and rows of the patches.
        energy: what designs are judged by: the reward's, or, of a table of natives, the stand-in.
        judge: of the run's complexes.
        train: rows of the patches that are trained on.
        test: rows that are only judged on.
    """

    config: Antibody
    run: Run
    sampler: LoopSampler
    reward: Reward
    energy: Callable[[Patches], Energy]
    judge: LoopJudge
    train: Tensor
    test: Tensor

    def check(self) -> None:
        """Asks for the energy of a few native loops, so that a wrong one is found before anything is written."""
        rows = self.train[:4]
        rewarded(self.reward, {name: value[rows] for name, value in self._patches.native().items()}, rows, len(rows))

    def prepare(self, folder: Path | None) -> None:
        """Takes the prior, or trains it; the run begins as the prior."""
        state = loop_prior(self.config, folder, self.sampler, self.test)
        if state is None:
            return
        try:
            self.sampler.network.load_state_dict(state)
            if self.sampler.prior is not None:
                self.sampler.prior.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"the prior in '{self.config.prior}' does not fit this run: {error}") from error

    def evaluate(self) -> dict[str, float]:
        """Means over the complexes that are held out, and, as `seen_...`, over some of training."""
        return self.run.evaluate()

    def judged(self) -> dict[str, Any]:
        """The figures, and under `complexes` those of each complex that is held out."""
        return {**self.evaluate(), "complexes": self.judge.by_complex(self.test.tolist())}

    def judged_on(self, folder: Path) -> dict[str, Any]:
        """Figures on the complexes of a folder, which need not have been seen: means, and under `complexes` each."""
        patches = _patches(self.config, _loaded(self.config, folder))
        judge = self._judge_on(patches)
        by_complex = judge.by_complex(range(len(patches)))
        return {**mean_of(by_complex), "complexes": by_complex}

    def design(self, structure: Structure, n: int, generator: torch.Generator, out: Path) -> str:
        """n designs of each loop of the run that a complex has: PDB files in `out`; a table of them as text."""
        patches = _patches(self.config, [structure])
        sampler, energy = self.sampler.on(patches), self.energy(patches)
        lines, several = ["file\tloop\tletters\tenergy"], len(patches) > 1
        for row in range(len(patches)):
            rows = torch.full((n,), row)
            drawn = sampler.sample(n, context=rows, generator=generator).objects
            assert isinstance(drawn, Mapping)
            where = out / patches.names[row] if several else out
            paths = write_designs(structure, patches, row, drawn, where)  # type: ignore[arg-type]
            texts = loop_texts(patches, drawn["letter"], rows)  # type: ignore[arg-type]
            values = energy(drawn, rows).tolist()  # type: ignore[arg-type]
            loop = patches.names[row].rpartition("_")[2]
            lines += [
                f"{path}\t{loop}\t{text}\t{value:.6g}" for path, text, value in zip(paths, texts, values, strict=True)
            ]
        return "\n".join([*lines, ""])

    def summary(self) -> list[str]:
        """What matters of the figures, in words."""
        found = self.evaluate()
        return [
            f"energy {found['energy']:.1f} (native {found['energy_native']:.1f}), "
            f"{100 * found['improved_fraction']:.0f} % below the native's",
            f"{100 * found['amino_acid_recovery']:.0f} % of letters as in nature, "
            f"CA {found['ca_rmsd']:.1f} angstrom away",
        ]

    def table(self, n: int, generator: torch.Generator) -> str:
        """n designs of complexes that are held out, as tab-separated text: complex, object, log_reward."""
        rows = self.test[torch.arange(n) % len(self.test)] if len(self.test) else self.train[:1].repeat(n)
        drawn = self.sampler.sample(n, context=rows, generator=generator).objects
        assert isinstance(drawn, Mapping)
        texts = loop_texts(self._patches, drawn["letter"], rows)  # type: ignore[arg-type]
        values = (-self.energy(self._patches)(drawn, rows)).tolist()  # type: ignore[arg-type]
        names = [self._patches.names[row] for row in rows.tolist()]
        lines = [f"{name}\t{text}\t{value:.6g}" for name, text, value in zip(names, texts, values, strict=True)]
        return "\n".join(["complex\tobject\tlog_reward", *lines, ""])

    @property
    def _patches(self) -> Patches:
        return self.sampler.patches

    def _judge_on(self, patches: Patches) -> LoopJudge:
        second = StandIn(patches, table=self.judge.second.table, parts=self.judge.second.counted)
        return LoopJudge(
            self.sampler.on(patches), self.energy(patches), second, beta=self.config.beta, designs=self.config.judged
        )


def antibody(config: Antibody, reward: Callable[..., Tensor] | None = None) -> LoopRun:
    """A run on antibody loops.

    Every mode is terms over one sampler: denoising of native loops; balance of designs (`tb`, `rtb`) or of native loops
    that were noised (`paper`).

    Raises:
        FileNotFoundError: no folder of complexes.
        ValueError: choices that do not fit together, no complexes to train on, or an energy that is missing.
    """
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    structures = _loaded(config, _folder(config))
    patches = _patches(config, structures)
    test = _held_out(patches, config.held_out)
    train = torch.tensor([row for row in range(len(patches)) if row not in set(test.tolist())], dtype=torch.int64)
    if not len(train):
        raise ValueError(f"all {len(patches)} loops are held out, none is left to train on: hold out fewer")
    network = LoopNetwork(*config.network)
    sampler = LoopSampler(
        loop_process(config.time_steps),
        network,
        patches,
        prior=network if config.mode == "rtb" else None,
        subsample=config.subsample,
    )
    energy = _energy(config, reward)
    calls = Calls(_reward(config, energy, patches))
    names = {patches.names[row].rpartition("_")[0] for row in train.tolist()}
    fitted = quasi_chemical([structure for structure in structures if structure.name in names])
    second = StandIn(patches, table=fitted, parts=("contact",))
    judging = _judged_energy(config, energy)
    judge = LoopJudge(sampler, judging(patches), second, beta=config.beta, designs=config.judged)
    run = _join(config, sampler, calls, train, _evaluator(judge, train, test))
    return LoopRun(config, run, sampler, calls, judging, judge, train, test)


def _join(
    config: Antibody, sampler: LoopSampler, calls: Calls, train: Tensor, evaluate: Callable[[], dict[str, float]]
) -> Run:
    patches = sampler.patches
    terms, sources, batch, log_z = [], dict[str, Source](), dict[str, int](), None
    if config.mode in ("diffusion", "tb"):
        terms.append(rl.likelihood("denoising", "natives", sampler))
        sources["natives"] = Natives(patches, train)
        batch["natives"] = config.batch if config.mode == "diffusion" else config.natives
    if config.mode == "paper":
        terms.append(rl.likelihood("denoising", "natives", sampler))
        sources["natives"] = Natives(patches, train, sampler=sampler, reward=calls)
        batch["natives"] = config.batch
    if config.mode != "diffusion":
        name = "natives" if config.mode == "paper" else config.source
        term, log_z = _balance(config, sampler, name)
        terms.append(term)
        if config.mode != "paper":
            conditions = SeveralEach(train, config.designs)
            source: Source = Rollouts(sampler, calls, conditions=conditions)
            if config.source == "replay":
                source = Replay(source, fresh=0.5, capacity=STORED, again=sampler, group_size=config.designs)
            sources[name], batch[name] = Tallied(source, calls), config.batch
    modules: dict[str, nn.Module] = {"policy": sampler}
    if isinstance(log_z, nn.Module):
        modules["log_z"] = log_z
    assert config.learning_rate is not None  # the configuration has filled it in
    rates = {"policy": config.learning_rate, "log_z": config.learning_rate_log_z}
    return Run(
        modules=modules,
        learning_rate={name: falling(rates[name], config.schedule, config.steps) for name in modules},
        terms=tuple(terms),
        sources=sources,
        batch=batch,
        steps=config.steps,
        seed=config.seed,
        clip=CLIP,
        evaluate=lambda: {
            **evaluate(),
            "denoiser_evaluations": float(sampler.evaluations),
            "reward_calls": float(calls.count),
        },
    )


def _balance(config: Antibody, sampler: LoopSampler, source: str) -> tuple[Term, LogZ]:
    residual, log_z_name = config.choices()
    first = divergence_of(config)
    log_z: LogZ = _of_complexes(sampler) if log_z_name == "learned" else partition.estimator(log_z_name, first)
    weight = 1.0 if config.mode == "rtb" else config.weight

    def term(loss: Divergence) -> Term:
        return balance(
            "balance",
            source,
            sampler,
            RESIDUALS[residual],
            loss,
            same_or_of(log_z, log_z_name, loss),
            beta=lambda step, trajectories: config.beta,
            weight=lambda step: weight,
        )

    return annealed(config, term), log_z


def _of_complexes(sampler: LoopSampler) -> partition.Conditional:
    """log Z as a network of the mean of the encoded context; the encoder is not trained by it."""

    @torch.no_grad()
    def features(trajectories: Trajectories) -> Tensor:
        rows = trajectories.context
        assert isinstance(rows, Tensor)
        distinct, place = rows.unique(return_inverse=True)
        encoder = sampler.network.encoder
        pooled = torch.stack([encoder(sampler.patches, row).node.mean(0) for row in distinct.tolist()])
        return pooled[place]

    width = sampler.network.encoder.letter.embedding_dim
    network = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))
    return partition.Conditional(features, network)


def _loaded(config: Antibody, folder: Path) -> tuple[Structure, ...]:
    """A folder's complexes; what of it is left out is said."""
    found = load(folder)
    left = [f"{where}: {reason}" for where, reason in found.malformed]
    without = [one.name for one in found.structures if not set(config.loops) & one.loops.keys()]
    if len(without) < len(found.structures):  # of none at all there is an error
        left += [f"{name}: it has none of the loops {' '.join(config.loops)}" for name in without]
    if left:
        more = "; 'equipoise antibody prepare' lists what is malformed" if found.malformed else ""
        warnings.warn(f"'{folder}': {len(left)} left out, first {left[0]}{more}", RuntimeWarning, stacklevel=3)
    return found.structures


def _patches(config: Antibody, structures: Sequence[Structure]) -> Patches:
    return cut(structures, config.loops, antibody=config.patch[0], antigen=config.patch[1])


def _folder(config: Antibody) -> Path:
    if config.data is not None:
        return config.data
    named = os.environ.get("EQUIPOISE_DATA")
    if not named:
        raise FileNotFoundError(
            "no complexes: give --data DIR, a folder of them ('equipoise antibody prepare' lists what it can read), or "
            "set EQUIPOISE_DATA to a data folder that holds antibody/"
        )
    return Path(named) / "antibody"


def _held_out(patches: Patches, wanted: int) -> Tensor:
    """Rows that are only judged on: whole groups of antigens, in an order that a digest of their names gives."""
    groups: dict[int, list[int]] = {}
    for row, group in enumerate(patches.antigen.tolist()):
        groups.setdefault(group if group >= 0 else -1 - row, []).append(row)
    ranked = sorted(groups.values(), key=lambda rows: hashlib.sha256(patches.names[rows[0]].encode()).digest())
    complexes: set[str] = set()
    chosen: list[int] = []
    for rows in ranked:
        if len(complexes) >= wanted:
            break
        chosen += rows
        complexes |= {patches.names[row].rpartition("_")[0] for row in rows}
    return torch.tensor(sorted(chosen), dtype=torch.int64)


def _energy(config: Antibody, given: Callable[..., Tensor] | None) -> Callable[[Patches], Energy]:
    """The energy of the configuration, for any complexes."""
    if given is None and config.energy == "contacts":
        return StandIn
    if given is None and config.energy.startswith("table="):
        path = Path(config.energy.removeprefix("table="))
        table = read_table(path)
        return lambda patches: Tabled(patches, table, source=f"'{path}'")
    own = wrapped(own_function(config.energy) if given is None else given)

    def on(patches: Patches) -> Energy:
        def energy(objects: Mapping[str, Tensor], rows: Tensor) -> Tensor:
            value = own(objects, context_of(patches, rows))
            if not isinstance(value, Tensor) or value.shape != rows.shape or not bool(torch.isfinite(value).all()):
                raise ValueError(f"the energy '{config.energy}' gave no finite number for each of {len(rows)} designs")
            return value.float()

        return energy

    return on


def context_of(patches: Patches, rows: Tensor) -> dict[str, Columns]:
    """What an energy of one's own is given beside the designs: their complexes, as columns (n, ...)."""
    chosen = {
        name: getattr(patches, name)[rows] for name in ("letters", "position", "rotation", "role", "mask", "designed")
    }
    return {"name": tuple(patches.names[row] for row in rows.tolist()), **chosen}


def _judged_energy(config: Antibody, energy: Callable[[Patches], Energy]) -> Callable[[Patches], Energy]:
    return StandIn if config.energy.startswith("table=") else energy


def _reward(config: Antibody, energy: Callable[[Patches], Energy], patches: Patches) -> Reward:
    own = energy(patches)
    return as_reward(exchanged(own) if config.shuffle else own)


def _evaluator(judge: LoopJudge, train: Tensor, test: Tensor) -> Callable[[], dict[str, float]]:
    seen = train[torch.linspace(0, len(train) - 1, min(SEEN, len(train))).long()].tolist()

    def evaluate() -> dict[str, float]:
        found = judge.figures(test.tolist()) if len(test) else {}
        return {**found, **judge.figures(seen, "seen_" if found else "")}

    return evaluate
