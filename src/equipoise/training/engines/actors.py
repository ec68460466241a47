"""What Ray's processes run: the buffer, a searcher, a reward. Thin: what they decide is in plain classes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.sampling.remembered import Remembered, patiently, row_digests
from equipoise.sampling.rollouts import Rollouts
from equipoise.training.engines.buffer import Buffer, Order
from equipoise.training.engines.log import Log
from equipoise.training.engines.ray import WAIT, imported, steadily
from equipoise.training.loop import generator
from equipoise.trajectories import Columns, ends, from_bytes, to_bytes


class BufferActor:
    """`Buffer` in a process of its own; who must wait is answered when there is something, or after `WAIT` seconds."""

    def __init__(self, ahead: int, journal: str | None) -> None:
        self.buffer = Buffer(ahead=ahead, log=None if journal is None else Log(Path(journal)))
        self.pids: dict[int, int] = {}
        self.changed = asyncio.Event()

    async def publish(self, version: int, weights: list[Any]) -> None:
        """New weights: searchers that wait for them are woken."""
        self.buffer.publish(version, weights)
        self._wake()

    async def request(self, searcher: int, held: int, pid: int) -> dict[str, Any] | None:
        """An order for a searcher that holds weights of version `held`, or None after `WAIT` seconds."""
        self.pids[searcher] = pid
        end = time.monotonic() + WAIT
        while (order := self.buffer.request(searcher, held)) is None:
            if not await self._wait(end):
                return None
        return vars(order)

    async def deliver(self, searcher: int, ticket: int, rows: int, blob: bytes, seconds: float) -> bool:
        """Whether what a searcher drew was taken and written."""
        try:
            return self.buffer.deliver(searcher, ticket, rows, blob, seconds)
        except OSError:  # the learner is told with its next question
            return False
        finally:
            self._wake()

    async def take(self, position: int, expected: dict[str, Any]) -> tuple[list[bytes], dict[str, Any]]:
        """The deliveries of a batch, or none after `WAIT` seconds; and how things stand."""
        self.buffer.expect(position, **expected)
        self._wake()
        end = time.monotonic() + WAIT
        while not (found := self.buffer.take(position, len(expected["parts"]))) and not self.buffer.failure:
            if self.buffer.version < 0 or not await self._wait(end):
                break
        return found, self.buffer.status()

    async def fail(self, message: str) -> None:
        """What a searcher died of, for the learner."""
        self.buffer.fail(message)
        self._wake()

    async def lost(self, searcher: int) -> list[int]:
        """The tickets of a dead searcher's orders, which others are given."""
        tickets = self.buffer.lost(searcher)
        self._wake()
        return tickets

    async def overdue(self, patience: float) -> list[tuple[int, int, float]]:
        """Searcher, ticket and seconds of orders that have taken longer than `patience`."""
        return self.buffer.overdue(patience)

    async def release(self, position: int) -> None:
        """Lets go of what was taken before a position."""
        self.buffer.release(position)

    async def status(self) -> dict[str, Any]:
        """How things stand."""
        return self.buffer.status()

    async def processes(self) -> dict[int, int]:
        """The process of each searcher, by number; the buffer's own is -1."""
        return {-1: os.getpid(), **self.pids}

    def _wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    async def _wait(self, end: float) -> bool:
        """Until something changes; False where `end` comes first."""
        try:
            await asyncio.wait_for(self.changed.wait(), max(0.0, end - time.monotonic()))
        except TimeoutError:
            return False
        return True


