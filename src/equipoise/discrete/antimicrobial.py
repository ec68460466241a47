"""The antimicrobial-peptide classifier that gfnx trained: a peptide of at most 60 residues -> one logit.

A transformer of 4 post-norm layers of width 64 with 8 heads, its input always 60 tokens: residues, one end token where
there is room, padding. What sets it apart is kept to the letter: padding is part of the final mean, and as a query it
looks at all 60 places alike; the feed-forward residual starts from the normalised value; positions were trained.

Source: d-tiapkin/gfnx, proxy/weights/amp (MIT), after the task of Malkin et al. 2022, arXiv:2201.13259.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

RESIDUES = "ARNDCEQGHILKMFPSTWYV"
"""The amino acids in the order of their numbers."""

LENGTH = 60
END, PADDING = 21, 22
HEADS, LAYERS = 8, 4


class AMPClassifier:
    """Logits of peptides; the sigmoid of one is the probability that the peptide is antimicrobial.

    Args:
        weights: a safetensors file, as `equipoise.data.find("amp_classifier")` gives, or its tensors by name.

    Raises:
        FileNotFoundError: no such file.
        ValueError: tensors are missing; when called, a peptide of more than 60 residues or with an unknown letter.

    Example:
        >>> from equipoise import data
        >>> from equipoise.discrete import AMPClassifier
        >>> classifier = AMPClassifier(data.find("amp_classifier"))  # doctest: +SKIP
        >>> classifier(["ILPWKWPWWPWRR"])  # doctest: +SKIP
        tensor([4.2127])

    Use it as the reward of the peptide task. It was fitted to natural peptides: of what a sampler invents far from
    them it says little.
    """

    def __init__(self, weights: str | os.PathLike[str] | Mapping[str, Tensor]) -> None:
        if not isinstance(weights, Mapping):
            if not Path(weights).is_file():
                raise FileNotFoundError(f"no weights '{weights}': give the classifier's safetensors file")
            from safetensors.torch import load_file

            weights = load_file(weights)
        absent = [name for name in _names() if name not in weights]
        if absent:
            raise ValueError(f"the classifier's weights lack '{absent[0]}': give the file that the data table names")
        self.weights = dict(weights)
        self._numbers = {letter: number for number, letter in enumerate(RESIDUES)}

    def __call__(self, sequences: Sequence[str]) -> Tensor:
        """(n,) logits of peptides in one-letter code; the empty one is legal."""
        rows = [self._row(index, sequence) for index, sequence in enumerate(sequences)]
        return self.of_letters(torch.tensor(rows, dtype=torch.int64).view(-1, LENGTH))

    @torch.no_grad()
    def of_letters(self, letters: Tensor) -> Tensor:
        """(n,) logits of residues' numbers (n, up to 60), -1 beyond each peptide's end."""
        letters = functional.pad(letters, (0, LENGTH - letters.shape[1]), value=-1)
        beyond = letters < 0
        first = beyond & (beyond.cumsum(1) == 1)
        tokens = torch.where(first, END, torch.where(beyond, PADDING, letters))
        return torch.cat([self._logits(part) for part in tokens.split(512)]) if len(tokens) else torch.zeros(0)

    def _row(self, index: int, sequence: str) -> list[int]:
        unknown = [letter for letter in sequence if letter not in self._numbers]
        if unknown or len(sequence) > LENGTH:
            what = f"the letter '{unknown[0]}'" if unknown else f"{len(sequence)} residues"
            raise ValueError(f"peptide {index} has {what}: at most {LENGTH} letters of {RESIDUES} were expected")
        return [self._numbers[letter] for letter in sequence] + [-1] * (LENGTH - len(sequence))

    def _logits(self, tokens: Tensor) -> Tensor:
        x = self.weights["token_embedding.weight"][tokens] + self.weights["position_embedding.weight"]
        real = tokens != PADDING
        hidden = ~(real[:, :, None] & real[:, None])[:, None]
        for layer in range(LAYERS):
            name = f"layers.{layer}"
            normal = self._norm(f"{name}.norm1", self._attention(f"{name}.attention", x, hidden) + x)
            inside = functional.relu(self._linear(f"{name}.feedforward.in", normal))
            x = self._norm(f"{name}.norm2", self._linear(f"{name}.feedforward.out", inside) + normal)
        return self._linear("head", x.mean(1))[:, 0]

    def _attention(self, name: str, x: Tensor, hidden: Tensor) -> Tensor:
        query, key, value = (
            self._linear(f"{name}.{part}", x).unflatten(2, (HEADS, -1)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        score = query @ key.transpose(2, 3) / query.shape[3] ** 0.5
        # The lowest finite number, not minus infinity: a padding query, all of whose pairs are hidden, looks at all.
        share = score.masked_fill(hidden, torch.finfo(score.dtype).min).softmax(3)
        return self._linear(f"{name}.output", (share @ value).transpose(1, 2).flatten(2))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])


def _names() -> list[str]:
    parts = [f"attention.{part}" for part in ("query", "key", "value", "output")]
    parts += ["norm1", "norm2", "feedforward.in", "feedforward.out"]
    named = ["head", *(f"layers.{layer}.{part}" for layer in range(LAYERS) for part in parts)]
    whole = [f"{name}.{kind}" for name in named for kind in ("weight", "bias")]
    return ["token_embedding.weight", "position_embedding.weight", *whole]
