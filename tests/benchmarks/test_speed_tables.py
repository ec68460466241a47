"""The pure parts of the speed benchmark: the command lines, ratios and tables, the floor's count of operations."""

from __future__ import annotations

import argparse
from typing import Any

import beyond_steps
import floor
import gpu
import pairing
import profiling
import pytest
import scaling
import speed
import speed_table
import time_to_quality
import workloads
from workloads import Bits, Finetuning, Hypergrid, Strings


def record(label: str, repeat: int, cpu_ms: float, regime: str = "long") -> dict[str, Any]:
    fixed = {"version": "1", "framework": "f 1", "python": "3", "settings": "s", "steps": 3, "workload": {"batch": 16}}
    figures = {"cpu_ms": cpu_ms, "wall_ms": cpu_ms + 1, "peak_mb": 100.0, "first_call_wall_s": 2.0}
    lengths = {"length_mean": 37.0, "length_longest_mean": 76.0}
    return {"label": label, "repeat": repeat, "regime": regime, **fixed, **figures, **lengths}


RECORDS = [
    record("equipoise", 0, 10.0),
    record("gfnx", 0, 15.0),
    record("gfnx", 1, 40.0),
    record("equipoise", 1, 20.0),
    {"label": "equipoise compiled", "regime": "long", "repeat": 0, "not_available": "no option"},
]


def test_ratios_are_taken_within_a_repeat() -> None:
    entry = speed_table.summarise(RECORDS)["long"]
    assert entry["ratios"]["gfnx / equipoise"] == {"median": 1.75, "least": 1.5, "greatest": 2.0, "tie": False}
    assert entry["rows"]["equipoise"]["cpu_ms"] == {"median": 15.0, "least": 10.0, "greatest": 20.0}
    assert entry["not_available"] == {"equipoise compiled": "no option"}


def test_differences_below_15_percent_are_ties() -> None:
    near = [record("equipoise", 0, 10.0), record("gfnx", 0, 11.4)]
    assert speed_table.ratio(near, "gfnx", "equipoise")["tie"]
    assert not speed_table.ratio([near[0], record("gfnx", 0, 11.6)], "gfnx", "equipoise")["tie"]


def test_the_table_puts_the_share_of_the_floor_beside_our_rows_alone() -> None:
    floors = {"long": {"ms": 3.0, "gigaflops": 0.3, "gigaflops_per_s": 100.0}}
    lines = speed_table.table(speed_table.summarise(RECORDS), floors).splitlines()
    assert "20 %" in lines[1] and lines[1].startswith("long    equipoise 1")
    assert "%" not in lines[2]
    assert "not available" in lines[3]
    assert lines[-2:] == [
        "long: gfnx / equipoise = 1.75 (1.50-2.00)",
        "long: matmul floor 3.00 ms (0.300 GF at 100 GF/s)",
    ]


def test_the_operations_of_a_perceptrons_step_are_counted_by_layer() -> None:
    work = Hypergrid(dimensions=2, side=5, hidden=8, hidden_layers=1, batch=4)
    drawn = 2 * 4 * (10 * 8 + 8 * 3) * 6  # 4 rows at a time, 6 steps, forward head alone
    trained = 2 * 24 * (2 * 10 * 8 + 3 * 8 * 5)  # 24 rows, both heads; no gradient of the input
    assert sum(product.flops for product in floor.products(work, 6.0)) == drawn + trained


def test_a_cached_transformer_needs_a_fifteenth_of_the_products_of_one_that_sees_all() -> None:
    every = sum(product.flops for product in floor.products(Bits(), 15.0))
    cached = sum(product.flops for product in floor.products(Bits(left_to_right=True), 15.0))
    assert 14 < every / cached < 16


@pytest.mark.parametrize("work", [Hypergrid(), Strings(), Bits(), Finetuning(), Finetuning(subsample=25)])
def test_every_workload_has_a_floor(work: workloads.Workload) -> None:
    found = floor.products(work, 8.0)
    rate = {product.shape: 1e9 for product in found}
    assert floor.floor_ms(found, rate) == pytest.approx(sum(product.flops for product in found) / 1e6)


def test_the_rate_of_a_product_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floor, "TIMED_S", 1e-4)
    found = floor.rates([(16, 64, 64, 1), (15, 8, 15, 128)])
    assert set(found) == {(16, 64, 64, 1), (15, 8, 15, 128)}
    assert all(1e7 < value < 1e13 for value in found.values())


def test_settings_change_numbers_that_the_workload_has() -> None:
    assert workloads.changed(Strings(), ["length=60", "batch=4"]) == Strings(length=60, batch=4)
    for wrong in ("sides=3", "side", "side=x", "rewards=1", "exit_bias=1"):
        with pytest.raises(ValueError, match="NAME=NUMBER was expected"):
            workloads.changed(Hypergrid(), [wrong])


