"""Orders, deliveries and what is lost on the way, by a clock that tests move; no Ray."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from equipoise.training.engines.buffer import Buffer, Order
from equipoise.training.engines.log import Log
from equipoise.training.engines.settings import Settings


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def waiting(buffer: Buffer, position: int = 0, parts: tuple[int, ...] = (8,)) -> Buffer:
    """A buffer with weights, whose learner waits at a position."""
    buffer.publish(0, b"weights")
    buffer.expect(position, parts)
    return buffer


def order(buffer: Buffer, searcher: int, held: int = 0) -> Order:
    given = buffer.request(searcher, held)
    assert given is not None
    return given


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_no_more_is_ordered_than_the_learner_can_take_within_the_staleness(ahead: int) -> None:
    buffer = waiting(Buffer(ahead=ahead))
    given = [order(buffer, searcher).ticket for searcher in range(ahead + 1)]
    assert given == list(range(ahead + 1))
    assert buffer.request(99, 0) is None
    buffer.deliver(0, 0, 8, b"0")
    assert buffer.request(0, 0) is None  # delivered counts as much as under way
    assert buffer.take(0, 1) == [b"0"]
    assert buffer.request(0, 0) is None  # the learner is at its step
    buffer.expect(1, (8,))
    assert order(buffer, 0).ticket == ahead + 1
    assert buffer.request(99, 0) is None


def test_nothing_is_ever_older_than_admitted_where_searchers_are_equally_fast() -> None:
    """Five searchers in turn, staleness 4: ages by the version that each order had."""
    buffer, versions, ages = waiting(Buffer(ahead=4)), {}, []
    for step in range(40):
        buffer.publish(step, b"")
        buffer.expect(step, (8,))
        for searcher in range(5):
            given = buffer.request(searcher, step)
            if given is not None:
                versions[given.ticket] = given.version
                buffer.deliver(searcher, given.ticket, 8, given.ticket.to_bytes(4, "little"))
        (blob,) = buffer.take(step, 1)
        ages.append(step - versions[int.from_bytes(blob, "little")])
    assert max(ages) == 4 and ages[10:] == [4] * 30


def test_a_ticket_counts_once_and_asking_again_changes_nothing() -> None:
    buffer = waiting(Buffer(ahead=1))
    first = order(buffer, 0)
    assert buffer.deliver(0, first.ticket, 8, b"a")
    assert not buffer.deliver(0, first.ticket, 8, b"another")
    assert buffer.take(0, 1) == buffer.take(0, 1) == [b"a"]
    assert buffer.status()["accepted"] == 1 and buffer.status()["searchers"][0]["rows"] == 8


def test_what_a_dead_searcher_had_is_given_out_again_and_first() -> None:
    buffer = waiting(Buffer(ahead=2))
    lost, other = order(buffer, 0), order(buffer, 1)
    assert buffer.lost(0) == [lost.ticket]
    assert order(buffer, 2).ticket == lost.ticket
    buffer.deliver(1, other.ticket, 8, b"")
    assert buffer.room == 1  # nothing counts twice


def test_who_asks_anew_has_lost_what_it_had() -> None:
    buffer = waiting(Buffer(ahead=0))
    first = order(buffer, 0)
    assert order(buffer, 0).ticket == first.ticket


def test_a_hung_searcher_is_named_and_may_still_deliver_first() -> None:
    clock = Clock()
    buffer = waiting(Buffer(ahead=1, clock=clock))
    slow = order(buffer, 0)
    clock.now = 5.0
    order(buffer, 1)
    clock.now = 11.0
    assert buffer.overdue(10.0) == [(0, slow.ticket, 11.0)]
    buffer.lost(0)
    assert order(buffer, 2).ticket == slow.ticket
    assert buffer.deliver(0, slow.ticket, 8, b"late, and the first")
    assert not buffer.deliver(2, slow.ticket, 8, b"second")


def test_weights_go_to_who_has_older_ones() -> None:
    buffer = waiting(Buffer(ahead=5))
    assert order(buffer, 0, held=-1).weights == b"weights"
    assert order(buffer, 1, held=0).weights is None
    buffer.publish(3, b"new")
    buffer.publish(2, b"late")
    given = order(buffer, 2, held=0)
    assert (given.weights, given.version) == (b"new", 3)


def test_seconds_of_work_and_of_waiting_are_told_apart() -> None:
    clock = Clock()
    buffer = waiting(Buffer(ahead=0, clock=clock))
    first = order(buffer, 0)
    clock.now = 4.0
    buffer.deliver(0, first.ticket, 8, b"", seconds=4.0)
    assert buffer.request(0, 0) is None
    clock.now = 9.0
    assert buffer.status()["searchers"][0]["idle"] == 5.0
    buffer.expect(1, (8,))
    order(buffer, 0)
    clock.now = 20.0
    assert buffer.status()["searchers"][0] == {"rows": 8, "busy": 4.0, "idle": 5.0, "at_work": 1}


def test_a_batch_in_parts_comes_in_the_order_of_tickets() -> None:
    buffer = waiting(Buffer(ahead=0), parts=(4, 4, 4))
    tickets = [order(buffer, searcher).ticket for searcher in range(3)]
    for ticket in (tickets[2], tickets[0]):
        buffer.deliver(ticket, ticket, 4, str(ticket).encode())
    assert buffer.take(0, 3) == []
    buffer.deliver(1, tickets[1], 4, b"1")
    assert buffer.take(0, 3) == [b"0", b"1", b"2"]


def test_a_failure_is_told_and_ends_the_orders() -> None:
    buffer = waiting(Buffer(ahead=3))
    buffer.fail("searcher 1: the reward raised")
    buffer.fail("another")
    assert buffer.request(0, 0) is None
    assert buffer.status()["failure"] == "searcher 1: the reward raised"


def delivered(folder: Path, count: int) -> Buffer:
    buffer = waiting(Buffer(ahead=100, log=Log(folder, segment=40)))
    for searcher in range(count):
        buffer.deliver(searcher, order(buffer, searcher).ticket, 8, f"blob {searcher}".encode())
    return buffer


def test_a_buffer_that_is_killed_comes_back_with_all_that_it_acknowledged(tmp_path: Path) -> None:
    delivered(tmp_path, 5)
    again = waiting(Buffer(ahead=100, log=Log(tmp_path)), position=2)
    assert [again.take(number, 1) for number in (2, 3, 4)] == [[b"blob 2"], [b"blob 3"], [b"blob 4"]]
    assert not again.deliver(9, 1, 8, b"a second time")
    assert order(again, 0).ticket == 5


def test_a_buffer_without_a_log_comes_back_empty_and_goes_on() -> None:
    again = waiting(Buffer(ahead=0), position=7)
    given = order(again, 0)
    again.deliver(0, given.ticket, 8, b"new")
    assert again.take(7, 1) == [b"new"]


def test_a_torn_end_was_never_acknowledged_and_hides_nothing_after(tmp_path: Path) -> None:
    delivered(tmp_path, 5)
    last = max(tmp_path.iterdir())
    last.write_bytes(last.read_bytes()[:-3])
    buffer = waiting(Buffer(ahead=100, log=Log(tmp_path, segment=40)))
    count = buffer.count
    assert count < 5
    given = order(buffer, 0)
    buffer.deliver(0, given.ticket, 8, b"after")
    again = waiting(Buffer(ahead=100, log=Log(tmp_path)))
    assert again.count == count + 1 and again.take(count, 1) == [b"after"]


def test_what_no_checkpoint_needs_leaves_the_disk_and_the_rest_stays(tmp_path: Path) -> None:
    buffer = delivered(tmp_path, 9)
    files = len(list(tmp_path.iterdir()))
    buffer.release(6)
    assert len(list(tmp_path.iterdir())) < files
    again = waiting(Buffer(ahead=100, log=Log(tmp_path)), position=6)
    assert [again.take(number, 1)[0] for number in (6, 7, 8)] == [b"blob 6", b"blob 7", b"blob 8"]


def test_with_a_barrier_what_lies_beyond_the_checkpoint_is_drawn_again(tmp_path: Path) -> None:
    delivered(tmp_path, 5)
    buffer = Buffer(ahead=0, log=Log(tmp_path))
    buffer.publish(3, b"")
    buffer.expect(3, (4, 4), (b"noise 3", b"noise 4"), fresh=True)
    given = [order(buffer, searcher, 3) for searcher in range(2)]
    assert [(entry.ticket, entry.noise) for entry in given] == [(3, b"noise 3"), (4, b"noise 4")]
    assert buffer.take(3, 2) == []


def test_a_part_of_a_batch_survives_the_buffer_and_only_the_rest_is_drawn_again(tmp_path: Path) -> None:
    noise = (b"a", b"b")
    first = Buffer(ahead=0, log=Log(tmp_path))
    first.publish(0, b"")
    first.expect(0, (4, 4), noise)
    order(first, 0)
    first.deliver(1, order(first, 1).ticket, 4, b"second")
    again = Buffer(ahead=0, log=Log(tmp_path))
    again.publish(0, b"")
    again.expect(0, (4, 4), noise)
    given = order(again, 2)
    assert (given.ticket, given.noise) == (0, b"a") and again.request(3, 0) is None
    again.deliver(2, 0, 4, b"first")
    assert again.take(0, 2) == [b"first", b"second"]


FULL = """
import resource, sys
from pathlib import Path
from equipoise.training.engines.buffer import Buffer
from equipoise.training.engines.log import Log
buffer = Buffer(ahead=9, log=Log(Path(sys.argv[1])))
buffer.publish(0, b""); buffer.expect(0, (4,))
buffer.deliver(0, buffer.request(0, 0).ticket, 4, bytes(1000))
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))
try:
    buffer.deliver(0, buffer.request(0, 0).ticket, 4, bytes(1000))
except OSError:
    print(buffer.status()["failure"], buffer.status()["accepted"], buffer.request(0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log = Log(Path(sys.argv[1]))
log.append(b"room again")
print([len(blob) for _, blob in Log(Path(sys.argv[1])).records()])
"""


def test_a_full_disk_is_named_and_leaves_what_was_acknowledged(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    run = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    said, lengths = run.stdout.strip().split("\n")
    assert said == f"what searchers draw cannot be written to '{tmp_path}' (File too large) 1 None"
    assert lengths == "[1016, 10]"


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="searchers 0"):
        Settings(searchers=0)
    with pytest.raises(ValueError, match=r"patience 0\.0 s"):
        Settings(patience=0.0)
