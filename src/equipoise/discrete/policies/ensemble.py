"""Policies with a condition of their own: members of an ensemble, and temperatures."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.discrete.policies.mlp import MLP


class Ensemble(nn.Module):
    """Members that share a trunk: the last `members` features say by a one-hot whose forward head speaks.

    Where they are all 0, the mean of the members' logits does: once all members are trained they agree.

    Source: Rector-Brooks et al. 2023, "Thompson sampling for improved exploration in GFlowNets", arXiv:2306.17693.

    Args:
        features: width of the state's features.
        hidden: width of each hidden layer.
        heads: name and width of each output, "forward" among them, which each member has its own of.
        members: at least 2.

    Raises:
        ValueError: fewer members, or no head "forward".

    Example:
        >>> policy = Ensemble(4, (8,), {"forward": 3}, members=2)
        >>> state = torch.ones(1, 4)
        >>> rows = torch.cat([state.expand(3, -1), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])], 1)
        >>> logits = policy(rows)["forward"]
        >>> bool(torch.allclose(logits[:2].mean(0), logits[2]))
        True
    """

    def __init__(self, features: int, hidden: tuple[int, ...], heads: Mapping[str, int], *, members: int) -> None:
        super().__init__()
        if members < 2 or not heads.get("forward"):
            raise ValueError(f"{members} members, heads {dict(heads)}: at least 2, and a head 'forward', were expected")
        self.members, self.actions = members, heads["forward"]
        self.network = MLP(features, hidden, {**heads, "forward": members * heads["forward"]})

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        member = features[:, -self.members :]
        share = torch.where(member.sum(1, keepdim=True) > 0, member, 1 / self.members)
        found = self.network(features[:, : -self.members])
        each = found["forward"].view(len(features), self.members, self.actions)
        return {**found, "forward": (each * share[:, :, None]).sum(1)}


class Tempered(nn.Module):
    """A policy told the exponent: the last feature is log beta, which the network sees and which scales its logits.

    Source: Kim et al. 2024, "Learning to scale logits for temperature-conditional GFlowNets", arXiv:2310.02823: forward
    logits times a learned function of beta. There the network of the logits does not see beta, so that policies of two
    exponents differ by a factor alone, which those of R^beta / Z do not, and flows are the same for all of them; here
    it sees beta too, and every exponent has its target as optimum.

    Args:
        features: width of the state's features.
        hidden: width of each hidden layer.
        heads: name and width of each output.
        width: of the layer between log beta and the scale.

    Example:
        >>> policy = Tempered(4, (8,), {"forward": 3})
        >>> rows = torch.cat([torch.ones(2, 4), torch.tensor([[0.0], [1.0]])], 1)
        >>> policy(rows)["forward"].shape
        torch.Size([2, 3])
    """

    def __init__(self, features: int, hidden: tuple[int, ...], heads: Mapping[str, int], *, width: int = 32) -> None:
        super().__init__()
        self.network = MLP(features + 1, hidden, heads)
        self.scale = nn.Sequential(nn.Linear(1, width), nn.LeakyReLU(), nn.Linear(width, 1))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        found = self.network(features)
        return {**found, "forward": functional.softplus(1.0 + self.scale(features[:, -1:])) * found["forward"]}
