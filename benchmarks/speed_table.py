"""Records of the speed benchmark as medians, ratios and lines of text. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

TIE = 1.15
OWN = "equipoise"
Record = dict[str, Any]


def spread(values: Sequence[float]) -> Record:
    """Median, least and greatest value.

    Example:
        >>> spread([3.0, 1.0, 2.0])
        {'median': 2.0, 'least': 1.0, 'greatest': 3.0}
    """
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def summarise(records: Sequence[Record]) -> Record:
    """By regime and label: medians and spreads; and by pair of a peer and one of ours the ratio within each repeat."""
    summary: Record = {}
    for regime in dict.fromkeys(record["regime"] for record in records):
        here = [record for record in records if record["regime"] == regime]
        entry: Record = {"rows": {}, "ratios": {}, "not_available": {}}
        for label in dict.fromkeys(record["label"] for record in here):
            mine = [record for record in here if record["label"] == label]
            if "not_available" in mine[0]:
                entry["not_available"][label] = mine[0]["not_available"]
            else:
                entry["rows"][label] = _row(mine)
        ours = [label for label in entry["rows"] if label.split()[0] == OWN]
        for peer in [label for label in entry["rows"] if label not in ours]:
            for own in ours:
                entry["ratios"][f"{peer} / {own}"] = ratio(here, peer, own)
        summary[regime] = entry
    return summary


def _row(records: Sequence[Record]) -> Record:
    last = records[-1]
    return {
        "cpu_ms": spread([record["cpu_ms"] for record in records]),
        "wall_ms": spread([record["wall_ms"] for record in records]),
        "peak_mb": spread([record["peak_mb"] for record in records]),
        "first_call_wall_s": spread([record["first_call_wall_s"] for record in records]),
        "length_mean": statistics.fmean(record["length_mean"] for record in records),
        "length_longest_mean": statistics.fmean(record["length_longest_mean"] for record in records),
        **{name: last[name] for name in ("version", "framework", "python", "settings", "steps")},
    }


def ratio(records: Sequence[Record], peer: str, own: str) -> Record:
    """The peer's CPU time over ours within each repeat: median, spread, and whether it is a tie."""
    cpu = {(record["repeat"], record["label"]): record["cpu_ms"] for record in records if "cpu_ms" in record}
    repeats = [repeat for repeat, label in cpu if label == own and (repeat, peer) in cpu]
    found = spread([cpu[repeat, peer] / cpu[repeat, own] for repeat in repeats])
    return {**found, "tie": 1 / TIE < found["median"] < TIE}


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines of text, columns aligned.

    Example:
        >>> aligned([("a", "b"), ("long", "c")])
        ['a     b', 'long  c']
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


HEAD = ("regime", "library", "CPU ms/step", "least-greatest", "wall ms", "of floor", "length", "first s", "peak MB")


def table(summary: Record, floors: Mapping[str, Mapping[str, float]]) -> str:
    """The summary as lines of text, with the share of the matmul floor beside our rows."""
    rows: list[Sequence[str]] = [HEAD]
    tail = []
    for regime, entry in summary.items():
        for label, one in entry["rows"].items():
            cpu, mine = one["cpu_ms"], label.split()[0] == OWN and regime in floors
            rows.append(
                (
                    regime,
                    f"{label} {one['version']}",
                    f"{cpu['median']:.2f}",
                    f"{cpu['least']:.2f}-{cpu['greatest']:.2f}",
                    f"{one['wall_ms']['median']:.2f}",
                    f"{percent_of_floor(floors[regime]['ms'], cpu['median']):.0f} %" if mine else "",
                    f"{one['length_mean']:.1f}",
                    f"{one['first_call_wall_s']['median']:.1f}",
                    f"{one['peak_mb']['median']:.0f}",
                )
            )
        for label, reason in entry["not_available"].items():
            rows.append((regime, label, "not available", reason, *[""] * (len(HEAD) - 4)))
        tail += [f"{regime}: {names} = {shown_ratio(one)}" for names, one in entry["ratios"].items()]
    for regime, floor in floors.items():
        rate = f"{floor['gigaflops']:.3f} GF at {floor['gigaflops_per_s']:.0f} GF/s"
        tail.append(f"{regime}: matmul floor {floor['ms']:.2f} ms ({rate})")
    return "\n".join(aligned(rows) + tail)


def percent_of_floor(floor_ms: float, cpu_ms: float) -> float:
    """How much of a step's time its products alone would take.

    Example:
        >>> percent_of_floor(5.0, 10.0)
        50.0
    """
    return 100 * floor_ms / cpu_ms


def shown_ratio(one: Mapping[str, Any]) -> str:
    """A ratio with its spread, and whether it is a tie."""
    return f"{one['median']:.2f} ({one['least']:.2f}-{one['greatest']:.2f}){', a tie' if one['tie'] else ''}"
