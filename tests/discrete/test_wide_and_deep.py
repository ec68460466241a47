"""A table of states beside a network."""

from __future__ import annotations

import math

import pytest
import torch

from equipoise.discrete import exact
from equipoise.discrete.environments.strings import PrependAppendStrings
from equipoise.discrete.policies.wide_and_deep import WideAndDeep

WORDS = PrependAppendStrings(letters=4, length=6)


def policy(lines: int = 1 << 18) -> WideAndDeep:
    torch.manual_seed(0)
    return WideAndDeep(WORDS, (8,), {"forward": WORDS.actions, "flow": 0}, lines=lines)


def test_states_are_spread_over_the_lines_as_by_chance() -> None:
    """n states thrown on L lines leave L (1 - 1/L)^n of them empty, give or take a few deviations."""
    states = exact.state_graph(WORDS).states
    for lines in (1024, 8192):
        used = len(policy(lines).line(states).unique())
        expected = lines * -math.expm1(len(states) * math.log1p(-1 / lines))
        assert abs(used - expected) < 5 * math.sqrt(lines)


def test_lines_are_the_same_in_every_process() -> None:
    """Pinned: a checkpoint's table is read by them."""
    state = torch.tensor([[1, 2, 3, 4, 1, 2], [0, 0, 0, 0, 0, 0]])
    assert policy().line(state).tolist() == [74058, 219234]


def test_a_line_changes_its_own_states_only_and_begins_at_nothing() -> None:
    network = policy()
    states = exact.state_graph(WORDS).states
    before = network(states, None)
    assert torch.equal(before["forward"], network.deep(WORDS.encode(states))["forward"])
    line = int(network.line(states[5:6]))
    with torch.no_grad():
        network.table[line] += 0.5
    after = network(states, None)
    moved = (after["forward"] != before["forward"]).any(1)
    assert torch.equal(moved, network.line(states) == line) and bool(moved[5])
    assert torch.allclose((after["flow"] - before["flow"])[moved], torch.tensor(0.5 * network.gain))


def test_a_number_of_lines_that_is_no_power_of_two_is_refused() -> None:
    with pytest.raises(ValueError, match="power of two"):
        policy(1000)
