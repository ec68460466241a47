"""The learner's side: a source whose trajectories other processes draw, in the place of a run's own rollouts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from equipoise.contracts import Sampler
from equipoise.sampling.calls import Calls
from equipoise.sampling.rollouts import Rollouts
from equipoise.training.engines.settings import Settings
from equipoise.training.folder import KEPT
from equipoise.training.loop import Run
from equipoise.training.staleness import with_staleness
from equipoise.trajectories import Trajectories, concatenate, from_bytes, to_bytes

MOST_SHOWN = 16
"""Searchers whose rates are told one by one."""


class Processes(Protocol):
    """The buffer and the searchers, as the learner sees them (`engines.ray.Team`)."""

    replaced: int

    def call(self, name: str, *given: Any, **named: Any) -> Any:
        """A method of the buffer, whatever happens to its process."""
        ...

    def publish(self, version: int, blob: bytes) -> None:
        """New weights."""
        ...

    def watch(self, status: dict[str, Any]) -> None:
        """Replaces searchers that died or hang."""
        ...

    def close(self) -> None:
        """Ends the processes."""
        ...


class Remote:
    """A source that takes what searchers deliver.

    Processes begin with the first draw, so that a run can be opened and judged without them. A draw waits for one
    delivery of n rows; with a barrier for one of n / searchers rows of each searcher, drawn with the weights of now.
    With a barrier and one searcher the generator goes to the searcher and comes back, and the batch is what `Rollouts`
    would have drawn, bit for bit.

    What was delivered and not yet taken at a checkpoint is in the buffer's log, and is taken after a resume; with a
    barrier it is drawn again.

    Args:
        sampler: whose weights searchers draw with.
        provides: what the rollouts leave in `fixed`.
        settings: of the engine.
        start: begins the processes.
        counted: is told of each draw's number of rows, whose rewards were called for elsewhere; None: nobody is.

    Raises:
        OSError: in `draw`, what searchers deliver cannot be written.
        ValueError: in `draw`, what a searcher's reward or sampler raised; a process that does not come back; with a
            barrier, an n that the number of searchers does not divide.
    """

    def __init__(
        self,
        sampler: Sampler,
        provides: frozenset[str],
        settings: Settings,
        start: Callable[[], Processes],
        counted: Callable[[int], None] | None = None,
    ) -> None:
        self.sampler, self.provides, self.settings, self.start = sampler, provides, settings, start
        self.counted = counted
        self.team: Processes | None = None
        self.position, self.issued, self.published = 0, 0, -1
        self.status: dict[str, Any] = {}
        self._begun = False
        self._saved: list[int] = []
        self._waited, self._rows = 0.0, 0
        self._before: tuple[float, float, dict[int, dict[str, float]]] | None = None

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """n trajectories, as soon as they are there."""
        begun = time.monotonic()
        team = self._running()
        self.publish()
        count = self.settings.searchers if self.settings.barrier else 1
        if n % count:
            raise ValueError(f"{n} trajectories by {count} searchers with a barrier: a multiple was expected")
        noise = self._noise(count, generator) if self.settings.barrier else []
        expected = {"parts": [n // count] * count, "noise": noise, "issued": self.issued}
        blobs: list[bytes] = []
        while not blobs:
            fresh = self.settings.barrier and not self._begun
            blobs, self.status = team.call("take", self.position, {**expected, "fresh": fresh})
            self._begun = True
            if self.status["failure"]:
                raise (OSError if self.status["disk"] else ValueError)(self.status["failure"])
            if self.status["version"] < self.published:  # the buffer was restarted
                self.published = -1
                self.publish()
            team.watch(self.status)
        self.position, self.issued = self.position + count, self.status["issued"]
        found = [from_bytes(blob) for blob in blobs]
        if self.settings.barrier and count == 1:
            generator.set_state(found[0]["state"])
        self._waited, self._rows = self._waited + time.monotonic() - begun, self._rows + n
        if self.counted is not None:
            self.counted(n)
        return concatenate([entry["rows"] for entry in found])

    def publish(self) -> None:
        """Gives the weights away, where searchers have older ones and there are searchers."""
        version = int(self.sampler.version)
        if self.team is not None and version > self.published:
            state: Any = self.sampler
            self.team.publish(version, to_bytes(dict(state.state_dict())))
            self.published = version

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """Searchers keep nothing."""

    def figures(self) -> dict[str, float]:
        """Since the last call: rows a second of all searchers and of each, shares of time waited; and the queue now."""
        if self.team is None:
            return {}
        status = self.team.call("status")
        now = time.monotonic()
        searchers: dict[int, dict[str, float]] = status["searchers"]
        if self._before is None:
            since, waited, before = now, self._waited, searchers
        else:
            since, waited, before = self._before
        self._before = (now, self._waited, searchers)
        spent = max(now - since, 1e-9)
        rates, idle = {}, []
        for number, tally in sorted(searchers.items()):
            old = before.get(number, {"rows": 0, "idle": 0.0})
            rates[number] = max(0.0, tally["rows"] - old["rows"]) / spent
            idle.append(min(1.0, max(0.0, tally["idle"] - old["idle"]) / spent))
        found = {
            "queue": float(status["queue"]),
            "searcher_rows_per_second": sum(rates.values()),
            "learner_idle": min(1.0, (self._waited - waited) / spent),
            "searchers_idle": sum(idle) / max(1, len(idle)),
            "searchers_replaced": float(self.team.replaced),
        }
        each = list(rates.items())[:MOST_SHOWN] if len(rates) > 1 else []
        return found | {f"searcher_rows_per_second/{number}": rate for number, rate in each}

    def close(self) -> None:
        """Ends the processes; the next draw begins them again."""
        if self.team is not None:
            self.team.close()
            self.team, self.published, self._begun = None, -1, False

    def state_dict(self) -> dict[str, Any]:
        """How many deliveries were taken, and orders given out; what older checkpoints need no more is let go."""
        self._saved.append(self.position)
        if self.team is not None and len(self._saved) > KEPT:
            self.team.call("release", self._saved[-KEPT - 1])
        self._saved = self._saved[-KEPT - 1 :]
        return {"position": self.position, "issued": self.issued}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where `state_dict` was called; an engine's state fits no source that draws itself, nor the reverse.

        Raises:
            ValueError: the state is not that of an engine.
        """
        if "position" not in state:
            raise ValueError("the checkpoint is of a run in one process: take it up with engine 'inline'")
        self.position, self.issued = state["position"], state["issued"]

    def _running(self) -> Processes:
        if self.team is None:
            self.team = self.start()
        return self.team

    def _noise(self, count: int, generator: torch.Generator) -> list[bytes]:
        if count == 1:
            return [generator.get_state().numpy().tobytes()]
        seeds = torch.randint(2**62, (count,), generator=generator).tolist()
        return [torch.Generator().manual_seed(seed).get_state().numpy().tobytes() for seed in seeds]