def test_a_regime_of_another_task_and_an_absent_peer_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        speed.parse(["--task", "bits", "--regime", "long"])
    assert "not of the task bits" in capsys.readouterr().err
    options, described = speed.parse(["--only", "gfnx"])
    with pytest.raises(SystemExit):
        speed.contenders(options, described)
    assert "--environments DIR" in capsys.readouterr().err


def test_without_environments_ours_is_measured_in_both_variants(capsys: pytest.CaptureFixture[str]) -> None:
    found = speed.contenders(*speed.parse(["--quick"]))
    assert [one.label for one in found] == ["equipoise", "equipoise compiled"]
    assert "gfnx is left out" in capsys.readouterr().err


def test_every_regime_has_a_worker_of_each_of_its_libraries() -> None:
    for regime in workloads.REGIMES.values():
        for library in regime.libraries:
            assert (pairing.FOLDERS[library] / f"{library}_{regime.task}.py").is_file()


def test_scaling_changes_what_its_workloads_have() -> None:
    for axis, (regime, values) in scaling.AXES.items():
        for value in values:
            workloads.changed(workloads.REGIMES[regime].workload, [f"{axis}={value}"])  # type: ignore[type-var]
    missing = {**RECORDS[-1], "axis": "side", "value": 16}
    shown = scaling.table([{**RECORDS[0], "axis": "side", "value": 8}, missing])
    assert "625" in shown and "not available" in shown


def test_a_run_that_did_not_arrive_is_shown_as_at_least() -> None:
    common = {"target": "hypergrid", "wall_s": 5.0, "steps": 100, "total_variation": 0.04}
    runs = [
        {**common, "label": "equipoise", "cpu_s": 4.0, "reached": True},
        {**common, "label": "gfnx", "cpu_s": 8.0, "reached": False},
        {"target": "hypergrid", "label": "equipoise compiled", "not_available": "no option"},
    ]
    lines = time_to_quality.table(runs).splitlines()
    assert "> 8.0" in lines[2] and "0/1" in lines[2]
    assert lines[-1] == "hypergrid: gfnx / equipoise = 2.00 (CPU seconds, medians)"


def test_a_profile_ranks_operators_and_says_what_is_pythons() -> None:
    shown = profiling.profile("append", 2)
    assert "aten::addmm" in shown and "outside all operators" in shown


def test_workers_of_ours_give_steps_that_train() -> None:
    import measure

    worker = profiling.worker("strings")
    options = argparse.Namespace(seed=0, variant="eager", warmup=1, steps=2, seconds=1e9, regime="append")
    work = Strings(length=3, hidden=8)
    result = measure.measure(worker.build(work, options), work, options, library="equipoise", version="1")
    assert result.trains and result.length_mean == 3 and result.cpu_ms > 0 and result.peak_mb > 0


def test_the_gpu_script_says_what_it_needs_and_ends_with_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        gpu.main([])
    said = capsys.readouterr()
    assert ended.value.code == 1 and said.out == ""
    assert said.err.count("\n") == 1 and "needs an NVIDIA GPU" in said.err


def test_the_gpu_script_begins_with_the_smallest_batches_and_shows_what_failed() -> None:
    every = list(gpu.cases((16, 256)))
    assert [batch for *_, batch in every] == sorted(batch for *_, batch in every)
    assert ("long", "compiled", 256) in every
    failed = {"regime": "long", "variant": "eager", "batch": 16, "said": "failed: no memory"}
    assert "failed: no memory" in gpu.table([failed])


def test_random_numbers_of_a_cpu_generator_are_drawn_there() -> None:
    import torch

    with gpu.DrawnOnTheCPU("meta"):
        drawn = torch.rand((2, 3), generator=torch.Generator().manual_seed(0))
    assert drawn.device.type == "meta" and drawn.shape == (2, 3)


def test_what_is_beyond_steps_is_shown_part_by_part() -> None:
    found = {
        "exact": [{"space": "hypergrid 8^4", "objects": 4096, "first_s": 0.5, "again_s": 0.25}],
        "compilation": [{"regime": "long", "not_available": "no option"}],
        "replay": [{"stored": 10, "batch": 4, "insert_us": 3.0, "sample_us": 4.0}],
        "language": [{"what": "equipoise sample", "tokens_per_cpu_s": speed_table.spread([100.0, 300.0])}],
    }
    lines = beyond_steps.shown(found).splitlines()
    assert lines[0].endswith("0.50 s first, 0.25 s again")
    assert lines[3].endswith("200 tokens a CPU second (100-300)")
    assert len(lines) == 4
