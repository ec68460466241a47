"""Files and tables that are odd: what is read of them all the same, and what is refused or listed with its reason."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("gemmi", reason="gemmi is not installed (extra 'antibody')")

from antibody import small
from equipoise.antibody.designs import pdb_text
from equipoise.antibody.energies import read_table
from equipoise.antibody.folder import load, read_file, read_folder, write_folder
from equipoise.antibody.loops import Domain
from equipoise.antibody.patches import cut
from equipoise.antibody.structures import Chain, assemble, printed
from equipoise.antibody.tables import rows_of

HEAD = "pdb\tHchain\tLchain\tantigen_chain\tantigen_type\tantigen_name\n"
HEAVY = small.HEAVY.format("DRGGYFDY")


@pytest.mark.parametrize("place", ["chothia", "all_structures/imgt"])
def test_a_quote_or_a_byte_order_mark_in_a_table_swallows_no_row(place: str, tmp_path: Path) -> None:
    for name in ("1abc", "2abc", "3abc"):
        small.write_complex(tmp_path / place / f"{name}.pdb")
    rows = '1abc\tH\tNA\tA\tprotein\t"spike\n2abc\tH\tNA\tA\tprotein\tx\n\n3abc\tH\tNA\tA\tprotein\tx\n'
    (tmp_path / "sabdab_summary.tsv").write_text("\ufeff" + HEAD + rows + "4abc\tH\n")
    prepared = read_folder(tmp_path)
    assert [one.name for one in prepared.structures] == ["1abc_H", "2abc_H", "3abc_H"]
    assert prepared.malformed == (("sabdab_summary.tsv, line 6", "4abc has no antigen chain"),)


def test_energies_are_read_past_quotes_and_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "dg.tsv").write_text('\ufeff1abc\t-3\n"2abc\t-4\n"3abc"\t-5\n')
    assert read_table(tmp_path / "dg.tsv") == {"1abc": -3.0, "2abc": -4.0, "3abc": -5.0}


def test_a_table_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text('a,b\n1,"' + "x" * 140_000)
    with pytest.raises(ValueError, match=r"'long\.csv', line \d+: it cannot be read"):
        list(rows_of(tmp_path / "long.csv"))


def test_an_antigen_of_several_kinds_is_taken_by_its_protein(tmp_path: Path) -> None:
    small.write_complex(tmp_path / "1abc.pdb")
    rows = "1abc\tH\tNA\tS | A\tcarbohydrate | protein\tx\n2abc\tH\tNA\tS\tcarbohydrate\tx\n"
    (tmp_path / "sabdab_summary.tsv").write_text(HEAD + rows)
    prepared = read_folder(tmp_path)
    assert [one.chains for one in prepared.structures] == [("H", "A")]
    assert [reason for _, reason in prepared.malformed] == ["the antigen of 2abc is carbohydrate, not protein"]


def test_of_two_files_of_one_name_the_first_is_kept_and_the_other_listed(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    small.write_complex(raw / "1abc.pdb")
    small.write_complex(raw / "imgt" / "1abc.pdb", "EDYW")
    (raw / "1abc.ent").write_text((raw / "imgt" / "1abc.pdb").read_text())
    prepared = read_folder(raw)
    assert [where for where, _ in prepared.malformed] == ["1abc.pdb", "imgt/1abc.pdb"]
    assert [one.loop_text("H3") for one in prepared.structures] == ["EDYW"]  # of 1abc.ent, the first
    write_folder(prepared, tmp_path / "out")
    assert len(list((tmp_path / "out" / "structures").iterdir())) == 1


def test_endings_in_capitals_are_read(tmp_path: Path) -> None:
    small.write_complex(tmp_path / "a.pdb")
    text = (tmp_path / "a.pdb").read_bytes()
    (tmp_path / "A.PDB").write_bytes(text)
    (tmp_path / "B.PDB.GZ").write_bytes(gzip.compress(text))
    prepared = read_folder(tmp_path)
    assert [one.name for one in prepared.structures] == ["A", "B", "a"] and not prepared.malformed


def test_a_prepared_file_that_is_broken_is_named(tmp_path: Path) -> None:
    small.write_complex(tmp_path / "raw" / "1abc.pdb")
    write_folder(read_folder(tmp_path / "raw"), tmp_path / "out")
    path = tmp_path / "out" / "structures" / "1abc.safetensors"
    path.write_bytes(path.read_bytes()[:300])
    for read in (lambda: load(tmp_path / "out"), lambda: read_file(path)):
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read()


def test_a_loop_that_could_not_be_counted_off_is_listed() -> None:
    def without_h2(chain: Chain) -> Domain | None:
        found = printed(chain)
        return found and replace(found, loops={loop: rows for loop, rows in found.loops.items() if loop != "H2"})

    chains = [small.chain("H", HEAVY, 1), small.chain("A", "MKTAYIAKQRQISFVKSHF", 2)]
    made, problems = assemble("x", chains, domain_of=without_h2)
    assert set(made.loops) == {"H1", "H3"} and problems == ["H2: it was not found where the conserved residues have it"]


def copies() -> dict[str, Chain]:
    """Two copies of one antibody with its antigen, 500 angstrom apart."""
    heavy, light = small.chain("A", HEAVY, 1), small.chain("D", small.LIGHT, 1)
    antigen, far = small.chain("X", "MKTAYIAKQRQISFVKSHFSRQLEERL", 3), torch.tensor([500.0, 0.0, 0.0])
    other = [
        replace(one, name=name, atoms=one.atoms + far) for one, name in ((heavy, "B"), (light, "C"), (antigen, "Y"))
    ]
    return {chain.name: chain for chain in (heavy, light, antigen, *other)}


@pytest.mark.parametrize(("order", "expected"), [("ABCDX", "ADX"), ("BACDX", "BCX"), ("ABCX", "AX")])
def test_chains_that_were_found_are_of_one_antibody_only_where_they_touch(order: str, expected: str) -> None:
    chains = copies()
    made, problems = assemble("x", [chains[name] for name in order])
    assert "".join(made.chains) == expected and not problems


def test_a_second_chain_of_a_role_that_a_table_names_is_listed() -> None:
    made, problems = assemble("x", list(copies().values()), antibody=["A", "B", "D", "D"], antigen=["X"])
    assert made.chains == ("A", "D", "X") and problems == ["chain B is one more heavy chain than A and is left out"]


def test_atoms_that_are_all_in_one_place_are_refused() -> None:
    chains = [small.chain("H", HEAVY, 1), small.chain("A", "MKTAYIAKQRQISFVKSHF", 2)]
    chains[1].atoms[3:5] = 0.0
    with pytest.raises(ValueError, match="its coordinates are missing"):
        assemble("x", chains)


def test_a_design_keeps_insertion_codes_in_small_letters() -> None:
    made = small.structure()
    made = replace(made, numbers=tuple(f"{number}a" if number == "105" else number for number in made.numbers))
    patches = cut([made], antibody=8, antigen=8)
    text = pdb_text(made, "H3", patches, 0, {name: value[0] for name, value in patches.native().items()})
    assert any(line[21:27] == "H 105a" for line in text.splitlines())
