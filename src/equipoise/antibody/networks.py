"""The networks: an invariant encoder of the context, and an equivariant denoiser of the loop that attends to it.

The context never moves, so that it is encoded once for each complex, whatever the number of designs and of steps.
Residues of the loop attend to the context and to one another. All that they are given is measured in their own frames
(Jumper et al., 2021, "AlphaFold", and its invariant point attention, of which this is a smaller relative), so that
numbers and letters are invariant under rigid motions of the complex, and vectors turn with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.antibody.patches import TORSIONS, Patches
from equipoise.antibody.residues import KINDS, LOOPS

HEADS = 4
CENTRES = 16
"""Radial functions of a distance, evenly spaced to 20 angstrom."""

NEAR = 16
"""Places along a chain beyond which two residues count as far."""

ALONG = 32
"""Places from an end of the loop that are told apart."""

GEOMETRY = CENTRES + 6
"""Features of a pair: its distance, and its direction in either frame."""

TIMES = 8
"""Features of a step."""


@dataclass(frozen=True)
class Context:
    """One encoded complex.

    Attributes:
        node: (width, channels).
        position: (width, 3).
        rotation: (width, 3, 3).
        anchors: positions of the residues before and after the loop, (2, 3).
        gap: places along the chain between residues of the loop and of context and loop, clipped, (m, width + m).
        loop: which, ().
        residues: m, of the loop.
    """

    node: Tensor
    position: Tensor
    rotation: Tensor
    anchors: Tensor
    gap: Tensor
    loop: Tensor
    residues: int


class Attention(nn.Module):
    """One round of attention from residues to residues, with the geometry of each pair.

    Args:
        width: channels of a residue.
        pair: channels of a pair.
    """

    def __init__(self, width: int, pair: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.bias = nn.Linear(pair, HEADS, bias=False)
        self.out = nn.Linear(width + HEADS * (pair + 4), width)
        self.norm, self.norm_after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))

    def forward(self, node: Tensor, context: Tensor | None, pair: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
        """The residues anew, and what each head sees, as vectors in the residue's frame.

        Args:
            node: (states, m, width).
            context: further residues to attend to, the same for every state, (k, width); None: none.
            pair: (states, m, k + m, pair), the context first; (1, m, k + m, pair) where all states have one structure.
            local: positions of the others in the residue's frame, (states or 1, m, k + m, 3).

        Returns:
            (states, m, width), and (states, m, heads, 3).
        """
        seen = self.norm(node)
        query = self._split(self.query(seen))
        key, value = (self._split(part) for part in self.key_value(seen).chunk(2, -1))
        logits = query @ key.transpose(-1, -2)
        held = None
        if context is not None:
            held_key, held = (self._split(part) for part in self.key_value(self.norm(context)).chunk(2, -1))
            logits = torch.cat([query @ held_key.transpose(-1, -2), logits], -1)
        logits = logits / math.sqrt(query.shape[-1]) + self.bias(pair).movedim(-1, -3)
        weight = logits.softmax(-1)
        known = 0 if context is None else len(context)
        mixed = weight[..., known:] @ value
        if held is not None:
            mixed = mixed + weight[..., :known] @ held
        by_row = weight.movedim(-3, -2)
        pairs, points = _mixed(by_row, pair), _mixed(by_row, local)
        parts = [mixed.movedim(-3, -2).flatten(-2), pairs.flatten(-2), points.flatten(-2), _lengths(points)]
        node = node + self.out(torch.cat(parts, -1))
        return node + self.mlp(self.norm_after(node)), points

    def _split(self, value: Tensor) -> Tensor:
        return value.unflatten(-1, (HEADS, -1)).movedim(-2, -3)


class Encoder(nn.Module):
    """The context's residues as invariant channels; the loop itself is not looked at, but for its length and place.

    Args:
        width: channels of a residue.
        pair: channels of a pair.
        layers: rounds of attention.
    """

    def __init__(self, width: int, pair: int, layers: int) -> None:
        super().__init__()
        self.letter, self.role, self.region = (
            nn.Embedding(KINDS + 1, width),
            nn.Embedding(3, width),
            nn.Embedding(8, width),
        )
        self.torsion = nn.Linear(TORSIONS, width)
        self.from_loop, self.loop = nn.Embedding(2 * NEAR + 2, width), nn.Embedding(len(LOOPS), width)
        self.gap, self.geometry = nn.Embedding(2 * NEAR + 2, pair), nn.Linear(GEOMETRY, pair)
        self.layers = nn.ModuleList(Attention(width, pair) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, patches: Patches, row: int) -> Context:
        """One patch, encoded."""
        mask = patches.mask[row]
        letters, position, rotation = (
            patches.letters[row][mask],
            patches.position[row][mask],
            patches.rotation[row][mask],
        )
        chain, place = patches.chain[row][mask], patches.place[row][mask]
        first, loop_chain, residues = patches.first[row], patches.loop_chain[row], int(patches.designed[row].sum())
        before = _gaps(place, chain, first[None], loop_chain[None])[:, 0]
        node = self.letter(letters) + self.role(patches.role[row][mask]) + self.region(patches.region[row][mask])
        node = node + self.torsion(patches.torsions[row][mask]) + self.from_loop(before) + self.loop(patches.loop[row])
        local, features = geometry(position[None], rotation[None], position[None], rotation[None])
        pair = self.geometry(features) + self.gap(_gaps(place, chain, place, chain))
        node = node[None]
        for layer in self.layers:
            node, _ = layer(node, None, pair, local)
        own = first + torch.arange(residues, device=place.device)
        owned = loop_chain.expand(residues)
        both_place, both_chain = torch.cat([place, own]), torch.cat([chain, owned])
        anchors = torch.stack([position[place == first - 1][0], position[place == first + residues][0]])
        gap = _gaps(own, owned, both_place, both_chain)
        return Context(self.norm(node)[0], position, rotation, anchors, gap, patches.loop[row], residues)


class Denoiser(nn.Module):
    """From a noised loop in its context to the loop's expected positions, orientations and letters.

    Args:
        width: channels of a residue.
        pair: channels of a pair.
        layers: rounds of attention.
    """

    def __init__(self, width: int, pair: int, layers: int) -> None:
        super().__init__()
        self.letter, self.loop = nn.Embedding(KINDS, width), nn.Embedding(len(LOOPS), width)
        self.from_start, self.from_end = nn.Embedding(ALONG, width), nn.Embedding(ALONG, width)
        self.time, self.vectors = nn.Linear(TIMES, width), nn.Linear(9, width)
        self.gap, self.geometry = nn.Embedding(2 * NEAR + 2, pair), nn.Linear(GEOMETRY, pair)
        self.layers = nn.ModuleList(Attention(width, pair) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(nn.Linear(width, width), nn.SiLU())
        self.free, self.gates = nn.Linear(width, 9), nn.Linear(width, 3 * (3 + HEADS))
        self.logits = nn.Linear(width, KINDS)
        for last in (self.free, self.gates, self.logits):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self._register_load_state_dict_pre_hook(_same_head)

    def forward(
        self, context: Context, letter: Tensor, position: Tensor, rotation: Tensor, time: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of states (s, m) of one complex's loop.

        Args:
            context: encoded.
            letter: (s, m).
            position: (s, m, 3), or (1, m, 3): one structure for all states, whose geometry is then measured once.
            rotation: (s, m, 3, 3), or (1, m, 3, 3).
            time: features of each state's step, (s, TIMES).

        Returns:
            v-prediction of the position, (s, m, 3); predicted rotation, (s, m, 3, 3); logits of the loop's letters as
            their context has them, before what the noised letters say (`categorical.log_objects`), (s, m, 20).
        """
        states, residues = letter.shape
        along = torch.arange(residues, device=letter.device)
        ends = torch.stack([along, residues - 1 - along]).clamp(max=ALONG - 1)
        back = rotation.transpose(-1, -2)
        own = torch.stack([position, *(anchor - position for anchor in context.anchors)], -1)
        local_own = (back @ own).transpose(-1, -2)
        node = self.letter(letter) + self.from_start(ends[0]) + self.from_end(ends[1]) + self.loop(context.loop)
        node = node + self.time(time)[:, None] + self.vectors(local_own.flatten(-2))
        structures = len(position)
        others = torch.cat([context.position.expand(structures, -1, 3), position], 1)
        frames = torch.cat([context.rotation.expand(structures, -1, 3, 3), rotation], 1)
        local, features = geometry(position, rotation, others, frames)
        pair = self.geometry(features) + self.gap(context.gap)
        points = local_own
        for layer in self.layers:
            node, points = layer(node, context.node, pair, local)
        hidden = self.head(self.norm(node))
        vectors = torch.cat([local_own.expand(states, -1, -1, -1), points], -2)
        gates = self.gates(hidden).unflatten(-1, (3, -1))
        found = self.free(hidden).unflatten(-1, (3, 3)) + gates @ vectors
        skip = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], device=node.device)
        turned = (rotation[..., None, :, :] @ (found + skip)[..., None]).squeeze(-1)
        return (
            turned[..., 0, :],
            _orthonormal(turned[..., 1, :], turned[..., 2, :]),
            self.logits(hidden),
        )


