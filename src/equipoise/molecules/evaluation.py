"""What a sample of molecules is worth: the best, how different they are, and whether their routes hold.

Similarity is Tanimoto's of Morgan fingerprints, radius 2, 2048 bits. Values are R: of the sEH proxy its
prediction over 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from equipoise.discrete.sampler import DiscreteSampler
from equipoise.molecules.chemistry import rdkit_chem
from equipoise.molecules.reactions import Reactions, canonical
from equipoise.molecules.routes_text import Route, routes_of
from equipoise.molecules.space import BITS, fingerprint, smiles_of
from equipoise.trajectories import Trajectories, ends


def similarity(first: Sequence[str], second: Sequence[str]) -> Tensor:
    """Tanimoto similarity of all pairs, (n, m) float32.

    Example:
        >>> similarity(["CCO"], ["CCO", "CCN"])[0].tolist()[0]
        1.0
    """
    one, two = _dense(first), _dense(second)
    common = one @ two.T
    return common / (one.sum(1)[:, None] + two.sum(1)[None] - common).clamp(min=1)


def greedy_modes(smiles: Sequence[str], value: Tensor, *, least: float, most_similar: float) -> list[str]:
    """Molecules of at least that value, best first, each less similar than that to every one taken before.

    Source: Bengio et al. 2021, arXiv:2106.04399 (reward above 7 or 8, similarity below 0.7 or 0.5).
    """
    order: list[int] = [row for row in value.argsort(descending=True, stable=True).tolist() if value[row] >= least]
    taken: list[str] = []
    held = torch.zeros((0, BITS))
    for begin in range(0, len(order), 256):
        rows: list[int] = order[begin : begin + 256]
        dense = _dense([smiles[row] for row in rows])
        for row, bits in zip(rows, dense, strict=True):
            if len(held):
                common = held @ bits
                near = common / (held.sum(1) + bits.sum() - common)
                if float(near.max()) >= most_similar:
                    continue
            taken.append(smiles[row])
            held = torch.cat([held, bits[None]])
    return taken


def circles(smiles: Sequence[str], *, most_similar: float = 0.25) -> int:
    """How many molecules can be taken one after another, in order, each less similar than that to all before.

    A greedy lower bound of #Circles at distance 0.75. Source: Xie et al. 2023, "How much space has been explored?",
    arXiv:2112.12542.
    """
    return len(greedy_modes(smiles, torch.zeros(len(smiles)), least=0.0, most_similar=most_similar))


def scaffolds(smiles: Sequence[str]) -> set[str]:
    """Distinct Bemis-Murcko scaffolds; "" of molecules without a ring."""
    chem = rdkit_chem()
    from rdkit.Chem.Scaffolds import MurckoScaffold

    return {MurckoScaffold.MurckoScaffoldSmiles(mol=chem.MolFromSmiles(text)) for text in smiles}


def sample_figures(
    smiles: Sequence[str], value: Tensor, *, threshold: float, known: frozenset[str] = frozenset()
) -> dict[str, float]:
    """Figures of a sample: means of the best, their diversity, modes, circles, scaffolds, uniqueness, novelty.

    Args:
        smiles: n molecules, with repeats; "" for what failed.
        value: (n,) their values.
        threshold: from which a molecule counts as good.
        known: molecules that are not new, such as the blocks.

    Returns:
        mean, valid (share that did not fail), unique, novel (shares of the valid), top_10, top_100, top_1000 (mean
        value of so many best different molecules) and top_100_distance (their mean pairwise Tanimoto distance), where
        there are so many, good (different molecules at the threshold), modes (of these, similarity below 0.5), circles,
        scaffolds (of the good ones).
    """
    best: dict[str, float] = {}
    for text, number in zip(smiles, value.tolist(), strict=True):
        if text:
            best[text] = number
    count = sum(1 for text in smiles if text)
    if not count:
        return {"valid": 0.0}
    order = sorted(best, key=lambda text: -best[text])
    found = {
        "mean": sum(best[text] for text in smiles if text) / count,
        "valid": count / len(smiles),
        "unique": len(best) / count,
        "novel": sum(1 for text in smiles if text and text not in known) / count,
    }
    for k in (10, 100, 1000):
        if len(order) >= k:
            found[f"top_{k}"] = sum(best[text] for text in order[:k]) / k
    if len(order) >= 100:
        found["top_100_distance"] = 1 - float(similarity(order[:100], order[:100]).sum() - 100) / (100 * 99)
    good = [text for text in order if best[text] >= threshold]
    values = torch.tensor([best[text] for text in good])
    found["good"] = len(good)
    found["modes"] = len(greedy_modes(good, values, least=threshold, most_similar=0.5))
    found["circles"] = circles(good)
    found["scaffolds"] = len(scaffolds(good))
    return found


def replayed(reactions: Reactions, route: Route) -> bool:
    """Whether a route, run again with rdkit from its blocks, makes its molecule."""
    made = route.block
    for step in route.steps:
        slot = reactions.chemistry.slots[step.slot]
        chem = rdkit_chem()
        mol = chem.MolFromSmiles(made)
        pair = (mol,)
        if slot.other is not None:
            partner = chem.MolFromSmiles(step.block)
            pair = (mol, partner) if slot.place == 0 else (partner, mol)
        products = set()
        for (product,) in reactions.chemistry.reactions[slot.template].RunReactants(pair):
            try:
                chem.SanitizeMol(product)
            except ValueError:
                continue
            products.add(canonical(chem.MolToSmiles(product, isomericSmiles=False)))
        if step.product not in products:
            return False
        made = step.product
    return made == route.product


def replay_rate(sampler: DiscreteSampler, drawn: Trajectories) -> float:
    """Share of the trajectories that did not fail whose route replays to its product; 0 where all failed."""
    space: Any = sampler.environment
    routes = [route for route in routes_of(space, drawn) if route.product]
    return sum(replayed(space.reactions, route) for route in routes) / max(len(routes), 1)


def backward_reach(sampler: DiscreteSampler, drawn: Trajectories, generator: torch.Generator) -> float:
    """Share of trajectories, drawn backwards from these molecules, that reach the start; 0 where all failed."""
    good = torch.tensor([bool(text) for text in smiles_of(drawn.objects)])
    if not good.any():
        return 0.0
    rows = drawn[good]
    walked = sampler.sample_to(ends(rows.objects, context=rows.context), generator=generator)
    space: Any = sampler.environment
    return float(space.arrived(walked).double().mean())


def sound_share(smiles: Sequence[str]) -> float:
    """Share of SMILES that rdkit reads, sanitises and writes again as they are."""
    return sum(canonical(text) == text for text in smiles) / max(len(smiles), 1)


def molecule_figures(
    sampler: DiscreteSampler, reward: Any, *, n: int = 1000, threshold: float = 7 / 8, seed: int = 0
) -> dict[str, float]:
    """`sample_figures` of n on-policy draws, with route_replay and backward_reach of 200 of them, unless all failed."""
    generator = torch.Generator().manual_seed(seed)
    drawn = sampler.sample(n, generator=generator)
    smiles, space = smiles_of(drawn.objects), sampler.environment
    value = reward(drawn.objects, None).double().exp()
    known = frozenset(space.chemistry.blocks)  # type: ignore[attr-defined]
    found = sample_figures(smiles, value, threshold=threshold, known=known)
    figures, some = {f"sample_{name}": number for name, number in found.items()}, drawn[torch.arange(min(200, n))]
    if any(smiles_of(some.objects)):
        figures["route_replay"] = replay_rate(sampler, some)
        figures["backward_reach"] = backward_reach(sampler, some, generator)
    return figures


def _dense(smiles: Sequence[str]) -> Tensor:
    found = torch.zeros((len(smiles), BITS))
    for row, text in enumerate(smiles):
        found[row, fingerprint(text)] = 1.0
    return found
