"""Searchers, buffer and learner as a discrete-event simulation: what more searchers would bring, and what stops them.

A searcher takes an order when one may be given, loads the newest weights, draws (on a core), waits for its reward (on
none) and delivers; the buffer serves one message at a time; the learner takes a batch, trains and publishes. Work that
needs a core shares the cores of the machine equally.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Times:
    """Seconds, as measured.

    Attributes:
        generation: of a batch, one searcher, on a core.
        training: of a step, on a core.
        reward: of a batch, on no core.
        message: of the buffer for each order or delivery.
        publish: of the learner for each version of the weights.
        pull: of a searcher for each version of the weights.
    """

    generation: float
    training: float
    reward: float = 0.0
    message: float = 0.0
    publish: float = 0.0
    pull: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What a simulated run came to.

    Attributes:
        steps_per_second: of the learner.
        busy: share of the time in which the learner trained or published, the buffer served, and a searcher worked.
    """

    steps_per_second: float
    busy: dict[str, float]

    @property
    def bottleneck(self) -> str:
        """What was busiest."""
        return max(self.busy, key=lambda name: self.busy[name])


def synchronous(times: Times) -> float:
    """Steps a second where one process draws, asks the reward and trains in turn.

    Example:
        >>> synchronous(Times(generation=0.3, training=0.2))
        2.0
    """
    return 1 / (times.generation + times.reward + times.training)


def bound(times: Times, searchers: int, cores: float) -> float:
    """Steps a second that no schedule can pass: each part's own time, and the work over the cores.

    Example:
        >>> bound(Times(generation=0.25, training=0.25), searchers=1, cores=2)
        4.0
    """
    work = times.generation + times.training
    return 1 / max(times.training, (times.generation + times.reward) / searchers, work / cores)


def simulate(times: Times, *, searchers: int, ahead: int, cores: float, steps: int = 400) -> Outcome:
    """The learner's steps a second.

    Args:
        times: of the parts.
        searchers: at least 1.
        ahead: batches that may be drawn or under way beyond the one that the learner trains on.
        cores: shared by all work but the reward's; as many as searchers and two more: nothing is shared.
        steps: of the learner; the first quarter is not counted.

    Example:
        >>> both = simulate(Times(generation=0.1, training=0.1), searchers=1, ahead=1, cores=2)
        >>> round(both.steps_per_second, 3)
        10.0
    """
    return _Machine(times, searchers, ahead, cores).run(steps)


@dataclass
class _Machine:
    times: Times
    searchers: int
    ahead: int
    cores: float
    now: float = 0.0
    served: float = 0.0  # work that each running job has had since the beginning: all have the same rate
    jobs: list[tuple[float, int, str, int]] = field(default_factory=list)  # end in `served`, order, what, searcher
    waits: list[tuple[float, int, str, int]] = field(default_factory=list)  # end in time
    count: int = 0
    line: int = 0
    under_way: int = 0
    taken: int = 0
    training: bool = False
    free: float = 0.0
    busy: dict[str, float] = field(default_factory=lambda: {"learner": 0.0, "buffer": 0.0, "searchers": 0.0})

    def run(self, steps: int) -> Outcome:
        self.idle = list(range(self.searchers))
        begun = 0.0
        self._order()
        while self.taken < steps or self.training:
            what, searcher = self._next()
            if what == "generate":
                self._wait("rewarded", searcher, self.times.reward)
            elif what == "rewarded":
                self._message("delivered", searcher)
            elif what == "delivered":
                self.line, self.under_way = self.line + 1, self.under_way - 1
                self.idle.append(searcher)
            elif what == "ordered":
                self._work("generate", searcher, self.times.pull + self.times.generation)
            elif what == "trained":
                self.training = False
            if not self.training and self.line and self.taken < steps:
                self.line, self.taken, self.training = self.line - 1, self.taken + 1, True
                self._work("trained", -1, self.times.training + self.times.publish)
                if self.taken == steps // 4:
                    begun, self.busy = self.now, dict.fromkeys(self.busy, 0.0)
            self._order()
        spent = self.now - begun
        shares = {"learner": 1, "buffer": 1, "searchers": self.searchers}
        busy = {name: self.busy[name] / spent / shares[name] for name in shares}
        return Outcome((steps - steps // 4 + 1) / spent, busy)

    def _order(self) -> None:
        """Gives out what may be given: beyond the batch that is trained on, `ahead` may lie in line or be under way."""
        while self.idle and self.line + self.under_way < self.ahead + (0 if self.training else 1):
            self.under_way += 1
            self._message("ordered", self.idle.pop(0))

    def _message(self, what: str, searcher: int) -> None:
        self.free = max(self.free, self.now) + self.times.message
        self.busy["buffer"] += self.times.message
        self._push(self.waits, self.free, what, searcher)

    def _wait(self, what: str, searcher: int, seconds: float) -> None:
        self.busy["searchers"] += seconds
        self._push(self.waits, self.now + seconds, what, searcher)

    def _work(self, what: str, searcher: int, seconds: float) -> None:
        self._push(self.jobs, self.served + seconds, what, searcher)

    def _push(self, heap: list[tuple[float, int, str, int]], end: float, what: str, searcher: int) -> None:
        self.count += 1
        heapq.heappush(heap, (end, self.count, what, searcher))

    def _next(self) -> tuple[str, int]:
        """Moves the clock to the next end, and says of what."""
        rate = min(1.0, self.cores / len(self.jobs)) if self.jobs else 1.0
        done = self.now + (self.jobs[0][0] - self.served) / rate if self.jobs else float("inf")
        heap = self.jobs if not self.waits or done <= self.waits[0][0] else self.waits
        end = done if heap is self.jobs else self.waits[0][0]
        passed = end - self.now
        self.busy["learner"] += passed * any(job[2] == "trained" for job in self.jobs)
        self.busy["searchers"] += passed * sum(job[2] == "generate" for job in self.jobs)
        self.served, self.now = self.served + passed * rate, end
        _, _, what, searcher = heapq.heappop(heap)
        return what, searcher


def curve(times: Times, counts: tuple[int, ...]) -> list[tuple[int, Outcome]]:
    """Outcomes by the number of searchers, each on a core of its own, learner and buffer on two more.

    Example:
        >>> times = Times(generation=1.0, training=0.1, message=0.001)
        >>> [(n, round(found.steps_per_second, 1), found.bottleneck) for n, found in curve(times, (1, 4, 100))]
        [(1, 1.0, 'searchers'), (4, 4.0, 'searchers'), (100, 10.0, 'learner')]
    """
    return [
        (count, simulate(times, searchers=count, ahead=count, cores=count + 2, steps=max(400, 4 * count)))
        for count in counts
    ]
