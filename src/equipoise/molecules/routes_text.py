"""Routes as they are read: which block, which reactions with which blocks, which product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from equipoise.molecules.chemistry import rdkit_chem
from equipoise.molecules.space import BLOCK, START
from equipoise.trajectories import Trajectories


@dataclass(frozen=True)
class Step:
    """A reaction: its template's number and slot, the SMILES of the block ("" for none) and of the product."""

    template: int
    slot: int
    block: str
    product: str


@dataclass(frozen=True)
class Route:
    """A first block, and reactions one after another; `product` is "" where the trajectory failed."""

    block: str
    steps: tuple[Step, ...]
    product: str

    def text(self) -> str:
        """One line: block, then ` --[template + block]--> product` for each reaction.

        Example:
            >>> Route("CN", (Step(0, 1, "CC(=O)O", "CNC(C)=O"),), "CNC(C)=O").text()
            'CN --[0 + CC(=O)O]--> CNC(C)=O'
        """
        parts = [self.block]
        for step in self.steps:
            parts.append(f" --[{step.template}{' + ' + step.block if step.block else ''}]--> {step.product}")
        return "".join(parts)


def routes_of(space: Any, drawn: Trajectories) -> list[Route]:
    """The route of each trajectory, read off its states and actions."""
    found = []
    chemistry = space.chemistry
    for row in range(len(drawn)):
        length = int(drawn.length[row])
        seen = space.view(drawn.path["state"][row, : length + 1])
        actions = drawn.path["action"][row, :length].tolist()
        block, steps, kinds = "", [], seen.kind.tolist()
        for place, (kind, action) in enumerate(zip(kinds, actions, strict=False)):
            if kind == START:
                block = chemistry.blocks[action - 1]
            elif kind == BLOCK and action > 0:
                slot, added = int(seen.slot[place]), int(seen.block[place])
                steps.append(
                    Step(
                        chemistry.slots[slot].template,
                        slot,
                        "" if added < 0 else chemistry.blocks[added],
                        seen.smiles[place + 1],
                    )
                )
        found.append(Route(block, tuple(steps), seen.smiles[length]))
    return found


def sdf(rows: Sequence[tuple[str, Mapping[str, str]]]) -> str:
    """Molecules with their properties as an SD file: flat coordinates, as drawn.

    Example:
        >>> sdf([("CCO", {"log_reward": "0"})]).endswith("> <log_reward>\\n0\\n\\n$$$$\\n")
        True
    """
    chem = rdkit_chem()
    from rdkit.Chem import rdDepictor

    parts = []
    for smiles, properties in rows:
        mol = chem.MolFromSmiles(smiles)
        rdDepictor.Compute2DCoords(mol)
        mol.SetProp("_Name", smiles)
        values = "".join(f"> <{name}>\n{value}\n\n" for name, value in properties.items())
        parts.append(f"{chem.MolToMolBlock(mol)}{values}$$$$\n")
    return "".join(parts)
