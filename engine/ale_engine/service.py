"""What the server knows: sessions, models under training, samplers, and how a request becomes a promise.

All methods run on the event loop. Work on weights happens on the worker thread, sampling on the scheduler's thread.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .checkpoints import CheckpointPath, CheckpointStore, lora_of
from .decoder import Decoder, make_decoder
from .errors import EngineError, NotFoundError, UserError
from .futures import Promise, Promises, Sequencer, Worker
from .protocol import Json, LoraConfig, LossRequest, expect_str, optional_int, parse_adam, parse_lora
from .registry import BaseModel, Registry
from .samplers import KEPT_SNAPSHOTS, Samplers
from .scheduler import Scheduler
from .trainer import TrainedModel


@dataclass(slots=True)
class Session:
    session_id: str
    about: dict[str, Any]
    models: list[str] = field(default_factory=list)
    last_seen: float = field(default_factory=time.time)


@dataclass(slots=True)
class Model:
    """A model under training. `trained` is made, used and dropped by the worker thread only."""

    model_id: str
    base: BaseModel
    lora: LoraConfig
    sequencer: Sequencer
    user_metadata: Any = None
    trained: TrainedModel | None = None
    snapshots: list[str] = field(default_factory=list)
    inflight: str | None = None
    last_request: float = field(default_factory=time.time)

    def ready(self) -> TrainedModel:
        if self.trained is None:
            raise NotFoundError(f"model '{self.model_id}' does not exist: it was not created, or was unloaded")
        return self.trained


class Engine:
    """See the module's docstring. `seed` makes the random base weights."""

    def __init__(
        self,
        registry: Registry,
        store: CheckpointStore,
        scheduler: Scheduler,
        loop: asyncio.AbstractEventLoop,
        seed: int = 0,
    ) -> None:
        self.registry, self.store, self.seed = registry, store, seed
        self._scheduler, self._loop = scheduler, loop
        self._worker = Worker(loop)
        self.promises = Promises()
        self.samplers = Samplers(registry, store, scheduler, self._worker, self.promises, loop, seed)
        self.sessions: dict[str, Session] = {}
        self.models: dict[str, Model] = {}

    def abort(self) -> None:
        """Fail whatever is unfinished, so that held requests are answered."""
        self.promises.abandon(ShuttingDownError("the engine is shutting down"))

    def close(self, seconds: float) -> bool:
        """Stop both threads; whether they ended in time."""
        self.abort()
        stopped = [self._worker.stop(seconds / 2), self._scheduler.stop(seconds / 2)]
        return all(stopped)

    # -- sessions ------------------------------------------------------------------------------------------------

    def create_session(self, body: Json) -> Session:
        # Model ids, and with them checkpoint paths, contain the session id: it must be new after a restart too.
        session = Session(f"session_{uuid.uuid4().hex[:12]}", dict(body))
        self.sessions[session.session_id] = session
        return session

    def session(self, body: Json) -> Session:
        session_id = expect_str(body, "session_id")
        if session_id not in self.sessions:
            raise NotFoundError(f"session '{session_id}' does not exist")
        session = self.sessions[session_id]
        session.last_seen = time.time()
        return session

    def finish_session(self, session_id: str) -> None:
        """Free the models and samplers of a session that its client has closed. Checkpoints stay."""
        session = self.sessions.pop(session_id, None)
        if session is None:
            raise NotFoundError(f"session '{session_id}' does not exist")
        for model_id in session.models:
            if model_id in self.models:
                self._unload(self.models[model_id])
        for sampler_id in self.samplers.of_session(session_id):
            self.samplers.drop(sampler_id)

    # -- models --------------------------------------------------------------------------------------------------

    def model(self, model_id: str) -> Model:
        if model_id not in self.models:
            raise NotFoundError(f"model '{model_id}' does not exist: it was not created, or was unloaded")
        model = self.models[model_id]
        model.last_request = time.time()
        return model

    def create_model(self, body: Json, payload: bytes) -> Promise:
        """A model from a base; its id is SESSION:train:MODEL_SEQ_ID."""
        kind = (body.get("optimizer_config") or {}).get("type", "adamw")
        if kind not in ("adam", "adamw"):
            raise UserError(f"optimizer {kind!r} is not supported; this engine has AdamW")
        base, lora = self.registry.get(expect_str(body, "base_model")), parse_lora(body)
        seed = self.seed if lora.rank or lora.seed is None else lora.seed

        def build(model: Model) -> dict[str, Any]:
            model.trained = TrainedModel(base, lora, seed)
            return {"type": "create_model", "model_id": model.model_id}

        return self._new_model(body, payload, base, lora, build, "create_model")

    def create_from_checkpoint(self, body: Json, payload: bytes) -> Promise:
        """A model that continues from a training checkpoint."""
        path = CheckpointPath.parse(expect_str(body, "path"))
        meta = self.store.meta(path)
        base, lora = self.registry.get(body.get("base_model") or meta["base_model"]), lora_of(meta)

        def build(model: Model) -> dict[str, Any]:
            trained = TrainedModel(base, lora, int(meta["seed"]))
            self.store.load_training(path, trained, optimizer=bool(body.get("optimizer")))
            model.trained = trained
            return {"type": "load_weights", "path": str(path), "model_id": model.model_id}

        return self._new_model(body, payload, base, lora, build, "load_weights")

    def _new_model(
        self,
        body: Json,
        payload: bytes,
        base: BaseModel,
        lora: LoraConfig,
        build: Callable[[Model], dict[str, Any]],
        kind: str,
    ) -> Promise:
        session = self.session(body)
        number = optional_int(body, "model_seq_id")
        number = len(session.models) if number is None else number
        model_id = f"{session.session_id}:train:{number}"
        key = ("model", model_id)
        if (known := self.promises.repeated(key, payload)) is not None:
            return known
        if model_id in self.models:
            raise UserError(f"model_seq_id {number} of session '{session.session_id}' is in use")
        model = Model(model_id, base, lora, Sequencer(self._worker), user_metadata=body.get("user_metadata"))
        self.models[model_id] = model
        session.models.append(model_id)
        promise = self.promises.create(kind)
        promise.model_id = model_id
        self.promises.remember(key, payload, promise)
        self._worker.submit(promise, lambda: build(model))
        return promise

    def info(self, body: Json) -> dict[str, Any]:
        model = self.model(expect_str(body, "model_id"))
        tokenizer = str(model.base.path) if (model.base.path / "tokenizer.json").exists() else model.base.name
        return {
            "type": "get_info",
            "model_id": model.model_id,
            "model_data": {
                "arch": model.base.config.model_type,
                "model_name": model.base.name,
                "tokenizer_id": tokenizer,
            },
            "is_lora": model.lora.rank > 0,
            "lora_rank": model.lora.rank,
            "model_name": model.base.name,
            "optimizer_config": {"type": "adamw"},
        }

    def unload_model(self, body: Json) -> Promise:
        model = self.model(expect_str(body, "model_id"))
        promise = self.promises.create("unload_model")
        self._unload(model)
        promise.resolve({"type": "unload_model", "model_id": model.model_id})
        return promise

    def _unload(self, model: Model) -> None:
        del self.models[model.model_id]
        model.sequencer.abandon(NotFoundError(f"model '{model.model_id}' was unloaded"))
        for sampler_id in [*model.snapshots, model.inflight]:
            if sampler_id is not None:
                self.samplers.drop(sampler_id)

        def forget() -> None:
            model.trained = None

        self._worker.submit(self.promises.create("unload_model"), forget)

    # -- training ------------------------------------------------------------------------------------------------

    def in_order(
        self, model_id: str, seq_id: int | None, payload: bytes, kind: str, job: Callable[[TrainedModel], Any]
    ) -> Promise:
        """Run `job` on the model in the order of seq_id; the same request again gives the same promise."""
        model = self.model(model_id)
        key = ("train", model_id, seq_id)
        if seq_id is not None and (known := self.promises.repeated(key, payload)) is not None:
            return known
        promise = self.promises.create(kind)
        promise.model_id = model_id
        model.sequencer.submit(seq_id, promise, lambda: job(model.ready()))
        if seq_id is not None:
            self.promises.remember(key, payload, promise)
        return promise

    def loss(
        self,
        model_id: str,
        seq_id: int | None,
        payload: bytes,
        backward: bool,
        parse: Callable[[], LossRequest],
    ) -> Promise:
        """forward or forward_backward. A request that cannot be parsed still takes its turn, and fails in it."""

        def job(trained: TrainedModel) -> Any:
            try:
                request = parse()
            except UserError as error:
                if backward:
                    trained.failed = str(error)
                raise
            return trained.forward_backward(request) if backward else trained.forward(request)

        return self.in_order(model_id, seq_id, payload, "forward_backward" if backward else "forward", job)

    def optim_step(self, body: Json, payload: bytes) -> Promise:
        def job(trained: TrainedModel) -> Any:
            return {"type": "optim_step", "metrics": trained.optim_step(parse_adam(body))}

        return self._ordered(body, payload, "optim_step", job)

    def save_weights(self, body: Json, payload: bytes) -> Promise:
        def job(trained: TrainedModel) -> Any:
            name = str(body.get("path") or f"step-{trained.steps:06d}")
            path = self.store.place(body["model_id"], "weights", name, bool(body.get("overwrite")))
            self.store.save_training(path, trained, body.get("user_metadata"))
            return {"type": "save_weights", "path": str(path), "directory": str(self.store.directory(path))}

        return self._ordered(body, payload, "save_weights", job)

    def load_weights(self, body: Json, payload: bytes) -> Promise:
        """Into an existing model (`model_id`) or as a new one (`session_id`, `model_seq_id`)."""
        if body.get("model_id") is None:
            return self.create_from_checkpoint(body, payload)

        def job(trained: TrainedModel) -> Any:
            path = CheckpointPath.parse(expect_str(body, "path"))
            self.store.load_training(path, trained, optimizer=bool(body.get("optimizer")))
            return {"type": "load_weights", "path": str(path), "model_id": body["model_id"]}

        return self._ordered(body, payload, "load_weights", job)

    def save_for_sampler(self, body: Json, payload: bytes) -> Promise:
        """A named checkpoint (`path`), or an in-memory snapshot with a sampling session of its own."""
        model = self.model(expect_str(body, "model_id"))
        if body.get("path") is not None:

            def save(trained: TrainedModel) -> Any:
                name = expect_str(body, "path")
                path = self.store.place(model.model_id, "sampler_weights", name, bool(body.get("overwrite")))
                self.store.save_sampler(path, trained, trained.snapshot(), body.get("user_metadata"))
                directory = str(self.store.directory(path))
                kind = "save_weights_for_sampler"
                return {"type": kind, "path": str(path), "sampling_session_id": None, "directory": directory}

            return self._ordered(body, payload, "save_weights_for_sampler", save)

        sampler_id = _sampler_id(model.model_id.partition(":train:")[0], body)
        inflight = body.get("kind") == "inflight"

        def snapshot(trained: TrainedModel) -> Any:
            decoder = make_decoder(trained.base, trained.snapshot())
            asyncio.run_coroutine_threadsafe(self._publish(model, sampler_id, decoder, inflight), self._loop).result(60)
            return {"type": "save_weights_for_sampler", "path": None, "sampling_session_id": sampler_id}

        return self._ordered(body, payload, "save_weights_for_sampler", snapshot)

    async def _publish(self, model: Model, sampler_id: str, decoder: Decoder, inflight: bool) -> None:
        """Make a snapshot available. `inflight` samplers of a model share one policy, which gets the new weights."""
        self.samplers.publish(sampler_id, model.base, decoder, model.inflight if inflight else None)
        if inflight:
            model.inflight = sampler_id
            return
        model.snapshots.append(sampler_id)
        while len(model.snapshots) > KEPT_SNAPSHOTS:
            self.samplers.drop(model.snapshots.pop(0))

    def _ordered(self, body: Json, payload: bytes, kind: str, job: Callable[[TrainedModel], Any]) -> Promise:
        return self.in_order(expect_str(body, "model_id"), optional_int(body, "seq_id"), payload, kind, job)

    # -- sampling ------------------------------------------------------------------------------------------------

    async def create_sampling_session(self, body: Json) -> str:
        """A sampling session over a base model or a sampler checkpoint; ready when this returns."""
        sampler_id = _sampler_id(self.session(body).session_id, body)
        await self.samplers.create(sampler_id, body)
        return sampler_id


def _sampler_id(session_id: str, body: Json) -> str:
    number = optional_int(body, "sampling_session_seq_id")
    return f"{session_id}:sample:{uuid.uuid4().hex[:8] if number is None else number}"


class ShuttingDownError(EngineError):
    """503: try another engine, or this one when it is back."""

    status = 503
