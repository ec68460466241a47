"""Strings of any length up to a limit, grown by appending and ended by a stop: the space of peptides.

A state is `length` letters from the left, 0 where empty, else the letter's number plus 1, and a last column that is 1
once the trajectory has stopped. Objects are the letters' numbers, (n, length) int64, -1 beyond the end.

Source: the antimicrobial peptides of Malkin et al. 2022, appendix B.4, arXiv:2201.13259. There a string of full length
ends at once; here its stop follows with probability 1, which is the same law, and lets every state stop.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from equipoise.discrete.environments.strings import AppendStrings
from equipoise.trajectories import Columns


class StoppedStrings(AppendStrings):
    """Strings over `letters` letters, of at most `length`; the last action stops.

    Args:
        letters: size of the alphabet, at least 2.
        length: most letters, at least 1.

    Raises:
        ValueError: an alphabet or a length out of range.

    Example:
        >>> import torch
        >>> strings = StoppedStrings(letters=2, length=2)
        >>> strings.allowed(torch.tensor([[1, 0, 0], [1, 2, 0]])).tolist()
        [[True, True, True], [False, False, True]]
        >>> strings.size
        14
    """

    stops = True

    def __init__(self, *, letters: int, length: int) -> None:
        super().__init__(letters=letters, length=length)
        self.words = self.size
        self.actions, self.horizon, self.size = letters + 1, length + 1, 2 * self.words
        self._letter = torch.arange(letters + 1) < letters

    def initial(self, n: int) -> Tensor:
        """(n, length + 1) zeros: the empty string, not stopped."""
        return torch.zeros((n, self.length + 1), dtype=torch.int64)

    def allowed(self, state: Tensor) -> Tensor:
        """Letters while there is room; the stop always."""
        return (state[:, -2:-1] == 0) | ~self._letter

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        """Appends the letter, or sets the flag."""
        stop = action == self.letters
        place = torch.where(stop, self.length, super().depth(state[:, :-1]).clamp(max=self.length - 1))
        return state.scatter(1, place[:, None], torch.where(stop, 1, action + 1)[:, None])

    def terminal(self, state: Tensor) -> Tensor:
        """Whether the trajectory has stopped."""
        return state[:, -1] > 0

    def parents(self, state: Tensor) -> Tensor:
        """One backward action: the stop is taken back, or the last letter removed."""
        return (state > 0).any(1, keepdim=True)

    def back(self, state: Tensor, action: Tensor) -> Tensor:
        """The string that goes on, or that without its last letter."""
        going = super().back(state[:, :-1], action)
        return functional.pad(torch.where(state[:, -1:] > 0, state[:, :-1], going), (0, 1))

    def forward_action(self, state: Tensor, back_action: Tensor) -> Tensor:
        """The stop, or the last letter."""
        return torch.where(state[:, -1] > 0, self.letters, super().forward_action(state[:, :-1], back_action))

    def encode(self, state: Tensor) -> Tensor:
        """One-hot letters, with one more symbol for an empty place: (n, length * (letters + 1)) float32."""
        return super().encode(state[:, :-1])

    def objects(self, state: Tensor) -> Tensor:
        """The letters' numbers, -1 beyond the end."""
        return state[:, :-1] - 1

    def state_of(self, objects: Columns) -> Tensor:
        """The stopped state of each string."""
        return functional.pad(super().state_of(objects), (0, 1), value=1)

    def spelled(self, action: Tensor, length: Tensor) -> Tensor:
        """The terminal states that rows of actions (n, horizon) end in."""
        letters = (action[:, :-1] + 1) * (self._columns < length[:, None] - 1)
        return functional.pad(letters, (0, 1), value=1)

    def spelling(self, state: Tensor) -> Tensor:
        """The actions (n, horizon) that lead to terminal states."""
        letters = functional.pad((state[:, :-1] - 1).clamp(min=0), (0, 1))
        return letters.scatter(1, super().depth(state[:, :-1])[:, None], self.letters)

    def states(self) -> Tensor:
        """Every string, by length, then in order; then the stopped copies."""
        words = super().states()
        return torch.cat([functional.pad(words, (0, 1)), functional.pad(words, (0, 1), value=1)])

    def index(self, state: Tensor) -> Tensor:
        """The place of each state in `states`."""
        depth = super().depth(state[:, :-1])
        number = ((state[:, :-1] - 1).clamp(min=0) * self._places).sum(1)
        return self._first[depth] + number // self.letters ** (self.length - depth) + self.words * state[:, -1]
