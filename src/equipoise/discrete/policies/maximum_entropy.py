"""The backward policy of largest entropy: every path to an object is as likely as any other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from equipoise.contracts import Enumerable
from equipoise.discrete import exact
from equipoise.objectives.groups import Groups


class MaximumEntropy(nn.Module):
    """P_B(s|s') = n(s) / n(s'), n the number of paths from the source: uniform over the paths to each object.

    With it balance has the solution of largest entropy over trajectories, which the uniform choice of a parent has only
    where all parents of a state have equally many paths. Nothing to train: the paths are counted once.

    Source: Mohammadpour et al. 2024, "Maximum entropy GFlowNets with soft Q-learning", arXiv:2312.14331. The method
    that Shen et al. 2023 (arXiv:2305.07170) call MaxEnt is the uniform choice of a parent, `--backward uniform`.

    Args:
        environment: that lists its states.

    Raises:
        ValueError: too many states to list.

    Example:
        >>> from equipoise.discrete.environments.strings import PrependAppendStrings
        >>> words = PrependAppendStrings(letters=2, length=3)
        >>> back = MaximumEntropy(words)
        >>> back(torch.tensor([[1, 1, 2]]), None)["backward"].exp().tolist()  # one path to AA, two to AB
        [[1.0, 2.0]]
    """

    on_states = True

    def __init__(self, environment: Enumerable) -> None:
        super().__init__()
        self.environment = environment
        self.log_paths = log_paths(exact.state_graph(environment))

    def forward(self, state: Tensor, condition: Tensor | None = None) -> dict[str, Tensor]:
        row, back = (parents := self.environment.parents(state)).nonzero(as_tuple=True)
        parent = self.environment.index(self.environment.back(state[row], back))
        return {"backward": torch.zeros(parents.shape).masked_scatter(parents, self.log_paths[parent].float())}


def log_paths(graph: exact.StateGraph) -> Tensor:
    """log of the number of paths from the source to each state, (size,) float64."""
    found = torch.full((len(graph.states),), -torch.inf, dtype=torch.float64)
    found[graph.environment.index(graph.environment.initial(1))] = 0.0
    for level in graph.levels:
        # In logarithms: the far corner of a long grid has more paths than a float64 can hold.
        child, index, count = level.child.unique(return_inverse=True, return_counts=True)
        parents, each = Groups(index, count.double()), found[level.rows][level.parent]
        most = parents.largest(each)
        more = parents.total((each - parents.of_rows(most)).exp()).log() + most
        found[child] = torch.logaddexp(found[child], more)
    return found
