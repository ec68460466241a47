"""What stands between searchers and learner: orders that are given out, and deliveries that wait in line.

A searcher asks for an order, draws what it says, and delivers it once; the learner takes deliveries by their number in
line, so that asking again after a lost answer changes nothing. How far ahead searchers may be is decided when an order
is given, and what is delivered is never thrown away: a batch that took long is as welcome as one that did not, and long
responses are not drawn less often.

Source: the capacity by which Fu et al., 2025, "AReaL", arXiv 2505.24298, section 5.1, admit requests,
(eta + version + 1) x batch less what was accepted and what is under way; here for any number of rows a step.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from equipoise.training.engines.log import Log

_HEAD = 16


@dataclass(frozen=True)
class Order:
    """What a searcher is asked for.

    Attributes:
        ticket: its number; the same after it is given out again.
        rows: trajectories to draw.
        version: of the newest weights.
        weights: these, where the searcher has others; None: it has them.
        noise: state of the generator to draw with; None: one is made from the ticket.
    """

    ticket: int
    rows: int
    version: int
    weights: Any = None
    noise: bytes | None = None


@dataclass
class _Work:
    searcher: int
    since: float
    noise: bytes | None


@dataclass
class Tally:
    """What a searcher has done: rows delivered, seconds of drawing, seconds of waiting for an order."""

    rows: int = 0
    busy: float = 0.0
    idle: float = 0.0
    waits_since: float | None = field(default=None, repr=False)


class Buffer:
    """Orders and deliveries; thread-free, and without Ray.

    Args:
        ahead: batches that may be drawn or under way beyond the one that the learner last asked for.
        log: where deliveries are written before they are acknowledged; None: they lie in memory alone.
        clock: seconds, rising.

    Example:
        >>> buffer = Buffer(ahead=0)
        >>> buffer.publish(0, b"weights")
        >>> buffer.expect(0, [4])  # the learner waits for its first batch, of 4 rows
        >>> order = buffer.request(0, -1)
        >>> order.ticket, order.rows, order.weights, buffer.request(1, -1)
        (0, 4, b'weights', None)
        >>> buffer.deliver(0, 0, 4, b"drawn"), buffer.deliver(0, 0, 4, b"drawn again")
        (True, False)
        >>> buffer.take(0, 1)
        [b'drawn']
    """

    def __init__(self, *, ahead: int, log: Log | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.ahead, self.log, self.clock = ahead, log, clock
        self.version = -1
        self.weights: Any = None
        self.first, self.count, self.next_ticket = 0, 0, 0
        self.position, self.parts = 0, [0]
        self.noise: dict[int, bytes] = {}
        self.line: dict[int, tuple[int, bytes]] | None = {} if log is None else None  # None: not read from the log yet
        self.work: dict[int, _Work] = {}
        self.again: list[tuple[int, bytes | None]] = []
        self.known: set[int] = set()
        self.tallies: dict[int, Tally] = {}
        self.failure: str | None = None
        self.disk = False
        if log is not None:
            self.first, self.count = log.first, log.count
            self.known = {_ticket(blob) for _, blob in log.records()}
            self.next_ticket = max(self.known, default=-1) + 1

    def publish(self, version: int, weights: Any) -> None:
        """New weights; a searcher has them with its next order."""
        if version >= self.version:
            self.version, self.weights = version, weights

    def expect(
        self, position: int, parts: Sequence[int], noise: Sequence[bytes] = (), issued: int = 0, *, fresh: bool = False
    ) -> None:
        """The learner waits for its next batch: deliveries `position` and on, one of each number of rows.

        Args:
            position: deliveries that the learner has taken.
            parts: rows of each delivery of a batch.
            noise: states of generators for the deliveries of this batch, where the learner decides over them.
            issued: no ticket is below this; of a run that is taken up.
            fresh: what the log holds beyond `position` is dropped, for it will be drawn again.
        """
        if fresh and self.log is not None and self.count > position:
            self.log.cut(position)
            self.count, self.line, self.known, self.work, self.again = self.log.count, None, set(), {}, []
            self.next_ticket = position
        self.position, self.parts = position, list(parts)
        self.next_ticket = max(self.next_ticket, issued)
        if self.count < position:  # a buffer that lost its memory, and has no log
            self.first = self.count = position
            self.next_ticket = max(self.next_ticket, position)
        if noise:
            self.noise = dict(zip(range(position, position + len(noise)), noise, strict=True))
            self.next_ticket = max(self.next_ticket, position)
            given = {*self.known, *self.work, *(ticket for ticket, _ in self.again)}
            self.again += [entry for entry in self.noise.items() if position <= entry[0] < self.next_ticket
                           and entry[0] not in given]  # fmt: skip
        if self.line is None and self.log is not None:
            self.line = {number: (_ticket(blob), blob[_HEAD:]) for number, blob in self.log.records(position)}
        assert self.line is not None
        for number in [number for number in self.line if number < position]:
            del self.line[number]

    @property
    def room(self) -> int:
        """Deliveries that may still be ordered."""
        most = self.position + (self.ahead + 1) * len(self.parts)
        return most - self.count - len(self.work) - len(self.again)

    def request(self, searcher: int, held: int) -> Order | None:
        """An order for a searcher that holds weights of version `held`; None: there is nothing to do yet."""
        tally = self.tallies.setdefault(searcher, Tally())
        now = self.clock()
        for ticket, work in list(self.work.items()):  # it asks anew: what it had was lost with an answer or a crash
            if work.searcher == searcher:
                self.again.append((ticket, self.work.pop(ticket).noise))
        if self.version < 0 or self.line is None or self.failure or not (self.again or self.room > 0):
            tally.waits_since = now if tally.waits_since is None else tally.waits_since
            return None
        if tally.waits_since is not None:
            tally.idle, tally.waits_since = tally.idle + now - tally.waits_since, None
        if self.again:
            self.again.sort()
            ticket, noise = self.again.pop(0)
        else:
            ticket, noise = self.next_ticket, self.noise.get(self.next_ticket)
            self.next_ticket += 1
        self.work[ticket] = _Work(searcher, now, noise)
        rows = self.parts[ticket % len(self.parts)]
        return Order(ticket, rows, self.version, self.weights if held < self.version else None, noise)

    def deliver(self, searcher: int, ticket: int, rows: int, blob: bytes, seconds: float = 0.0) -> bool:
        """Puts what was drawn in line; after that it is not lost. False: the ticket was delivered before.

        Raises:
            OSError: the disk is full or not writable; nothing was acknowledged.
        """
        if ticket in self.known:
            return False
        if self.log is not None:
            try:
                self.log.append(ticket.to_bytes(8, "little") + rows.to_bytes(8, "little") + blob)
            except OSError as error:
                self.fail(f"what searchers draw cannot be written to '{self.log.folder}' ({error.strerror or error})")
                self.disk = True
                raise
        self.known.add(ticket)
        self.work.pop(ticket, None)
        self.again = [entry for entry in self.again if entry[0] != ticket]
        self.next_ticket = max(self.next_ticket, ticket + 1)
        if self.line is not None:
            self.line[self.count] = (ticket, blob)
        self.count += 1
        tally = self.tallies.setdefault(searcher, Tally())
        tally.rows, tally.busy = tally.rows + rows, tally.busy + seconds
        return True

    def take(self, position: int, count: int) -> list[bytes]:
        """The deliveries `position` and on, in the order of their tickets; none where they are not all there."""
        line = self.line or {}
        numbers = range(position, position + count)
        if not all(number in line for number in numbers):
            return []
        return [blob for _, blob in sorted(line[number] for number in numbers)]

    def lost(self, searcher: int) -> list[int]:
        """A searcher is gone: its orders are given out again."""
        tickets = [ticket for ticket, work in self.work.items() if work.searcher == searcher]
        self.again += [(ticket, self.work.pop(ticket).noise) for ticket in tickets]
        if searcher in self.tallies:
            self.tallies[searcher].waits_since = None
        return tickets

    def overdue(self, patience: float) -> list[tuple[int, int, float]]:
        """Searchers that have been at one order for longer: each with the ticket and the seconds."""
        now = self.clock()
        late = [(work.searcher, ticket, now - work.since) for ticket, work in self.work.items()]
        return [entry for entry in late if entry[2] > patience]

    def fail(self, message: str) -> None:
        """Something that no other try will mend: the learner is told, and no more orders are given."""
        self.failure = self.failure or message

    def release(self, position: int) -> None:
        """No checkpoint goes back to before `position`: earlier records leave the log."""
        if self.log is not None:
            self.log.release(position)
            self.first = self.log.first

    def status(self) -> dict[str, Any]:
        """Counts of now, as plain values."""
        searchers = Counter(work.searcher for work in self.work.values())
        now = self.clock()
        return {
            "version": self.version,
            "failure": self.failure,
            "disk": self.disk,
            "queue": len(self.line or ()),
            "under_way": len(self.work) + len(self.again),
            "accepted": self.count,
            "issued": self.next_ticket,
            "searchers": {
                number: {
                    "rows": tally.rows,
                    "busy": tally.busy,
                    "idle": tally.idle + (0.0 if tally.waits_since is None else now - tally.waits_since),
                    "at_work": searchers[number],
                }
                for number, tally in self.tallies.items()
            },
        }


def _ticket(blob: bytes) -> int:
    return int.from_bytes(blob[:8], "little")
