"""Strings of a fixed length, grown letter by letter: at the end alone, at both ends, or anywhere.

A state is `length` integers, letters from the left: 0 where empty, else the letter's number plus 1. Objects are the
letters' numbers, (n, length) int64. Appending gives each string one trajectory (a tree); growing at both ends gives a
string of n letters up to 2^(n-1) of them, the domain of Shen et al. 2023, arXiv:2305.07170.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from equipoise.trajectories import Columns


class AppendStrings:
    """Strings over `letters` letters, of exactly `length`, grown by appending; the last letter ends the trajectory.

    Args:
        letters: size of the alphabet, at least 2.
        length: letters of a finished string, at least 1.

    Raises:
        ValueError: an alphabet or a length out of range.

    Example:
        >>> strings = AppendStrings(letters=4, length=8)
        >>> strings.size, strings.initial(1).tolist()
        (87381, [[0, 0, 0, 0, 0, 0, 0, 0]])
    """

    stops = False
    appends = True

    def __init__(self, *, letters: int, length: int) -> None:
        if letters < 2 or length < 1:
            raise ValueError(f"strings of {letters} letters and length {length}: at least 2 letters and length 1")
        self.letters, self.length = letters, length
        self.actions, self.back_actions = letters, 1
        self.horizon = length
        self.features = length * (letters + 1)
        self._columns = torch.arange(length)
        first = [(letters**n - 1) // (letters - 1) for n in range(length + 2)]
        self.size = first[-1]
        if self.size < 1 << 62:  # else there is no number of 64 bits for each string, and none is asked for
            self._places = letters ** torch.arange(length - 1, -1, -1)
            self._first = torch.tensor(first)
        self._one_hot = torch.eye(letters + 1)
        self._every = torch.ones((1, letters), dtype=torch.bool)

    def initial(self, n: int) -> Tensor:
        """(n, length) zeros: the empty string."""
        return torch.zeros((n, self.length), dtype=torch.int64)

    def allowed(self, state: Tensor) -> Tensor:
        """Every letter, of a string that is not full."""
        return self._every.expand(len(state), -1)

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        """Puts the letter in the first empty place."""
        return state.scatter(1, state.argmin(1, keepdim=True), action[:, None] + 1)

    def terminal(self, state: Tensor) -> Tensor:
        """Whether the string is full."""
        return state[:, -1] > 0

    def depth(self, state: Tensor) -> Tensor:
        """Letters so far."""
        return (state > 0).sum(1)

    def parents(self, state: Tensor) -> Tensor:
        """One backward action: the last letter is removed."""
        return state[:, :1] > 0

    def back(self, state: Tensor, action: Tensor) -> Tensor:
        """The string without its last letter."""
        return state * (self._columns != self.depth(state)[:, None] - 1)

    def back_action(self, state: Tensor, action: Tensor) -> Tensor:
        """Always 0."""
        return torch.zeros_like(action)

    def forward_action(self, state: Tensor, back_action: Tensor) -> Tensor:
        """The letter that was appended: the last one."""
        return state.gather(1, (self.depth(state) - 1).clamp(min=0)[:, None])[:, 0] - 1

    def encode(self, state: Tensor) -> Tensor:
        """One-hot letters, with one more symbol for an empty place: (n, length * (letters + 1)) float32."""
        return functional.embedding(state, self._one_hot).flatten(1)

    def objects(self, state: Tensor) -> Tensor:
        """The letters' numbers."""
        return state - 1

    def state_of(self, objects: Columns) -> Tensor:
        """The full string of each object."""
        if not isinstance(objects, Tensor):
            raise ValueError(f"these strings are a tensor (n, {self.length}) of letters' numbers")
        return objects + 1

    def spelled(self, action: Tensor, length: Tensor) -> Tensor:
        """The terminal states that rows of actions (n, horizon) end in."""
        return action + 1

    def spelling(self, state: Tensor) -> Tensor:
        """The actions (n, horizon) that lead to terminal states."""
        return state - 1

    def states(self) -> Tensor:
        """Every string, by length, then in the order of the base-`letters` number that its letters write."""
        return torch.cat([self._strings(n) for n in range(self.length + 1)])

    def index(self, state: Tensor) -> Tensor:
        """The place of each string in `states`; of full ones less the first, the index of a reward table."""
        depth = self.depth(state)
        number = ((state - 1).clamp(min=0) * self._places).sum(1)
        return self._first[depth] + number // self.letters ** (self.length - depth)

    def _strings(self, length: int) -> Tensor:
        number = torch.arange(self.letters**length)[:, None]
        digits = number // self.letters ** torch.arange(length - 1, -1, -1) % self.letters
        return functional.pad(digits + 1, (0, self.length - length))


