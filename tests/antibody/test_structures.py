"""Structures: files read, roles and loops found, patches, designs written, and what is malformed listed."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("gemmi", reason="gemmi is not installed (extra 'antibody')")

from antibody import small
from equipoise.antibody.designs import pdb_text
from equipoise.antibody.folder import load, read_file, read_folder, write_folder
from equipoise.antibody.geometry import frames
from equipoise.antibody.loops import find_role, loops_of, numbered
from equipoise.antibody.patches import cut
from equipoise.antibody.residues import LOOPS, SCALE
from equipoise.antibody.structures import from_blob, read_chains, similarity, to_blob

HEAVY = small.HEAVY.format("DRGGYFDY")


def test_loops_are_counted_off_from_the_conserved_residues() -> None:
    made = small.structure(light=True)
    texts = {loop: made.loop_text(loop) for loop in LOOPS}
    assert texts == {
        "H1": "GFTFSSY",
        "H2": "SGSGGS",
        "H3": "DRGGYFDY",
        "L1": "RASQSISSYLN",
        "L2": "AASSLQS",
        "L3": "QQSYSTPLT",
    }


def test_chothia_numbers_are_believed_where_the_conserved_residues_have_them() -> None:
    numbers = [str(number) for number in range(1, 53)] + ["52A"] + [str(number) for number in range(53, 83)]
    numbers += (
        ["82A", "82B", "82C"] + [str(number) for number in range(83, 101)] + [str(number) for number in range(101, 114)]
    )
    letters = HEAVY[: len(numbers)]
    domain = loops_of(letters, numbers, "H")
    found, counted = domain.loops, loops_of(letters, [str(place + 1) for place in range(len(letters))], "H").loops
    assert letters[slice(*found["H1"])] == "GFTFSSY" and letters[slice(*found["H2"])] == "SGSGGS"
    assert found == counted and domain.end == len(letters)


def test_kabat_numbers_are_not_taken_for_chothia_s() -> None:
    numbers = [*map(str, range(1, 36)), "35A", "35B", *map(str, range(36, 53)), "52A", *map(str, range(53, 83))]
    numbers += ["82A", "82B", "82C", *map(str, range(83, 114))]
    letters = HEAVY[:35] + "GG" + HEAVY[35 : len(numbers) - 2]
    assert letters[37] == "W" and len(letters) == len(numbers)
    assert letters[slice(*loops_of(letters, numbers, "H").loops["H1"])] == "GFTFSSYAM"


def test_a_numbered_tag_before_the_domain_leaves_it_its_end() -> None:
    assert numbered([1001, *range(1, 114), 114, 115], "H").end == 114


def test_a_chain_without_a_variable_domain_has_no_role() -> None:
    assert find_role(HEAVY) == "H" and find_role(small.LIGHT) == "L" and find_role("MKTAYIAKQRQISFVKSHFSRQ") is None


def test_a_pdb_file_and_an_mmcif_file_say_the_same(tmp_path: Path) -> None:
    import gemmi

    small.write_complex(tmp_path / "a.pdb")
    structure = gemmi.read_structure(str(tmp_path / "a.pdb"))
    structure.setup_entities()
    structure.make_mmcif_document().write_file(str(tmp_path / "a.cif"))
    (tmp_path / "a.pdb.gz").write_bytes(gzip.compress((tmp_path / "a.pdb").read_bytes()))
    first = read_file(tmp_path / "a.pdb")
    for name in ("a.cif", "a.pdb.gz"):
        other = read_file(tmp_path / name)
        assert torch.equal(first.letters, other.letters) and first.loops == other.loops
        assert torch.allclose(first.atoms, other.atoms, atol=1e-3)
    assert first.loop_text("H3") == "DRGGYFDY" and from_blob(to_blob(first)).loops == first.loops


def test_old_files_with_text_where_elements_stand_are_read(tmp_path: Path) -> None:
    small.write_complex(tmp_path / "a.pdb")
    lines = (tmp_path / "a.pdb").read_text().splitlines()
    old = [
        f"{line[:66]}      1VFB {number:3d}" if line.startswith("ATOM") else line for number, line in enumerate(lines)
    ]
    (tmp_path / "b.pdb").write_text("\n".join(old))
    assert [one.letters for one in read_chains(tmp_path / "b.pdb")] == [
        one.letters for one in read_chains(tmp_path / "a.pdb")
    ]


def test_a_patch_is_centred_between_the_anchors_and_has_the_nearest_residues() -> None:
    made = small.structure()
    patches = cut([made], antibody=10, antigen=12)
    start, end = made.loops["H3"]
    anchors = made.atoms[[start - 1, end], 1]
    assert torch.allclose(patches.centre[0], anchors.mean(0))
    assert {start - 1, end} <= set(patches.place[0].tolist()) and not set(range(start, end)) & set(
        patches.place[0].tolist()
    )
    distance = torch.cdist(made.atoms[:, 1], anchors).amin(1)
    kept = patches.place[0][patches.role[0] == 2]
    others = [row for row in (made.role == 2).nonzero()[:, 0].tolist() if row not in kept.tolist()]
    assert len(kept) == 12 and float(distance[kept].max()) <= float(distance[others].min())
    assert torch.allclose(patches.native_position[0] * SCALE + patches.centre[0], made.atoms[start:end, 1], atol=1e-4)


def test_the_native_loop_written_as_a_design_reads_back_as_it_was(tmp_path: Path) -> None:
    made = small.structure()
    patches = cut([made], antibody=8, antigen=8)
    design = {name: value[0] for name, value in patches.native().items()}
    (tmp_path / "native.pdb").write_text(pdb_text(made, "H3", patches, 0, design))
    back = read_file(tmp_path / "native.pdb")
    start, end = made.loops["H3"]
    assert torch.equal(back.letters, made.letters) and back.numbers == made.numbers and back.chains == made.chains
    assert torch.allclose(back.atoms[:start], made.atoms[:start], atol=2e-3)
    assert torch.allclose(back.atoms[start:end, 1], made.atoms[start:end, 1], atol=2e-3)
    turned = frames(*back.atoms[start:end].unbind(1))
    assert torch.allclose(turned, design["rotation"][: end - start], atol=5e-3)


def test_what_is_malformed_is_listed_with_its_reason_and_stops_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    small.write_complex(folder / "good.pdb")
    small.write_complex(folder / "other.pdb", "EDYW", seed=1)
    (folder / "empty.pdb").write_text("")
    (folder / "noise.cif").write_bytes(b"data_\nloop_\n\x00\xff")
    (folder / "antigen.pdb").write_text(small.pdb_of([small.chain("A", "MKTAYIAKQRQISFVKSHFSRQ", 0)]))
    gap = (folder / "good.pdb").read_text().splitlines()
    (folder / "gap.pdb").write_text("\n".join(line for line in gap if line[21:26] != f"H{102:4d}"))
    (folder / "cut.pdb.gz").write_bytes(gzip.compress((folder / "good.pdb").read_bytes())[:200])
    prepared = read_folder(folder)
    assert [one.name for one in prepared.structures] == ["gap", "good", "other"]
    reasons = dict(prepared.malformed)
    assert set(reasons) == {"empty", "noise", "antigen", "cut", "gap"}
    assert "H3: residues are missing between 101 and 103" in reasons["gap"]
    assert "variable domain" in reasons["antigen"] and "cannot be read" in reasons["cut"]
    write_folder(prepared, tmp_path / "out")
    again = load(tmp_path / "out").structures
    assert [one.name for one in again] == ["gap", "good", "other"] and "H3" not in again[0].loops
    assert torch.equal(again[1].atoms, prepared.structures[1].atoms)
    assert len((tmp_path / "out" / "malformed.tsv").read_text().splitlines()) == 6
    with pytest.raises(FileExistsError, match="never overwritten"):
        write_folder(prepared, tmp_path / "out")


def test_sabdab_s_table_names_chains_and_its_empty_rows_are_listed(tmp_path: Path) -> None:
    small.write_complex(tmp_path / "chothia" / "1abc.pdb")
    rows = [
        "pdb\tHchain\tLchain\tantigen_chain\tantigen_type",
        "1abc\tH\tNA\tA\tprotein",
        "1abc\tH\tNA\tNA\tNA",
        "2xyz\tH\tL\tA | B\tprotein",
        "1abc\tB\tNA\tA\tprotein",
        "3sug\tH\tL\tA\tcarbohydrate",
    ]
    (tmp_path / "sabdab_summary_all.tsv").write_text("\n".join(rows) + "\n")
    prepared = read_folder(tmp_path)
    assert [one.name for one in prepared.structures] == ["1abc_H"]
    reasons = [reason for _, reason in prepared.malformed]
    assert any("no antigen chain" in reason for reason in reasons) and any("no files" in reason for reason in reasons)
    assert any("no chain 'B'" in reason for reason in reasons) and any("carbohydrate" in reason for reason in reasons)


def test_antigens_that_are_alike_are_of_one_group(tmp_path: Path) -> None:
    antigen = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRV"
    small.write_complex(tmp_path / "a.pdb", antigen=antigen)
    small.write_complex(tmp_path / "b.pdb", seed=5, antigen=antigen[5:] + "ACDEF")
    unlike = small.chain("A", "WWGGWWPPHHNNDDKKRRTTSSQQEEVVLLMMFFYYCC", 3)
    (tmp_path / "c.pdb").write_text(small.pdb_of([small.chain("H", HEAVY, 1), unlike]))
    groups = {one.name: one.antigen for one in read_folder(tmp_path).structures}
    assert groups["a"] == groups["b"] != groups["c"]
    assert similarity("ACDE", "") == 0.0


def test_errors_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one or more of H1"):
        cut([small.structure()], ("H9",))
    with pytest.raises(ValueError, match="each once"):
        cut([small.structure()], ("H3", "H3"))
    with pytest.raises(ValueError, match="none of the 1 complexes"):
        cut([replace(small.structure(), loops={})])
    with pytest.raises(FileNotFoundError, match="no folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no complex"):
        load(tmp_path)


def test_the_benchmark_s_complexes_are_read_but_for_those_whose_rows_have_no_files(data_folder: Path) -> None:
    folder = data_folder / "antibody"
    if not folder.is_dir():
        pytest.skip("EQUIPOISE_DATA holds no antibody/")
    prepared = read_folder(folder)
    by_name = {one.name: one for one in prepared.structures}
    assert len(by_name) == 58 and len(prepared.malformed) == 12
    assert sum("no files" in reason for _, reason in prepared.malformed) == 7
    assert {name for name, reason in prepared.malformed if "H2: it was not found" in reason} == {"4M3K", "6DBG"}
    assert by_name["1AHW"].loop_text("H3") == "DNSYYFDY" and by_name["1AHW"].loop_text("L3") == "LQHGESPYT"
    assert by_name["1AHW"].antigen == by_name["1JPS"].antigen  # tissue factor
    assert len({by_name[name].antigen for name in ("1DQJ", "1MLC", "1VFB")}) == 1  # lysozyme
    assert by_name["1AHW"].antigen != by_name["1DQJ"].antigen
