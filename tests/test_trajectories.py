"""Contract: records are indexed, joined, written, saved and loaded without a value changing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.trajectories import Fixed, Trajectories, concatenate, ends, from_bytes, to_bytes


def record(lengths: list[int], *, seed: int = 0, fixed: bool = True, names: bool = False) -> Trajectories:
    """A record with every kind of column, each entry a function of its row."""
    generator = torch.Generator().manual_seed(seed)
    n, steps = len(lengths), max(lengths, default=0)
    length = torch.tensor(lengths, dtype=torch.int64)
    rows = torch.arange(n)
    objects = tuple(f"object {row}" for row in range(n)) if names else torch.rand((n, 3), generator=generator)
    kept = {
        "log_prior": Fixed(torch.rand((n, steps), generator=generator), rows.clone()),
        "log_guide": Fixed(torch.rand(n, generator=generator), rows.clone()),
        "log_reward_state": Fixed(torch.rand((n, steps + 1), generator=generator), rows.clone()),
    }
    return Trajectories(
        path={
            "state": torch.randint(9, (n, steps + 1, 2), generator=generator),
            "action": torch.randint(9, (n, steps), generator=generator),
        },
        length=length,
        objects={"sequence": objects, "position": torch.rand((n, steps + 4, 3), generator=generator)},
        context=tuple(f"prompt {row}" for row in range(n)),
        group=rows.clone(),
        log_reward=torch.rand(n, generator=generator),
        version=rows.clone(),
        key=rows.clone(),
        fixed=kept if fixed else {},
    )


def same(first: object, second: object) -> bool:
    return to_bytes(first) == to_bytes(second)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.booleans())
def test_a_saved_record_is_loaded_as_it_was(lengths: list[int], names: bool) -> None:
    kept = record(lengths, names=names)
    assert same(from_bytes(to_bytes(kept)), kept)


def test_indexing_keeps_rows_and_trims_steps() -> None:
    whole = record([5, 2, 3])
    part = whole[torch.tensor([2, 1])]
    assert part.steps == 3
    assert part.path["state"].shape[1] == 4 and part.path["action"].shape[1] == 3
    assert torch.equal(part.path["state"], whole.path["state"][[2, 1], :4])
    assert torch.equal(part.fixed["log_prior"].value, whole.fixed["log_prior"].value[[2, 1], :3])
    assert torch.equal(part.fixed["log_reward_state"].value, whole.fixed["log_reward_state"].value[[2, 1], :4])
    assert part.context == ("prompt 2", "prompt 1")
    assert same(whole[torch.tensor([False, True, True])], whole[torch.tensor([1, 2])])


def test_concatenation_pads_every_dimension_and_indexing_takes_it_apart() -> None:
    first, second = record([5, 2]), record([1, 3], seed=1)
    joined = concatenate([first, second])
    assert joined.steps == 5 and len(joined) == 4
    assert same(joined[torch.tensor([0, 1])], first)
    part = joined[torch.tensor([2, 3])]
    assert torch.equal(part.path["state"], second.path["state"])
    assert isinstance(part.objects, dict) and isinstance(second.objects, dict)
    padded, original = part.objects["position"], second.objects["position"]
    assert isinstance(padded, torch.Tensor) and isinstance(original, torch.Tensor)
    assert torch.equal(padded[:, : original.shape[1]], original) and not padded[:, original.shape[1] :].any()


def test_concatenation_marks_fixed_values_that_a_part_lacks() -> None:
    joined = concatenate([record([2, 4], fixed=False), record([3])])
    for name in ("log_prior", "log_guide", "log_reward_state"):
        assert joined.fixed[name].version.tolist() == [-1, -1, 0]
        assert not joined.fixed[name].value[:2].any()
    assert joined.fixed["log_prior"].value.shape == (3, 4)
    assert joined.fixed["log_reward_state"].value.shape == (3, 5)


def test_empty_parts_are_dropped() -> None:
    whole = record([2, 3])
    assert same(concatenate([whole[torch.zeros(0, dtype=torch.int64)], whole]), whole)


def test_tensors_that_share_memory_are_saved() -> None:
    shared = torch.zeros(3, dtype=torch.int64)
    tree = {"a": shared, "b": shared, "c": [shared.expand(2, 3)], 4: (1.5, None, True, "text", {})}
    loaded = from_bytes(to_bytes(tree))
    assert loaded["c"][0].shape == (2, 3) and loaded[4] == (1.5, None, True, "text", {})


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 40, 200])
def test_a_truncated_record_is_an_error_that_says_so(cut: int) -> None:
    with pytest.raises(ValueError, match="truncated or of another format"):
        from_bytes(to_bytes(record([3, 2]))[:cut])


def test_rows_that_disagree_are_named() -> None:
    whole = vars(record([3, 2]))
    with pytest.raises(ValueError, match="'group' has 1 rows where 'length' has 2"):
        Trajectories(**{**whole, "group": torch.zeros(1, dtype=torch.int64)})
    with pytest.raises(ValueError, match=r"path\['action'\] has shape \(2, 9\)"):
        Trajectories(**{**whole, "path": {"action": torch.zeros(2, 9)}})


def test_what_cannot_be_joined_is_an_error() -> None:
    whole = record([3, 2])
    with pytest.raises(ValueError, match="complete them with sample_to"):
        concatenate([whole, ends(whole.objects, context=whole.context, log_reward=whole.log_reward)])
    with pytest.raises(ValueError, match="call the reward first"):
        concatenate([whole, Trajectories(**{**vars(whole), "log_reward": None})])
    with pytest.raises(ValueError, match="at least one"):
        concatenate([])
    with pytest.raises(TypeError, match="cannot be saved"):
        to_bytes({"a": object()})