def apart(run: Run, settings: Settings, start: Callable[[str], Processes]) -> Run:
    """The run with its rollouts drawn by other processes, its metrics with staleness and the engine's figures.

    Args:
        run: whose sources nest, by `inner`, one `Rollouts`.
        settings: of the engine.
        start: begins the processes, for the source of that name.

    Raises:
        ValueError: the run has no rollouts, or several.
    """
    found = [(name, holder) for name, source in run.sources.items() for holder in _holders(source)]
    if len(found) != 1:
        raise ValueError(
            f"this run has {len(found)} sources that draw from the sampler, and engine 'ray' serves one: use 'inline'"
        )
    ((name, holder),) = found
    source: Any = run.sources[name]
    rollouts = source if holder is None else holder.inner
    counted = rollouts.reward.elsewhere if isinstance(rollouts.reward, Calls) else None
    remote = Remote(rollouts.sampler, rollouts.provides, settings, lambda: start(name), counted)
    sources = dict(run.sources)
    if holder is None:
        sources[name] = remote
    else:
        holder.inner = remote

    def evaluate() -> dict[str, float]:
        return {**run.evaluate(), **remote.figures()}

    def close() -> None:
        remote.close()
        run.close()

    terms = tuple(with_staleness(term) if term.source == name else term for term in run.terms)
    after = (*run.after, lambda step: remote.publish())
    return replace(run, sources=sources, terms=terms, evaluate=evaluate, after=after, close=close)


def _holders(source: Any) -> list[Any]:
    """What holds a `Rollouts` as its `inner`; None for a source that is one."""
    if isinstance(source, Rollouts):
        return [None]
    holders, seen = [], source
    while (inner := getattr(seen, "inner", None)) is not None:
        if isinstance(inner, Rollouts):
            holders.append(seen)
        seen = inner
    return holders
