"""The best of a sample: mean reward of the top k, how they differ from one another, and from what was known.

Source: the figures of Malkin et al., 2022, arXiv 2201.13259, appendix B.4 (top 100 of 2,048 samples; mean pairwise edit
distance), and of Jain et al., 2022, "Biological Sequence Design with GFlowNets", arXiv 2203.04115 (novelty).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

Words = list[str] | tuple[str, ...] | Tensor
"""Strings, or letters' numbers (n, length), all of one length."""


def top(log_reward: Tensor, k: int) -> Tensor:
    """Rows of the k largest log-rewards, best first; earlier rows before later ones where equal.

    Raises:
        ValueError: k below 1 or above the number of rows.

    Example:
        >>> top(torch.tensor([0.0, 2.0, 1.0]), 2).tolist()
        [1, 2]
    """
    if not 1 <= k <= len(log_reward):
        raise ValueError(f"k is {k} of {len(log_reward)} objects: a number from 1 to that was expected")
    return log_reward.argsort(descending=True, stable=True)[:k]


def edit_distance(first: Words, second: Words) -> Tensor:
    """Levenshtein distances of all pairs: (n, m) int64; memory grows as n m length, so give many words in parts.

    Source: Levenshtein, 1966; a row of the table at a time, for all pairs at once.

    Example:
        >>> edit_distance(["KITTEN", ""], ["SITTING"]).tolist()
        [[3], [7]]
    """
    (one, one_length), (two, two_length) = _letters(first), _letters(second)
    n, m, width = len(one), len(two), two.shape[1]
    place = torch.arange(width + 1)
    row = place.expand(n, m, width + 1)
    found = row.gather(2, two_length.expand(n, m)[..., None])[..., 0]
    for letter in range(one.shape[1]):
        changed = row[..., :-1] + (one[:, letter, None, None] != two[None])
        best = torch.minimum(row[..., 1:] + 1, changed)
        best = functional.pad(best, (1, 0), value=letter + 1)
        # Insertions run along the row: the least of what stands before, plus the letters between.
        row = (best - place).cummin(2).values + place
        here = row.gather(2, two_length.expand(n, m)[..., None])[..., 0]
        found = torch.where((one_length == letter + 1)[:, None], here, found)
    return found


def hamming_distance(first: Tensor, second: Tensor) -> Tensor:
    """Places at which all pairs of words of one length differ: (n, m) int64.

    Args:
        first: (n, length).
        second: (m, length).

    Raises:
        ValueError: lengths that differ.

    Example:
        >>> hamming_distance(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 0], [0, 1, 0]])).tolist()
        [[2, 1]]
    """
    if first.dim() != 2 or second.dim() != 2 or first.shape[1] != second.shape[1]:
        given = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise ValueError(f"words {given}: (n, length) and (m, length) of one length were expected; see edit_distance")
    return (first[:, None] != second[None]).sum(2)


def diversity(distance: Tensor) -> float:
    """Mean distance over pairs of different rows.

    Args:
        distance: (n, n), n of at least 2, 0 on the diagonal.

    Raises:
        ValueError: another shape.

    Example:
        >>> diversity(torch.tensor([[0, 4], [4, 0]]))
        4.0

    Use it beside the reward: nonsense is diverse too.
    """
    n = len(distance)
    if distance.shape != (n, n) or n < 2:
        raise ValueError(f"distances {tuple(distance.shape)}: (n, n) of two rows or more was expected")
    return float(distance.double().sum()) / (n * (n - 1))


def novelty(distance: Tensor) -> float:
    """Mean distance of each row to the nearest of what was known.

    Args:
        distance: (n, known).

    Example:
        >>> novelty(torch.tensor([[3, 1], [5, 9]]))
        3.0
    """
    return float(distance.min(1).values.double().mean())


def best_figures(words: Words, log_reward: Tensor, *, k: int = 100, known: Words | None = None) -> dict[str, float]:
    """Mean reward, diversity and, where known words are given, novelty of the k best of a sample.

    Args:
        words: the sample.
        log_reward: (n,) log R.
        k: how many, at most the sample.
        known: what was known before.

    Returns:
        top_reward, top_diversity (mean pairwise edit distance), top_novelty.

    Raises:
        ValueError: fewer than two words are asked for, or more than there are.

    Example:
        >>> best_figures(["AA", "AB", "BBB"], torch.tensor([0.0, 0.0, -1.0]), k=2)
        {'top_reward': 1.0, 'top_diversity': 1.0}
    """
    chosen = top(log_reward, k)
    best = words[chosen] if isinstance(words, Tensor) else [words[row] for row in chosen.tolist()]
    found = {"top_reward": float(log_reward[chosen].double().exp().mean())}
    found["top_diversity"] = diversity(edit_distance(best, best))
    return found if known is None else found | {"top_novelty": novelty(edit_distance(best, known))}


def _letters(words: Words) -> tuple[Tensor, Tensor]:
    """Letters' numbers (n, longest) and lengths (n,)."""
    if isinstance(words, Tensor):
        return words, torch.full((len(words),), words.shape[1])
    length = torch.tensor([len(word) for word in words])
    codes = [torch.tensor([ord(letter) for letter in word], dtype=torch.int64) for word in words]
    return torch.nn.utils.rnn.pad_sequence(codes, batch_first=True, padding_value=-1), length
