"""Settings of a file and flags are one configuration: what goes together may come from both."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.cli.flags import UsageError, parse_config
from equipoise.recipes import Hypergrid


def read(folder: Path, text: str, words: list[str], given: dict[str, object]) -> Hypergrid:
    (folder / "run.yaml").write_text(text)
    return parse_config(Hypergrid, words, prog="train", config=folder / "run.yaml", given=given)


def test_a_file_may_hold_what_goes_with_a_flag(tmp_path: Path) -> None:
    found = read(tmp_path, "reward_workers: 2\nloss: alpha\n", ["--order", "0.5"], {"engine": "ray"})
    assert (found.reward_workers, found.engine, found.loss, found.order) == (2, "ray", "alpha", 0.5)


@pytest.mark.parametrize("text", ["reward_workers: 2\n", "loss: alpha\n"])
def test_what_does_not_go_together_in_the_end_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        read(tmp_path, text, [], {})
