"""The sampler of what grows at its end alone: one token a step when it draws, one pass when it scores."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from equipoise.compiling import Compiler, NotCompiled
from equipoise.contracts import ON_POLICY, Behaviour, Environment, require_both, require_offered
from equipoise.discrete.choices import NETWORK, choose, forward_scores, log_choice, require_discrete, uniforms
from equipoise.discrete.policies.mlp import Uniform
from equipoise.discrete.policies.transformer import CausalTransformer
from equipoise.discrete.rows import recorded
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.discrete.walking import chosen
from equipoise.trajectories import Columns, Scores, Trajectories

CHUNK = 4
"""Letters of a compiled call."""


class Appending(Environment, Protocol):
    """An environment whose state is what was appended so far, so that an object has one path.

    What is allowed depends on the depth alone. Actions below `letters` append, and a last one stops where it `stops`.
    """

    letters: int
    length: int
    appends: bool

    def spelled(self, action: Tensor, length: Tensor) -> Tensor: ...

    def spelling(self, state: Tensor) -> Tensor: ...


class AutoregressiveSampler(DiscreteSampler):
    """Draws and scores strings with a causal transformer; keys and values of earlier letters are kept while it draws.

    A path is its actions alone, from which states follow (`visited`). Each object has one path, so log_pb is 0, scores
    of a path are those of its object, and flow matching's inflow is the flow of one edge.

    Args:
        environment: of objects that grow at their end (`AppendStrings`, `StoppedStrings`, `AppendedBits`).
        policy: of its letters, with heads "forward" and, for residuals with flows, "flow".
        prior: the uniform policy, or None.
        flows: whether the forward logits are log-flows of edges (flow matching).

    Raises:
        ValueError: an environment that grows elsewhere too, or a prior that is not uniform.

    Example:
        >>> from equipoise.discrete.environments.strings import AppendStrings
        >>> strings = AppendStrings(letters=4, length=8)
        >>> sampler = AutoregressiveSampler(strings, CausalTransformer(4, 8, {"forward": 4}, widths=(16, 16)))
        >>> drawn = sampler.sample(5, generator=torch.Generator().manual_seed(0))
        >>> sampler.score(drawn, frozenset({"log_pf"})).log_pf.shape
        torch.Size([5, 8])

    Use it wherever there is one path to each object and a state is long: a step costs one token instead of a state.
    """

    policy: CausalTransformer

    def __init__(
        self, environment: Appending, policy: CausalTransformer, *, prior: Uniform | None = None, flows: bool = False
    ) -> None:
        if not getattr(environment, "appends", False):
            raise ValueError(
                f"{type(environment).__name__} does not grow at its end alone: give its policy to DiscreteSampler"
            )
        if prior is not None and not isinstance(prior, Uniform):
            raise ValueError(f"prior is a {type(prior).__name__}: the uniform policy was expected, or None")
        self.space = environment
        super().__init__(environment, policy, prior=prior, flows=flows)
        states, rows = environment.initial(1), []
        for _ in range(environment.horizon):
            rows.append(environment.allowed(states))
            states = environment.step(states, torch.zeros(1, dtype=torch.int64))
        self._allowed = torch.cat(rows)

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
        """Draws n trajectories; the first keep[i] steps of start[i] stay where these are given.

        Raises:
            ValueError: a behaviour with noise, which discrete actions cannot honour; `keep` without `start`.
        """
        require_discrete(behaviour)
        require_both(start, keep)
        horizon = self.environment.horizon
        noises = uniforms(horizon, n, generator)
        if self.compiler is not None and start is None and n:
            try:
                return self._compiled_draw(self.compiler, noises, behaviour, context)
            except NotCompiled:
                pass
        actions, length = torch.zeros((n, horizon), dtype=torch.int64), torch.full((n,), horizon)
        with torch.inference_mode():
            lane = torch.arange(n)
            heads, cache = self.policy.begin(n)
            for place in range(horizon):
                allowed = self._allowed[place].expand(len(lane), -1)
                action = choose(heads["forward"], allowed, noises[place][lane], behaviour)
                if start is not None and keep is not None and place < start.steps:
                    action = torch.where(keep[lane] > place, start.path["action"][lane, place], action)
                actions[lane, place] = action
                going = action < self.space.letters
                if not going.all():
                    length[lane[~going]] = place + 1
                    rows = going.nonzero()[:, 0]
                    lane, action = lane[rows], action[rows]
                    cache.take(rows)
                if place + 1 == horizon or not len(lane):
                    break
                heads = self.policy.advance(action, cache)
        return self._spelled(actions, length, context)

    def _spelled(self, actions: Tensor, length: Tensor, context: Columns) -> Trajectories:
        steps = int(length.max()) if len(length) else 0
        objects = self.environment.objects(self.space.spelled(actions, length))
        return recorded(self.version, {"action": actions[:, :steps].contiguous()}, length, objects, context)

    def _compiled_draw(
        self, compiler: Compiler, noises: Tensor, behaviour: Behaviour, context: Columns
    ) -> Trajectories:
        """The same draw in compiled calls of a few letters; strings that have stopped go on, and are cut."""
        horizon, n = noises.shape
        key = (id(self), "sampling", n)
        if not compiler.wanted(key):
            raise NotCompiled("sampling")
        settings = torch.tensor([behaviour.temperature, behaviour.epsilon])

        def chunk(
            token: Tensor, place: Tensor, noise: Tensor, settings: Tensor, keys: Tensor, values: Tensor
        ) -> tuple[Tensor, ...]:
            actions = []
            for number in range(CHUNK):
                here = (place + number).clamp(max=horizon - 1)
                logits, keys, values = self.policy.step(token, here, keys, values)
                token = chosen(noise[number], settings)(logits, self._allowed.index_select(0, here[None]))
                actions.append(token)
            return torch.stack(actions), keys, values

        token, drawn, cache = torch.full((n,), self.space.letters), [], self.policy.cache(n)
        keys, values = cache.keys, cache.values
        going = torch.ones(n, dtype=torch.bool)
        for number, noise in enumerate(nn.functional.pad(noises, (0, 0, 0, -horizon % CHUNK)).split(CHUNK)):
            given = (token, torch.tensor(number * CHUNK), noise, settings, keys, values)
            actions, keys, values = compiler.call("sampling", key, chunk, *given, module=self)
            drawn.append(actions)
            token = actions[-1]
            if self.environment.stops:
                going &= (actions < self.space.letters).all(0)
                if not going.any():
                    break
        actions = torch.cat(drawn)[:horizon].t()
        stops = actions >= self.space.letters
        length = torch.where(stops.any(1), stops.int().argmax(1) + 1, horizon)
        return self._spelled(torch.where(stops.cumsum(1) - stops.int() > 0, 0, actions), length, context)

    @torch.no_grad()
    def sample_to(self, ends: Trajectories, *, generator: torch.Generator) -> Trajectories:
        """The same rows with the one path that ends in their objects; the generator is not used."""
        state = self.environment.state_of(ends.objects)
        length = self.environment.depth(state)
        steps = int(length.max()) if len(ends) else 0
        action = self.space.spelling(state)[:, :steps]
        version = self.version.expand(len(ends)).clone()
        return replace(ends, path={"action": action}, length=length, version=version, fixed={}, steps=steps)

    def score(
        self, trajectories: Trajectories, needs: frozenset[str], *, generator: torch.Generator | None = None
    ) -> Scores:
        """The scores that `needs` names, differentiable in the policy; the generator is not used.

        Raises:
            ValueError: a need that this sampler does not offer.
        """
        require_offered(self, needs)
        try:
            found = self._compiled_scores(trajectories, None, needs)
            mask = torch.arange(trajectories.steps) < trajectories.length[:, None]
        except NotCompiled:
            steps = _Steps(trajectories.path["action"], trajectories.length)
            found, mask = self._scores_of(steps, needs), steps.mask
        if "log_prior" in needs:
            found["log_prior"] = self.renew(trajectories).fixed["log_prior"].value * mask
        return Scores(mask=mask, **found)

    def bucket(
        self, trajectories: Trajectories, what: str, *, fresh: bool = False
    ) -> tuple[Hashable, tuple[Tensor, ...]]:
        """A batch's actions at the width of the horizon, and their lengths; and their key. Nothing is kept of a draw.

        Raises:
            NotCompiled: no compiler, or a size that has not been wanted often enough.
        """
        key = (id(self), what, len(trajectories))
        if self.compiler is None or not len(trajectories) or not self.compiler.wanted(key):
            raise NotCompiled(what)
        action = trajectories.path["action"]
        return key, (nn.functional.pad(action, (0, self.environment.horizon - action.shape[1])), trajectories.length)

    def scores_in(self, tensors: tuple[Tensor, ...], needs: frozenset[str]) -> Scores:
        """The scores at the width of the horizon, from the tensors of `bucket`."""
        steps = _Steps(*tensors, full=True)
        return Scores(mask=steps.mask, **self._scores_of(steps, needs))

    def _scores_of(self, rows: _Steps, needs: frozenset[str]) -> dict[str, Tensor]:
        """The scores that `needs` names, but log_prior: pure functions of the rows' tensors."""
        found: dict[str, Tensor] = {}
        if needs & NETWORK or "log_inflow" in needs:
            heads = self.policy(rows.tokens(self.space.letters), None if rows.full else rows.mask)
            allowed = self._allowed[rows.place]
            found = forward_scores(heads, allowed, rows.action, rows.scatter, needs, lambda: torch.zeros(allowed.shape))
            if "log_inflow" in needs:
                edge = heads["forward"].gather(1, rows.action[:, None])[:, 0]
                found["log_inflow"] = nn.functional.pad(rows.scatter(edge), (1, 0))
        if "log_pb" in needs:
            found["log_pb"] = torch.zeros(rows.mask.shape)
        return found

    def visited(self, trajectories: Trajectories) -> Tensor:
        """The states of each trajectory, (n, steps + 1, width); the last one is repeated beyond its length."""
        states = [self.environment.initial(len(trajectories))]
        for place in range(trajectories.steps):
            moved = self.environment.step(states[-1], trajectories.path["action"][:, place])
            states.append(torch.where((place < trajectories.length)[:, None], moved, states[-1]))
        return torch.stack(states, 1)

    def log_edges(self, state: Tensor) -> dict[str, Tensor]:
        """For listed states: `log_pf` (n, actions), -inf where not allowed, and `log_flow` (n,) where there is one."""
        depth = self.environment.depth(state)
        steps = int(depth.max()) + 1
        tokens = (state[:, : steps - 1] - 1).clamp(min=0)
        heads = self.policy(tokens, torch.arange(steps) <= depth[:, None])
        last = (depth + 1).cumsum(0) - 1
        logits = heads["forward"][last].masked_fill(~self.environment.allowed(state), -torch.inf)
        found = {"log_pf": torch.log_softmax(logits, 1)}
        if "log_outflow" in self.offers:
            found["log_flow"] = torch.logsumexp(logits, 1)
        elif "log_flow" in self.offers:
            found["log_flow"] = heads["flow"][last]
        return found

    def _log_prior(self, trajectories: Trajectories) -> Tensor:
        """log-probability of each step under the uniform prior, (n, steps)."""
        rows = _Steps(trajectories.path["action"], trajectories.length)
        return rows.scatter(log_choice(torch.zeros(()), self._allowed[rows.place], rows.action))

    def _heads(self) -> frozenset[str]:
        return frozenset(self.policy.heads)


class _Steps:
    """The valid steps of a batch as rows, in order: place and action.

    Args:
        action: (n, steps).
        length: (n,).
        full: whether every step is a row, valid or not, so that no size depends on a value.
    """

    def __init__(self, action: Tensor, length: Tensor, *, full: bool = False) -> None:
        n, steps = action.shape
        self.mask, self.given = torch.arange(steps) < length[:, None], action
        self.full = full or bool(self.mask.all())
        if self.full:
            self.place, self.action = torch.arange(steps).repeat(n), action.flatten()
        else:
            lane, self.place = self.mask.nonzero(as_tuple=True)
            self.action = action[lane, self.place]

    def scatter(self, values: Tensor) -> Tensor:
        """(n, steps): one value a row, 0 where there is no step."""
        if self.full:
            return torch.where(self.mask, values.view(self.mask.shape), 0.0)
        return values.new_zeros(self.mask.shape).masked_scatter(self.mask, values)

    def tokens(self, letters: int) -> Tensor:
        """(n, steps - 1) what each next step reads: the actions before it, which are letters."""
        return torch.where(self.mask, self.given, 0)[:, :-1].clamp(max=letters - 1)
