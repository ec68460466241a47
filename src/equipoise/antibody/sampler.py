"""The sampler of loops: draws paths complex by complex, and scores their steps by the same densities."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.antibody import categorical, densities, so3
from equipoise.antibody.densities import Loops
from equipoise.antibody.networks import TIMES, Context, Denoiser, Encoder, time_features
from equipoise.antibody.patches import Patches
from equipoise.antibody.process import LoopProcess
from equipoise.antibody.residues import KINDS
from equipoise.contracts import ON_POLICY, Behaviour, require_both, require_offered
from equipoise.diffusion.ratios import subsampled
from equipoise.sampling.fixed import renewed
from equipoise.trajectories import Columns, Scores, Trajectories

PARTS = ("letter", "position", "rotation")
"""What diffuses of a residue."""


class LoopNetwork(nn.Module):
    """Encoder and denoiser: what is trained.

    Args:
        width: channels of a residue.
        pair: channels of a pair.
        layers: rounds of attention, of each.

    Example:
        >>> sum(value.numel() for value in LoopNetwork(64, 32, 3).parameters()) < 1_000_000
        True
    """

    def __init__(self, width: int = 64, pair: int = 32, layers: int = 3) -> None:
        super().__init__()
        self.encoder, self.denoiser = Encoder(width, pair, layers), Denoiser(width, pair, layers)


class LoopSampler(nn.Module):
    """Designs of antibody loops, given their complexes: a diffusion model as a sampler.

    Objects are dicts of letters (n, most), positions (n, most, 3) in units of 10 angstrom about the patch's centre, and
    rotations (n, most, 3, 3). The context is a column of rows of `patches`, (n,) int64, and the group is the same
    number: designs of one complex share log Z. Every log-probability is a density against counting measure for letters,
    Lebesgue measure for positions and the uniform measure for rotations; that of the first state is in the first step.

    Source: Luo et al., 2022, "Antigen-specific antibody design and optimization with diffusion-based generative models"
    (DiffAb); trained by trajectory balance as in AbFlowNet, with densities that are exact: the posterior of letters of
    its own step, rotations by a walk that composes, and no step left out.

    Args:
        process: the schedules.
        network: is trained.
        patches: the complexes.
        prior: the frozen model that the sampler is tuned from: another's `network`; None: from scratch.
        moving: what diffuses, of `PARTS`; the rest stays as it is in nature.
        subsample: steps of each path that gradients flow through, drawn anew at every scoring; None: all.
        batch: states that the denoiser is given at a time without gradients.

    Raises:
        ValueError: nothing moves, an unknown part, or a subsample out of range.

    Use `on` to design loops of complexes that it has not seen.
    """

    def __init__(
        self,
        process: LoopProcess,
        network: LoopNetwork,
        patches: Patches,
        *,
        prior: LoopNetwork | None = None,
        moving: tuple[str, ...] = PARTS,
        subsample: int | None = None,
        batch: int = 512,
    ) -> None:
        super().__init__()
        if not moving or set(moving) - set(PARTS):
            raise ValueError(f"moving is {moving}: one or more of {', '.join(PARTS)} were expected")
        if subsample is not None and not 1 <= subsample <= process.steps:
            raise ValueError(f"subsample is {subsample}: from 1 to the {process.steps} steps was expected")
        self.process, self.network, self.patches = process, network, patches
        self.prior = None if prior is None else frozen(prior)
        self.moving, self.subsample, self.batch = moving, subsample, batch
        self.register_buffer("version", torch.zeros((), dtype=torch.int64))
        self.version: Tensor
        self.register_buffer("evaluations", torch.zeros((), dtype=torch.int64))
        self.evaluations: Tensor
        digest = hashlib.sha256("\n".join(patches.names).encode()).digest()
        self.register_buffer("names", torch.tensor(int.from_bytes(digest[:7], "big")))
        self.names: Tensor
        self.offers = frozenset({"log_pf", "log_pb", "denoising"} | ({"log_prior"} if prior is not None else set()))
        self._register_load_state_dict_pre_hook(self._same_complexes)

    def on(self, patches: Patches) -> LoopSampler:
        """The same networks on other complexes."""
        twin = LoopSampler(
            self.process, self.network, patches, moving=self.moving, subsample=self.subsample, batch=self.batch
        )
        twin.prior, twin.offers = self.prior, self.offers
        twin.version, twin.evaluations = self.version, self.evaluations
        return twin

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        context: Columns = None,
        behaviour: Behaviour = ON_POLICY,
        start: Trajectories | None = None,
        keep: Tensor | None = None,
        generator: torch.Generator,
    ) -> Trajectories:
        """n designs of the complexes that `context` names; of `start`, the first `keep` steps (n,) stay.

        Exploration: `epsilon` is the probability of a uniform letter, the square of `noise` is added to the variance of
        positions (in units of 10 angstrom).

        Raises:
            ValueError: no context, a complex that is not there, or a temperature.
        """
        if behaviour.temperature != 1.0:
            raise ValueError(f"{behaviour}: loops are explored by epsilon and noise, not by temperature")
        require_both(start, keep)
        rows = self._rows(context, n)
        most, steps = self.patches.designed.shape[1], self.process.steps
        normal = torch.randn((steps + 1, n, most, 7), generator=generator)
        uniform = torch.rand((steps + 1, n, most, 3), generator=generator)
        path = self._empty(rows, steps)
        for row, chosen in _by_complex(rows):
            encoded = self.network.encoder(self.patches, row)
            size = encoded.residues
            noise = normal[:, chosen, :size], uniform[:, chosen, :size]
            state = self._first(row, noise[0][0], noise[1][0])
            for step in range(steps + 1):
                if start is not None and keep is not None:
                    # The first state is drawn in the first step.
                    state = state.where(keep[chosen] < max(step, 1), _loops_of(start.path, chosen, step, size))
                state.write(path, chosen, step)
                if step < steps:
                    state = self._move(encoded, state, step, noise[0][step + 1], noise[1][step + 1], behaviour)
        length = torch.full((n,), steps, dtype=torch.int64)
        version, group = self.version.cpu().expand(n).clone(), rows.clone()
        key = torch.full((n,), -1, dtype=torch.int64)
        objects = {part: path[part][:, -1].clone() for part in PARTS}
        return Trajectories(path, length, objects, context, group, None, version, key, steps=steps)

    @torch.no_grad()
    def sample_to(self, ends: Trajectories, *, generator: torch.Generator) -> Trajectories:
        """The same rows with a path that ends in their objects, drawn by the noising."""
        n, steps = len(ends), self.process.steps
        rows, most = self._rows(ends.context, n), self.patches.designed.shape[1]
        normal = torch.randn((steps, n, most, 6), generator=generator)
        uniform = torch.rand((steps, n, most, 2), generator=generator)
        path = self._empty(rows, steps)
        if not isinstance(ends.objects, Mapping):
            raise ValueError("objects of letters, positions and rotations were expected, as a dict")
        inside = torch.arange(most) < self.patches.lengths[rows][:, None]
        state = Loops(*(_tensor(ends.objects, part) for part in PARTS))
        state = Loops(*(torch.where(_like(inside, one), one, path[part][:, 0]) for part, one in state.items()))
        everything = torch.arange(n)
        state.write(path, everything, steps)
        for step in range(steps - 1, -1, -1):
            moved = densities.noised(self.process, state, step, normal[step], uniform[step], self.moving)
            state = Loops(*(torch.where(_like(inside, one), one, old) for one, old in zip(moved, state, strict=True)))
            state.write(path, everything, step)
        version, length = self.version.cpu().expand(n).clone(), torch.full((n,), steps, dtype=torch.int64)
        return replace(ends, path=path, length=length, version=version, fixed={}, steps=steps)

    def renew(self, trajectories: Trajectories) -> Trajectories:
        """`fixed["log_prior"]`, the frozen prior's log-probability of each step, where it is absent."""
        if self.prior is None or not trajectories.path:
            return trajectories
        return renewed(trajectories, "log_prior", torch.zeros((), dtype=torch.int64), self._log_prior)

    def score(
        self, trajectories: Trajectories, needs: frozenset[str], *, generator: torch.Generator | None = None
    ) -> Scores:
        """The scores that `needs` names, differentiable in the network.

        `denoising` is the simple loss of the three parts at one time of each object: the square of the v-prediction's
        error, half that of the rotation matrix, and minus log p of the letter, summed over these and averaged over
        residues.

        Raises:
            ValueError: a need that this sampler does not offer, or randomness without a generator.
        """
        require_offered(self, needs)
        mask = torch.arange(trajectories.steps) < trajectories.length[:, None]
        found: dict[str, Tensor] = {}
        if needs & {"log_pf", "log_pb", "log_prior"} and trajectories.steps != self.process.steps:
            raise ValueError(f"paths of {trajectories.steps} steps: this sampler's have {self.process.steps}")
        if "denoising" in needs:
            found["denoising"] = self._denoising(trajectories, _required(generator, "denoising"))
        if "log_prior" in needs:
            found["log_prior"] = self.renew(trajectories).fixed["log_prior"].value
        if "log_pf" in needs:
            found["log_pf"] = self._log_pf(trajectories, generator)
        if "log_pb" in needs:
            found["log_pb"] = self._log_pb(trajectories)
        return Scores(mask=mask, **found)

    def _same_complexes(self, state: dict[str, Any], prefix: str, *rest: object) -> None:
        held = state.get(f"{prefix}names")
        if held is not None and not torch.equal(held, self.names):
            raise RuntimeError("it was trained on other complexes than the data folder holds now")

    def _rows(self, context: Columns, n: int) -> Tensor:
        if not isinstance(context, Tensor) or context.shape != (n,) or context.dtype != torch.int64:
            given = tuple(context.shape) if isinstance(context, Tensor) else type(context).__name__
            raise ValueError(f"the context is {given}: for {n} designs, {n} rows of the patches were expected")
        if n and not 0 <= int(context.min()) <= int(context.max()) < len(self.patches):
            raise ValueError(f"the context names row {int(context.max())}: there are {len(self.patches)} patches")
        return context

    def _empty(self, rows: Tensor, steps: int) -> dict[str, Tensor]:
        """Paths of letters 0, positions 0 and rotations 1, which stay so beyond each loop's end."""
        shape = (len(rows), steps + 1, self.patches.designed.shape[1])
        eye = torch.eye(3).expand(*shape, 3, 3).clone()
        return {"letter": torch.zeros(shape, dtype=torch.int64), "position": torch.zeros(*shape, 3), "rotation": eye}

    def _native(self, row: int, states: int, residues: int) -> Loops:
        parts = (
            value[row, :residues].expand(states, *value[row, :residues].shape)
            for value in self.patches.native().values()
        )
        return Loops(*parts)

    def _first(self, row: int, normal: Tensor, uniform: Tensor) -> Loops:
        letter = (uniform[..., 0] * KINDS).long().clamp(max=KINDS - 1)
        drawn = Loops(letter, normal[..., :3], so3.uniform_rotation(normal[..., 3:]))
        return drawn.only(self.moving, self._native(row, len(normal), normal.shape[1]))

    def _outputs(self, network: LoopNetwork, context: Context, state: Loops, step: Tensor) -> densities.Outputs:
        """The denoiser at states (s, m) of one complex, each before its step (s,)."""
        self.evaluations += len(step)
        kept = (self.process.kept * self.process.keep)[step]
        time = time_features(step, self.process.steps, kept)
        assert time.shape[1] == TIMES
        structures = len(step) if {"position", "rotation"} & set(self.moving) else 1
        position, turned = state.position[:structures], state.rotation[:structures]
        velocity, rotation, logits = network.denoiser(context, state.letter, position, turned, time)
        log_letter = categorical.log_objects(logits, state.letter, kept[:, None].to(logits.dtype))
        return densities.Outputs(velocity, rotation, log_letter)

    def _move(
        self, context: Context, state: Loops, step: int, normal: Tensor, uniform: Tensor, behaviour: Behaviour
    ) -> Loops:
        at = torch.full((len(state.letter),), step)
        found = self._outputs(self.network, context, state, at)
        moved = densities.generated(self.process, state, found, step, normal, uniform, behaviour)
        return moved.only(self.moving, state)

    def _log_pf(self, trajectories: Trajectories, generator: torch.Generator | None) -> Tensor:
        if self.subsample is None or not torch.is_grad_enabled():
            return self._log_p(self.network, trajectories, None)
        with torch.no_grad():
            full = self._log_p(self.network, trajectories, None)
        order = torch.rand(full.shape, generator=_required(generator, "subsample"))
        chosen = order.argsort(1)[:, : self.subsample]
        return subsampled(full, self._log_p(self.network, trajectories, chosen), chosen)

    @torch.no_grad()
    def _log_prior(self, trajectories: Trajectories) -> Tensor:
        assert self.prior is not None
        return self._log_p(self.prior, trajectories, None)

    def _log_p(self, network: LoopNetwork, trajectories: Trajectories, chosen: Tensor | None) -> Tensor:
        """log p of the chosen steps (n, k) of each path, all where None; the first state's is in the first step's."""
        n, steps = len(trajectories), self.process.steps
        step = torch.arange(steps).expand(n, steps) if chosen is None else chosen
        rows = self._rows(trajectories.context, n)
        parts, places = [], []
        for row, own in _by_complex(rows):
            context = network.encoder(self.patches, row)
            size, k = context.residues, step.shape[1]
            at, line = step[own].flatten(), own.repeat_interleave(k)
            first, second = (_loops_of(trajectories.path, line, at + more, size) for more in (0, 1))
            values = []
            for piece in torch.arange(len(at)).split(len(at) if torch.is_grad_enabled() else self.batch):
                now, after = first.rows(piece), second.rows(piece)
                found = self._outputs(network, context, now, at[piece])
                values.append(densities.log_step(self.process, now, after, found, at[piece], self.moving))
            value = torch.cat(values)
            value = value + torch.where(at == 0, densities.log_first(first, self.moving), 0.0)
            parts.append(value.view(len(own), k))
            places.append(own)
        return torch.cat(parts)[torch.cat(places).argsort()].float()

    @torch.no_grad()
    def _log_pb(self, trajectories: Trajectories) -> Tensor:
        n, steps = len(trajectories), self.process.steps
        rows = self._rows(trajectories.context, n)
        value = torch.zeros(n, steps)
        for row, own in _by_complex(rows):
            size = int(self.patches.designed[row].sum())
            line, at = own.repeat_interleave(steps), torch.arange(steps).repeat(len(own))
            now, after = (_loops_of(trajectories.path, line, at + more, size) for more in (0, 1))
            value[own] = densities.log_noising(self.process, now, after, at, self.moving).view(len(own), steps).float()
        return value

    def _denoising(self, trajectories: Trajectories, generator: torch.Generator) -> Tensor:
        n, process = len(trajectories), self.process
        rows, most = self._rows(trajectories.context, n), self.patches.designed.shape[1]
        step = torch.randint(process.steps, (n,), generator=generator)
        normal = torch.randn((n, most, 6), generator=generator)
        uniform = torch.rand((n, most, 2), generator=generator)
        if not isinstance(trajectories.objects, Mapping):
            raise ValueError("denoising needs objects of letters, positions and rotations, as a dict")
        objects = Loops(*(_tensor(trajectories.objects, part) for part in PARTS))
        state, velocity = densities.marginal(process, objects, step, normal, uniform, self.moving)
        parts, places = [], []
        for row, own in _by_complex(rows):
            context = self.network.encoder(self.patches, row)
            size = context.residues
            now = state.rows(own).cropped(size)
            found = self._outputs(self.network, context, now, step[own])
            goal = objects.rows(own).cropped(size)
            parts.append(densities.simple_loss(found, goal, velocity[own, :size], self.moving))
            places.append(own)
        return torch.cat(parts)[torch.cat(places).argsort()]


def frozen(network: LoopNetwork) -> LoopNetwork:
    """A copy whose parameters are not trained."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def _by_complex(rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Each complex with the places of its designs."""
    for row in rows.unique().tolist():
        yield row, (rows == row).nonzero()[:, 0]


def _loops_of(path: Mapping[str, Tensor], line: Tensor, step: Tensor | int, residues: int) -> Loops:
    return Loops(*(path[part][line, step, :residues] for part in PARTS))


def _like(mask: Tensor, value: Tensor) -> Tensor:
    return mask.view(*mask.shape, *(1 for _ in range(value.dim() - mask.dim())))


def _tensor(objects: Mapping[str, Columns], part: str) -> Tensor:
    value = objects.get(part)
    if not isinstance(value, Tensor):
        raise ValueError(f"the objects have no '{part}': letters, positions and rotations were expected")
    return value


def _required(generator: torch.Generator | None, what: str) -> torch.Generator:
    if generator is None:
        raise ValueError(f"{what} is random: give score a generator")
    return generator
