"""The sampler of objects built step by step: an environment, a policy, and what the policy is measured against."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from equipoise.compiling import Compiler, NotCompiled
from equipoise.contracts import ON_POLICY, Behaviour, Environment, require_both, require_offered
from equipoise.discrete.choices import NETWORK, forward_scores, log_choice, require_discrete, uniforms
from equipoise.discrete.policies.mlp import Recalling, Uniform, backward_policy, reads_states
from equipoise.discrete.rows import (
    Bucket,
    Drawn,
    Packed,
    bucket,
    bucket_of,
    packed_parents,
    recorded,
    unpacked_parents,
)
from equipoise.discrete.walking import (
    Choice,
    Grid,
    Lanes,
    Visits,
    compiled_walk,
    kept_visits,
    laid_out,
    one_call,
    walk,
)
from equipoise.sampling.fixed import PARENTS, renewed
from equipoise.trajectories import Columns, Scores, Trajectories


class DiscreteSampler(nn.Module):
    """Draws and scores trajectories of an environment.

    Rollouts record no gradients and keep states and actions alone; scoring evaluates all visited states in one call
    of the policy, on the rows that are valid. Exploration (`Behaviour`) shapes what is drawn and is never scored.
    Where the environment says `keeps_parents`, those of a path are asked for once and travel in `fixed["parents"]`.

    Args:
        environment: the space of objects.
        policy: features -> {"forward": logits, "backward": logits, "flow": (n,)} (the last two where used); or
            (states, condition's features) -> the same, of a module that says `on_states = True`.
        backward: a frozen module with a "backward" head (default: uniform over parents), or "learned": the policy's
            own head.
        prior: a frozen module with a "forward" head, the reference of relative residuals; None: there is none.
        flows: whether the forward logits are log-flows of edges (flow matching).
        condition: from the context's rows to features that are joined to the state's; None: unconditional.
        default: (features,) of the condition where a state is judged without a context.

    Raises:
        ValueError: a policy without the heads that the arguments call for, a prior or backward policy that trains.

    Example:
        >>> from equipoise.discrete.environments.hypergrid import Hypergrid
        >>> from equipoise.discrete.policies.mlp import MLP
        >>> grid = Hypergrid(dim=2, side=4)
        >>> sampler = DiscreteSampler(grid, MLP(grid.features, (32,), {"forward": grid.actions}))
        >>> drawn = sampler.sample(5, generator=torch.Generator().manual_seed(0))
        >>> sampler.score(drawn, frozenset({"log_pf", "log_pb"})).log_pf.shape == (5, drawn.steps)
        True
    """

    version: Tensor
    prior_version: Tensor
    compiler: Compiler | None = None
    compiles = True

    def __init__(
        self,
        environment: Environment,
        policy: nn.Module,
        *,
        backward: nn.Module | str = "uniform",
        prior: nn.Module | None = None,
        flows: bool = False,
        condition: Callable[[Columns], Tensor] | None = None,
        default: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.default = default
        self._drawn = Drawn()
        self._keeps = policy.products if isinstance(policy, Recalling) else 0
        self.environment, self.policy, self.prior, self.condition = environment, policy, prior, condition
        self.backward_policy = backward_policy(environment, backward)
        for name, frozen in (("prior", prior), ("backward policy", self.backward_policy)):
            if frozen is not None and any(parameter.requires_grad for parameter in frozen.parameters()):
                raise ValueError(f"the {name} has trainable parameters: freeze it with .requires_grad_(False)")
        self.register_buffer("version", torch.zeros((), dtype=torch.int64))
        self.register_buffer("prior_version", torch.zeros((), dtype=torch.int64))
        self.offers = self._offers(flows)

    def _offers(self, flows: bool) -> frozenset[str]:
        heads = self._heads()
        if self.backward_policy is None and "backward" not in heads:
            raise ValueError(f"a learned backward policy needs a head 'backward'; the policy has {sorted(heads)}")
        offers = {"log_pf", "log_pb", "entropy"}
        offers |= {"log_flow"} if "flow" in heads else set()
        offers |= {"log_stop"} if self.environment.stops else set()
        offers |= {"log_inflow", "log_outflow"} if flows else set()
        return frozenset(offers | ({"log_prior", "kl_prior"} if self.prior is not None else set()))

    def _heads(self) -> frozenset[str]:
        return frozenset(self._heads_at(self.policy, self.environment.initial(1), None))

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
        noises = uniforms(self.environment.horizon, n, generator)
        policy, lanes = cast(Recalling, self.policy), torch.arange(n)
        first, begun, kept = self.environment.initial(n), torch.zeros_like(lanes), []
        if start is not None and keep is not None:
            first, begun, kept = start.path["state"][lanes, keep], keep, [kept_visits(start, keep)]
        keeps = self._keeps if self.compiler is not None and start is None and one_call(self.environment, n) else 0

        def act(state: Tensor, condition: Tensor | None, choice: Choice) -> tuple[Tensor, ...]:
            if keeps:
                heads, kept = policy.keeping(*self._inputs(self.policy, state, condition))
            else:
                heads, kept = self._heads_at(self.policy, state, condition), ()
            action = choice(heads["forward"], self.environment.allowed(state))
            return action, self.environment.step(state, action), *kept

        ends, conditions = self.environment.terminal, self._conditions(context)
        moves = self._walk("sampling", Lanes(first, ends, act, noises, conditions, behaviour, keeps))
        if isinstance(moves, Grid) and start is None:
            path, length = moves.path(first)
            self._drawn.keep(path["action"], int(self.version), moves.kept)
            return recorded(self.version, path, length, self.environment.objects(moves.state[:, -1]), context)
        lane, move, state, action = moves.visits() if isinstance(moves, Grid) else moves
        place, length = begun[lane] + move, begun + lane.bincount(minlength=n)
        steps = int(length.max()) if n else 0
        visits = [
            (lanes, begun, first),
            (lane, place + 1, state),
            *((lane, place, state) for lane, place, state, _ in kept),
        ]
        actions = [(lane, place, action), *((lane, place, action) for lane, place, _, action in kept)]
        path = laid_out(n, steps, visits, actions)
        return recorded(self.version, path, length, self.environment.objects(path["state"][lanes, length]), context)

    @torch.no_grad()
    def sample_to(self, ends: Trajectories, *, generator: torch.Generator) -> Trajectories:
        """The same rows with a path that ends in their objects, drawn from the backward policy."""
        n = len(ends)
        noises = uniforms(self.environment.horizon, n, generator)
        conditions = self._conditions(ends.context)
        last = self.environment.state_of(ends.objects)

        def retreat(state: Tensor, condition: Tensor | None, choice: Choice) -> tuple[Tensor, Tensor]:
            back = choice(self._backward_logits(state, condition), self.environment.parents(state))
            return self.environment.forward_action(state, back), self.environment.back(state, back)

        def begun(state: Tensor) -> Tensor:
            return self.environment.depth(state) == 0

        moves = self._walk("sampling backwards", Lanes(last, begun, retreat, noises, conditions))
        lane, move, state, action = moves.visits() if isinstance(moves, Grid) else moves
        length = lane.bincount(minlength=n)
        steps, place = int(length.max()) if n else 0, length[lane] - 1 - move
        path = laid_out(n, steps, [(torch.arange(n), length, last), (lane, place, state)], [(lane, place, action)])
        version = self.version.expand(n).clone()
        return replace(ends, path=path, length=length, version=version, fixed={}, steps=steps)

    @torch.no_grad()
    def renew(self, trajectories: Trajectories) -> Trajectories:
        """Fills `fixed["log_prior"]` where it is absent or of another version of the prior.

        And `fixed["parents"]` where they are absent and the environment keeps them.
        """
        if self.prior is not None:
            trajectories = renewed(trajectories, "log_prior", self.prior_version, self._log_prior)
        return self._with_parents(trajectories)

    def score(
        self, trajectories: Trajectories, needs: frozenset[str], *, generator: torch.Generator | None = None
    ) -> Scores:
        """The scores that `needs` names, differentiable in the policy; the generator is not used.

        Raises:
            ValueError: a need that this sampler does not offer.
        """
        require_offered(self, needs)
        conditions = self._conditions(trajectories.context)
        if needs & {"log_pb", "log_inflow"}:
            trajectories = self._with_parents(trajectories)
        try:
            found = self._compiled_scores(trajectories, conditions, needs)
            mask = torch.arange(trajectories.steps) < trajectories.length[:, None]
        except NotCompiled:
            rows = Packed(trajectories, conditions)
            found, mask = self.scores_of(rows, needs), rows.mask
        if "log_prior" in needs:
            found["log_prior"] = self.renew(trajectories).fixed["log_prior"].value * mask
        return Scores(mask=mask, **found)

    def scores_of(self, rows: Packed, needs: frozenset[str]) -> dict[str, Tensor]:
        """The scores that `needs` names, but log_prior, of packed rows: pure functions of their tensors."""
        learned = "log_pb" in needs and self.backward_policy is None
        ends = learned and not self.environment.stops  # terminal states have a choice of parents
        heads: Mapping[str, Tensor] = self._heads_of(rows, ends=ends) if needs & NETWORK or learned else {}
        found = self._forward_scores(rows, heads, needs) if heads else {}
        if "log_pb" in needs:
            found["log_pb"] = self._log_pb(rows, heads)
        if "log_inflow" in needs:
            found["log_inflow"] = nn.functional.pad(self._log_inflow(rows), (1, 0))
        return found

    def _heads_of(self, rows: Packed, *, ends: bool) -> Mapping[str, Tensor]:
        """The policy's heads at the rows' states and, with `ends`, at the terminal ones after them."""
        if not rows.products:
            return self._heads_at(self.policy, *rows.with_ends() if ends else (rows.state, rows.condition))
        inputs = self._inputs(self.policy, rows.state, rows.condition)
        heads = cast(Recalling, self.policy).recalled(rows.products, *inputs)
        if not ends:
            return heads
        last = self._heads_at(self.policy, rows.ends(), rows.conditions)
        return {name: torch.cat([heads[name], last[name]]) for name in heads}

    def bucket(
        self, trajectories: Trajectories, what: str, *, fresh: bool = False
    ) -> tuple[Hashable, tuple[Tensor, ...]]:
        """A batch as tensors of fixed sizes, of which `scores_in` is a pure function; and their key.

        Args:
            trajectories: the batch.
            what: they are scored for.
            fresh: no parameter was changed by other means than a step of the loop since the last draw: what was
                evaluated in it is among the tensors, where this batch is what it drew.

        Raises:
            NotCompiled: no compiler, or sizes that have not been wanted often enough.
        """
        compiler = self.compiler
        if compiler is None or not len(trajectories):
            raise NotCompiled(what)
        conditions = self._conditions(trajectories.context)
        horizon, n = self.environment.horizon, len(trajectories)
        size = bucket_of(int(trajectories.length.sum()), n * horizon)
        whole = fresh and size == n * horizon
        products = self._drawn.products_of(trajectories, int(self.version)) if whole else ()
        key = compiler.smallest((id(self), what, n, len(products)), size)
        return key, (*bucket(trajectories, conditions, horizon, key[-1]), *products)

    def scores_in(self, tensors: tuple[Tensor, ...], needs: frozenset[str]) -> Scores:
        """The scores at the width of the horizon, from the tensors of `bucket`."""
        rows = Bucket(tensors)
        return Scores(mask=rows.mask, **self.scores_of(rows, needs))

    def _compiled_scores(
        self, trajectories: Trajectories, conditions: Tensor | None, needs: frozenset[str]
    ) -> dict[str, Tensor]:
        compiler, names = self.compiler, sorted(needs - {"log_prior"})
        if compiler is None or not names:
            raise NotCompiled("scoring")
        gradient = torch.is_grad_enabled()
        key, tensors = self.bucket(trajectories, f"scoring {names} {gradient}")
        horizon, steps = self.environment.horizon, trajectories.steps

        def scored(*tensors: Tensor) -> tuple[Tensor, ...]:
            found = self.scores_in(tensors, needs)
            return tuple(found.get(name) for name in names)

        values = compiler.call("scoring", key, scored, *tensors, module=self)
        return {name: value[:, : steps + value.shape[1] - horizon] for name, value in zip(names, values, strict=True)}

    def _walk(self, what: str, lanes: Lanes) -> Visits | Grid:
        """Compiled where there is a compiler and it can be, else in eager."""
        if self.compiler is not None:
            try:
                return compiled_walk(self.compiler, self, what, lanes)
            except NotCompiled:
                pass
        return walk(lanes)

    def _with_parents(self, trajectories: Trajectories) -> Trajectories:
        if not getattr(self.environment, "keeps_parents", False):
            return trajectories
        return renewed(trajectories, PARENTS, self.version.new_zeros(()), self._packed_parents)

    def _packed_parents(self, trajectories: Trajectories) -> Tensor:
        rows = Packed(trajectories, None)
        held = packed_parents(*self._asked(rows))
        value = held.new_zeros((*rows.mask.shape, held.shape[1]))
        value[rows.mask] = held
        return value

    def _parents(self, rows: Packed) -> tuple[Tensor, Tensor]:
        """The place of each row's state among its child's parents, (rows,), and these, (rows, back_actions) bool."""
        return self._asked(rows) if rows.kept is None else unpacked_parents(rows.kept, self.environment.back_actions)

    def _asked(self, rows: Packed) -> tuple[Tensor, Tensor]:
        parents = self.environment.parents(rows.child)
        return self.environment.back_action(rows.state, rows.action), parents

    def _log_prior(self, trajectories: Trajectories) -> Tensor:
        """log-probability of each step under the prior, (n, steps)."""
        assert self.prior is not None
        rows = Packed(trajectories, self._conditions(trajectories.context))
        logits = self._heads_at(self.prior, rows.state, rows.condition)["forward"]
        return rows.scatter(log_choice(logits, self.environment.allowed(rows.state), rows.action))

    def _forward_scores(self, rows: Packed, heads: Mapping[str, Tensor], needs: frozenset[str]) -> dict[str, Tensor]:
        def prior() -> Tensor:
            assert self.prior is not None
            return self._heads_at(self.prior, rows.state, rows.condition)["forward"]

        allowed = self.environment.allowed(rows.state)
        return forward_scores(heads, allowed, rows.action, rows.scatter, needs, prior)

    def _log_pb(self, rows: Packed, heads: Mapping[str, Tensor]) -> Tensor:
        back, parents = self._parents(rows)
        if self.backward_policy is None:
            logits = heads["backward"][rows.child_row(len(heads["backward"]))]
        else:
            with torch.no_grad():
                logits = self._backward_logits(rows.child, rows.condition)
        return rows.scatter(log_choice(logits, parents, back))

    def _log_inflow(self, rows: Packed) -> Tensor:
        """log sum of F(parent, action) over the parents of each state that was entered."""
        parents = self._parents(rows)[1]
        row, back = parents.nonzero(as_tuple=True)
        child = rows.child[row]
        action = self.environment.forward_action(child, back)
        condition = None if rows.condition is None else rows.condition[row]
        flow = self._heads_at(self.policy, self.environment.back(child, back), condition)["forward"]
        edges = flow.new_full(parents.shape, -torch.inf).masked_scatter(parents, flow.gather(1, action[:, None]))
        return rows.scatter(torch.logsumexp(edges, 1))

    def visited(self, trajectories: Trajectories) -> Tensor:
        """The states of each trajectory, (n, steps + 1, width); unspecified beyond its length."""
        return trajectories.path["state"]

    def log_edges(self, state: Tensor) -> dict[str, Tensor]:
        """For listed states: `log_pf` (n, actions), -inf where not allowed, and `log_flow` (n,) where there is one."""
        heads = self._heads_at(self.policy, state, None)
        logits = heads["forward"].masked_fill(~self.environment.allowed(state), -torch.inf)
        found = {"log_pf": torch.log_softmax(logits, 1)}
        if "log_outflow" in self.offers:
            found["log_flow"] = torch.logsumexp(logits, 1)
        elif "log_flow" in self.offers:
            found["log_flow"] = heads["flow"]
        return found

    def log_back(self, state: Tensor) -> Tensor:
        """For listed states: log P_B of each backward action, (n, back_actions), -inf where there is no parent."""
        logits = self._backward_logits(state, None)
        return torch.log_softmax(logits.masked_fill(~self.environment.parents(state), -torch.inf), 1)

    def _backward_logits(self, state: Tensor, condition: Tensor | None) -> Tensor:
        module = self.policy if self.backward_policy is None else self.backward_policy
        return self._heads_at(module, state, condition)["backward"]

    def _heads_at(self, module: nn.Module, state: Tensor, condition: Tensor | None) -> Mapping[str, Tensor]:
        """A policy's heads at states: of the encoded states, or of the states themselves where it reads those."""
        if isinstance(module, Uniform):  # it reads the number of rows alone: there is nothing to encode for it
            return module(state)
        return module(*self._inputs(module, state, condition))

    def _inputs(self, module: nn.Module, state: Tensor, condition: Tensor | None) -> tuple[Tensor | None, ...]:
        if condition is None and self.default is not None:
            condition = self.default.expand(len(state), -1)
        return (state, condition) if reads_states(module) else (self._features(state, condition),)

    def _features(self, state: Tensor, condition: Tensor | None) -> Tensor:
        features = self.environment.encode(state)
        return features if condition is None else torch.cat([features, condition], 1)

    def _conditions(self, context: Columns) -> Tensor | None:
        if self.condition is None or (context is None and self.default is not None):  # the default then stands in
            return None
        return self.condition(context)
