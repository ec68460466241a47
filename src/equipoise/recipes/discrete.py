"""From a configuration of a discrete task to a run: the four choices joined over an environment and a reward."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.contracts import Environment, Reward, Source
from equipoise.discrete.judge import Judge, listable, source_flow
from equipoise.discrete.policies.separate import Separate
from equipoise.discrete.sampled_judge import SampledJudge
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.evaluation.coverage import Modes
from equipoise.objectives import partition
from equipoise.recipes.choices import divergence_of, falling
from equipoise.recipes.configuration import Discrete
from equipoise.recipes.discrete_sources import Watching, sources_of
from equipoise.recipes.discrete_terms import WALKS, lessons_term, log_z_at_beta, log_z_of, terms_of
from equipoise.recipes.policies import Make, require_admitted, rows_at_once, sampler_of
from equipoise.recipes.refinements import Network
from equipoise.sampling.fixed import GUIDE
from equipoise.training.balance import RESIDUALS, STATE_REWARD, LogZ, Residual, sub_trajectory
from equipoise.training.loop import Run
from equipoise.trajectories import Columns


@dataclass(frozen=True)
class DiscreteRun:
    """A run, and what its task is made of: for evaluation, sampling and figures; `begin` is called before training."""

    run: Run
    sampler: DiscreteSampler
    reward: Reward
    judge: Judge | SampledJudge
    show: Callable[[Columns], list[str]]
    asked: tuple[Callable[[Any], dict[str, float]], ...] = ()
    begin: Callable[[], object] = lambda: None

    def check(self) -> None:
        """Calls the reward, on every object where they can be listed, before anything is written."""
        self.judge.check()

    def prepare(self, folder: Path | None) -> None:
        """Sets a learned log Z to the untrained sampler's lower bound, unless the configuration has its start."""
        self.begin()

    def evaluate(self) -> dict[str, float]:
        """The figures of a record, and those that its task asks for at the end: sampled ones, with their floors."""
        return self.run.evaluate() | {name: value for ask in self.asked for name, value in ask(self.judge).items()}

    def summary(self) -> list[str]:
        """What matters of the figures, in words."""
        return self.judge.summary()

    def table(self, n: int, generator: torch.Generator) -> str:
        """n objects drawn on-policy, as tab-separated text: object, log_reward, log_probability."""
        objects = self.sampler.sample(n, generator=generator).objects
        log_reward = self.reward(objects, None)
        log_probability = self.judge.log_probability(self.sampler.environment.state_of(objects))
        columns = zip(self.show(objects), log_reward.tolist(), log_probability.tolist(), strict=True)
        lines = [f"{shown}\t{reward + 0.0:.6g}\t{probability:.6g}" for shown, reward, probability in columns]
        return "\n".join(["object\tlog_reward\tlog_probability", *lines, ""])


def build(
    config: Discrete,
    environment: Environment,
    reward: Reward,
    *,
    show: Callable[[Columns], list[str]],
    state_reward: Callable[[Tensor], Tensor] | None = None,
    modes: Modes | None = None,
    total: Callable[[float], float] | None = None,
    asked: tuple[Callable[[Any], dict[str, float]], ...] = (),
    policy: Make | None = None,
    watch: Callable[[Source], Watching] | None = None,
) -> DiscreteRun:
    """Joins the four choices of a configuration over an environment and a reward.

    Args:
        config: of the task.
        environment: the space of objects; where it can be listed, it is judged exactly.
        reward: log R of objects.
        show: objects as text, for people.
        state_reward: log R of states, where unfinished objects have a reward too (forward-looking and modified
            detailed balance); of terminal ones the reward itself.
        modes: of the target, where they are known: what is held of them is judged, and when each was found is kept.
        total: log of the sum of R^beta over all objects, by beta, where that is known without a list.
        asked: what `evaluate` adds to a record's figures, too dear for every record.
        policy: the task's own, in place of those over encoded states.
        watch: what counts in the task's own way what is drawn while it trains.

    Raises:
        ValueError: choices that do not fit together, or a reward that is not finite somewhere.
    """
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    residual_name, log_z_name = config.choices()
    residual = sub_trajectory(decay=config.decay) if residual_name == "sub_trajectory" else RESIDUALS[residual_name]
    require_admitted(residual_name, residual, environment, on_the_way=state_reward is not None)
    sampler = sampler_of(config, environment, residual, policy)
    log_z = log_z_of(config, log_z_name)
    teacher = _teacher(config, environment, residual, policy) if config.search == "teacher" else None
    along = state_reward if STATE_REWARD in residual.needs else None
    sources = sources_of(
        config, sampler, reward, residual, state_reward=along, modes=modes, teacher=teacher, watch=watch
    )
    terms = terms_of(config, sampler, residual, log_z, log_z_name)
    modules = _modules(sampler, log_z)
    named: dict[str, Source] = {config.source: sources.main}
    if teacher is not None and sources.lessons is not None:
        lessons = partition.Learned()
        modules |= {"teacher": teacher, "teacher_log_z": lessons}
        named["lessons"] = sources.lessons
        terms.append(lessons_term(teacher, lessons, divergence_of(config)))
    if sources.walks is not None:
        named[WALKS] = sources.walks
    judged = (sampler, reward, config.beta, _log_z_now(config, sampler, state_reward, log_z, residual))
    if listable(environment):
        judge = Judge(*judged, modes)
    else:
        judge = SampledJudge(*judged, known=cache(lambda: _known(config, sampler, total)))

    def begin() -> None:  # from 0, log Z would take steps by the hundred to get near
        if isinstance(log_z, partition.Learned) and config.start_log_z is None:
            log_z.log_z.data.fill_(SampledJudge(*judged, n=64, known=dict).figures()["elbo"])

    run = Run(
        modules=modules,
        learning_rate={name: falling(_rate(config, name), config.schedule, config.steps) for name in modules},
        terms=tuple(terms),
        sources=named,
        batch=dict.fromkeys(named, config.batch),
        steps=config.steps,
        seed=config.seed,
        chunk=rows_at_once(sampler),
        clip=10.0,
        compiles=config.compile,
        evaluate=lambda: judge.figures() | sources.figures(),
    )
    return DiscreteRun(run, sampler, reward, judge, show, asked, begin)