class SearcherActor:
    """Draws what is ordered, with the newest weights, until it is killed."""

    def __init__(self, called: str, buffer: Any, workers: list[Any]) -> None:
        self.called, self.buffer, self.workers = json.loads(called), buffer, workers
        self.number: int = self.called["number"]
        self.held = -1

    def run(self) -> None:
        """The searcher's life; what its reward or sampler raises is told to the learner."""
        ray = imported()
        try:
            rollouts = rollouts_of(self.called)
            if self.workers:
                rollouts.reward = _Distributed(ray, self.workers, self.called["timeout"], self.called["attempts"])
            while True:
                self._turn(ray, rollouts)
        except Exception as error:
            said = " ".join(str(error).split()) or type(error).__name__
            kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
            message = f"searcher {self.number}: {kind}{said}"
            steadily(ray, lambda: self.buffer.fail.remote(message))

    def _turn(self, ray: Any, rollouts: Rollouts) -> None:
        given = steadily(ray, lambda: self.buffer.request.remote(self.number, self.held, os.getpid()))
        if given is None:
            return
        order = Order(**given)
        begun = time.monotonic()
        if order.weights is not None:
            sampler: Any = rollouts.sampler
            sampler.load_state_dict(from_bytes(bytes(ray.get(order.weights[0]))))
            self.held = order.version
        blob = drawn(rollouts, order, self.called["seed"], self.called["source"])
        seconds = time.monotonic() - begun
        steadily(ray, lambda: self.buffer.deliver.remote(self.number, order.ticket, order.rows, blob, seconds))


class RewardActor:
    """A reward in a process of its own, each object asked once."""

    def __init__(self, called: str) -> None:
        given = json.loads(called)
        path = None if given["folder"] is None else Path(given["folder"]) / f"{given['number']}.scores"
        self.reward = Remembered(rollouts_of(given).reward, path)

    def score(self, blob: bytes) -> tuple[bool, bytes]:
        """(True, log-rewards), or (False, what the reward said in its error)."""
        rows = from_bytes(blob)
        try:
            return True, to_bytes(self.reward(rows.objects, rows.context))
        except Exception as error:
            return False, f"{type(error).__name__}: {error}".encode("utf-8", "replace")


class _Distributed:
    """The reward as searchers see it: each object goes to the worker that its digest names, so none is asked twice."""

    def __init__(self, ray: Any, workers: list[Any], timeout: float, attempts: int) -> None:
        self.ray, self.workers, self.timeout, self.attempts = ray, workers, timeout, attempts

    def __call__(self, objects: Columns, context: Columns = None) -> Tensor:
        rows = ends(objects, context=context)
        number = torch.tensor([digest[0] for digest in row_digests(rows)]) % len(self.workers)
        parts = [(int(worker), (number == worker).nonzero()[:, 0]) for worker in number.unique()]
        blobs = [to_bytes(rows[places]) for _, places in parts]
        asked = [self._ask(worker, blob) for (worker, _), blob in zip(parts, blobs, strict=True)]
        value = torch.zeros(len(rows))
        for (worker, places), blob, first in zip(parts, blobs, asked, strict=True):
            value[places] = self._answer(worker, blob, first)
        return value

    def _ask(self, worker: int, blob: bytes) -> Any:
        return self.workers[worker].score.remote(blob)

    def _answer(self, worker: int, blob: bytes, first: Any) -> Tensor:
        waiting = [first]

        def call() -> Tensor:
            try:
                fine, said = self.ray.get(waiting.pop() if waiting else self._ask(worker, blob), timeout=self.timeout)
            except self.ray.exceptions.GetTimeoutError as error:
                self.ray.kill(self.workers[worker], no_restart=False)
                raise TimeoutError(f"no answer within {self.timeout:g} s") from error
            if not fine:
                raise ValueError(said.decode())
            return from_bytes(said)

        return patiently(call, attempts=self.attempts)


def drawn(rollouts: Rollouts, order: Order, seed: int, source: str) -> bytes:
    """What an order asks for: trajectories, and the generator's state after them."""
    noise = generator(seed, f"{source}/{order.ticket}")
    if order.noise is not None:
        noise.set_state(torch.frombuffer(bytearray(order.noise), dtype=torch.uint8))
    rows = rollouts.draw(order.rows, noise)
    return to_bytes({"rows": rows, "state": noise.get_state()})


def rollouts_of(called: dict[str, Any]) -> Rollouts:
    """The rollouts that `module:function` makes of a task."""
    sys.path += [path for path in called["paths"] if path not in sys.path]
    module, _, name = called["parts"].partition(":")
    made = getattr(import_module(module), name)(called["task"])
    torch.set_num_threads(1)
    return made
