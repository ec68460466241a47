"""Patches: what the network sees of a complex around one loop, without the loop, and the loop as it is in nature.

A patch is cut around the loop's two anchors, the residues on either side of it, and never around the loop itself;
nothing in it is read from the loop but how many residues it has. Positions are centred between the anchors, in units
of 10 angstrom.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from equipoise.antibody.geometry import frames, torsion
from equipoise.antibody.residues import LOOPS, SCALE, text_of
from equipoise.antibody.structures import ANTIGEN, BOND, Structure

TORSIONS = 6
"""Sine, cosine and presence of phi and of psi."""


@dataclass(frozen=True)
class Patches:
    """n patches, padded to the widest: context residues (n, width, ...) and designed residues (n, most, ...).

    Attributes:
        names: of each patch, complex and loop.
        letters: of the context, 20 where unknown, (n, width).
        position: of CA, (n, width, 3).
        rotation: frames, (n, width, 3, 3).
        torsions: (n, width, 6), 0 where a torsion needs an atom of the loop or is not there.
        role: heavy 0, light 1, antigen 2, (n, width).
        region: 0 antigen, 1 framework, 2 to 7 the other loops, (n, width).
        chain: (n, width), and of the loop, (n,).
        place: along the chain, (n, width).
        mask: of the context, (n, width).
        loop: which of `LOOPS`, (n,).
        first: place of the loop's first residue along its chain, (n,).
        designed: mask of the loop, (n, most).
        native_letters: (n, most), 0 beyond the loop.
        native_position: (n, most, 3).
        native_rotation: (n, most, 3, 3), the identity beyond the loop.
        centre: angstrom, in the file's coordinates, (n, 3).
        antigen: group of the antigen, (n,).
    """

    names: tuple[str, ...]
    letters: Tensor
    position: Tensor
    rotation: Tensor
    torsions: Tensor
    role: Tensor
    region: Tensor
    chain: Tensor
    loop_chain: Tensor
    place: Tensor
    mask: Tensor
    loop: Tensor
    first: Tensor
    designed: Tensor
    native_letters: Tensor
    native_position: Tensor
    native_rotation: Tensor
    centre: Tensor
    antigen: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: Tensor) -> Patches:
        """The chosen patches."""
        chosen = {key: getattr(self, key)[rows] for key in tensor_names()}
        return Patches(names=tuple(self.names[row] for row in rows.tolist()), **chosen)

    @property
    def lengths(self) -> Tensor:
        """Residues of each loop, (n,)."""
        return self.designed.sum(1)

    def native(self) -> dict[str, Tensor]:
        """The loops as they are in nature, as objects of the sampler."""
        return {"letter": self.native_letters, "position": self.native_position, "rotation": self.native_rotation}

    def moved(self, rotation: Tensor, shift: Tensor) -> Patches:
        """The patches of complexes that were turned by (3, 3) and then shifted by (3,) angstrom."""
        return replace(
            self,
            position=self.position @ rotation.T,
            rotation=torch.where(self.mask[..., None, None], rotation @ self.rotation, self.rotation),
            native_position=self.native_position @ rotation.T,
            native_rotation=torch.where(
                self.designed[..., None, None], rotation @ self.native_rotation, self.native_rotation
            ),
            centre=self.centre @ rotation.T + shift,
        )


def tensor_names() -> list[str]:
    """The fields of `Patches` that are tensors."""
    return [entry.name for entry in fields(Patches) if entry.name != "names"]


def cut(
    structures: Sequence[Structure], loops: Sequence[str] = ("H3",), *, antibody: int = 32, antigen: int = 48
) -> Patches:
    """One patch for each of these loops that a structure has.

    Source: the patches of Luo et al., 2022, "Antigen-specific antibody design and optimization with diffusion-based
    generative models" (DiffAb), smaller.

    Args:
        structures: complexes.
        loops: of `LOOPS`.
        antibody: residues of the antibody that are kept, those nearest to the anchors, the anchors among them.
        antigen: residues of the antigen that are kept.

    Raises:
        ValueError: an unknown loop, or none of them in any structure.
    """
    unknown = [loop for loop in loops if loop not in LOOPS]
    if unknown or not loops or len(set(loops)) < len(loops):
        raise ValueError(f"loops {tuple(loops)}: one or more of {', '.join(LOOPS)} were expected, each once")
    if antibody < 2 or antigen < 1:
        raise ValueError(
            f"patches of {antibody} antibody and {antigen} antigen residues: at least 2 and 1 were expected"
        )
    parts = [
        _cut(structure, loop, antibody, antigen)
        for structure in structures
        for loop in loops
        if loop in structure.loops
    ]
    if not parts:
        raise ValueError(
            f"none of the {len(structures)} complexes has a loop of {', '.join(loops)} that can be designed"
        )
    names = [f"{structure.name}_{loop}" for structure in structures for loop in loops if loop in structure.loops]
    joined = {}
    for key in tensor_names():
        column = [part[key] for part in parts]
        joined[key] = torch.stack(column) if column[0].dim() == 0 or key == "centre" else pad_sequence(column, True)
    for key, mask in (("rotation", "mask"), ("native_rotation", "designed")):
        joined[key] = torch.where(joined[mask][..., None, None], joined[key], torch.eye(3))
    return Patches(names=tuple(names), **joined)


def loop_texts(patches: Patches, letters: Tensor, rows: Tensor) -> list[str]:
    """Loops (n, most) of patches `rows` (n,) in one-letter code."""
    return [text_of(line[:length]) for line, length in zip(letters, patches.lengths[rows].tolist(), strict=True)]


def _cut(structure: Structure, loop: str, antibody: int, antigen: int) -> dict[str, Tensor]:
    start, end = structure.loops[loop]
    ca = structure.atoms[:, 1]
    anchors = torch.tensor([start - 1, end])
    centre = ca[anchors].mean(0)
    distance = torch.cdist(ca, ca[anchors]).amin(1)
    own = torch.arange(len(ca))
    outside = (own < start) | (own >= end)
    rows = [
        _nearest(distance, outside & (structure.role != ANTIGEN), antibody),
        _nearest(distance, structure.role == ANTIGEN, antigen),
    ]
    kept = torch.cat(rows).sort().values
    designed = own[start:end]
    rotation = frames(structure.atoms[:, 0], ca, structure.atoms[:, 2])
    position = (ca - centre) / SCALE
    return {
        "letters": structure.letters[kept],
        "position": position[kept],
        "rotation": rotation[kept],
        "torsions": _torsions(structure, outside)[kept],
        "role": structure.role[kept],
        "region": _regions(structure)[kept],
        "chain": structure.chain[kept],
        "loop_chain": structure.chain[start],
        "place": kept,
        "mask": torch.ones(len(kept), dtype=torch.bool),
        "loop": torch.tensor(LOOPS.index(loop)),
        "first": torch.tensor(start),
        "designed": torch.ones(end - start, dtype=torch.bool),
        "native_letters": structure.letters[designed],
        "native_position": position[designed],
        "native_rotation": rotation[designed],
        "centre": centre,
        "antigen": torch.tensor(structure.antigen),
    }


def _nearest(distance: Tensor, allowed: Tensor, count: int) -> Tensor:
    ranked = torch.where(allowed, distance, torch.inf)
    return ranked.topk(min(count, int(allowed.sum())), largest=False).indices


def _regions(structure: Structure) -> Tensor:
    region = (structure.role != ANTIGEN).long()
    for place, loop in enumerate(LOOPS):
        if loop in structure.loops:
            start, end = structure.loops[loop]
            region[start:end] = 2 + place
    return region


def _torsions(structure: Structure, outside: Tensor) -> Tensor:
    """Phi and psi where all their atoms are of neighbours outside the loop, (residues, 6)."""
    n, ca, c = structure.atoms.unbind(1)
    near = (ca[1:] - ca[:-1]).norm(dim=-1) < BOND
    whole = near & (structure.chain[1:] == structure.chain[:-1]) & outside[1:] & outside[:-1]
    parts = []
    for angle, first in (
        (torsion(c[:-1], n[1:], ca[1:], c[1:]), True),
        (torsion(n[:-1], ca[:-1], c[:-1], n[1:]), False),
    ):
        known = torch.stack([angle.sin(), angle.cos(), torch.ones_like(angle)], 1) * whole[:, None]
        empty = known.new_zeros(1, 3)
        parts.append(torch.cat([empty, known] if first else [known, empty]))
    return torch.cat(parts, 1)


def each_native(patches: Patches) -> Iterator[tuple[str, str]]:
    """Name and letters of every loop."""
    texts = loop_texts(patches, patches.native_letters, torch.arange(len(patches)))
    return zip(patches.names, texts, strict=True)
