"""Bit sequences: words of k bits, appended from left to right, or put at any position in any order.

Objects are the bits, (n, bits) int64, in either form, so that modes, rewards and the test set are the same for both.

Source: Malkin et al. 2022, appendix B.3, arXiv:2201.13259 (left to right); Tiapkin et al. 2024, "Generative flow
networks as entropy-regularized RL", arXiv:2310.12934 (any position). n = 120, 60 modes made of 15 symbols of 8 bits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from equipoise.discrete.environments.assignments import Assignments
from equipoise.discrete.environments.nearness import distances
from equipoise.discrete.environments.strings import AppendStrings
from equipoise.trajectories import Columns

SYMBOLS = ("00000000", "11111111", "11110000", "00001111", "00111100")
"""What modes are made of."""

MODES = 60


class _Words:
    """Words of bits as numbers, first bit most significant."""

    def __init__(self, bits: int, word: int) -> None:
        if word < 1 or bits < 1 or bits % word:
            raise ValueError(f"{bits} bits in words of {word}: the word must divide the bits")
        if word > 16:
            raise ValueError(f"words of {word} bits: at most 16, for each word is an action")
        self.bits, self.word = bits, word
        self._shift = torch.arange(word - 1, -1, -1)

    def to_bits(self, words: Tensor) -> Tensor:
        return (words[:, :, None] >> self._shift & 1).flatten(1)

    def to_words(self, objects: Columns) -> Tensor:
        if not isinstance(objects, Tensor) or objects.shape[1:] != (self.bits,):
            raise ValueError(f"bit sequences are a tensor (n, {self.bits}) of 0 and 1")
        return (objects.view(len(objects), -1, self.word) << self._shift).sum(2)


class AppendedBits(AppendStrings):
    """Bit sequences that grow to the right by words: one path each.

    Args:
        bits: length, a multiple of `word`.
        word: bits of an action, from 1 to 16.

    Raises:
        ValueError: a word that does not divide the bits, or is too long.

    Example:
        >>> space = AppendedBits(bits=8, word=2)
        >>> space.objects(space.state_of(torch.tensor([[0, 0, 0, 1, 1, 0, 1, 1]]))).tolist()
        [[0, 0, 0, 1, 1, 0, 1, 1]]
    """

    def __init__(self, *, bits: int, word: int) -> None:
        self.words = _Words(bits, word)
        super().__init__(letters=2**word, length=bits // word)

    def objects(self, state: Tensor) -> Tensor:
        """The bits; of words that are missing, 0 (of the number -1, all ones)."""
        return self.words.to_bits(state - 1)

    def state_of(self, objects: Columns) -> Tensor:
        """The full state of each sequence."""
        return self.words.to_words(objects) + 1


class PlacedBits(Assignments):
    """Bit sequences whose words are put at any free position, in any order.

    Args:
        bits: length, a multiple of `word`.
        word: bits of a word, from 1 to 16; an action is a position and a word.

    Raises:
        ValueError: a word that does not divide the bits, or is too long.

    Example:
        >>> PlacedBits(bits=120, word=8).actions
        3840
    """

    def __init__(self, *, bits: int, word: int) -> None:
        self.words = _Words(bits, word)
        super().__init__(positions=bits // word, values=2**word)

    def objects(self, state: Tensor) -> Tensor:
        """The bits."""
        return self.words.to_bits(state - 1)

    def state_of(self, objects: Columns) -> Tensor:
        """The full state of each sequence."""
        return self.words.to_words(objects) + 1


FORMS: dict[str, Callable[..., AppendedBits | PlacedBits]] = {"left_to_right": AppendedBits, "any_position": PlacedBits}


def modes(bits: int = 120, count: int = MODES) -> Tensor:
    """(count, bits) the modes: symbols of 8 bits drawn by a fixed seed, the same for every run.

    Raises:
        ValueError: bits that are no multiple of 8.

    Example:
        >>> modes().shape, len(modes().unique(dim=0))
        (torch.Size([60, 120]), 60)
    """
    if bits < 8 or bits % 8:
        raise ValueError(f"{bits} bits: modes are made of symbols of 8, so a multiple of 8 was expected")
    symbols = torch.tensor([[int(bit) for bit in symbol] for symbol in SYMBOLS])
    drawn = torch.randint(len(SYMBOLS), (count, bits // 8), generator=torch.Generator().manual_seed(0))
    return symbols[drawn].flatten(1)


LOG_REWARDS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "paper": lambda distance, bits: 1 - distance / bits,
    "normalised": lambda distance, bits: -distance / bits,
    "distance": lambda distance, bits: -distance,
}
"""log R before the exponent, of the distance to the nearest mode: of Malkin et al. 2022 (exponent 3), of gfnx (3), and
of the code of Tiapkin et al. 2024 (2), which does not divide by the length."""


class Nearness:
    """log R(x) by the distance to the nearest mode, in the form that `LOG_REWARDS` names.

    Example:
        >>> round(float(Nearness("paper", modes())(modes()[:1])), 6)
        1.0
    """

    def __init__(self, form: str, of: Tensor) -> None:
        self.function, self.modes = LOG_REWARDS[form], of

    def __call__(self, objects: Columns, context: Columns = None) -> Tensor:
        """log R of full sequences."""
        if not isinstance(objects, Tensor):
            raise ValueError("bit sequences are given as a tensor (n, bits) of 0 and 1")
        return self._of(distances(objects, self.modes))

    def on_the_way(self, space: AppendedBits | PlacedBits, state: Tensor) -> Tensor:
        """log R of states: bits that are not known yet differ from nothing."""
        known = (state > 0).repeat_interleave(space.words.word, 1)
        return self._of(distances(space.objects(state), self.modes, known))

    def _of(self, distance: Tensor) -> Tensor:
        return self.function(distance.min(1).values.double(), self.modes.shape[1])


def held_out(of: Tensor) -> Tensor:
    """For each mode and each i below its length, the mode with i random bits flipped: 60 x 120 = 7,200 sequences.

    Source: Malkin et al. 2022, appendix B.3: what log p(x) is correlated on with log R(x).

    Example:
        >>> held = held_out(modes())
        >>> held.shape, distances(held[:120], modes()[:1])[:, 0].tolist() == list(range(120))
        (torch.Size([7200, 120]), True)
    """
    count, bits = of.shape
    noise = torch.rand((count, bits, bits), generator=torch.Generator().manual_seed(1))
    flipped = noise.argsort(2).argsort(2) < torch.arange(bits)[:, None]
    return (of[:, None] ^ flipped.long()).flatten(0, 1)