class PrependAppendStrings(AppendStrings):
    """Strings over `letters` letters, of exactly `length`, grown at either end.

    Actions below `letters` append, the others prepend. A letter prepended to a run of itself would give the string
    that appending it gives, so that action is not allowed: an edge is one action. Backward action 0 removes the last
    letter, 1 the first (not of a run of one letter).

    Source: Shen et al. 2023, "Towards understanding and improving GFlowNet training", arXiv:2305.07170, section 3.

    Example:
        >>> import torch
        >>> strings = PrependAppendStrings(letters=2, length=3)
        >>> strings.allowed(torch.tensor([[1, 0, 0]])).tolist()
        [[True, True, False, True]]
    """

    appends = False

    def __init__(self, *, letters: int, length: int) -> None:
        super().__init__(letters=letters, length=length)
        self.actions, self.back_actions = 2 * letters, 2

    def allowed(self, state: Tensor) -> Tensor:
        """Every letter at the end; at the front every letter but the one of which the string is a run."""
        letter = torch.arange(1, self.letters + 1)
        repeats = self._is_run(state)[:, None] & ((state[:, :1] == letter) | (state[:, :1] == 0))
        return torch.cat([super().allowed(state), ~repeats], 1)

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        """Appends the letter, or prepends it."""
        appended = super().step(state, action)
        prepended = torch.cat([(action - self.letters + 1)[:, None], state[:, :-1]], 1)
        return torch.where((action < self.letters)[:, None], appended, prepended)

    def parents(self, state: Tensor) -> Tensor:
        """Removing the last letter, and removing the first where that gives another string."""
        some = state[:, 0] > 0
        return torch.stack([some, some & ~self._is_run(state)], 1)

    def back(self, state: Tensor, action: Tensor) -> Tensor:
        """The string without its last letter (0), or without its first (1)."""
        shortened = functional.pad(state[:, 1:], (0, 1))
        return torch.where((action == 0)[:, None], super().back(state, action), shortened)

    def back_action(self, state: Tensor, action: Tensor) -> Tensor:
        """0 undoes an append, 1 a prepend."""
        return (action >= self.letters).long()

    def forward_action(self, state: Tensor, back_action: Tensor) -> Tensor:
        """The append of the last letter, or the prepend of the first."""
        return torch.where(back_action == 0, super().forward_action(state, back_action), state[:, 0] - 1 + self.letters)

    def _is_run(self, state: Tensor) -> Tensor:
        """Whether all letters are one letter (the empty string counts)."""
        return ((state == state[:, :1]) | (state == 0)).all(1)


class InsertStrings(AppendStrings):
    """Strings over `letters` letters, of exactly `length`, grown by inserting a letter anywhere.

    Action p * letters + a inserts letter a before place p. Beside a letter of its own kind it would give one string
    from several places, so it is only let in before a run of its kind, never within or after one: an edge is one
    action. Backward action p removes the first letter of the run that begins at p.

    Source: the insertion variant of Shen et al. 2023, arXiv:2305.07170.

    Example:
        >>> import torch
        >>> strings = InsertStrings(letters=2, length=3)
        >>> strings.allowed(torch.tensor([[1, 0, 0]])).tolist()
        [[True, True, False, True, False, False]]
    """

    appends = False

    def __init__(self, *, letters: int, length: int) -> None:
        super().__init__(letters=letters, length=length)
        self.actions, self.back_actions = letters * length, length

    def allowed(self, state: Tensor) -> Tensor:
        """Places up to the end of the string, for letters other than the one before."""
        before = functional.pad(state[:, :-1], (1, 0))
        other = before[:, :, None] != torch.arange(1, self.letters + 1)
        return (other & (self._columns <= self.depth(state)[:, None])[:, :, None]).flatten(1)

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        """Letters from the place on move one to the right."""
        place, letter = action[:, None] // self.letters, action[:, None] % self.letters + 1
        moved = functional.pad(state[:, :-1], (1, 0))
        return torch.where(self._columns < place, state, torch.where(self._columns == place, letter, moved))

    def parents(self, state: Tensor) -> Tensor:
        """The first letter of each run can go."""
        return (state > 0) & (state != functional.pad(state[:, :-1], (1, 0)))

    def back(self, state: Tensor, action: Tensor) -> Tensor:
        """Letters after the place move one to the left."""
        return torch.where(self._columns < action[:, None], state, functional.pad(state[:, 1:], (0, 1)))

    def back_action(self, state: Tensor, action: Tensor) -> Tensor:
        """The place."""
        return action // self.letters

    def forward_action(self, state: Tensor, back_action: Tensor) -> Tensor:
        """The place, and the letter that stands there."""
        return back_action * self.letters + (state.gather(1, back_action[:, None])[:, 0] - 1).clamp(min=0)


GROWTH: dict[str, type[AppendStrings]] = {
    "append": AppendStrings,
    "prepend_append": PrependAppendStrings,
    "insert": InsertStrings,
}