def _modules(sampler: DiscreteSampler, log_z: LogZ | None) -> dict[str, nn.Module]:
    """What is trained, by the name of its learning rate."""
    if isinstance(sampler.policy, Separate):
        modules: dict[str, nn.Module] = {"policy": sampler.policy.ahead, "backward": sampler.policy.back}
    else:
        modules = {"policy": sampler}
    return modules | ({"log_z": log_z} if isinstance(log_z, nn.Module) else {})


def _rate(config: Discrete, name: str) -> float:
    if name in ("log_z", "teacher_log_z"):
        return config.learning_rate_log_z
    own = config.learning_rate_backward if name == "backward" else None
    return config.learning_rate if own is None else own


def _teacher(config: Discrete, environment: Environment, residual: Residual, policy: Make | None) -> DiscreteSampler:
    """A sampler like the student's.

    Raises:
        ValueError: a residual that has no log Z, or values that rows of two samplers do not share.
    """
    if not residual.partition or GUIDE in residual.needs or config.backward == "likelihood":
        raise ValueError("--search teacher reads the residuals of trajectory balance: use --method tb or vargrad")
    network: Network = "transformer" if config.network == "transformer" else "mlp"  # whose paths are alike
    plain = replace(config, search="none", network=network, backward="uniform")
    return sampler_of(plain, environment, RESIDUALS["trajectory"], policy)


def _known(config: Discrete, sampler: DiscreteSampler, total: Callable[[float], float] | None) -> dict[str, float]:
    if total is None or sampler.prior is not None:
        return {}
    log_z = total(config.beta)
    return {"log_z_exact": log_z, "mean_reward_exact": math.exp(total(config.beta + 1) - log_z)}


def mass_at_least(reward: float) -> Callable[[Judge | SampledJudge], dict[str, float]]:
    """What a run is asked: the sampler's mass on objects of that reward or more, beside the target's."""

    def asked(judge: Judge | SampledJudge) -> dict[str, float]:
        if not isinstance(judge, Judge):
            return {}
        best = judge.log_reward >= math.log(reward)
        return {
            "best_mass": float(judge.distribution()[best].sum()),
            "best_mass_exact": float(judge.target[best].sum()),
        }

    return asked


def _log_z_now(
    config: Discrete,
    sampler: DiscreteSampler,
    state_reward: Callable[[Tensor], Tensor] | None,
    log_z: LogZ | None,
    residual: Residual,
) -> Callable[[], float] | None:
    """The run's own estimate: learned, or the flow of the source; None where a batch estimates it."""
    if isinstance(log_z, partition.Learned):
        return lambda: float(log_z.log_z.detach())
    if isinstance(log_z, partition.Conditional):
        return lambda: log_z_at_beta(log_z, config.levels)
    if residual.log_z is None:
        return None
    start = 0.0
    if STATE_REWARD in residual.needs and state_reward is not None:
        start = config.beta * float(state_reward(sampler.environment.initial(1)))
    return lambda: source_flow(sampler, start_reward=start)
