"""The states on the way to an object: its parts.

A state s is a part of x where some path leads from s to x: a substring of strings that grow at both ends, a prefix of
those that are appended to, a smaller bag in a bag, a corner of the box below a point of a grid; and x itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from equipoise.contracts import Enumerable
from equipoise.discrete.environments.bags import Bags
from equipoise.discrete.environments.strings import PrependAppendStrings


@dataclass(frozen=True)
class Parts:
    """The parts of n objects, each once.

    Attributes:
        owner: (parts,) which object, ascending.
        index: (parts,) the part's place among the environment's states, ascending for each object.
        end: (n,) the objects' own places.
        size: of the environment.
    """

    owner: Tensor
    index: Tensor
    end: Tensor
    size: int

    def holds(self, owner: Tensor, index: Tensor) -> Tensor:
        """Whether each state is a part of that object, bool."""
        keys, asked = self.owner * self.size + self.index, owner * self.size + index
        return keys[torch.searchsorted(keys, asked).clamp(max=len(keys) - 1)] == asked


def parts(environment: Enumerable, ends: Tensor) -> Parts:
    """The parts of terminal states (n, width).

    Example:
        >>> words = PrependAppendStrings(letters=2, length=3)
        >>> found = parts(words, torch.tensor([[1, 2, 1]]))
        >>> words.states()[found.index].tolist()  # nothing, A, B, AB, BA, ABA
        [[0, 0, 0], [1, 0, 0], [2, 0, 0], [1, 2, 0], [2, 1, 0], [1, 2, 1]]
    """
    if type(environment) is PrependAppendStrings:
        owner, index = _substrings(environment, ends)
    elif type(environment) is Bags:
        owner, index = _smaller_bags(environment, ends)
    else:
        owner, index = swept(environment, ends)
    return Parts(owner, index, environment.index(ends), environment.size)


def swept(environment: Enumerable, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Owner and index of the parts, by steps backwards: of any environment, one pass a step."""
    owner, state = torch.arange(len(ends)), ends
    keys = [owner * environment.size + environment.index(state)]
    while len(state):
        row, back = environment.parents(state).nonzero(as_tuple=True)
        if not len(row):
            break
        state, owner = environment.back(state[row], back), owner[row]
        found, place = (owner * environment.size + environment.index(state)).unique(return_inverse=True)
        first = torch.empty_like(found).scatter_(0, place, torch.arange(len(place)))
        state, owner = state[first], owner[first]
        keys.append(found)
    found = torch.cat(keys).unique()  # states of unequal depth can meet in sweeps that began at unequal depths
    return torch.div(found, environment.size, rounding_mode="floor"), found % environment.size


def _substrings(environment: PrependAppendStrings, ends: Tensor) -> tuple[Tensor, Tensor]:
    taken, within = _pieces(environment.length)
    index = environment.index((ends[:, taken] * within).flatten(0, 1)).view(len(ends), -1).sort(1).values
    new = torch.ones_like(index, dtype=torch.bool)
    new[:, 1:] = index[:, 1:] != index[:, :-1]
    owner, place = new.nonzero(as_tuple=True)
    return owner, index[owner, place]


@lru_cache
def _pieces(length: int) -> tuple[Tensor, Tensor]:
    """Of each substring, the empty one first: the columns of its letters, and which of these are within it."""
    column = torch.arange(length)
    begin, size = (column[:, None] + column < length).nonzero(as_tuple=True)  # sizes less 1
    begin, size = (torch.cat([value.new_tensor([first]), value]) for value, first in ((begin, 0), (size, -1)))
    return (begin[:, None] + column).clamp(max=length - 1), column <= size[:, None]


def _smaller_bags(environment: Bags, ends: Tensor) -> tuple[Tensor, Tensor]:
    choices = ends + 1
    places = choices.cumprod(1)
    count = places[:, -1]
    owner = torch.arange(len(ends)).repeat_interleave(count)
    number = torch.arange(len(owner)) - (count.cumsum(0) - count)[owner]
    below = torch.nn.functional.pad(places[:, :-1], (1, 0), value=1)
    index = environment.index(number[:, None] // below[owner] % choices[owner])
    key = (owner * environment.size + index).sort().values
    return torch.div(key, environment.size, rounding_mode="floor"), key % environment.size
