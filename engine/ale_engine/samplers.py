"""Sampling sessions: names for sets of weights that can be sampled, and the calls that sample them.

Methods run on the event loop; sampling itself happens on the scheduler's thread.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from .checkpoints import CheckpointPath, CheckpointStore
from .decoder import Decoder, make_decoder
from .errors import NotFoundError, UserError
from .futures import Promise, Promises, Worker
from .lora import merged_state
from .protocol import Json, SampleCall, expect_str, optional_int
from .registry import BaseModel, Registry
from .sampler import Policy, SampleJob, SampleResult
from .scheduler import Scheduler

# Ephemeral snapshots of one model that stay usable; older ones are dropped.
KEPT_SNAPSHOTS = 8


@dataclass(slots=True)
class Sampler:
    """One sampling session, SESSION:sample:NUMBER. Several may share a policy."""

    sampler_id: str
    base: BaseModel
    policy: Policy
    model_path: str | None = None


class Samplers:
    """All sampling sessions. `seed` makes the weights of random base models."""

    def __init__(
        self,
        registry: Registry,
        store: CheckpointStore,
        scheduler: Scheduler,
        worker: Worker,
        promises: Promises,
        loop: asyncio.AbstractEventLoop,
        seed: int,
    ) -> None:
        self._registry, self._store, self._seed = registry, store, seed
        self._scheduler, self._worker, self._promises, self._loop = scheduler, worker, promises, loop
        self._by_id: dict[str, Sampler] = {}
        self._shared: dict[str, Policy] = {}

    def get(self, sampler_id: str) -> Sampler:
        if sampler_id not in self._by_id:
            raise NotFoundError(
                f"sampling session '{sampler_id}' does not exist (any more); "
                f"a model keeps its {KEPT_SNAPSHOTS} newest snapshots"
            )
        return self._by_id[sampler_id]

    def of_session(self, session_id: str) -> list[str]:
        return [sampler_id for sampler_id in self._by_id if sampler_id.startswith(f"{session_id}:sample:")]

    def publish(self, sampler_id: str, base: BaseModel, decoder: Decoder, instead_of: str | None = None) -> None:
        """A session over new weights. With `instead_of`, that session's policy goes on with them and is shared."""
        if sampler_id in self._by_id:
            raise UserError(f"sampling session '{sampler_id}' exists already, over other weights")
        if instead_of in self._by_id:
            policy = self._by_id[instead_of].policy
            self._scheduler.replace(policy, decoder)
        else:
            policy = Policy(decoder)
        self._by_id[sampler_id] = Sampler(sampler_id, base, policy)

    def drop(self, sampler_id: str) -> None:
        """Forget a session, and its weights when no other session has them."""
        sampler = self._by_id.pop(sampler_id, None)
        if sampler is None or any(other.policy is sampler.policy for other in self._by_id.values()):
            return
        self._shared = {name: policy for name, policy in self._shared.items() if policy is not sampler.policy}
        self._scheduler.drop(sampler.policy)

    async def create(self, sampler_id: str, body: Json) -> None:
        """A session over `base_model` or `model_path`, ready when this returns."""
        base, policy = await self._policy_of(body)
        known = self._by_id.get(sampler_id)
        if known is None:
            self._by_id[sampler_id] = Sampler(sampler_id, base, policy, body.get("model_path"))
        elif known.policy is not policy:
            raise UserError(f"sampling session '{sampler_id}' exists already, over other weights")

    async def sample(self, body: Json, payload: bytes, parse: Callable[[], SampleCall]) -> Promise:
        """Sample from `sampling_session_id`, or from `base_model` or `model_path` without a session."""
        sampler_id, key = body.get("sampling_session_id"), None
        if sampler_id is not None:
            sampler = self.get(sampler_id)
            base, policy = sampler.base, sampler.policy
            seq_id = optional_int(body, "seq_id")
            key = None if seq_id is None else ("sample", sampler_id, seq_id)
            if key is not None and (known := self._promises.repeated(key, payload)) is not None:
                return known
        else:
            base, policy = await self._policy_of(body)
        call = parse()
        promise = self._promises.create("sample")

        def done(value: SampleResult | Exception) -> None:
            self._loop.call_soon_threadsafe(promise.resolve, value)

        job = sample_job(call, base, done)
        if key is not None:
            self._promises.remember(key, payload, promise)
        self._scheduler.submit(policy, job)
        return promise

    async def _policy_of(self, body: Json) -> tuple[BaseModel, Policy]:
        """The policy of `model_path` or `base_model`, loaded at most once."""
        if body.get("model_path") is not None:
            path = CheckpointPath.parse(expect_str(body, "model_path"))
            if path.kind != "sampler_weights":
                raise UserError(f"{path} holds weights for training; sampling needs tinker://RUN/sampler_weights/NAME")
            meta = self._store.meta(path)
            base = self._registry.get(meta["base_model"])
            name = f"{path}@{meta['created']}"
            return base, await self._load(name, lambda: make_decoder(base, self._store.load_sampler(path, base)))
        base = self._registry.get(expect_str(body, "base_model"))
        return base, await self._load(base.name, lambda: make_decoder(base, merged_state(base.build(self._seed))))

    async def _load(self, name: str, load: Callable[[], Decoder]) -> Policy:
        if name not in self._shared:
            promise = self._promises.create("load")
            self._worker.submit(promise, lambda: Policy(load()))
            await promise.finished.wait()
            if isinstance(promise.value, Exception):
                raise promise.value
            self._shared.setdefault(name, promise.value)
        return self._shared[name]


def sample_job(call: SampleCall, base: BaseModel, done: Callable[[SampleResult | Exception], None]) -> SampleJob:
    """Resolve a call against its model: stops, limit, seed; refuse what the model cannot take."""
    prompt, params = call.prompt, call.params
    if not prompt:
        raise UserError("the prompt is empty")
    if min(prompt) < 0 or max(prompt) >= base.vocab_size:
        bad = next(token for token in prompt if not 0 <= token < base.vocab_size)
        raise UserError(f"the prompt holds token {bad}, outside the vocabulary of {base.vocab_size}")
    room = base.max_length - len(prompt)
    if room < 1:
        raise UserError(
            f"the prompt has {len(prompt)} tokens; '{base.name}' holds {base.max_length} with at least one to sample"
        )
    if params.stop_strings and base.tokenizer is None:
        raise UserError(f"stop strings need a tokenizer.json, which '{base.name}' lacks; send token ids")
    return SampleJob(
        call=call,
        seed=random.getrandbits(63) if params.seed is None else params.seed,
        stop=base.eos_tokens if params.stop_tokens is None else params.stop_tokens,
        limit=room if params.max_tokens is None else min(params.max_tokens, room),
        done=done,
        tokenizer=base.tokenizer if params.stop_strings else None,
    )
