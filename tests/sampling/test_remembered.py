"""Slow rewards: asked once, kept over crashes, asked again with pauses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from equipoise.sampling.remembered import Remembered, patiently
from equipoise.trajectories import Columns


class Asked:
    """A reward that counts what it is asked."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, objects: Columns, context: Columns) -> Tensor:
        assert isinstance(objects, Tensor)
        self.rows += objects[:, 0].tolist()
        other = 0 if context is None else torch.tensor([len(text) for text in context])  # type: ignore[arg-type]
        return objects[:, 0] / 3 + other


def test_each_object_is_asked_once_also_in_the_next_run(tmp_path: Path) -> None:
    first, second = Asked(), Asked()
    objects = torch.tensor([[1], [2], [1], [3]])
    whole = Remembered(first, tmp_path / "0.scores")(objects, None)
    assert first.rows == [1, 2, 3]
    again = Remembered(second, tmp_path / "1.scores")  # another process of the same run reads the first one's
    assert torch.equal(again(objects, None), whole) and second.rows == []
    again(torch.tensor([[3], [4]]), None)
    assert second.rows == [4]


def test_the_context_is_part_of_the_key() -> None:
    asked = Asked()
    remembered = Remembered(asked)
    objects = torch.tensor([[1], [1]])
    assert remembered(objects, ("a", "bbb")).tolist() == pytest.approx([4 / 3, 10 / 3])
    assert asked.rows == [1, 1]


@pytest.mark.parametrize("spoil", ["cut", "changed"])
def test_what_a_crash_cut_short_is_asked_again_and_the_rest_is_not(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "0.scores"
    Remembered(Asked(), path)(torch.tensor([[1], [2], [3]]), None)
    blob = bytearray(path.read_bytes())
    if spoil == "cut":
        blob = blob[:-5]
    else:
        blob[-10] ^= 1
    path.write_bytes(bytes(blob))
    asked = Asked()
    assert Remembered(asked, path)(torch.tensor([[1], [2], [3]]), None).tolist() == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert asked.rows == [3]
    last = Asked()
    Remembered(last, path)(torch.tensor([[1], [2], [3]]), None)
    assert last.rows == []


def test_a_reward_that_is_not_finite_is_not_kept(tmp_path: Path) -> None:
    remembered = Remembered(lambda objects, context: objects[:, 0].float().log(), tmp_path / "0.scores")  # type: ignore
    with pytest.raises(ValueError, match="index 1"):
        remembered(torch.tensor([[1], [0]]), None)
    assert remembered.known == {}


def test_pauses_double_and_the_last_error_is_told() -> None:
    pauses: list[float] = []

    def hangs() -> float:
        raise TimeoutError("no answer within 5 s")

    with pytest.raises(ValueError, match="failed 5 times in a row, the last time so: no answer within 5 s"):
        patiently(hangs, attempts=5, first=1.0, most=3.0, sleep=pauses.append)
    assert pauses == [1.0, 2.0, 3.0, 3.0]
