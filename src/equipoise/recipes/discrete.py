"""From a configuration of a discrete task to a run: the four choices joined over an environment and a reward."""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from equipoise.contracts import Behaviour, Enumerable, Reward
from equipoise.discrete import exact
from equipoise.discrete.policies.mlp import MLP, Uniform
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.evaluation.distances import compare
from equipoise.objectives import partition
from equipoise.objectives.divergences import Divergence, divergence
from equipoise.recipes.configuration import Training
from equipoise.sampling.rollouts import Rollouts
from equipoise.training.balance import RESIDUALS, STATE_REWARD, LogZ, Residual, balance, sub_trajectory
from equipoise.training.loop import Run
from equipoise.trajectories import Columns, Trajectories


@dataclass(frozen=True)
class DiscreteRun:
    """A run, and what its task is made of: for evaluation, sampling and figures."""

    run: Run
    sampler: DiscreteSampler
    reward: Reward
    show: Callable[[Columns], list[str]]

    def evaluate(self) -> dict[str, float]:
        """Exact figures of the sampler as it is now."""
        return self.run.evaluate()


def build(
    config: Training,
    environment: Enumerable,
    reward: Reward,
    *,
    show: Callable[[Columns], list[str]],
    state_reward: bool = False,
) -> DiscreteRun:
    """Joins the four choices of a configuration over an environment and a reward.

    Args:
        config: of the task.
        environment: the space of objects, small enough to list.
        reward: log R of objects.
        show: objects as text, for people.
        state_reward: whether the reward is also defined on the states on the way (forward-looking balance).

    Raises:
        ValueError: choices that do not fit together, or a reward that is not finite somewhere.
    """
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    residual_name, log_z_name = config.choices()
    residual = sub_trajectory(decay=config.decay) if residual_name == "sub_trajectory" else RESIDUALS[residual_name]
    sampler = _sampler(config, environment, residual)
    loss = _divergence(config)
    log_z = None if log_z_name == "flow" else partition.estimator(log_z_name, loss)
    modules: dict[str, torch.nn.Module] = {"policy": sampler}
    if isinstance(log_z, torch.nn.Module):
        modules["log_z"] = log_z
    source = Rollouts(
        sampler,
        reward,
        behaviour=_exploration(config),
        state_reward=_state_reward(reward, environment) if state_reward and STATE_REWARD in residual.needs else None,
    )
    term = balance("balance", config.source, sampler, residual, loss, log_z, beta=lambda step, rows: config.beta)
    evaluate = _evaluation(config, sampler, reward, log_z, relative=STATE_REWARD in residual.needs)
    rates = {"policy": config.learning_rate, "log_z": config.learning_rate_log_z}
    run = Run(
        modules=modules,
        learning_rate={name: falling(rates[name], config.schedule, config.steps) for name in modules},
        terms=(term,),
        sources={config.source: source},
        batch={config.source: config.batch},
        steps=config.steps,
        seed=config.seed,
        clip=10.0,
        evaluate=evaluate,
    )
    return DiscreteRun(run, sampler, reward, show)


def own_reward(name: str) -> Reward:
    """A user's reward, `module:function`: of (objects) or (objects, context), returning log R.

    Modules are looked for in the present folder too.

    Raises:
        ValueError: no such module or function.
    """
    module_name, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(f"reward '{name}': a name of this task's, or module:function, was expected")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"reward '{name}' cannot be loaded: {error}") from error
    return wrapped(function)


def wrapped(function: Callable[..., Tensor]) -> Reward:
    """A reward of one argument or two as one of two; what it raises is a ValueError that names it."""
    name = f"{function.__module__}:{getattr(function, '__qualname__', type(function).__name__)}"
    alone = _takes_one(function)

    def reward(objects: Columns, context: Columns = None) -> Tensor:
        try:
            return function(objects) if alone else function(objects, context)
        except Exception as error:
            raise ValueError(f"reward '{name}' raised {type(error).__name__}: {error}") from error

    return reward


