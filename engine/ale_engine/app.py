"""The HTTP face: a bare ASGI application, because each sampled turn is a request and frameworks cost more than turns.

Routes are a table from (method, path below /api/v1) to functions of a `Call`. What a function returns is the JSON body;
a `Promise` becomes {"request_id", ...}, and with `"wait": true` in the request also its result.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import orjson

from .errors import EngineError, NotFoundError, UserError
from .futures import Promise
from .protocol import expect_str, optional_int, parse_loss_request, parse_sample
from .results import error_json, to_json
from .runs import Runs
from .service import Engine
from .wire import encode_result, is_encodable, parse_loss_message

log = logging.getLogger("ale_engine")

PREFIX = "/api/v1/"
PROTOBUF = "application/x-protobuf"
# The SDK gives up on a poll after 45 s.
POLL_SECONDS = 40.0
# Well below the five minutes after which common HTTP clients give up on an answer.
WAIT_SECONDS = 240.0
MAX_BODY_BYTES = 512 * 1024 * 1024


@dataclass(slots=True)
class Call:
    """One HTTP request. `body` is parsed JSON, or {} where there is none or it is not JSON."""

    body: dict[str, Any]
    raw: bytes
    headers: dict[str, str]
    query: dict[str, str]
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    content_type: str = "application/json"


Handler = Callable[[Call], Any]


class App:
    """ASGI application over an Engine. With a `token`, every call but healthz must carry it as X-API-Key."""

    def __init__(self, engine: Engine, token: str | None = None) -> None:
        self.engine, self._token = engine, token
        runs = Runs(engine)
        post: dict[str, Handler] = {
            "client/config": lambda call: CLIENT_CONFIG,
            "client/dynamic_config": lambda call: DYNAMIC_CONFIG,
            "create_session": self._create_session,
            "session_heartbeat": self._heartbeat,
            "create_model": lambda call: engine.create_model(call.body, call.raw),
            "get_info": lambda call: engine.info(call.body),
            "unload_model": lambda call: engine.unload_model(call.body),
            "forward": lambda call: self._loss(call, backward=False),
            "forward_backward": lambda call: self._loss(call, backward=True),
            "optim_step": lambda call: engine.optim_step(call.body, call.raw),
            "save_weights": lambda call: engine.save_weights(call.body, call.raw),
            "load_weights": lambda call: engine.load_weights(call.body, call.raw),
            "save_weights_for_sampler": lambda call: engine.save_for_sampler(call.body, call.raw),
            "create_sampling_session": self._create_sampling_session,
            "asample": self._sample,
            "retrieve_future": self._retrieve,
            "weights_info": lambda call: runs.weights_info(expect_str(call.body, "tinker_path")),
            "telemetry": lambda call: {"status": "accepted"},
        }
        get: dict[str, Handler] = {
            "healthz": lambda call: {"status": "ok"},
            "get_server_capabilities": lambda call: runs.capabilities(),
            "training_runs": lambda call: runs.runs(call.query),
            "checkpoints": lambda call: runs.checkpoints(call.query),
            "sessions": lambda call: {"sessions": list(engine.sessions)},
        }
        self._exact = {("POST", path): handler for path, handler in post.items()}
        self._exact |= {("GET", path): handler for path, handler in get.items()}
        self._below: list[tuple[str, str, str, Handler]] = [
            ("GET", "samplers/", "", self._sampler),
            ("POST", "sessions/", "/finish", self._finish_session),
            ("GET", "sessions/", "", lambda call: runs.session(call.rest)),
            ("GET", "training_runs/", "/checkpoints", lambda call: runs.checkpoints(call.query, call.rest)),
            ("GET", "training_runs/", "", lambda call: runs.run(call.rest)),
            ("DELETE", "training_runs/", "", lambda call: runs.delete(call.rest)),
        ]

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        try:
            reply = await self._answer(scope, receive)
        except EngineError as error:
            reply = _json(error_json(error), error.status)
        except Exception as error:
            log.exception("%s %s failed", scope["method"], scope["path"])
            reply = _json({"error": f"{type(error).__name__}: {error}", "category": "server"}, 500)
        headers = [
            (b"content-type", reply.content_type.encode()),
            (b"content-length", str(len(reply.body)).encode()),
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    async def _answer(self, scope: dict[str, Any], receive: Any) -> Reply:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        path = scope["path"].removeprefix(PREFIX)
        if self._token is not None and path != "healthz":
            given = headers.get("x-api-key", "")
            if not hmac.compare_digest(given.encode(), self._token.encode()):
                return _json({"error": "X-API-Key is missing or wrong", "category": "user"}, 401)
        handler, rest = self._route(scope["method"], path)
        raw = _decompress(await _read(receive), headers)
        query = {name: values[-1] for name, values in parse_qs(scope["query_string"].decode()).items()}
        call = Call(_parse(raw, headers), raw, headers, query, rest)
        value = handler(call)
        if isinstance(value, Awaitable):
            value = await value
        if isinstance(value, Reply):
            return value
        if isinstance(value, Promise):
            return await self._promised(call, value)
        return _json(value)

    def _route(self, method: str, path: str) -> tuple[Handler, str]:
        handler = self._exact.get((method, path))
        if handler is not None:
            return handler, ""
        for verb, prefix, suffix, below in self._below:
            if verb == method and path.startswith(prefix) and path.endswith(suffix):
                return below, path[len(prefix) : len(path) - len(suffix)]
        raise NotFoundError(f"{method} {path} is not a call of this engine")

    async def _promised(self, call: Call, promise: Promise, extra: dict[str, Any] | None = None) -> Reply:
        accepted = {"request_id": promise.request_id, **(extra or {})}
        if promise.model_id is not None:
            accepted["model_id"] = promise.model_id
        if call.body.get("wait") is not True or not await promise.wait(WAIT_SECONDS):
            return _json(accepted)
        promise.collected()
        if isinstance(promise.value, Exception):
            status = promise.value.status if isinstance(promise.value, EngineError) else 500
            return _json({**accepted, **error_json(promise.value)}, status)
        return _json({**accepted, "result": to_json(promise.value)})

    async def _retrieve(self, call: Call) -> Reply:
        request_id = expect_str(call.body, "request_id")
        promise = self.engine.promises.get(request_id)
        if promise is None:
            raise NotFoundError(f"request '{request_id}' is unknown or its result has expired")
        if not await promise.wait(POLL_SECONDS):
            return _json({"type": "try_again", "request_id": request_id, "queue_state": "active"}, 408)
        promise.collected()
        if isinstance(promise.value, Exception):
            return _json(error_json(promise.value))
        if PROTOBUF in call.headers.get("accept", "") and is_encodable(promise.value):
            return Reply(200, encode_result(promise.value), PROTOBUF)
        return _json(to_json(promise.value))

    def _create_session(self, call: Call) -> dict[str, Any]:
        session = self.engine.create_session(call.body)
        return {"type": "create_session", "session_id": session.session_id}

    def _heartbeat(self, call: Call) -> dict[str, Any]:
        self.engine.session(call.body)
        return {"type": "session_heartbeat"}

    def _finish_session(self, call: Call) -> Reply:
        self.engine.finish_session(call.rest)
        return Reply(204, b"")

    def _loss(self, call: Call, backward: bool) -> Promise:
        if call.headers.get("content-type", "").startswith(PROTOBUF):
            message = parse_loss_message(call.raw)
            backward = backward and not message.forward_only
            return self.engine.loss(message.model_id, message.seq_id, call.raw, backward, message.request)
        body, field = call.body, "forward_backward_input" if backward else "forward_input"
        model_id, seq_id = expect_str(body, "model_id"), optional_int(body, "seq_id")
        return self.engine.loss(model_id, seq_id, call.raw, backward, lambda: parse_loss_request(body.get(field)))

    async def _create_sampling_session(self, call: Call) -> dict[str, Any]:
        sampler_id = await self.engine.create_sampling_session(call.body)
        return {"type": "create_sampling_session", "sampling_session_id": sampler_id}

    def _sampler(self, call: Call) -> dict[str, Any]:
        sampler = self.engine.samplers.get(call.rest)
        return {
            "sampler_id": sampler.sampler_id,
            "base_model": sampler.base.name,
            "model_path": sampler.model_path,
        }

    async def _sample(self, call: Call) -> Reply:
        promise = await self.engine.samplers.sample(call.body, call.raw, lambda: parse_sample(call.body))
        count = optional_int(call.body, "num_samples") or 1
        names = [f"{promise.request_id}:{index}" for index in range(count)]
        return await self._promised(call, promise, {"sample_sequence_ids": names})


CLIENT_CONFIG = {
    "pjwt_auth_enabled": False,
    "parallel_fwdbwd_chunks": True,
    "proto_compress_fwdbwd": False,
    "fwdbwd_max_chunk_len": 1024,
    "fwdbwd_max_chunk_bytes_count": 50_000_000,
    "sample_max_concurrent_requests": 2000,
}
DYNAMIC_CONFIG = {"refresh_interval_sec": 300, "sample_cancel_enabled": False, "sample_cancel_max_batch_size": 64}


async def _read(receive: Any) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise UserError("the client went away")
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise UserError(f"the request body is larger than {MAX_BODY_BYTES} bytes")
        parts.append(part)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _decompress(raw: bytes, headers: dict[str, str]) -> bytes:
    if headers.get("content-encoding", "identity") == "identity":
        return raw
    if headers["content-encoding"] != "zstd":
        raise UserError(f"content-encoding '{headers['content-encoding']}' is not supported (zstd is)")
    import zstandard

    try:
        return zstandard.ZstdDecompressor().decompress(raw, max_output_size=MAX_BODY_BYTES)
    except zstandard.ZstdError as error:
        raise UserError(f"the body is not zstd: {error}") from None


def _parse(raw: bytes, headers: dict[str, str]) -> dict[str, Any]:
    content_type = headers.get("content-type", "")
    if not raw or content_type.startswith(PROTOBUF):
        return {}
    # A web page may send anything but JSON to a server on loopback without being asked for leave first.
    if "json" not in content_type:
        raise UserError(f"the content-type must be application/json or {PROTOBUF}, not '{content_type}'")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise UserError(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise UserError("the body must be a JSON object")
    return body


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(status, orjson.dumps(value))
