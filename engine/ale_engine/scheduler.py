"""The sampling thread: drives every policy that has work, lends caches, and hands results back to the event loop."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from .decoder import Decoder
from .errors import EngineError
from .kvcache import CacheShape, SlotCache
from .sampler import Policy, SampleJob

log = logging.getLogger("ale_engine")

# Sets of weights that keep their cache while idle (say: the newest policy, the one before it, a reference).
KEPT_CACHES = 3


class Scheduler:
    """Owns the sampling thread and all slot caches. Every public method may be called from any thread."""

    def __init__(self, slots: int, cache_bytes: int) -> None:
        """At most `slots` sequences a policy at once, and at most `cache_bytes` for one policy's cache."""
        self._slots, self._cache_bytes = slots, cache_bytes
        self._inbox: deque[Callable[[], None]] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._policies: dict[int, Policy] = {}
        self._holders: list[Policy] = []  # those with a cache, least recently used first
        self._spare: list[SlotCache] = []
        self._thread = threading.Thread(target=self._loop, name="sampler", daemon=True)
        self._thread.start()

    def submit(self, policy: Policy, job: SampleJob) -> None:
        def add() -> None:
            self._policies[id(policy)] = policy
            policy.add(job)

        self._post(add)

    def replace(self, policy: Policy, decoder: Decoder) -> None:
        """Swap a policy's weights between two steps."""
        self._post(lambda: policy.replace(decoder))

    def drop(self, policy: Policy) -> None:
        """The policy will not be used again; what is still running ends with an error."""

        def remove() -> None:
            cache = policy.cache
            self._forget(policy)
            policy.fail(EngineError("the sampler was unloaded"))
            if cache is not None:
                self._recycle(cache)

        self._post(remove)

    def stop(self, seconds: float) -> bool:
        """Whether the thread ended within `seconds`; it looks between two steps."""
        self._stopping = True
        self._wake.set()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _post(self, action: Callable[[], None]) -> None:
        self._inbox.append(action)
        self._wake.set()

    def _loop(self) -> None:
        while not self._stopping:
            while self._inbox:
                self._inbox.popleft()()
            if not self._policies:
                self._wake.wait()
                self._wake.clear()
                continue
            for policy in list(self._policies.values()):
                self._advance(policy)

    def _advance(self, policy: Policy) -> None:
        try:
            self._lend(policy)
            policy.step()
        except Exception as error:
            log.exception("sampling failed")
            self._forget(policy)
            policy.fail(EngineError(f"sampling failed: {error}"))
        if not policy.has_work:
            self._policies.pop(id(policy), None)

    def _lend(self, policy: Policy) -> None:
        if policy.cache is not None:
            if self._holders[-1] is not policy:
                self._holders.remove(policy)
                self._holders.append(policy)
            return
        shape = policy.decoder.shape
        policy.cache = self._take(shape)
        self._holders.append(policy)

    def _take(self, shape: CacheShape) -> SlotCache:
        if len(self._holders) >= KEPT_CACHES:
            idle = next((holder for holder in self._holders if not holder.has_work), None)
            if idle is not None and idle.cache is not None:
                self._holders.remove(idle)
                self._recycle(idle.cache)
                idle.cache = None
        for cache in self._spare:
            if cache.shape == shape:
                self._spare.remove(cache)
                return cache
        self._spare.clear()
        return SlotCache(shape, max(1, min(self._slots, self._cache_bytes // shape.bytes_per_slot)))

    def _recycle(self, cache: SlotCache) -> None:
        cache.busy[:] = False
        cache.lengths[:] = 0
        self._spare = [cache]

    def _forget(self, policy: Policy) -> None:
        self._policies.pop(id(policy), None)
        if policy in self._holders:
            self._holders.remove(policy)
