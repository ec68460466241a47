"""Curves of an experiment's runs."""

from __future__ import annotations

import pytest

pytest.importorskip("matplotlib")

import numpy as np

from equipoise.plots.curves import curve_panels


@pytest.mark.parametrize(("counted", "label"), [(True, "trajectories"), (False, "optimiser steps")])
def test_modes_are_drawn_over_trajectories_where_these_are_counted(counted: bool, label: str) -> None:
    records = [
        {"step": float(step), "modes_found": 2.0 * step, **({"trajectories": 16.0 * step} if counted else {})}
        for step in range(3)
    ]
    (axes,) = curve_panels({("", "modes_found"): {"tb": [records]}}).axes
    assert axes.get_xlabel() == label
    (line,) = axes.lines
    factor = 16.0 if counted else 1.0
    across, found = (np.asarray(values) for values in line.get_data())
    assert np.array_equal(across, [0.0, factor, 2 * factor])
    assert np.array_equal(found, [0.0, 2.0, 4.0])
