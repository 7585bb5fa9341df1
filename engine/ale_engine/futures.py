"""Promises of the protocol: results that are asked for later, requests that may arrive twice or out of order.

Everything here runs on the event loop. Work happens on one worker thread, in the order in which it is handed over.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .errors import EngineError, UserError

log = logging.getLogger("ale_engine")

# How long a result stays for a client that may ask again.
KEEP_COLLECTED_SECONDS = 120.0
KEEP_UNCOLLECTED_SECONDS = 3600.0


@dataclass(slots=True, eq=False)
class Promise:
    """One accepted request. `value` is a result or the exception it ended in, once `finished` is set."""

    request_id: str
    kind: str
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    value: Any = None
    model_id: str | None = None
    expires: float = float("inf")

    def resolve(self, value: Any) -> None:
        if not self.finished.is_set():
            self.value = value
            self.expires = time.monotonic() + KEEP_UNCOLLECTED_SECONDS
            self.finished.set()

    async def wait(self, seconds: float) -> bool:
        """Whether the result is there within `seconds`."""
        if not self.finished.is_set():
            try:
                await asyncio.wait_for(self.finished.wait(), seconds)
            except asyncio.TimeoutError:
                return False
        return True

    def collected(self) -> None:
        """The client has the result; it may still ask again for a while."""
        self.expires = min(self.expires, time.monotonic() + KEEP_COLLECTED_SECONDS)


class Promises:
    """Promises by request id, and by the client's own key so that a repeated request is not carried out twice."""

    def __init__(self) -> None:
        self._by_id: OrderedDict[str, Promise] = OrderedDict()
        self._by_key: dict[tuple[Any, ...], tuple[bytes, Promise]] = {}
        self._numbers = itertools.count(1)
        self._swept = time.monotonic()

    def create(self, kind: str) -> Promise:
        self._sweep()
        promise = Promise(str(next(self._numbers)), kind)
        self._by_id[promise.request_id] = promise
        return promise

    def get(self, request_id: str) -> Promise | None:
        return self._by_id.get(request_id)

    def repeated(self, key: tuple[Any, ...], payload: bytes) -> Promise | None:
        """The promise of the same request, None if the key is new; UserError if the key named something else."""
        known = self._by_key.get(key)
        if known is None:
            return None
        if known[0] != digest(payload):
            raise UserError(f"sequence number {key[-1]} was used before for a different request")
        return known[1]

    def remember(self, key: tuple[Any, ...], payload: bytes, promise: Promise) -> None:
        self._by_key[key] = (digest(payload), promise)

    def abandon(self, error: Exception) -> None:
        """Everything unfinished ends with `error`."""
        for promise in self._by_id.values():
            promise.resolve(error)

    def _sweep(self) -> None:
        now = time.monotonic()
        if now - self._swept < 10:
            return
        self._swept = now
        gone = {request_id for request_id, promise in self._by_id.items() if promise.expires < now}
        for request_id in gone:
            del self._by_id[request_id]
        for key in [key for key, (_, promise) in self._by_key.items() if promise.request_id in gone]:
            del self._by_key[key]


def digest(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=16).digest()


class Worker:
    """One thread that runs jobs in order and resolves their promises on the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: queue.SimpleQueue[tuple[Promise, Callable[[], Any]] | None] = queue.SimpleQueue()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="trainer", daemon=True)
        self._thread.start()

    def submit(self, promise: Promise, job: Callable[[], Any]) -> None:
        self._jobs.put((promise, job))

    def stop(self, seconds: float) -> bool:
        """Whether the thread ended within `seconds`; it finishes the job at hand and skips those after it."""
        self._stopping = True
        self._jobs.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (item := self._jobs.get()) is not None and not self._stopping:
            promise, job = item
            value: Any
            try:
                value = job()
            except EngineError as error:
                value = error
            except Exception as error:
                log.exception("%s failed", promise.kind)
                value = EngineError(f"{promise.kind} failed: {type(error).__name__}: {error}")
            self._loop.call_soon_threadsafe(promise.resolve, value)


class Sequencer:
    """Puts the requests of one model in the order of their seq_id (from 1), whatever the order of arrival.

    A request without seq_id takes the number after the highest seen.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._next = 1
        self._highest = 0
        self._early: dict[int, tuple[Promise, Callable[[], Any]]] = {}

    @property
    def next_expected(self) -> int:
        return self._next

    def submit(self, seq_id: int | None, promise: Promise, job: Callable[[], Any]) -> None:
        if seq_id is None:
            seq_id = max(self._highest, self._next - 1) + 1
        if seq_id < self._next or seq_id in self._early:
            raise UserError(f"seq_id {seq_id} was used before (next expected: {self._next})")
        self._highest = max(self._highest, seq_id)
        self._early[seq_id] = (promise, job)
        while self._next in self._early:
            self._worker.submit(*self._early.pop(self._next))
            self._next += 1

    def abandon(self, error: Exception) -> None:
        """The model is gone: everything still waiting for its turn fails."""
        for promise, _ in self._early.values():
            promise.resolve(error)
        self._early.clear()
