"""Energies and figures: the stand-in's parts by hand, a table's gaps, the second energy, and the bootstrap."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from antibody import small
from equipoise.antibody.energies import StandIn, Tabled, as_reward, exchanged, huber, quasi_chemical, read_table
from equipoise.antibody.geometry import placed
from equipoise.antibody.judge import LoopJudge, bootstrap, figures_of
from equipoise.antibody.residues import KINDS, SCALE, contact_energies


def test_contact_energies_are_symmetric_and_whole() -> None:
    table = contact_energies()
    assert torch.equal(table, table.T) and bool((table[:KINDS, :KINDS] < 0).all()) and not table[KINDS].any()
    assert round(float(table[:KINDS, :KINDS].mean()), 2) == round(float(table[:KINDS, :KINDS].double().mean()), 2)


def test_the_contact_part_is_the_sum_over_pairs() -> None:
    patches = small.patches(1)
    native, energy = patches.native(), StandIn(patches)
    found = float(energy.parts(native, torch.tensor([0]))["contact"])
    size, expected = int(patches.lengths[0]), 0.0
    own = placed(native["rotation"][0], SCALE * native["position"][0], "CB")
    other = placed(patches.rotation[0], SCALE * patches.position[0], "CB")
    for i in range(size):
        for j in range(patches.letters.shape[1]):
            if patches.mask[0, j] and patches.role[0, j] == 2:
                weight = 1 / (1 + math.exp((float((own[i] - other[j]).norm()) - 8.0) / 0.5))
                expected += weight * float(contact_energies()[native["letter"][0, i], patches.letters[0, j]])
    assert found == pytest.approx(expected, rel=1e-4)


def test_pulling_a_loop_out_breaks_bonds_and_piling_it_up_clashes() -> None:
    patches, rows = small.patches(1), torch.tensor([0])
    native = patches.native()
    before = StandIn(patches).parts(native, rows)
    away = {**native, "position": native["position"] + 1.0}
    piled = {**native, "position": 0.05 * native["position"]}
    assert float(StandIn(patches).parts(away, rows)["connectivity"]) > float(before["connectivity"]) + 20
    assert float(StandIn(patches).parts(piled, rows)["clash"]) > float(before["clash"]) + 20
    total = StandIn(patches)(native, rows)
    assert float(total) == pytest.approx(sum(float(part) for part in before.values()), rel=1e-5)


def test_an_energy_is_invariant_and_of_each_row_alone() -> None:
    sampler = small.sampler()
    rows = torch.tensor([0, 2, 1, 0])
    drawn = small.designs(sampler.sample(4, context=rows, generator=torch.Generator().manual_seed(0)))
    whole = StandIn(sampler.patches)(drawn, rows)
    each = [StandIn(sampler.patches)({name: value[[i]] for name, value in drawn.items()}, rows[[i]]) for i in range(4)]
    assert torch.allclose(whole, torch.cat(each), rtol=1e-4)
    turn, shift = small.rotation_and_shift()
    moved = {**drawn, "position": drawn["position"] @ turn.T, "rotation": turn @ drawn["rotation"]}
    assert torch.allclose(whole, StandIn(sampler.patches.moved(turn, shift))(moved, rows), rtol=1e-3, atol=1e-2)


def test_huber_is_quadratic_then_linear() -> None:
    value = torch.tensor([0.0, 0.5, 1.0, 11.0])
    assert torch.allclose(huber(value), torch.tensor([0.0, 0.125, 0.5, 10.5])) and torch.equal(
        huber(-value), huber(value)
    )


def test_a_missing_energy_is_an_error(tmp_path: Path) -> None:
    patches, path = small.patches(2), tmp_path / "dg.tsv"
    path.write_text("Case\tdG\n1AB0\t-9.5\n1AB1_H3\t-12\n")
    table = read_table(path)
    assert Tabled(patches, table)(patches.native(), torch.tensor([1, 0])).tolist() == [-12.0, -9.5]
    assert as_reward(Tabled(patches, table))(patches.native(), torch.tensor([0])).tolist() == [9.5]
    with pytest.raises(ValueError, match="no energy of 1 of 2 complexes, first 1AB1_H3"):
        Tabled(patches, {"1AB0": -9.5})
    path.write_text("1AB0\t-9.5\n1AB0\t-1\n")
    with pytest.raises(ValueError, match="line 2: '1AB0' is named twice"):
        read_table(path)
    path.write_text("1AB0\t-9.5\n1AB1\tunknown\n")
    with pytest.raises(ValueError, match="line 2: complex and energy were expected"):
        read_table(path)


def test_exchanged_energies_are_the_same_ones_of_other_designs() -> None:
    sampler, rows = small.sampler(), torch.tensor([0, 1, 0, 1, 0])
    drawn = small.designs(sampler.sample(5, context=rows, generator=torch.Generator().manual_seed(0)))
    plain = StandIn(sampler.patches)
    before, after = plain(drawn, rows), exchanged(plain)(drawn, rows)
    for row in (0, 1):
        assert torch.equal(before[rows == row].sort().values, after[rows == row].sort().values)
        assert not bool((before[rows == row] == after[rows == row]).any())


def test_the_second_energy_is_fitted_to_contacts() -> None:
    table = quasi_chemical([small.structure()])
    assert torch.equal(table, table.T) and bool(torch.isfinite(table).all())
    with pytest.raises(ValueError, match="at least one"):
        quasi_chemical([])


def test_natives_are_recovered_by_themselves() -> None:
    patches = small.patches(2)
    native = {name: value[[1, 1, 1]] for name, value in patches.native().items()}
    found = figures_of(native, 1, patches, StandIn(patches), StandIn(patches, parts=("contact",)))
    assert found["amino_acid_recovery"] == 1.0 and found["ca_rmsd"] == 0.0 and found["diversity"] == 0.0
    assert found["improved_fraction"] == 0.0 and found["top1_energy"] == pytest.approx(found["energy_native"])
    assert found["contact"] == pytest.approx(found["binding_energy_native"])


def test_top_one_has_the_smallest_sum_of_ranks_and_rmsd_no_superposition() -> None:
    patches = small.patches(1)
    sampler = small.sampler().on(patches)
    rows = torch.zeros(30, dtype=torch.int64)
    drawn = small.designs(sampler.sample(30, context=rows, generator=torch.Generator().manual_seed(0)))
    energy = StandIn(patches)
    found = figures_of(drawn, 0, patches, energy, energy)
    total, binding = energy(drawn, rows).tolist(), energy.parts(drawn, rows)["contact"].tolist()
    ranks = [sum(sorted(values).index(values[i]) for values in (total, binding)) for i in range(30)]
    best = ranks.index(min(ranks))
    assert found["top1_energy"] == pytest.approx(total[best]) and found["top1_binding_energy"] == pytest.approx(
        binding[best]
    )
    shifted = {name: value[:1].clone() for name, value in patches.native().items()}
    shifted["position"][:, :, 0] += 0.3
    assert figures_of(shifted, 0, patches, energy, energy)["ca_rmsd"] == pytest.approx(3.0, rel=1e-4)


def test_judging_changes_neither_the_count_of_evaluations_nor_itself() -> None:
    sampler = small.sampler(prior=True)
    judge = LoopJudge(sampler, StandIn(sampler.patches), StandIn(sampler.patches), beta=0.1, designs=4)
    before = int(sampler.evaluations)
    assert judge.figures([0, 1]) == judge.figures([0, 1]) and int(sampler.evaluations) == before


def test_the_bootstrap_pairs_complexes_and_covers_the_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    offset = 100 * torch.randn(40, generator=generator)
    first = {str(place): float(offset[place]) + 1.0 for place in range(40)}
    second = {str(place): float(offset[place] + 0.1 * torch.randn((), generator=generator)) for place in range(40)}
    mean, low, high = bootstrap(first, second)
    assert low < 1.0 < high and high - low < 0.2 and low < mean < high
    with pytest.raises(ValueError, match="no complex in common"):
        bootstrap(first, {"x": 1.0})
