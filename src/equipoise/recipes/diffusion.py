"""From a configuration of a diffusion task to a run: the method's term over a sampler, its prior and a reward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from equipoise.contracts import Behaviour, Reward, Source
from equipoise.diffusion.sampler import DiffusionSampler
from equipoise.objectives import partition
from equipoise.objectives.divergences import Divergence
from equipoise.recipes.choices import annealed, divergence_of, falling, same_or_of
from equipoise.recipes.diffusion_configuration import Diffusion
from equipoise.recipes.priors import of_prior, prior_state
from equipoise.sampling.given import Repeat
from equipoise.sampling.replay import Replay
from equipoise.sampling.rollouts import Rollouts
from equipoise.training import policy_gradient as rl
from equipoise.training.balance import RESIDUALS, LogZ, balance, consistency
from equipoise.training.loop import Run
from equipoise.training.terms import Term

if TYPE_CHECKING:
    from equipoise.recipes.runs import StoredRun

ENDS = 0.9
"""Share of the steps after which exploration is over."""

NEEDS = frozenset({"log_pf", "log_prior"})


def join(
    config: Diffusion,
    sampler: DiffusionSampler,
    reward: Reward,
    *,
    data: Source | None = None,
    evaluate: Callable[[Callable[[], float] | None], Callable[[], dict[str, float]]],
) -> Run:
    """The run of a configuration's method over a sampler and a reward.

    Args:
        config: of the task.
        sampler: with its prior where the method needs one.
        reward: log R of objects.
        data: what a prior is fitted to (method "likelihood").
        evaluate: the run's own estimate of log Z (None: it has none) -> what judges the sampler.
    """
    if config.method == "likelihood":
        assert data is not None
        term, sources, log_z = rl.likelihood("likelihood", "data", sampler), {"data": data}, None
    else:
        term, log_z = _term(config, sampler)
        sources = {config.source: _source(config, sampler, reward)}
    modules: dict[str, nn.Module] = {"policy": sampler}
    if isinstance(log_z, nn.Module):
        modules["log_z"] = log_z
    rates = {"policy": config.learning_rate, "log_z": config.learning_rate_log_z}
    return Run(
        modules=modules,
        learning_rate={name: falling(rates[name], config.schedule, config.steps) for name in modules},
        terms=(term,),
        sources=sources,
        batch=dict.fromkeys(sources, config.batch),
        steps=config.steps,
        seed=config.seed,
        clip=10.0,
        evaluate=evaluate(_log_z_now(config, log_z)),
    )


def take_prior(sampler: DiffusionSampler, config: Diffusion, folder: Path | None) -> None:
    """Gives a sampler its prior, and starts it there: from `config.prior`, or trained first in `folder`/prior.

    Raises:
        ValueError: the prior's run is of another task, or of a network or process that does not fit.
    """
    prior = sampler.prior
    if prior is None:
        return

    def fits(found: StoredRun) -> bool:
        prior = found.config
        alike = isinstance(prior, Diffusion) and prior.method == "likelihood" and prior.time_steps == config.time_steps
        return alike and type(prior) is type(config)

    wanted = f"with {config.time_steps} steps: train one by --method likelihood"
    state = prior_state(config.prior, folder, fits, wanted, lambda out: prior_configuration(config, out))
    try:
        prior.network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"the prior in '{config.prior}' does not fit this run: {error}") from error
    sampler.network.load_state_dict(state)


def prior_configuration(config: Diffusion, out: Path | None) -> Diffusion:
    """The run that trains a task's prior, in `out`."""
    return of_prior(config, out, method="likelihood", subsample=None)


def _term(config: Diffusion, sampler: DiffusionSampler) -> tuple[Term, LogZ | None]:
    def beta(step: int, trajectories: object) -> float:
        return config.beta

    source, behaviour = config.source, frozenset({rl.BEHAVIOUR})
    match config.method:
        case "reinforce":
            return rl.policy_gradient("reinforce", source, sampler, rl.reinforce(), needs=NEEDS, beta=beta), None
        case "reinforce_weighted":
            coefficient, needs = rl.reinforce_weighted(), NEEDS | behaviour
            return rl.policy_gradient("reinforce", source, sampler, coefficient, needs=needs, beta=beta), None
        case "ppo":
            coefficient, needs = rl.ppo(clip=config.clip), NEEDS | behaviour
            return rl.policy_gradient("ppo", source, sampler, coefficient, needs=needs, beta=beta), None
        case "original":
            coefficient = rl.original(config.kl_weight)
            return rl.policy_gradient("original", source, sampler, coefficient, needs=NEEDS, beta=beta), None
        case "dpok":
            return rl.dpok("dpok", source, sampler, beta=beta), None
    residual_name, log_z_name = config.choices()
    residual = consistency(1 / config.beta) if residual_name == "consistency" else RESIDUALS[residual_name]
    learned = partition.estimator(log_z_name, divergence_of(config))

    def term(loss: Divergence) -> Term:
        return balance("balance", source, sampler, residual, loss, same_or_of(learned, log_z_name, loss), beta=beta)

    return annealed(config, term), learned


def _source(config: Diffusion, sampler: DiffusionSampler, reward: Reward) -> Source:
    rollouts = Rollouts(sampler, reward, behaviour=exploration(config))
    if config.method == "ppo":
        return Repeat(rollouts, config.updates)
    return rollouts if config.source == "on_policy" else Replay(rollouts, fresh=0.5, capacity=100_000, again=sampler)


def exploration(config: Diffusion) -> Callable[[int], Behaviour]:
    """The noise of each step's draw: linear to 0, so that a learned log Z ends without the bias of inflated noise."""
    last = ENDS * config.steps
    return lambda version: Behaviour(noise=config.noise * max(0.0, 1 - version / last))


def _log_z_now(config: Diffusion, log_z: LogZ | None) -> Callable[[], float] | None:
    if not isinstance(log_z, partition.Learned):
        return None
    scale = config.beta if config.choices()[0] == "consistency" else 1.0
    return lambda: scale * float(log_z.log_z.detach())


def as_text(points: Tensor) -> list[str]:
    """Points as comma-separated coordinates."""
    return [",".join(f"{value:.6g}" for value in point) for point in points.flatten(1).tolist()]
