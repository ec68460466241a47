"""Chemistries: what is read, what is refused, and reactions forwards and backwards."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rdkit")

from equipoise.molecules import chemistry as chemistries
from equipoise.molecules.chemistry import chemistry, read_chemistry
from equipoise.molecules.evaluation import sound_share
from equipoise.molecules.reactions import Parent, Reactions, expanded
from molecules.small import ACIDS, AMIDE, AMINATION, listable, tiny


def test_a_template_that_cannot_be_read_is_named_by_line_and_text(tmp_path: Path) -> None:
    templates, blocks = tmp_path / "t.smarts", tmp_path / "b.smi"
    templates.write_text(f"{AMIDE}\n# a comment\n[C:1>>nonsense\n")
    blocks.write_text("CC(=O)O acid\nCN amine\n")
    with pytest.raises(ValueError, match=r"t\.smarts', line 3: '\[C:1>>nonsense' is no reaction"):
        read_chemistry(templates, blocks)


def test_a_template_of_three_reactants_is_refused() -> None:
    with pytest.raises(ValueError, match=r"template 1: .* 3 reactants and 1 products"):
        chemistry(["[C:1].[N:2].[O:3]>>[C:1][N:2][O:3]"], ["CC"])


def test_a_block_that_cannot_be_read_is_named_by_line_and_text(tmp_path: Path) -> None:
    templates, blocks = tmp_path / "t.smarts", tmp_path / "b.smi"
    templates.write_text(f"{AMIDE}\n")
    blocks.write_text("CC(=O)O\n\nC1CC(\n")
    with pytest.raises(ValueError, match=r"b\.smi', line 3: 'C1CC\(' is no SMILES"):
        read_chemistry(templates, blocks)


def test_blocks_that_fit_no_template_are_counted_and_listed() -> None:
    made = chemistry([AMIDE], [*ACIDS[:2], "CN", "CCC", "c1ccccc1", "OC(C)=O"])
    assert made.unused == ("CCC", "c1ccccc1")
    assert made.merged == 1
    assert "2 blocks fit no template and are left out: CCC, c1ccccc1" in made.summary()


def test_blocks_that_only_differ_in_stereo_are_one() -> None:
    made = chemistry([AMIDE], ["N[C@@H](C)C(O)=O", "N[C@H](C)C(O)=O"])
    assert made.blocks == ("CC(N)C(=O)O",)
    assert made.merged == 1


def test_blocks_in_several_pieces_are_left_out_and_listed_with_the_reason() -> None:
    made = chemistry([AMIDE], ["CC(=O)O", "CN", "NCc1ccccc1.Cl", "CCC"])
    assert (made.blocks, made.unused) == (("CC(=O)O", "CN"), ("Cl.NCc1ccccc1", "CCC"))
    assert made.summary().endswith(
        "1 blocks fit no template and are left out: CCC; 1 blocks are in several pieces and are left out: Cl.NCc1ccccc1"
    )
    with pytest.raises(ValueError, match=r"none of the 2 blocks fits .*; 2 are in several pieces"):
        chemistry([AMIDE], ["CC(=O)O.Cl", "CN.Cl"])


def test_atom_numbers_and_isotopes_are_removed_from_blocks() -> None:
    made = chemistry([AMIDE], ["CC(=O)O", "[CH3:7][NH2:3]", "[13CH3]N", "[2H]C([2H])([2H])N"])
    assert (made.blocks, made.merged) == (("CC(=O)O", "CN"), 2)
    assert "2 blocks are equal to others without stereo and isotopes" in made.summary()


def test_a_chemistry_in_which_nothing_reacts_is_refused() -> None:
    with pytest.raises(ValueError, match="none of the 2 blocks fits"):
        chemistry([AMIDE], ["CCC", "CC(=O)O"])


def test_a_table_is_read_by_its_column(tmp_path: Path) -> None:
    templates, blocks = tmp_path / "t.tsv", tmp_path / "b.tsv"
    templates.write_text(f"family\tsmarts\tcomment\namide\t{AMIDE}\tcommon\n")
    blocks.write_text("group\tsmiles\nacid\tCC(=O)O\namine\tCN\n")
    made = read_chemistry(templates, blocks)
    assert (made.templates, made.blocks) == ((AMIDE,), ("CC(=O)O", "CN"))


@pytest.mark.parametrize(
    "blocks",
    [
        b"# made today\n\nsmiles\tname\nCC(=O)O\tacid\nCN\tamine\n",
        b"  # made today\nCC(=O)O acid\nCN amine\n",
        b"\xef\xbb\xbfCC(=O)O acid\r\nCN am\xe9ne\r\n",
    ],
    ids=["a comment and a blank line before the header", "a comment after blanks", "a mark, and a name in Latin-1"],
)
def test_files_as_people_have_them_are_read(blocks: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.smarts").write_text(AMIDE)
    (tmp_path / "b.smi").write_bytes(blocks)
    assert read_chemistry(tmp_path / "t.smarts", tmp_path / "b.smi").blocks == ("CC(=O)O", "CN")


@pytest.mark.parametrize("damage", [b"PK\x03\x04 no archive", b"\x93NUMPY\x01\x00\x04\x00{'a\n", b""])
def test_a_cache_that_is_damaged_or_cannot_be_written_stops_nothing(damage: bytes, tmp_path: Path) -> None:
    first = chemistry([AMIDE], ["CC(=O)O", "CN"], cache=tmp_path / "cache")
    (held,) = (tmp_path / "cache").iterdir()
    held.write_bytes(damage)
    assert (chemistry([AMIDE], ["CC(=O)O", "CN"], cache=tmp_path / "cache").fits == first.fits).all()
    (tmp_path / "file").write_text("no folder")
    assert (chemistry([AMIDE], ["CC(=O)O", "CN"], cache=tmp_path / "file").fits == first.fits).all()


def test_matches_are_kept_by_content_and_a_torn_file_is_computed_again(tmp_path: Path) -> None:
    first = chemistry([AMIDE, AMINATION], (*ACIDS, "CN", "CC=O"), cache=tmp_path)
    (held,) = tmp_path.iterdir()
    whole = held.read_bytes()
    held.write_bytes(whole[: len(whole) // 2])
    again = chemistry([AMIDE, AMINATION], (*ACIDS, "CN", "CC=O"), cache=tmp_path)
    assert (again.fits == first.fits).all()
    assert held.read_bytes() == whole
    chemistry([AMIDE], (*ACIDS, "CN"), cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_matches_are_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = chemistry([AMIDE], ["CC(=O)O", "CN"], cache=tmp_path)
    monkeypatch.setattr(chemistries, "_write_whole", lambda path, array: pytest.fail("computed again"))
    assert (chemistry([AMIDE], ["CC(=O)O", "CN"], cache=tmp_path).fits == first.fits).all()


def test_two_ways_of_one_reaction_are_one_product_and_two_sites_are_two() -> None:
    reactions = Reactions(chemistry([AMIDE], ["CC(=O)O", "NCCN", "NCC(C)N"]))
    acid = reactions.chemistry.number["CC(=O)O"]
    slot = next(place for place, where in enumerate(reactions.chemistry.slots) if where.place == 1)
    assert reactions.products("NCCN", slot, acid) == ("CC(=O)NCCN",)
    assert reactions.products("CC(N)CN", slot, acid) == ("CC(=O)NC(C)CN", "CC(=O)NCC(C)N")


def test_a_product_that_is_too_large_is_none() -> None:
    small = Reactions(tiny(), most_atoms=4)
    whole = Reactions(tiny())
    acid, slot = whole.chemistry.number["CC(=O)O"], 1
    assert whole.products("CN", slot, acid) == ("CNC(C)=O",)
    assert small.products("CN", slot, acid) == ()


def test_exact_parents_are_all_edges_that_lead_forwards() -> None:
    """Every molecule of one and two reactions, its parents by brute force over all forward steps."""
    reactions = Reactions(tiny(), reversible=True)
    made = reactions.chemistry
    level = {block: set() for block, starts in zip(made.blocks, made.starts, strict=True) if starts}
    for count in (1, 2):
        below: dict[str, set[Parent]] = {}
        for smiles in level:
            for slot in reactions.open(smiles).nonzero()[0].tolist():
                for block in made.partners[slot].nonzero()[0].tolist():
                    for product in Reactions.products(Reactions(made), smiles, slot, block):
                        below.setdefault(product, set()).add(Parent(smiles, slot, block))
        assert below
        for product, parents in below.items():
            assert reactions.parents(product, count) == tuple(sorted(parents)), product
        level = below


def test_a_molecule_that_cannot_be_made_has_no_parents() -> None:
    reactions = Reactions(listable(), reversible=True)
    assert reactions.parents("c1ccccc1", 1) == ()
    assert reactions.parents("CNC(C)=O", 0) == ()
    assert not reactions.reachable("CNC(C)=O", 2)


def test_leaving_atoms_of_a_list_are_put_back_one_by_one() -> None:
    assert expanded("[c:1]-[Cl,Br].[NH2:2]") == ["[c:1]-[Cl].[NH2:2]", "[c:1]-[Br].[NH2:2]"]
    halides = chemistry(["[c:1]-[Cl,Br].[NH2:2]-[C:3]>>[c:1]-[NH:2]-[C:3]"], ["Clc1ccccc1", "Brc1ccccc1", "CN"])
    parents = Reactions(halides, reversible=True).parents("CNc1ccccc1", 1)
    assert {parent.smiles for parent in parents} == {"CN", "Clc1ccccc1", "Brc1ccccc1"}
    assert len(parents) == 4


TETRAZOLE = (
    "[C;H1&$(C([#6])[#6]),H2&$(C[#6]):1][OH1].[#7:2]1~[#7:3]~[#7H1:4]~[#7:5]~[#6:6]~1"
    ">>[#7:2]1:[#7:3]:[#7:4]([C:1]):[#7:5]:[#6:6]:1"
)
NUMBERED = "[c:1]-[Cl,I,Br:7].[NH2:2]-[C:3]>>[c:1]-[NH:2]-[C:3]"
CHARGED = "[C:1](=[O:2])-[OH,O-:4].[NH2:3]-[CX4:5]>>[C:1](=[O:2])-[NH:3]-[C:5]"


@pytest.mark.parametrize(
    ("template", "blocks"),
    [
        (TETRAZOLE, ("CCO", "CCc1nn[nH]n1")),
        (NUMBERED, ("Clc1ccccc1", "Ic1ccccc1", "CN")),
        (CHARGED, ("CC(=O)O", "CC(=O)[O-]", "CN")),
    ],
    ids=["a hydrogen of a ring", "leaving atoms with a number", "a leaving atom that may be charged"],
)
def test_every_step_of_a_template_can_be_reversed(template: str, blocks: tuple[str, ...]) -> None:
    """All forward steps of all blocks, each found among the parents of its product."""
    made = chemistry([template], blocks)
    plain, reactions = Reactions(made), Reactions(made, reversible=True)
    ways: dict[str, set[Parent]] = {}
    for smiles in made.blocks:
        for slot in plain.open(smiles).nonzero()[0].tolist():
            for block in made.partners[slot].nonzero()[0].tolist():
                for product in plain.products(smiles, slot, block):
                    ways.setdefault(product, set()).add(Parent(smiles, slot, block))
    assert sum(map(len, ways.values())) == 2 * (len(blocks) - 1)
    assert {product: set(reactions.parents(product, 1)) for product in ways} == ways


def test_the_public_chemistries_are_read_and_their_products_are_sound(data_folder: Path) -> None:
    folder = data_folder / "molecules"
    small = read_chemistry(folder / "rgfn_templates.tsv", folder / "rgfn_blocks.tsv")
    assert (len(small.templates), len(small.blocks) + len(small.unused) + small.merged) == (66, 357)
    reactions = Reactions(small)
    found = []
    for block in small.blocks[::40]:
        for slot in reactions.open(block).nonzero()[0].tolist()[:3]:
            for other in small.partners[slot].nonzero()[0].tolist()[:3]:
                found += reactions.products(block, slot, other)
    assert len(found) > 20
    assert sound_share(found) == 1.0


@pytest.mark.parametrize("known", [False, True], ids=["unasked", "asked before"])
def test_a_reversible_step_is_one_that_its_product_proposes(known: bool) -> None:
    """Whichever of the two is asked first; the proposals of another chemistry object, all templates at once."""
    made = listable()
    reactions, plain, other = Reactions(made, reversible=True), Reactions(made), Reactions(made)
    seen = 0
    for slot in range(len(made.slots)):
        for smiles in made.blocks[::3]:
            for block in made.partners[slot].nonzero()[0].tolist()[:4] if reactions.open(smiles)[slot] else ():
                way, products = Parent(smiles, slot, block), plain.products(smiles, slot, block)
                if known:
                    _ = [reactions.proposals(product) for product in products]
                kept = tuple(product for product in products if way in other.proposals(product))
                assert reactions.products(smiles, slot, block) == kept
                seen += len(kept)
    assert seen > 30
