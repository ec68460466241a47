"""A sampler that is exactly balanced: policies and flows by dynamic programming on the reward, in float64."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from equipoise.contracts import Reward
from equipoise.discrete import exact
from equipoise.discrete.environments.hypergrid import Hypergrid
from equipoise.discrete.policies.mlp import Uniform
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.trajectories import Fixed, Scores, Trajectories


class Table(nn.Module):
    """Heads looked up by state: features are the state's one-hot, so its index can be recovered."""

    def __init__(self, environment: Hypergrid, heads: dict[str, Tensor]) -> None:
        super().__init__()
        self.environment, self.heads = environment, heads

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        digits = features.reshape(-1, self.environment.dim, self.environment.side).argmax(2)
        index = self.environment.index(torch.nn.functional.pad(digits, (0, 1)))
        return {name: value[index] for name, value in self.heads.items()}


class Doubled(Uniform):
    """The uniform policy in float64."""

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {name: logits.double() for name, logits in super().forward(features).items()}


class Balanced(DiscreteSampler):
    """F(s) = sum over objects below of R(x) times the paths' uniform P_B (or prior), by recursion from the end."""

    def __init__(self, environment: Hypergrid, reward: Reward, *, prior: bool) -> None:
        graph = exact.state_graph(environment)
        log_reward = exact.log_rewards(graph, reward)
        flow = torch.zeros(graph.inner, dtype=torch.float64)
        edges = torch.full((graph.inner, environment.actions), -torch.inf, dtype=torch.float64)
        for level in reversed(graph.levels):
            parents, children = level.rows[level.parent], level.child
            inside = children < graph.inner
            below = torch.where(inside, flow[children % graph.inner], log_reward[children % graph.inner])
            count = environment.allowed(graph.states[parents]) if prior else environment.parents(graph.states[children])
            edges[parents, level.action] = below - count.double().sum(1).log()
            flow[level.rows] = torch.logsumexp(edges[level.rows], 1)
        reference = Doubled({"forward": environment.actions}) if prior else None
        heads = {"forward": edges.nan_to_num(neginf=0.0), "flow": flow}
        back = Doubled({"backward": environment.back_actions})
        super().__init__(environment, Table(environment, heads), backward=back, prior=reference, flows=True)
        self.reward, self.log_z = reward, flow[0]

    def log_reward_of(self, drawn: Trajectories) -> Tensor:
        return self.reward(drawn.objects, None).double()

    def state_rewards(self, drawn: Trajectories) -> dict[str, Fixed]:
        value = self.reward(drawn.path["state"][..., :-1], None).double()
        return {"log_reward_state": Fixed(value, torch.zeros(len(drawn), dtype=torch.int64))}

    def relative_flow(self, scores: Scores, drawn: Trajectories) -> Scores:
        """The scores with log F(s) - log R(s) as flow: what forward-looking balance learns."""
        inner = torch.nn.functional.pad(scores.mask, (0, 1))
        return replace(scores, log_flow=scores.get("log_flow") - drawn.fixed["log_reward_state"].value * inner)
