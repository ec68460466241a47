"""The diffusion sampler: draws paths without gradients, then scores all their steps in one batched call."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from equipoise.contracts import ON_POLICY, Behaviour, require_offered
from equipoise.diffusion import ratios
from equipoise.diffusion.processes import Process
from equipoise.trajectories import Columns, Fixed, Scores, Trajectories

Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(state (rows, *shape), step () or (rows,), condition (rows, features) or None) -> output (rows, *shape)."""


class DiffusionSampler(nn.Module):
    """A diffusion model as a sampler: of prior x reward where it has a prior, else of a reward from scratch.

    A step's log-probability is taken against one reference: the prior's own step where there is a prior (`log_prior` is
    0 and `log_pf` the Girsanov term), else the process without drift, a Brownian motion (`log_pb`, of the pinned
    bridge, then lies in the last step). Noise that is inflated for exploration (`Behaviour.noise`, whose square is
    added to the variance of every step that has noise) does not enter a score, since model and prior share sigma.

    Source: Venkatraman et al., 2024, arXiv 2405.20971; from scratch: Zhang and Chen, 2022, arXiv 2111.15141; Sendera et
        al., 2024, "Improved off-policy training of diffusion samplers", arXiv 2402.05098.

    Args:
        process: the schedules, the prior's too.
        network: the trained output (`networks`); its parameters are trained.
        shape: of an object.
        prior: the frozen model that the sampler is tuned from: another sampler's `frozen()`.
        condition: context -> (n, features), what the network is given of it; None: unconditional.
        subsample: steps of each path that gradients flow through, drawn anew at every scoring; None: all.
        keep_behaviour: whether a draw leaves `fixed["log_behaviour"]`, which off-policy RL needs; it costs one pass of
            the prior.
        batch: rows that a network is given at a time without gradients.

    Raises:
        ValueError: a prior of another process (sigmas that differ), shape or trainable parameters; a subsample out of
            range; a process without steps' noise.

    Example:
        >>> import torch
        >>> from equipoise.diffusion.networks import DriftMLP
        >>> from equipoise.diffusion.processes import brownian
        >>> process = brownian(20, 1.0)
        >>> sampler = DiffusionSampler(process, DriftMLP(process, dimensions=2), (2,))
        >>> sampler.sample(5, generator=torch.Generator().manual_seed(0)).objects.shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        process: Process,
        network: nn.Module,
        shape: tuple[int, ...],
        *,
        prior: DiffusionSampler | None = None,
        condition: Callable[[Columns], Tensor] | None = None,
        subsample: int | None = None,
        keep_behaviour: bool = False,
        batch: int = 8192,
    ) -> None:
        super().__init__()
        _require_prior(process, shape, prior)
        if subsample is not None and not 1 <= subsample <= process.steps:
            raise ValueError(f"subsample is {subsample}: from 1 to the {process.steps} steps was expected")
        self.process, self.network, self.shape = process, network, shape
        self.prior = prior
        self.condition, self.subsample, self.batch = condition, subsample, batch
        self._factors = torch.stack([process.keep, process.gain, process.std], 1).tolist()
        self.register_buffer("version", torch.zeros((), dtype=torch.int64))
        self.version: Tensor
        self.register_buffer("_place", torch.zeros(()), persistent=False)
        self._place: Tensor
        offers = {"log_pf", "denoising"}
        if prior is not None:
            offers |= {"log_prior", "kl_prior"}
        elif process.reference_std is not None:
            offers |= {"log_pb"}
        self.offers = frozenset(offers)
        self.keeps = frozenset({"log_behaviour"} if keep_behaviour else ())

    def frozen(self) -> DiffusionSampler:
        """A copy whose parameters are not trained and whose layers are in evaluation mode: the prior of another."""
        twin = copy.deepcopy(self).eval().requires_grad_(False)
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
        """n paths; of `start`, the first `keep` steps (n,) stay.

        Raises:
            ValueError: a behaviour that a diffusion cannot honour.
        """
        if behaviour.epsilon or behaviour.temperature != 1.0:
            raise ValueError(f"{behaviour}: a diffusion explores by noise alone, not by epsilon or temperature")
        process, device = self.process, self._place.device
        noise = torch.randn((process.steps + 1, n, *self.shape), generator=generator).to(device)
        condition = self._conditions(context)
        wide = self._wide(behaviour.noise)
        states = [noise[0] * process.start_std]
        kept = None if start is None or keep is None else keep.view(-1, *(1 for _ in self.shape)).to(device)
        if start is not None and kept is not None:
            states = [torch.where(kept > 0, start.path["state"][:, 0], states[0])]
        with torch.inference_mode():
            for step in range(process.steps):
                moved = self._mean(states[-1], step, condition)
                if wide[step]:
                    moved = torch.add(moved, noise[step + 1], alpha=wide[step])
                if start is not None and kept is not None:
                    moved = torch.where(step < kept, start.path["state"][:, step + 1], moved)
                states.append(moved)
        state = torch.stack(states, 1)
        drawn = self._record(state, context)
        if not self.keeps:
            return drawn
        value = self._log_behaviour(drawn, condition, wide)
        return replace(drawn, fixed={"log_behaviour": Fixed(value, drawn.version.clone())})

    @torch.no_grad()
    def sample_to(self, ends: Trajectories, *, generator: torch.Generator) -> Trajectories:
        """The same rows with a path that ends in their objects, drawn by the process's noising."""
        process, objects = self.process, ends.objects
        if not isinstance(objects, Tensor) or objects.shape[1:] != self.shape:
            given = tuple(objects.shape) if isinstance(objects, Tensor) else type(objects).__name__
            raise ValueError(f"objects {given}: a tensor of rows of {self.shape} was expected")
        n = len(objects)
        noise = torch.randn((process.steps, n, *self.shape), generator=generator).to(objects)
        states = [objects]
        for step in range(process.steps - 1, -1, -1):
            states.append(float(process.back_keep[step]) * states[-1] + float(process.back_std[step]) * noise[step])
        version, steps = self.version.expand(n).clone(), process.steps
        length = torch.full((n,), steps, dtype=torch.int64)
        path = {"state": torch.stack(states[::-1], 1)}
        return replace(ends, path=path, length=length, version=version, fixed={}, steps=steps)

    def renew(self, trajectories: Trajectories) -> Trajectories:
        """Nothing is kept: the prior's outputs are as large as the path."""
        return trajectories

    def score(
        self, trajectories: Trajectories, needs: frozenset[str], *, generator: torch.Generator | None = None
    ) -> Scores:
        """The scores that `needs` names, differentiable in the network.

        Args:
            trajectories: with their path; `denoising` reads their objects alone.
            needs: names.
            generator: of `denoising`'s times and of the subsample.

        Raises:
            ValueError: a need that this sampler does not offer, or randomness without a generator.
        """
        require_offered(self, needs)
        n, steps = len(trajectories), self.process.steps
        mask = torch.arange(trajectories.steps) < trajectories.length[:, None]
        found: dict[str, Tensor] = {}
        if "denoising" in needs:
            found["denoising"] = self._denoising(trajectories, _required(generator, "denoising"))
        if needs & {"log_pf", "kl_prior"}:
            if trajectories.steps != steps:
                raise ValueError(f"paths of {trajectories.steps} steps: this sampler's have {steps}")
            found |= self._path_scores(trajectories, needs, generator)
        if "log_prior" in needs:
            found["log_prior"] = torch.zeros((n, trajectories.steps), device=self._place.device)
        if "log_pb" in needs:
            found["log_pb"] = self._log_pb(trajectories)
        return Scores(mask=mask.to(self._place.device), **found)

    def _path_scores(
        self, trajectories: Trajectories, needs: frozenset[str], generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        states = trajectories.path["state"]
        condition = self._conditions(trajectories.context)
        moves = states[:, :-1], states[:, 1:], self._reference(states[:, :-1], condition)
        if self.subsample is None or not torch.is_grad_enabled():
            return self._steps_scores(moves, None, condition, needs)
        with torch.no_grad():
            full = self._steps_scores(moves, None, condition, needs)
        order = torch.rand(states.shape[0], self.process.steps, generator=_required(generator, "subsample"))
        chosen = order.argsort(1)[:, : self.subsample].to(states.device)
        row = torch.arange(len(states), device=states.device)[:, None]
        few = tuple(each[row, chosen] for each in moves)
        part = self._steps_scores((few[0], few[1], few[2]), chosen, condition, needs)
        return {name: ratios.subsampled(full[name], part[name], chosen) for name in full}

    def _steps_scores(
        self,
        moves: tuple[Tensor, Tensor, Tensor],
        chosen: Tensor | None,
        condition: Tensor | None,
        needs: frozenset[str],
    ) -> dict[str, Tensor]:
        """Of the given steps of each row (all where `chosen` is None), (n, k).

        `moves`: the states before and after, (n, k, *shape), and the reference's outputs, (n, k, dimensions).
        """
        before, after, reference = moves
        factors = [self._schedule(name) for name in ("keep", "gain", "std")]
        keep, gain, std = factors if chosen is None else [factor[chosen] for factor in factors]
        output = self._outputs(before, chosen, condition)
        found = {}
        if "log_pf" in needs:
            moved = torch.addcmul(after.flatten(2), -keep[..., None], before.flatten(2))
            found["log_pf"] = ratios.girsanov(moved, output, reference, gain, std)
        if "kl_prior" in needs:
            found["kl_prior"] = ratios.step_kl(output, reference, gain, std)
        return found

    def _outputs(self, before: Tensor, chosen: Tensor | None, condition: Tensor | None) -> Tensor:
        """The network's at states (n, k, *shape), at the chosen steps (n, k) or all of them: (n, k, dimensions)."""
        n, k = before.shape[:2]
        step = torch.arange(k, device=before.device).expand(n, k) if chosen is None else chosen
        given = None if condition is None else condition.repeat_interleave(k, 0)
        return self._output(before.reshape(n * k, *self.shape), step.reshape(-1), given).view(n, k, -1)

    @torch.no_grad()
    def _reference(self, before: Tensor, condition: Tensor | None) -> Tensor:
        """The outputs of the prior at the states of all steps, 0 where there is none, (n, steps, dimensions)."""
        if self.prior is None:
            return torch.zeros_like(before).flatten(2)
        return self.prior._outputs(before, None, condition)

    def _output(self, state: Tensor, step: Tensor, condition: Tensor | None) -> Tensor:
        """The network on many rows, in parts where no gradients are wanted."""
        if torch.is_grad_enabled() or len(state) <= self.batch:
            return self.network(state, step, condition)
        parts = zip(
            state.split(self.batch),
            step.split(self.batch),
            [None] * len(state) if condition is None else condition.split(self.batch),
            strict=False,
        )
        return torch.cat([self.network(*part) for part in parts])

    def _mean(self, state: Tensor, step: int, condition: Tensor | None) -> Tensor:
        """keep x + gain f: of the prior in a last step without noise."""
        keep, gain, noisy = self._factors[step]
        model = self if noisy or self.prior is None else self.prior
        output = model.network(state, torch.tensor(step, device=state.device), condition)
        return torch.add(state if keep == 1.0 else state * keep, output, alpha=gain)

    def _denoising(self, trajectories: Trajectories, generator: torch.Generator) -> Tensor:
        """One step of each path of noised objects: minus its log-likelihood, up to a constant, times the steps."""
        objects, process = trajectories.objects, self.process
        if not isinstance(objects, Tensor):
            raise ValueError("denoising needs objects that are tensors")
        n, device = len(objects), objects.device
        step = torch.randint(process.steps, (n,), generator=generator)
        noise = torch.randn(objects.shape, generator=generator).to(device)
        keep, std = (value[step] for value in process.marginals())
        factors = [_rows(value.to(device), objects) for value in (keep, std, *self._best(step))]
        state = factors[0] * objects + factors[1] * noise
        best = factors[2] * state + factors[3] * objects
        output = self.network(state, step.to(device), self._conditions(trajectories.context))
        # A step without noise has an infinite weight; "likelihood" then means the simple loss of Ho et al.
        error = (output - best).flatten(1).square()
        if process.noiseless_end:
            return error.mean(1)
        weight = 0.5 * process.steps * (process.gain / process.std)[step] ** 2
        return weight.to(device).float() * error.sum(1)

    def _best(self, step: Tensor) -> tuple[Tensor, Tensor]:
        return self.process.state_part[step], self.process.object_part[step]

    def _log_pb(self, trajectories: Trajectories) -> Tensor:
        """The bridge against the Brownian motion that it is a part of: all lies in the last step."""
        scale, last = self.process.reference_std, trajectories.path["state"][:, -1].flatten(1)
        assert scale is not None
        constant = last.shape[1] * (math.log(scale) + 0.5 * math.log(2 * math.pi))
        value = 0.5 * (last / scale).square().sum(1) + constant
        return nn.functional.pad(value[:, None], (trajectories.steps - 1, 0))

    def _log_behaviour(self, drawn: Trajectories, condition: Tensor | None, wide: list[float]) -> Tensor:
        before, after = drawn.path["state"][:, :-1], drawn.path["state"][:, 1:]
        keep, gain, std = (self._schedule(name) for name in ("keep", "gain", "std"))
        output, reference = self._outputs(before, None, condition), self._reference(before, condition)
        moved = torch.addcmul(after.flatten(2), -keep[:, None], before.flatten(2))
        width = torch.tensor(wide, device=before.device)
        if torch.equal(width, std):
            return ratios.girsanov(moved, output, reference, gain, std)
        return ratios.widened(moved, output, reference, gain, std, width)

    def _wide(self, noise: float) -> list[float]:
        """Standard deviation of each step as it is drawn; a step without noise stays so."""
        return [math.hypot(std, noise) if std else 0.0 for std in self._schedule("std").tolist()]

    def _schedule(self, name: str) -> Tensor:
        return getattr(self.process, name).to(self._place.device, torch.float32)

    def _conditions(self, context: Columns) -> Tensor | None:
        return None if self.condition is None else self.condition(context)

    def _record(self, state: Tensor, context: Columns) -> Trajectories:
        n = len(state)
        return Trajectories(
            path={"state": state},
            length=torch.full((n,), self.process.steps, dtype=torch.int64),
            objects=state[:, -1].clone(),
            context=context,
            group=torch.zeros(n, dtype=torch.int64),
            log_reward=None,
            version=self.version.expand(n).clone(),
            key=torch.full((n,), -1, dtype=torch.int64),
            steps=self.process.steps,
        )


def _required(generator: torch.Generator | None, what: str) -> torch.Generator:
    if generator is None:
        raise ValueError(f"'{what}' is random: give score a generator")
    return generator


def _require_prior(process: Process, shape: tuple[int, ...], prior: DiffusionSampler | None) -> None:
    if prior is None:
        return
    process.require_same(prior.process)
    if prior.shape != shape:
        raise ValueError(f"the prior's objects are {prior.shape}, the model's {shape}")
    trained = [name for name, parameter in prior.named_parameters() if parameter.requires_grad]
    if trained:
        raise ValueError(
            f"the prior has {len(trained)} trainable parameters ('{trained[0]}', ...): a prior is frozen, or the "
            "target moves; give prior.frozen()"
        )


def _rows(value: Tensor, like: Tensor) -> Tensor:
    return value.to(like.dtype).view(-1, *(1 for _ in like.shape[1:]))