def geometry(position: Tensor, rotation: Tensor, others: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """What residues see of others: their positions in the residue's own frame, and features of each pair.

    Args:
        position: (states, m, 3).
        rotation: (states, m, 3, 3).
        others: (states, k, 3).
        frames: (states, k, 3, 3).

    Returns:
        (states, m, k, 3), and (states, m, k, GEOMETRY): invariant under rigid motions of everything.
    """
    apart = others[:, None] - position[:, :, None]
    local = apart @ rotation
    distance = apart.square().sum(-1, keepdim=True).clamp(min=1e-8).sqrt()
    seen_back = -(apart.transpose(1, 2) @ frames).transpose(1, 2)
    centres = torch.linspace(0.0, 2.0, CENTRES, device=position.device)
    radial = (-(((distance - centres) * (CENTRES / 2.0)).square())).exp()
    return local, torch.cat([radial, local / (distance + 0.1), seen_back / (distance + 0.1)], -1)


def time_features(step: Tensor, steps: int, kept: Tensor) -> Tensor:
    """Features of the state that comes before generating step `step`, (n, TIMES).

    Args:
        step: (n,), 0 first.
        steps: in all.
        kept: share of signal in that state, (n,).
    """
    place = (step.double() / max(steps - 1, 1))[:, None]
    wave = place * math.pi * torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    share = kept.double()[:, None]
    ratio = (share.clamp(1e-6, 1 - 1e-6) / (1 - share.clamp(1e-6, 1 - 1e-6))).log() / 8
    return torch.cat([ratio, share.sqrt(), wave.sin(), wave.cos()], 1).float()


def _same_head(state: dict[str, Any], prefix: str, *rest: object) -> None:
    if f"{prefix}letters.weight" in state:
        raise RuntimeError("its logits are of an older version, where they meant something else: train it again")


def _mixed(weight: Tensor, value: Tensor) -> Tensor:
    """weight (states, m, heads, k) @ value (states or 1, m, k, channels), without copies of what all states share."""
    if len(value) > 1 or len(weight) == 1:
        return weight @ value
    return (weight.movedim(0, 1).flatten(1, 2) @ value[0]).unflatten(1, (-1, weight.shape[2])).movedim(0, 1)


def _lengths(points: Tensor) -> Tensor:
    return points.square().sum(-1).clamp(min=1e-8).sqrt()


def _gaps(place: Tensor, chain: Tensor, other: Tensor, other_chain: Tensor) -> Tensor:
    """Clipped places between residues of a chain, counted from 0; the last number for two chains."""
    apart = (other - place[:, None]).clamp(-NEAR, NEAR) + NEAR
    return torch.where(other_chain == chain[:, None], apart, 2 * NEAR + 1)


def _orthonormal(first: Tensor, second: Tensor) -> Tensor:
    x = functional.normalize(first, dim=-1, eps=1e-6)
    y = functional.normalize(second - (second * x).sum(-1, keepdim=True) * x, dim=-1, eps=1e-6)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)
