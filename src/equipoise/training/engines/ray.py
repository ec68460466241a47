"""Ray under the engine: a cluster that is reached or started, the buffer, the searchers, and the watch over them.

Only bytes of the project's own format cross processes: trajectories and weights as `trajectories.to_bytes` writes them,
settings as JSON. Nothing is read from disk by Ray, and nothing that is read from disk is unpickled.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from equipoise.training.engines.settings import Settings

STARTS = 3
"""Times that a cluster is started anew on a machine so busy that Ray gives up on its own processes."""

LOOPBACK: dict[str, Any] = {
    "_node_ip_address": "127.0.0.1",
    "include_dashboard": False,
    "num_cpus": 1,  # the engine's processes ask for none: Ray would hold as many idle ones ready
    "object_store_memory": 512 * 2**20,  # bytes, in which weights lie
    # Nothing of ours is written to disk and read back by Ray.
    "_system_config": {"automatic_object_spilling_enabled": False, "agent_register_timeout_ms": 180_000},
}
"""Of a cluster on this machine alone."""

IN_A_ROW = 5
"""Deaths of a searcher without a delivery between, after which the run stops."""

WAIT = 1.0
"""Seconds after which a question that waits is asked again."""

RECOVERY = 120.0
"""Seconds that an actor may take to come back."""


def imported() -> Any:
    """Ray.

    Raises:
        ImportError: it is not installed.
    """
    # What is set here must be before the import: loopback alone, no telemetry, a token that is not kept on disk. A
    # program that imported Ray itself has its own settings; a token that half of Ray knows would shut it out.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        return import_module("ray")
    except ImportError as error:
        raise ImportError(f"--engine ray needs Ray ({error}): pip install 'equipoise[ray]'") from error


def reach(address: str) -> Any:
    """Ray, connected to the cluster at `address`; "": a new one, bound to the loopback, that ends with this process."""
    if address:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # the cluster's own mode is named in the environment
    ray = imported()
    if ray.is_initialized():
        return ray
    shared: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "equipoise"}
    main = threading.current_thread() is threading.main_thread()
    held = signal.getsignal(signal.SIGTERM)
    for attempt in range(1 if address else STARTS):
        try:
            ray.init(address=address, **shared) if address else ray.init(**LOOPBACK, **shared)
            break
        except Exception as error:  # Ray raises the class itself where a process of its own does not come up in time
            ray.shutdown()
            if address or attempt + 1 == STARTS:
                where = f"no Ray cluster answers at '{address}'" if address else "Ray cannot be started"
                raise ValueError(f"{where}: {' '.join(str(error).split())}") from error
    if main:
        signal.signal(signal.SIGTERM, held)  # Ray takes it; the loop finishes its step and saves
    return ray


class Team:
    """The processes of a run: buffer, searchers and reward workers, started together and watched.

    Args:
        settings: of the engine.
        parts: `module:function` that a searcher calls with `task` to make its rollouts.
        task: what it is called with; JSON.
        source: name of the source that the rollouts belong to.
        seed: of the run.
        folder: of the run; None: nothing is written.
        warn: is given a line for each searcher that was replaced.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        parts: str,
        task: dict[str, Any],
        source: str,
        seed: int,
        folder: Path | None,
        warn: Callable[[str], None] = lambda line: print(f"warning: {line}", file=sys.stderr, flush=True),
    ) -> None:
        self.settings, self.folder, self.warn = settings, folder, warn
        self.ours = not _initialised()
        self.ray = reach(settings.address)
        self.replaced = 0
        self.weights: Any = None
        self._deaths: dict[int, int] = {}
        self._rows: dict[int, int] = {}
        self._called = {"parts": parts, "task": task, "source": source, "seed": seed, "paths": sys.path[:]}
        actors = import_module("equipoise.training.engines.actors")
        here = self._here()
        remote = self.ray.remote
        ahead = 0 if settings.barrier else settings.ahead
        journal = None if folder is None else str((folder / "journal").resolve())
        made = remote(actors.BufferActor).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here)
        self.buffer = made.remote(ahead, journal)
        kept = None if folder is None else str((folder / "rewards").resolve())
        workers = remote(actors.RewardActor).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here)
        self.workers = [
            workers.remote(json.dumps({**self._called, "number": number, "folder": kept}))
            for number in range(settings.reward_workers)
        ]
        self._searcher = remote(actors.SearcherActor)
        self._actors: dict[int, Any] = {}
        self._runs: dict[Any, int] = {}
        for number in range(settings.searchers):
            self._start(number)

    def call(self, name: str, *given: Any, **named: Any) -> Any:
        """Asks the buffer; waits while it is restarted.

        Raises:
            ValueError: it does not come back.
        """
        return steadily(self.ray, lambda: getattr(self.buffer, name).remote(*given, **named))

    def publish(self, version: int, blob: bytes) -> None:
        """Weights into shared memory; searchers are given the reference.

        Nothing waits for the buffer: it takes what one process tells it in order, and one that was restarted meanwhile
        says with the next batch which version it has.
        """
        self.weights = self.ray.put(blob)  # held here, so that it outlives the buffer
        self.buffer.publish.remote(version, [self.weights])

    def watch(self, status: dict[str, Any]) -> None:
        """Starts searchers that died anew, and replaces those that hang.

        Raises:
            ValueError: one dies again and again without a delivery.
        """
        ended, _ = self.ray.wait(list(self._runs), num_returns=len(self._runs), timeout=0)
        for run in ended:
            number = self._runs.pop(run)
            self._again(number, status, f"searcher {number} died")
        for number, ticket, seconds in self.call("overdue", self.settings.patience):
            run = next((run for run, other in self._runs.items() if other == number), None)
            if run is not None:
                self._runs.pop(run)
                self.ray.kill(self._actors[number])
                self._again(number, status, f"searcher {number} hangs ({seconds:.0f} s at ticket {ticket})")

    def pids(self) -> dict[int, int]:
        """The process of each searcher that has begun."""
        return dict(self.call("processes"))

    def close(self) -> None:
        """Ends all processes of the run, and the cluster where it was started here."""
        for actor in [*self._actors.values(), *self.workers, self.buffer]:
            self.ray.kill(actor)
        self._runs = {}
        if self.ours and not self.settings.address:
            self.ray.shutdown()

    def _again(self, number: int, status: dict[str, Any], what: str) -> None:
        rows = status["searchers"].get(number, {}).get("rows", 0)
        self._deaths[number] = 1 if rows > self._rows.get(number, -1) else self._deaths.get(number, 0) + 1
        self._rows[number] = rows
        if self._deaths[number] > IN_A_ROW:
            raise ValueError(f"{what}, {IN_A_ROW + 1} times in a row without a delivery: the run stops")
        tickets = self.call("lost", number)
        again = f"; its order {tickets[0]} is given out again" if tickets else ""
        self.warn(f"{what}; another takes its place{again}")
        self.replaced += 1
        self._start(number)

    def _start(self, number: int) -> None:
        # On one machine Ray must not count cores: searchers that wait for a reward need none.
        options: dict[str, Any] = {"num_cpus": 1, "scheduling_strategy": "SPREAD"} if self.settings.address else {}
        made = self._searcher.options(**{"num_cpus": 0, **options}, max_restarts=0)
        patience = {"timeout": self.settings.reward_timeout, "attempts": self.settings.reward_attempts}
        called = json.dumps({**self._called, "number": number, **patience})
        self._actors[number] = made.remote(called, self.buffer, self.workers)
        self._runs[self._actors[number].run.remote()] = number

    def _here(self) -> Any:
        strategies = import_module("ray.util.scheduling_strategies")
        return strategies.NodeAffinitySchedulingStrategy(self.ray.get_runtime_context().get_node_id(), soft=False)


def steadily(ray: Any, ask: Callable[[], Any], *, patience: float = RECOVERY) -> Any:
    """The answer of an actor, asked again while it is restarted.

    Raises:
        ValueError: it does not come back within `patience` seconds.
    """
    errors, begun = ray.exceptions, time.monotonic()
    gone = (errors.ActorDiedError, errors.ActorUnavailableError, errors.ObjectLostError, errors.WorkerCrashedError)
    while True:
        try:
            return ray.get(ask(), timeout=patience)
        except (*gone, errors.GetTimeoutError) as error:
            if time.monotonic() - begun > patience:
                raise ValueError(f"a process of the engine does not answer: {type(error).__name__}") from error
            time.sleep(0.2)


def _initialised() -> bool:
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()
