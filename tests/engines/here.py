"""Searchers in the test's own process: the engine's plain parts joined as Ray's processes join them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from equipoise.recipes.configuration import Training
from equipoise.recipes.engines import rollouts, settings_of
from equipoise.recipes.mappings import to_mapping
from equipoise.recipes.tasks import task, task_of
from equipoise.training.engines.actors import drawn
from equipoise.training.engines.buffer import Buffer
from equipoise.training.engines.log import Log
from equipoise.training.engines.remote import apart
from equipoise.training.engines.settings import Settings
from equipoise.training.loop import Loop
from equipoise.trajectories import from_bytes


class Here:
    """Searchers that draw as much as is admitted whenever the learner asks."""

    def __init__(self, config: Training, source: str, folder: Path | None) -> None:
        settings: Settings = settings_of(config)
        self.seed, self.source, self.replaced = config.seed, source, 0
        log = None if folder is None else Log(folder / "journal")
        self.buffer = Buffer(ahead=0 if settings.barrier else settings.ahead, log=log)
        stored = {"task": task_of(config), **to_mapping(config)}
        self.searchers = [rollouts({"config": stored, "source": source}) for _ in range(settings.searchers)]
        self.held = [-1] * settings.searchers
        self.before_take: Callable[[], None] = lambda: None

    def call(self, name: str, *given: Any, **named: Any) -> Any:
        if name != "take":
            return getattr(self.buffer, name)(*given, **named)
        position, expected = given
        self.buffer.expect(position, **expected)
        self.before_take()
        self.search()
        return self.buffer.take(position, len(expected["parts"])), self.buffer.status()

    def search(self) -> None:
        """Every searcher works, in turn, until nothing more is admitted."""
        worked = True
        while worked and not self.buffer.failure:
            worked = any([self.turn(number) for number in range(len(self.searchers))])

    def turn(self, number: int) -> bool:
        order = self.buffer.request(number, self.held[number])
        if order is None:
            return False
        sampler: Any = self.searchers[number].sampler
        if order.weights is not None:
            sampler.load_state_dict(from_bytes(order.weights))
            self.held[number] = order.version
        try:
            blob = drawn(self.searchers[number], order, self.seed, self.source)
        except ValueError as error:
            self.buffer.fail(f"searcher {number}: {error}")
            return False
        return self.buffer.deliver(number, order.ticket, order.rows, blob)

    def publish(self, version: int, blob: bytes) -> None:
        self.buffer.publish(version, blob)

    def watch(self, status: dict[str, Any]) -> None:
        """Nothing dies."""

    def close(self) -> None:
        """There are no processes."""


def loop_of(config: Training, folder: Path | None = None) -> tuple[Loop, list[Here]]:
    """The loop of a configuration, inline or by searchers here; these, once they have begun."""
    config = config.resolved()
    built = task(task_of(config)).build(config)
    begun: list[Here] = []

    def start(source: str) -> Here:
        begun.append(Here(config, source, folder))
        return begun[-1]

    run = built.run if config.engine == "inline" else apart(built.run, settings_of(config), start)
    loop = Loop(run)
    built.prepare(None)
    return loop, begun


def metrics(loop: Loop, steps: int) -> list[dict[str, float]]:
    """The metrics of the next steps."""
    return [{name: float(value) for name, value in loop.advance().items()} for _ in range(steps)]
