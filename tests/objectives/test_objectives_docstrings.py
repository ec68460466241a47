"""Every example of the objectives runs, and every public function says its source, its errors and shows an example."""

from __future__ import annotations

import doctest
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module

import pytest

import equipoise.objectives
from equipoise.objectives import names

MODULES = [module.name for module in pkgutil.iter_modules(equipoise.objectives.__path__, "equipoise.objectives.")]
PUBLIC = ["residuals", "divergences", "partition", "trust_pcl", "policy_gradient"]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run_as_shown(name: str) -> None:
    outcome = doctest.testmod(import_module(name))
    assert outcome.failed == 0


def public_functions() -> list[Callable[..., object]]:
    modules = [import_module(f"equipoise.objectives.{name}") for name in PUBLIC]
    values = [getattr(module, name) for module in modules for name in module.__all__]
    return [value for value in values if inspect.isfunction(value)]


@pytest.mark.parametrize("function", public_functions(), ids=lambda function: function.__name__)
def test_a_public_function_is_documented_in_full(function: Callable[..., object]) -> None:
    text = inspect.getdoc(function) or ""
    for part in ("Args:", "Raises:", "Example:", ">>>", "Use "):
        assert part in text, f"{part} is missing"
    assert "Source:" in text or function.__name__ == "estimator"  # which is a table of the others


def test_names_can_be_listed_without_torch() -> None:
    code = (
        "import sys, equipoise.objectives as o\n"
        "assert o.DIVERGENCES and o.ESTIMATORS and 'torch' not in sys.modules\n"
        "assert callable(o.trajectory_balance) and 'torch' in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr


def test_the_front_door_gives_every_name_that_it_declares() -> None:
    for name in equipoise.objectives.__all__:
        assert getattr(equipoise.objectives, name) is not None
    assert set(dir(equipoise.objectives)) == set(equipoise.objectives.__all__)
    assert equipoise.objectives.DIVERGENCES is names.DIVERGENCES
    with pytest.raises(AttributeError, match="has no attribute 'trajectory_balnce'"):
        equipoise.objectives.__getattr__("trajectory_balnce")
