"""The protobuf form of requests and results: arrays as little-endian bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from .errors import UserError
from .protocol import Datum, LossRequest, dense_from_csr, reshape
from .results import LOSS_OUTPUT_TYPE
from .sampler import SampleResult
from .schema import MESSAGES
from .trainer import LossResult

_FLOAT32, _INT64, _INT32 = 1, 2, 3
_DTYPES = {_FLOAT32: np.dtype("<f4"), _INT64: np.dtype("<i8"), _INT32: np.dtype("<i4")}
_STOP_REASONS = {"stop": 0, "length": 1}


@dataclass(frozen=True, slots=True)
class LossMessage:
    """A ForwardBackwardRequest. `request` parses the data, and may raise UserError."""

    model_id: str
    seq_id: int | None
    forward_only: bool
    request: Callable[[], LossRequest]


def parse_loss_message(raw: bytes) -> LossMessage:
    message = MESSAGES["ForwardBackwardRequest"]()
    try:
        message.ParseFromString(raw)
    except DecodeError as error:
        raise UserError(f"the body is not a ForwardBackwardRequest: {error}") from None
    if not message.model_id:
        raise UserError("'model_id' must be a non-empty string")
    return LossMessage(message.model_id, message.seq_id or None, message.forward_only, lambda: _loss_request(message))


def _loss_request(message: Any) -> LossRequest:
    config = dict(message.loss_fn_config)
    for name, value in message.loss_fn_config_v2.items():
        if value.text:
            raise UserError(f"loss_fn_config '{name}' must be a number, not text")
        config[name] = value.number
    data = []
    for datum in message.data:
        chunks = []
        for chunk in datum.model_input:
            if not chunk.HasField("encoded_text"):
                raise UserError("only encoded_text chunks are supported; this engine reads tokens")
            chunks.append(_array("tokens", chunk.encoded_text.tokens, _INT32))
        tokens = np.concatenate(chunks).astype(np.int64) if chunks else np.zeros(0, np.int64)
        data.append(Datum(tokens, {name: _tensor(name, tensor) for name, tensor in datum.loss_fn_inputs.items()}))
    return LossRequest(data, message.loss_fn, config)


def _tensor(name: str, tensor: Any) -> np.ndarray:
    shape = list(tensor.shape)
    if tensor.HasField("sparse_csr"):
        csr = tensor.sparse_csr
        values, crow, col = (
            _array(name, csr.values, tensor.dtype),
            _array(name, csr.crow_indices, _INT64),
            _array(name, csr.col_indices, _INT64),
        )
        return dense_from_csr(name, _plain(values), crow, col, shape)
    return reshape(name, _plain(_array(name, tensor.dense, tensor.dtype)), shape)


def _array(name: str, data: bytes, dtype: int) -> np.ndarray:
    kind = _DTYPES.get(dtype)
    if kind is None:
        raise UserError(f"'{name}' has dtype number {dtype}; float32, int64 and int32 are supported")
    if len(data) % kind.itemsize:
        raise UserError(f"'{name}' holds {len(data)} bytes, not a multiple of {kind.itemsize}")
    return np.frombuffer(data, dtype=kind)


def _plain(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int64)


def is_encodable(value: Any) -> bool:
    return isinstance(value, (LossResult, SampleResult))


def encode_result(value: LossResult | SampleResult) -> bytes:
    return _encode_loss(value) if isinstance(value, LossResult) else _encode_sample(value)


def _encode_loss(result: LossResult) -> bytes:
    message = MESSAGES["ForwardBackwardOutput"](loss_fn_output_type=LOSS_OUTPUT_TYPE)
    for name, value in result.metrics.items():
        message.metrics[name] = value
    for trailing, parts in itertools.groupby(result.logprobs, key=lambda part: part.shape[1:]):
        arrays = list(parts)
        record = message.loss_fn_outputs.add(type_tag=LOSS_OUTPUT_TYPE, num_datums=len(arrays))
        tensor = record.fields["logprobs"]
        tensor.data = b"".join(part.astype("<f4").tobytes() for part in arrays)
        tensor.offsets = np.cumsum([0, *(part.size * 4 for part in arrays)]).astype("<i8").tobytes()
        tensor.dtype = _FLOAT32
        tensor.trailing_shape.extend(trailing)
    return message.SerializeToString()


def _encode_sample(result: SampleResult) -> bytes:
    message = MESSAGES["SampleResponse"](prompt_cache_hit_tokens=result.cached_tokens)
    for sample in result.samples:
        message.sequences.add(
            stop_reason=_STOP_REASONS[sample.stop_reason],
            tokens=np.asarray(sample.tokens, dtype="<i4").tobytes(),
            logprobs=np.asarray(sample.logprobs, dtype="<f4").tobytes(),
        )
    if result.prompt_logprobs is not None:
        message.prompt_logprobs = result.prompt_logprobs.astype("<f4").tobytes()
    if result.topk_prompt is not None:
        width = max((len(row) for row in result.topk_prompt if row), default=0)
        ids = np.zeros((len(result.topk_prompt), width), dtype="<i4")
        scores = np.full(ids.shape, -99999.0, dtype="<f4")
        for index, row in enumerate(result.topk_prompt):
            if row:
                ids[index], scores[index] = [token for token, _ in row], [score for _, score in row]
        top = message.topk_prompt_logprobs
        top.token_ids, top.logprobs, top.k, top.length = ids.tobytes(), scores.tobytes(), width, len(ids)
    return message.SerializeToString()
