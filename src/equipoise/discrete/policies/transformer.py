"""Transformers as policies: causal with a cache, for what grows at its end; bidirectional, for what grows anywhere.

Pre-norm blocks, ReLU, no dropout; the feed-forward width is the block's own. Three blocks of width 64 with 8 heads are
the network of Malkin et al. 2022, appendix B.3 and B.4, arXiv:2201.13259, up to where the norms are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

MOST_WEIGHTS = 1 << 24
"""Weights of attention, a block's, that are held at once where no gradient is recorded: more rows are split."""

LEAST = 16
"""Keys of a softmax, at least: over fewer than fill a vector PyTorch takes fifteen times as long an entry."""


class _Block(nn.Module):
    """Attention and feed-forward on packed rows; keys and values are spread over (n, steps) for attention alone."""

    def __init__(self, width: int, attention: int) -> None:
        super().__init__()
        self.attention, self.size = attention, width // attention
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixed, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inside, self.outside = nn.Linear(width, width), nn.Linear(width, width)

    def project(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of packed rows, each (rows, attention heads, size)."""
        mixed = _linear(self.mixed, _normal(self.before, rows)).view(len(rows), 3, self.attention, self.size)
        query, key, value = mixed.unbind(1)
        return query, key, value

    def finish(self, rows: Tensor, attended: Tensor) -> Tensor:
        """The block's output, given what attention brought, (rows, width)."""
        rows = rows + _linear(self.joined, attended)
        inside = functional.relu(_linear(self.inside, _normal(self.between, rows)), inplace=True)
        return rows + _linear(self.outside, inside)


def _linear(layer: nn.Linear, rows: Tensor) -> Tensor:
    # Weights are read directly: calling a module costs as much as multiplying sixteen rows by one.
    return functional.linear(rows, layer.weight, layer.bias)


def _normal(norm: nn.LayerNorm, rows: Tensor) -> Tensor:
    return functional.layer_norm(rows, norm.normalized_shape, norm.weight, norm.bias)


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """(rows, queries, size) from keys and values (rows, keys, size), a row an attention head of a string.

    Args:
        query: (rows, queries, size).
        key: (rows, keys, size).
        value: (rows, keys, size).
        bias: added to the scores, broadcast: -inf where a query must not look.
    """
    short = LEAST - key.shape[1]
    if short > 0:
        bias = functional.pad(bias if bias.dim() else bias.expand(key.shape[1]), (0, short), value=-torch.inf)
        key, value = (functional.pad(part, (0, 0, 0, short)) for part in (key, value))
    # Plain products: at these sizes fused attention is slower on a CPU.
    score = torch.baddbmm(bias, query, key.transpose(1, 2), alpha=1 / math.sqrt(query.shape[2]))
    return torch.bmm(score.softmax(2), value)


@dataclass
class Cache:
    """Keys and values of the steps so far, of each block, and how many there are.

    Values are (blocks, n, heads, steps, size); keys (blocks, n, heads, size, steps), as a product with one query reads
    them fastest.
    """

    keys: Tensor
    values: Tensor
    steps: int = 0

    def take(self, rows: Tensor) -> None:
        """Goes on with these rows alone."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]


class CausalTransformer(nn.Module):
    """Heads at every prefix of a string: of all prefixes in one pass, or token by token with a cache.

    Args:
        symbols: size of the alphabet.
        length: most letters that are read.
        heads: name and width of each output; a head of width 0 is a scalar, (n,).
        widths: of the blocks, all equal.
        attention: heads of attention; they divide the width.

    Raises:
        ValueError: no block, widths that differ, or a width that the attention heads do not divide.

    Example:
        >>> network = CausalTransformer(4, 8, {"forward": 4, "flow": 0}, widths=(16, 16), attention=2)
        >>> tokens = torch.tensor([[0, 3, 2], [1, 0, 0]])
        >>> valid = torch.tensor([[True, True, True, True], [True, True, False, False]])
        >>> {name: tuple(out.shape) for name, out in network(tokens, valid).items()}
        {'forward': (6, 4), 'flow': (6,)}
    """

    def __init__(
        self, symbols: int, length: int, heads: Mapping[str, int], *, widths: tuple[int, ...], attention: int = 8
    ) -> None:
        super().__init__()
        width = _width(widths, attention)
        self.symbols, self.length, self.heads = symbols, length, dict(heads)
        self.widths = [max(entry, 1) for entry in self.heads.values()]
        self.letter = nn.Embedding(symbols + 1, width)  # the last one begins the string
        self.place = nn.Embedding(length + 1, width)
        self.layers = [_Block(width, attention) for _ in widths]
        self.blocks = nn.ModuleList(self.layers)
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, sum(self.widths))
        _small(self.letter, self.place)

    def forward(self, tokens: Tensor, valid: Tensor | None = None) -> dict[str, Tensor]:
        """Heads at the valid prefixes, as packed rows in order.

        Args:
            tokens: (n, steps - 1) letters; read only before valid prefixes.
            valid: (n, steps) booleans, for prefixes of 0, 1, ... letters: those of each row up to some length; None:
                all are, and no size depends on a value.
        """
        n, steps = len(tokens), tokens.shape[1] + 1
        most = self._most(steps)
        if n > most and not torch.is_grad_enabled():
            pieces = tokens.split(most)
            parts = [None] * len(pieces) if valid is None else valid.split(most)
            return _joined([self(*part) for part in zip(pieces, parts, strict=True)])
        begun = functional.pad(tokens, (1, 0), value=self.symbols)
        slot = None if valid is None else valid.flatten().nonzero()[:, 0]
        if slot is None:
            rows = (self.letter(begun) + self.place.weight[:steps]).flatten(0, 1)
        else:
            rows = self.letter(begun.flatten()[slot]) + self.place(slot % steps)
        bias = rows.new_full((steps, steps), -torch.inf).triu(1)
        for block in self.layers:
            parts = [part if slot is None else _spread(part, slot, n * steps) for part in block.project(rows)]
            attended = _over_strings(parts, n, bias).flatten(0, 1)
            rows = block.finish(rows, attended if slot is None else attended[slot])
        return self._named(rows)

    def cache(self, n: int) -> Cache:
        """That of n strings without a letter, not even the one that begins them."""
        block = self.layers[0]
        shape, steps = (len(self.blocks), n, block.attention), self.length + 1
        zeros = self.out.weight.new_zeros
        return Cache(keys=zeros((*shape, block.size, steps)), values=zeros((*shape, steps, block.size)))

    def begin(self, n: int) -> tuple[dict[str, Tensor], Cache]:
        """The heads at n empty strings, (n, ...), and their cache."""
        cache = self.cache(n)
        return self.advance(torch.full((n,), self.symbols), cache), cache

    def advance(self, token: Tensor, cache: Cache) -> dict[str, Tensor]:
        """The heads after one more letter, (n, ...); the cache grows by one step."""
        rows, now = self.letter(token) + self.place.weight[cache.steps], cache.steps
        cache.steps = now + 1
        bias = rows.new_zeros(())
        for number, block in enumerate(self.layers):
            query, cache.keys[number, ..., now], cache.values[number, :, :, now] = block.project(rows)
            key, value = cache.keys[number, ..., : now + 1].flatten(0, 1), cache.values[number, :, :, : now + 1]
            attended = _attend(query.reshape(-1, 1, block.size), key.transpose(1, 2), value.flatten(0, 1), bias)
            rows = block.finish(rows, attended.view(rows.shape))
        return self._named(rows)

    def step(self, token: Tensor, place: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The forward head after one more letter, and the cache: a pure function, of one size for every place.

        Args:
            token: (n,).
            place: of the prefix that it ends, (): 0 of the empty one.
            keys: of a cache.
            values: of a cache.

        Returns:
            (n, width of the head), the keys and the values with those of this letter.
        """
        rows = self.letter(token) + self.place.weight.index_select(0, place[None])
        columns = torch.arange(keys.shape[-1])
        here, bias = columns == place, torch.where(columns <= place, 0.0, -torch.inf)
        kept: list[tuple[Tensor, Tensor]] = []
        for block, old_key, old_value in zip(self.layers, keys, values, strict=True):
            query, key, value = block.project(rows)
            old_key = torch.where(here, key[..., None], old_key)
            old_value = torch.where(here[:, None], value[:, :, None], old_value)
            # Sums of products: one query a head is too little for a matrix product.
            score = (query[..., None] * old_key).sum(2) / math.sqrt(block.size) + bias
            attended = (score.softmax(2)[..., None] * old_value).sum(2)
            rows = block.finish(rows, attended.flatten(1))
            kept.append((old_key, old_value))
        keys, values = (torch.stack(column) for column in zip(*kept, strict=True))
        return self._named(rows)["forward"], keys, values

    def _most(self, steps: int) -> int:
        return max(1, MOST_WEIGHTS // (self.layers[0].attention * steps**2))

    def _named(self, rows: Tensor) -> dict[str, Tensor]:
        parts = _linear(self.out, _normal(self.norm, rows)).split(self.widths, dim=1)
        named = zip(self.heads.items(), parts, strict=True)
        return {name: part if width else part[:, 0] for (name, width), part in named}


class PlacedTransformer(nn.Module):
    """Heads of an assignment, from its state, one number a position: every position sees every other.

    `forward` (n, positions * values) are the logits of giving each position each value, `backward` (n, positions) of
    taking one away, `flow` (n,) the mean over positions.

    Args:
        positions: of an assignment.
        values: that a position can take, 1 to `values` in a state; 0 is none.
        heads: names of the outputs, of those three.
        widths: of the blocks, all equal.
        attention: heads of attention; they divide the width.

    Raises:
        ValueError: as of `CausalTransformer`.

    Example:
        >>> network = PlacedTransformer(3, 2, ("forward", "flow"), widths=(16,), attention=2)
        >>> {name: tuple(out.shape) for name, out in network(torch.zeros((5, 3), dtype=torch.int64)).items()}
        {'forward': (5, 6), 'flow': (5,)}
    """

    on_states = True

    def __init__(
        self, positions: int, values: int, heads: tuple[str, ...], *, widths: tuple[int, ...], attention: int = 8
    ) -> None:
        super().__init__()
        width = _width(widths, attention)
        self.positions, self.values, self.heads = positions, values, heads
        self.value, self.place = nn.Embedding(values + 1, width), nn.Embedding(positions, width)
        self.layers = [_Block(width, attention) for _ in widths]
        self.blocks = nn.ModuleList(self.layers)
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, values + 2)
        _small(self.value, self.place)

    @property
    def most(self) -> int:
        """States whose weights of attention are held at once."""
        return max(1, MOST_WEIGHTS // (self.layers[0].attention * self.positions**2))

    def forward(self, state: Tensor, condition: Tensor | None = None) -> dict[str, Tensor]:
        if condition is not None:
            raise ValueError("a transformer of assignments reads no condition: use the network mlp")
        n, positions = len(state), self.positions
        if n > self.most and not torch.is_grad_enabled():
            return _joined([self(part) for part in state.split(self.most)])
        rows = (self.value(state) + self.place.weight).flatten(0, 1)
        bias = rows.new_zeros(())
        for block in self.layers:
            rows = block.finish(rows, _over_strings(list(block.project(rows)), n, bias).flatten(0, 1))
        out = _linear(self.out, _normal(self.norm, rows)).view(n, positions, -1)
        every = {
            "forward": out[:, :, : self.values].flatten(1),
            "backward": out[:, :, self.values],
            "flow": out[:, :, self.values + 1].mean(1),
        }
        return {name: every[name] for name in self.heads}


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _spread(part: Tensor, slot: Tensor, size: int) -> Tensor:
    """Packed rows (rows, heads, width) in their slots, (size, heads, width), 0 where there is none."""
    return part.new_zeros((size, *part.shape[1:])).index_put((slot,), part)


def _over_strings(parts: list[Tensor], n: int, bias: Tensor) -> Tensor:
    """Attention within each of n strings: queries, keys and values (n * steps, heads, size) -> (n, steps, width)."""
    _, heads, size = parts[0].shape
    query, key, value = (part.view(n, -1, heads, size).transpose(1, 2).flatten(0, 1) for part in parts)
    return _attend(query, key, value, bias).unflatten(0, (n, heads)).transpose(1, 2).flatten(2)


def _small(*tables: nn.Embedding) -> None:
    for table in tables:
        nn.init.normal_(table.weight, std=0.1)


def _width(widths: tuple[int, ...], attention: int) -> int:
    if not widths or len(set(widths)) > 1 or widths[0] % attention:
        raise ValueError(
            f"a transformer with layers {widths}: give one width to all, a multiple of {attention}, as 64 64 64"
        )
    return widths[0]
