"""From a configuration of a language task to a run: the method's term over a model, its problems and a reward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.contracts import Reward, Source
from equipoise.language.judge import LanguageJudge
from equipoise.language.loading import save
from equipoise.language.network import Frozen
from equipoise.language.problems import Problem, Prompts, reset_every
from equipoise.language.rewards import RewardModel, TextReward, once
from equipoise.language.sampler import LanguageModel
from equipoise.language.tiny import texts_of
from equipoise.language.verifiers import VERIFIERS, Verifier
from equipoise.language.warm_up import answered, solutions
from equipoise.objectives import partition
from equipoise.objectives.divergences import Divergence
from equipoise.recipes.choices import annealed, divergence_of, falling, same_or_of
from equipoise.recipes.language_configuration import PostTraining
from equipoise.recipes.mappings import nearest
from equipoise.recipes.rewards import own_function
from equipoise.sampling.delayed import Delayed, Searchers
from equipoise.sampling.group_replay import GroupReplay
from equipoise.sampling.journal import Journal
from equipoise.sampling.priorities import GroupPriority, recency, softmax_reward, uniform_rows
from equipoise.sampling.rollouts import Rollouts, rewarded
from equipoise.sampling.watched import Watched
from equipoise.training import policy_gradient as rl
from equipoise.training import responses
from equipoise.training.balance import RESIDUALS, LogZ, balance, informative_groups
from equipoise.training.loop import Run
from equipoise.training.staleness import with_staleness
from equipoise.training.terms import Term
from equipoise.trajectories import Trajectories

WARM_UP = 0.04
"""Share of the steps in which the learning rate rises to what it is."""

CLIP = 1.0
"""Largest norm of the gradient, which is in the unit of the score."""


@dataclass(frozen=True)
class LanguageRun:
    """A run on a language model, and what its task is made of.

    Attributes:
        config: of the task.
        run: what the loop needs.
        sampler: the model.
        tokenizer: of the model.
        reward: of responses.
        judge: on the test's problems.
        train: the problems that are trained on.
        before: what must be done before the first step, such as the supervised warm-up.
    """

    config: PostTraining
    run: Run
    sampler: LanguageModel
    tokenizer: Any
    reward: Reward
    judge: LanguageJudge
    train: Prompts
    before: Callable[[LanguageRun], None]

    def check(self) -> None:
        """Calls the reward on the right responses of a few problems, so that a wrong one is found before a folder."""
        few = self.train.problems[:4]
        token, length = solutions(self.sampler, self.tokenizer, few)
        rows = answered(self.sampler, self.train.rows(torch.arange(len(few))), token, length)
        rewarded(self.reward, rows.objects, rows.context, len(few))

    def prepare(self, folder: Path | None) -> None:
        """What comes before post-training; the model is then the origin that it is compared with."""
        self.before(self)
        self.judge.origin.take(self.sampler.network)
        self.judge.forget()

    def evaluate(self) -> dict[str, float]:
        """Figures of the model as it is now."""
        return self.run.evaluate()

    def summary(self) -> list[str]:
        """What matters of the figures, in words."""
        found = self.evaluate()
        lines = [
            f"{words} right answers {100 * found[f'{name}_prior']:.1f} % before, {100 * found[name]:.1f} % after"
            for words, name in (("greedy:", "greedy_accuracy"), ("drawn: ", "sampled_accuracy"))
        ]
        return [*lines, f"moved by {found['kl_to_prior']:.2f} nats from where it began"]

    def table(self, n: int, generator: torch.Generator) -> str:
        """n responses to test problems, as tab-separated text: prompt, object, log_reward, log_probability."""
        problems = self.judge.problems
        chosen = torch.arange(n) % len(problems)
        rows = self.sampler.sample(n, context=problems.rows(chosen), generator=generator)
        log_reward = self.reward(rows.objects, rows.context)
        with torch.no_grad():
            log_pf = self.sampler.score(rows, frozenset({"log_pf"})).get("log_pf").sum(1)
        assert isinstance(rows.objects, Mapping)
        texts = texts_of(self.tokenizer, rows.objects)
        prompts = [problems.problems[place].prompt for place in chosen.tolist()]
        columns = zip(prompts, texts, log_reward.tolist(), log_pf.tolist(), strict=True)
        lines = [f"{_line(a)}\t{_line(b)}\t{c:.6g}\t{d:.6g}" for a, b, c, d in columns]
        return "\n".join(["prompt\tobject\tlog_reward\tlog_probability", *lines, ""])


def join(
    config: PostTraining,
    sampler: LanguageModel,
    tokenizer: Any,
    reward: Reward,
    *,
    train: list[Problem],
    test: list[Problem],
    verifier: Verifier,
    exact: bool,
    before: Callable[[LanguageRun], None] = lambda run: None,
    chunk: int | None = None,
) -> LanguageRun:
    """The run of a configuration's method over a model, problems and a reward.

    Args:
        config: of the task.
        sampler: the model.
        tokenizer: of the model.
        reward: of responses.
        train: problems to train on.
        test: problems to judge on, apart from them.
        verifier: says whether a response is right.
        exact: a problem has one right response.
        before: what comes before post-training.
        chunk: responses scored at a time with gradients.
    """
    prompts = Prompts(tokenizer, train, responses=config.responses)
    origin = Frozen(sampler.network)
    judge = LanguageJudge(sampler, Prompts(tokenizer, test[: config.judged]), verifier, origin, exact, config.seed)
    term, log_z = _term(config, sampler, len(train))
    source = Watched(_source(config, sampler, reward, prompts), sampler, _skipped)
    modules: dict[str, nn.Module] = {"policy": sampler, "origin": origin}
    if isinstance(log_z, nn.Module):
        modules["log_z"] = log_z
    rates = {"policy": config.learning_rate, "log_z": config.learning_rate_log_z, "origin": 0.0}
    after = [reset_every(config.reference_reset, sampler.reset_reference)]
    if config.out is not None:
        after.append(_saved_at_the_end(config.steps, sampler, tokenizer, config.out))
    run = Run(
        modules=modules,
        learning_rate={name: _warmed(rates[name], config) for name in modules},
        terms=(with_staleness(term),),
        sources={config.source: source},
        batch={config.source: config.batch},
        steps=config.steps,
        seed=config.seed,
        chunk=chunk,
        clip=CLIP,
        evaluate=lambda: {**judge.figures(), **source.figures()},
        after=tuple(after),
    )
    return LanguageRun(config, run, sampler, tokenizer, reward, judge, prompts, before)


def reward_of(name: str, tokenizer: Any, given: Callable[..., Any] | None) -> Reward:
    """A reward by its name: a verifier, `model=NAME`, or `module:function`; or a function that is given.

    Raises:
        ValueError: none of these.
    """
    if given is not None:
        return TextReward(given, tokenizer)
    if name in VERIFIERS:
        return TextReward(VERIFIERS[name], tokenizer)
    if name.startswith("model="):
        return once(RewardModel(name.removeprefix("model="), tokenizer))
    if ":" not in name:
        known = f"{', '.join(VERIFIERS)}, model=NAME, or module:function"
        raise ValueError(f"reward '{name}'{nearest(name, VERIFIERS)}: one of {known} was expected")
    return TextReward(own_function(name), tokenizer)


def _term(config: PostTraining, sampler: LanguageModel, prompts: int) -> tuple[Term, LogZ | None]:
    source, alpha = config.source, config.alpha_at

    def beta(step: int, trajectories: object) -> float:
        return 1 / alpha(step)

    match config.method:
        case "reinforce":
            return responses.reinforce("reinforce", source, sampler), None
        case "rloo":
            return responses.rloo("rloo", source, sampler, alpha=alpha), None
        case "grpo":
            return responses.grpo("grpo", source, sampler), None
        case "dr_grpo":
            made = responses.grpo("dr_grpo", source, sampler, normalise=False, kl_weight=0.0, tokens="sum")
            return made, None
        case "cispo":
            return responses.cispo("cispo", source, sampler), None
        case "online_dpo":
            return responses.online_dpo("online_dpo", source, sampler, alpha=alpha), None
        case "ppo":  # the group's mean in the place of a critic; the weight makes its unit the score's
            needs = frozenset({"log_pf", "log_prior"})
            return rl.policy_gradient("ppo", source, sampler, rl.ppo(), needs=needs, beta=beta, weight=alpha), None
    residual, log_z_name = config.choices()
    first = divergence_of(config)
    log_z: LogZ = _of_prompts(prompts) if log_z_name == "learned" else partition.estimator(log_z_name, first)

    def term(loss: Divergence) -> Term:
        estimate = same_or_of(log_z, log_z_name, loss)
        return balance("balance", source, sampler, RESIDUALS[residual], loss, estimate, beta=beta, temper=alpha)

    return annealed(config, term), log_z


def _of_prompts(prompts: int) -> partition.Conditional:
    """A learned log Z for each prompt, 0 at first."""
    table = nn.Embedding(prompts, 1)
    nn.init.zeros_(table.weight)
    return partition.Conditional(lambda trajectories: trajectories.group, table)


def _source(config: PostTraining, sampler: LanguageModel, reward: Reward, prompts: Prompts) -> Source:
    rollouts = Rollouts(sampler, reward, conditions=prompts)
    if config.engine == "ray":  # the engine's own searchers take the place of the rollouts, and keep the journal
        return rollouts if config.source == "on_policy" else _replayed(config, rollouts, None, None)
    several = config.searchers > 1
    engine = Searchers(rollouts, config.searchers, period=config.searchers, lag=config.lag) if several else None
    delivered: Source = engine or Delayed(rollouts, config.lag)
    if config.source == "on_policy":
        return delivered
    journal = None if config.out is None else Journal(config.out / "journal")
    return _replayed(config, delivered, config.searchers * config.batch, journal)


def _replayed(config: PostTraining, inner: Source, fresh: int | None, journal: Journal | None) -> GroupReplay:
    return GroupReplay(
        inner,
        group_size=config.responses,
        fresh=fresh,
        most_on_policy=config.most_on_policy,
        priority=_priority(config),
        journal=journal,
    )


def _priority(config: PostTraining) -> GroupPriority:
    # A half-life of ten batches: recent enough to follow the policy, and not yet the most recent alone.
    made = {"uniform": uniform_rows, "reward": softmax_reward(1.0), "recency": recency(10 * config.batch)}
    return made[config.priority]


def _skipped(trajectories: Trajectories) -> Tensor:
    try:
        return informative_groups(trajectories)[1]
    except ValueError:  # all of them; a loss that needs one says so itself
        return torch.tensor(len(trajectories.group.unique()))


def _warmed(rate: float, config: PostTraining) -> Callable[[int], float]:
    full, rising = falling(rate, config.schedule, config.steps), max(1, round(WARM_UP * config.steps))
    return lambda step: full(step) * min(1.0, (step + 1) / rising)


def _saved_at_the_end(steps: int, sampler: LanguageModel, tokenizer: Any, out: Path) -> Callable[[int], None]:
    def event(step: int) -> None:
        if step == steps:
            save(sampler.model, tokenizer, out / "model")

    return event


def _line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
