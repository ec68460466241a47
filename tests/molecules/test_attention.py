"""The graph transformer: what it does not depend on, what it sees, and a policy that reads molecules by it."""

from __future__ import annotations

import pytest

pytest.importorskip("rdkit")

import torch

from equipoise.contracts import check_sampler
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.molecules.attention import GraphTransformer
from equipoise.molecules.chemistry import rdkit_chem
from equipoise.molecules.graph import MoleculeSpace
from equipoise.molecules.policy import ReactionPolicy
from equipoise.molecules.reactions import Reactions
from molecules.small import tiny

CAFFEINE = "Cn1cnc2c1c(=O)n(C)c(=O)n2C"


def reader() -> GraphTransformer:
    torch.manual_seed(0)
    return GraphTransformer(rdkit_chem().MolFromSmiles, 8, width=16, heads=2, layers=3).double()


def test_the_order_of_the_atoms_does_not_matter() -> None:
    chem, read = rdkit_chem(), reader()
    mol = chem.MolFromSmiles(CAFFEINE)
    others = [chem.MolToSmiles(mol, rootedAtAtom=atom) for atom in range(mol.GetNumAtoms())]
    assert len(set(others)) > 5
    found = read([CAFFEINE, *others])
    assert torch.allclose(found, found[:1].expand_as(found), atol=1e-10)


def test_the_other_molecules_of_a_batch_do_not_matter() -> None:
    read = reader()
    many = ["CCO", CAFFEINE, "", "c1ccccc1"]
    alone = torch.cat([read([text]) for text in many])
    assert torch.allclose(read(many), alone, atol=1e-10)


def test_where_a_group_is_and_how_it_is_bonded_matters() -> None:
    """Two pairs of isomers, and two that differ in one bond's kind alone among atoms that are alike."""
    read = reader()
    for one, other in (("CCCCO", "CCC(C)O"), ("Oc1ccccc1F", "Oc1cccc(F)c1"), ("C1=CC=CCC1", "C1=CCC=CC1")):
        assert float((read([one]) - read([other])).abs().max().detach()) > 1e-4


def test_gradients_reach_every_parameter() -> None:
    read = reader()
    read([CAFFEINE, "CC#N", ""]).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in read.parameters())


@pytest.mark.parametrize(("width", "heads", "layers"), [(10, 4, 1), (8, 2, 0)])
def test_a_width_that_the_heads_do_not_divide_is_refused(width: int, heads: int, layers: int) -> None:
    with pytest.raises(ValueError, match="a width that the heads divide"):
        GraphTransformer(rdkit_chem().MolFromSmiles, 8, width=width, heads=heads, layers=layers)


def test_a_sampler_whose_policy_reads_graphs_keeps_the_contract() -> None:
    space = MoleculeSpace(Reactions(tiny(), reversible=True), most=2)
    torch.manual_seed(0)
    heads = {"forward": space.actions, "flow": 0, "backward": space.back_actions}
    policy = ReactionPolicy(space, (16,), heads, graph=True)
    check_sampler(DiscreteSampler(space, policy, backward="learned"), n=16)
