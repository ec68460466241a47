"""Sources of given objects and of batches given again: what they draw, what they keep, and how they are resumed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from equipoise.sampling.given import Data, Repeat
from equipoise.trajectories import Trajectories, from_bytes, to_bytes
from sampling.streams import Stream, everything, points


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def objects_of(drawn: Trajectories) -> Tensor:
    assert isinstance(drawn.objects, Tensor)
    return drawn.objects


def test_data_are_drawn_evenly_with_replacement_and_keep_their_context() -> None:
    objects = torch.arange(5.0)[:, None]
    drawn = Data(objects, context=objects * 10).draw(5000, generator())
    assert isinstance(drawn.context, Tensor) and torch.equal(drawn.context, objects_of(drawn) * 10)
    counts = objects_of(drawn).flatten().long().bincount()
    assert len(counts) == 5 and ((counts - 1000).abs() < 5 * 800**0.5).all()
    assert drawn.log_reward is None and not drawn.path and not drawn.length.any()


def test_data_without_end_come_from_their_function_and_its_generator() -> None:
    source = Data(lambda n, generator: torch.randn(n, 3, generator=generator))
    assert torch.equal(objects_of(source.draw(4, generator(7))), torch.randn(4, 3, generator=generator(7)))


def test_a_draw_from_data_is_a_function_of_the_generator_alone() -> None:
    source = Data(torch.arange(100.0)[:, None])
    first = source.draw(9, generator())
    source.observe(first, torch.zeros(9))
    again = Data(torch.arange(100.0)[:, None])
    again.load_state_dict(from_bytes(to_bytes(source.state_dict())))
    assert torch.equal(objects_of(again.draw(9, generator())), objects_of(first))


def test_data_of_nothing_and_a_context_of_no_rows_are_errors() -> None:
    with pytest.raises(ValueError, match="a data set of no objects"):
        Data(torch.zeros(0, 2))
    with pytest.raises(ValueError, match="no rows that a context could belong to"):
        Data(lambda n, generator: torch.zeros(n), context=torch.zeros(3))


def test_a_batch_is_given_several_times_and_then_another() -> None:
    source = Repeat(Stream(points), 3)
    drawn = [objects_of(source.draw(2, generator())).flatten().tolist() for _ in range(7)]
    assert drawn == [[0, 1]] * 3 + [[2, 3]] * 3 + [[4, 5]]
    assert source.provides == Stream.provides


def test_what_was_observed_is_given_next_time_and_told_to_the_inner_source() -> None:
    inner = Stream(points)
    source = Repeat(inner, 2)
    drawn = source.draw(2, generator())
    renewed = drawn[torch.tensor([1, 0])]
    residual = torch.tensor([1.0, 2.0])
    source.observe(renewed, residual)
    assert source.draw(2, generator()) is renewed
    source.observe(drawn, None)
    assert [told[0] for told in inner.told] == [renewed, drawn] and inner.told[0][1] is residual
    assert objects_of(source.draw(2, generator())).flatten().tolist() == [2, 3]  # its last time is over


@pytest.mark.parametrize("rows", [points, everything], ids=["ends", "paths"])
@pytest.mark.parametrize("before", range(5))
def test_a_repeat_that_was_saved_at_any_time_goes_on_with_the_same_batches(before: int, rows: Any) -> None:
    whole, first, second = (Repeat(Stream(rows), 3) for _ in range(3))
    expected = [whole.draw(4, generator()) for _ in range(9)]
    found = [first.draw(4, generator()) for _ in range(before)]
    second.load_state_dict(from_bytes(to_bytes(first.state_dict())))
    found += [second.draw(4, generator()) for _ in range(9 - before)]
    assert [to_bytes(one) for one in found] == [to_bytes(one) for one in expected]
    assert to_bytes(second.state_dict()) == to_bytes(whole.state_dict())


def test_no_repeats_and_another_size_are_errors() -> None:
    with pytest.raises(ValueError, match="times is 0"):
        Repeat(Stream(points), 0)
    source = Repeat(Stream(points), 2)
    source.draw(3, generator())
    with pytest.raises(ValueError, match="4 trajectories asked for while a batch of 3 is being repeated"):
        source.draw(4, generator())
