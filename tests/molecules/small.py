"""A chemistry that can be listed: acids, amines, amino acids and aldehydes; amides and reductive aminations."""

from __future__ import annotations

from equipoise.molecules.chemistry import Chemistry, chemistry

AMIDE = "[C:1](=[O:2])-[OH].[NH2:3]-[#6&!$(C=[O,N]):4]>>[C:1](=[O:2])-[NH:3]-[#6&!$(C=[O,N]):4]"
AMINATION = "[#6&!$(C=[O,N]):4]-[NH2:1].[CH:2]([#6:3])=[O]>>[#6&!$(C=[O,N]):4]-[NH:1]-[CH2:2]-[#6:3]"
ESTER = "[C:1](=[O:2])-[OH].[OH:3]-[CX4:4]>>[C:1](=[O:2])-[O:3]-[C:4]"

ACIDS = ("CC(=O)O", "OC(=O)c1ccccc1", "OC(=O)C1CC1", "OC(=O)c1ccncc1", "OC(=O)CC(=O)O", "OC(=O)c1ccc(C=O)cc1")
AMINES = ("CN", "NC1CC1", "NCc1ccccc1", "NCCN", "NCCO", "NCc1ccc(N)cc1", "NC1CCC(N)CC1")
AMINO_ACIDS = ("NCC(=O)O", "NC(C)C(=O)O", "NCc1ccc(C(=O)O)cc1", "Nc1ccc(C(=O)O)cc1")
ALDEHYDES = ("CC=O", "O=Cc1ccccc1", "O=CC1CC1", "O=Cc1cccnc1", "O=CCC=O")
BLOCKS = ACIDS + AMINES + AMINO_ACIDS + ALDEHYDES

MORE = ("CCC(=O)O", "OC(=O)c1ccco1", "CC(C)N", "NCC1CC1", "COCCN", "CCC=O", "O=Cc1ccoc1", "NC(CO)C(=O)O")


def tiny() -> Chemistry:
    """Two templates, six blocks: to be listed within a second."""
    return chemistry([AMIDE, AMINATION], ["CC(=O)O", "OC(=O)C1CC1", "CN", "NCCN", "NCC(=O)O", "CC=O"])


def listable() -> Chemistry:
    """Two templates, 30 blocks: a few thousand molecules of up to two reactions."""
    return chemistry([AMIDE, AMINATION], [*BLOCKS, *MORE])
