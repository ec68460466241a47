"""Small complexes made up for tests: a heavy chain of the usual framework and an antigen, on smooth random curves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from equipoise.antibody.geometry import of_quaternion, placed
from equipoise.antibody.patches import Patches, cut
from equipoise.antibody.process import loop_process
from equipoise.antibody.residues import LETTERS, NAMES
from equipoise.antibody.sampler import PARTS, LoopNetwork, LoopSampler
from equipoise.antibody.structures import Chain, Structure, assemble
from equipoise.trajectories import Trajectories

BEFORE = "EVQLVESGGGLVQPGGSLRLSCAAS"
HEAVY = BEFORE + "GFTFSSYAMSWVRQAPGKGLEWVSAISGSGGSTYYADSVKGRFTISRDNSKNTLYLQMNSLRAEDTAVYYCAK{}WGQGTLVTVSS"
LIGHT = "DIQMTQSPSSLSASVGDRVTITCRASQSISSYLNWYQQKPGKAPKLLIYAASSLQSGVPSRFSGSGSGTDFTLTISSLQPEDFATYYCQQSYSTPLTFGQGTKVEIK"


def chain(name: str, letters: str, seed: int) -> Chain:
    generator = torch.Generator().manual_seed(seed)
    turns = torch.randn((len(letters), 3), generator=generator).cumsum(0) * 0.4
    steps = torch.nn.functional.normalize(turns + torch.tensor([0.3, 0.0, 0.1]), dim=-1)
    ca = 3.8 * steps.cumsum(0) * 0.3 + torch.arange(len(letters))[:, None] * torch.tensor([0.0, 0.0, 3.6])
    rotation = of_quaternion(torch.randn((len(letters), 4), generator=generator))
    atoms = torch.stack([placed(rotation, ca, atom) for atom in ("N", "CA", "C")], 1)
    # Neighbours are 3.8 angstrom apart, as in a chain without gaps.
    step = torch.nn.functional.pad(ca.diff(dim=0), (0, 0, 1, 0))
    moved = torch.nn.functional.normalize(step, dim=-1, eps=1e-9) * 3.8 * (step.norm(dim=-1, keepdim=True) > 0)
    atoms = atoms - ca[:, None] + moved.cumsum(0)[:, None] + 3.0 * torch.randn(3, generator=generator)
    return Chain(name, letters, atoms, tuple(str(number + 1) for number in range(len(letters))))


def structure(name: str = "1ABC", loop: str = "DRGGYFDY", *, seed: int = 0, light: bool = False) -> Structure:
    generator = torch.Generator().manual_seed(seed)
    antigen = "".join(LETTERS[place] for place in torch.randint(20, (40,), generator=generator).tolist())
    chains = [chain("H", HEAVY.format(loop), seed + 1), chain("A", antigen, seed + 2)]
    if light:
        chains.insert(1, chain("L", LIGHT, seed + 3))
    made, problems = assemble(name, chains, antigen=["A"])
    assert not problems
    return replace(made, antigen=seed)


def patches(count: int = 3, loops: tuple[str, ...] = ("H3",), antibody: int = 8, antigen: int = 8) -> Patches:
    texts = ["DRGGYFDY", "GYSYAMDV", "EDY", "ARNDCQ"]
    made = [structure(f"1AB{place}", texts[place % 4], seed=10 * place) for place in range(count)]
    return cut(made, loops, antibody=antibody, antigen=antigen)


def network(seed: int = 0, width: int = 16, pair: int = 8, layers: int = 1, spread: float = 0.2) -> LoopNetwork:
    """Random in its last layers too, which begin as zeros."""
    torch.manual_seed(seed)
    made = LoopNetwork(width, pair, layers)
    with torch.no_grad():
        for value in made.parameters():
            value.add_(spread * torch.randn(value.shape))
    return made


def sampler(
    prior: bool = False, steps: int = 5, subsample: int | None = None, moving: tuple[str, ...] = PARTS
) -> LoopSampler:
    first = network(1) if prior else None
    return LoopSampler(loop_process(steps), network(), patches(), prior=first, subsample=subsample, moving=moving)


def designs(rows: Trajectories) -> dict[str, Tensor]:
    """The objects of rows, which are dicts of tensors."""
    objects = rows.objects
    assert isinstance(objects, dict)
    return {name: value for name, value in objects.items() if isinstance(value, Tensor)}


def pdb_of(chains: list[Chain]) -> str:
    lines, serial = [], 0
    for one in chains:
        for letter, atoms, number in zip(one.letters, one.atoms.tolist(), one.numbers, strict=True):
            digits = number.rstrip("ABCDEFGH")
            insertion = number[len(digits) :] or " "
            for atom, (x, y, z) in zip(("N", "CA", "C"), atoms, strict=True):
                serial += 1
                lines.append(
                    f"ATOM  {serial:5d}  {atom:<3s} {NAMES[letter]} {one.name}{int(digits):4d}{insertion}   "
                    f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           {atom[0]}  "
                )
        lines.append("TER")
    return "\n".join([*lines, "END", ""])


def write_complex(path: Path, loop: str = "DRGGYFDY", seed: int = 0, antigen: str | None = None) -> None:
    places = torch.randint(20, (40,), generator=torch.Generator().manual_seed(seed)).tolist()
    letters = "".join(LETTERS[place] for place in places) if antigen is None else antigen
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(pdb_of([chain("H", HEAVY.format(loop), seed + 1), chain("A", letters, seed + 2)]))


def rotation_and_shift(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    turn = of_quaternion(torch.randn(4, generator=generator))
    return turn, 20 * torch.randn(3, generator=generator)