def _takes_one(function: Callable[..., Tensor]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a built-in function without a signature
        return False
    needed = [entry for entry in parameters if entry.default is entry.empty and entry.kind != entry.VAR_POSITIONAL]
    return len(needed) == 1


def falling(rate: float, schedule: str, steps: int) -> Callable[[int], float]:
    """A learning rate by step: constant, or falling to 0 at the last step, linearly or as a cosine."""
    if schedule == "constant":
        return lambda step: rate
    if schedule == "linear":
        return lambda step: rate * (1 - step / steps)
    return lambda step: rate * 0.5 * (1 + math.cos(math.pi * step / steps))


def _divergence(config: Training) -> Divergence:
    return divergence(config.loss) if config.order is None else divergence(config.loss, order=config.order)


def _sampler(config: Training, environment: Enumerable, residual: Residual) -> DiscreteSampler:
    heads = {"forward": environment.actions}
    if config.backward == "learned" and "log_pb" in residual.needs:
        heads["backward"] = environment.back_actions
    if "log_flow" in residual.needs:
        heads["flow"] = 0
    return DiscreteSampler(
        environment,
        MLP(environment.features, config.hidden, heads),
        backward="learned" if "backward" in heads else "uniform",
        prior=Uniform({"forward": environment.actions}) if "log_prior" in residual.needs else None,
        flows="log_inflow" in residual.needs,
    )


def _exploration(config: Training) -> Callable[[int], Behaviour]:
    half = config.steps / 2
    return lambda version: Behaviour(epsilon=config.epsilon * max(0.0, 1 - version / half))


def _state_reward(reward: Reward, environment: Enumerable) -> Callable[[Trajectories], Tensor]:
    def state_reward(trajectories: Trajectories) -> Tensor:
        states = trajectories.path["state"]
        inside = torch.arange(states.shape[1]) <= trajectories.length[:, None]
        value = reward(environment.objects(states[inside]), None)
        return value.new_zeros(inside.shape).masked_scatter(inside, value)

    return state_reward


def _evaluation(
    config: Training, sampler: DiscreteSampler, reward: Reward, log_z: LogZ | None, *, relative: bool
) -> Callable[[], dict[str, float]]:
    """Exact figures of the sampler against its target; the space is listed at the first call.

    `relative`: the flows are learned relative to the states' own rewards.
    """

    @functools.cache
    def space() -> tuple[exact.StateGraph, Tensor, Tensor]:
        graph = exact.state_graph(_enumerable(sampler))
        log_reward = exact.log_rewards(graph, reward)
        log_prior = 0.0 if sampler.prior is None else _log_prior(sampler, graph)
        return graph, log_reward, config.beta * log_reward + log_prior

    def evaluate() -> dict[str, float]:
        graph, log_reward, log_target = space()
        log_pf = exact.log_policy(sampler, graph)
        model = exact.terminal_distribution(graph, log_pf)
        estimate = _log_z(sampler, graph, log_pf, config.beta * log_reward, log_z)
        if relative and "log_flow" in sampler.offers:
            start = graph.environment.objects(graph.environment.initial(1))
            estimate += config.beta * float(reward(start, None))
        return compare(model, log_target, log_reward, estimate)

    return evaluate


def _enumerable(sampler: DiscreteSampler) -> Enumerable:
    environment = sampler.environment
    assert isinstance(environment, Enumerable)
    return environment


def _log_prior(sampler: DiscreteSampler, graph: exact.StateGraph) -> Tensor:
    """log of the prior's own probability of each object."""
    assert sampler.prior is not None
    prior = DiscreteSampler(graph.environment, sampler.prior)
    return exact.terminal_distribution(graph, exact.log_policy(prior, graph)).log()


def _log_z(
    sampler: DiscreteSampler, graph: exact.StateGraph, log_pf: Tensor, target: Tensor, log_z: LogZ | None
) -> float:
    """The run's estimate: learned; the flow of the source; or else the exact mean of the batch's own (the ELBO)."""
    if isinstance(log_z, torch.nn.Module):
        return float(next(log_z.parameters()).detach())
    if log_z is None:
        flow = sampler.log_edges(graph.environment.initial(1)).get("log_flow")
        if flow is not None:
            return float(flow.detach())
    return -exact.expected_log_ratio(sampler, graph, log_pf, target)
