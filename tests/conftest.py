"""What every test shares: one thread, the folder of public data, and the count of tests that had none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("equipoise", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("equipoise")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of public data that EQUIPOISE_DATA names; without one the test skips."""
    named = os.environ.get("EQUIPOISE_DATA")
    if not named:
        pytest.skip("EQUIPOISE_DATA is not set")
    folder = Path(named)
    assert folder.is_dir(), (
        f"EQUIPOISE_DATA is {named}, which is no folder: correct it, or unset it to skip these tests"
    )
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many tests skipped for want of data: those whose reason names EQUIPOISE_DATA."""
    skipped = [report for report in terminalreporter.getreports("skipped") if "EQUIPOISE_DATA" in str(report.longrepr)]
    noun = "test" if len(skipped) == 1 else "tests"
    terminalreporter.write_line(f"{len(skipped)} {noun} skipped for want of data")
