"""Requests as they come from the wire, checked once and turned into plain records of numpy arrays.

Shapes: N is the number of positions of a datum, K the number of targets of a position (1 unless the client says
otherwise). Everything behind this module can rely on finite float32 arrays of matching length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import UserError

Json = Mapping[str, Any]

_DTYPES = {"int64": np.int64, "float32": np.float32}


@dataclass(frozen=True, slots=True)
class Datum:
    """One sequence: `tokens` int64 [N] and the loss inputs by name, each [N] or [N, K]."""

    tokens: np.ndarray
    inputs: dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class LossRequest:
    """Body of forward and forward_backward."""

    data: list[Datum]
    loss_fn: str
    config: dict[str, float]


@dataclass(frozen=True, slots=True)
class AdamParams:
    """AdamW as the wire names it. `grad_clip_norm` 0 means no clipping."""

    learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-12
    weight_decay: float = 0.0
    grad_clip_norm: float = 0.0


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """rank 0 trains every parameter; rank > 0 trains low-rank additions to the chosen weights."""

    rank: int = 0
    seed: int | None = None
    train_attn: bool = True
    train_mlp: bool = True
    train_unembed: bool = True


@dataclass(frozen=True, slots=True)
class SampleParams:
    """`stop_tokens` None: the model's own end-of-sequence tokens stop; empty: nothing stops. `max_tokens` None: up to
    the model's length."""

    max_tokens: int | None = None
    temperature: float = 1.0
    top_k: int = -1
    top_p: float = 1.0
    seed: int | None = None
    stop_tokens: frozenset[int] | None = None
    stop_strings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SampleCall:
    """Body of asample, without the session it is addressed to."""

    prompt: list[int]
    params: SampleParams
    num_samples: int = 1
    prompt_logprobs: bool = False
    prompt_logprobs_last_n: int | None = None
    topk_prompt_logprobs: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


def expect_str(body: Json, name: str) -> str:
    """The non-empty string field `name`, or UserError."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise UserError(f"'{name}' must be a non-empty string")
    return value


def optional_int(body: Json, name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"'{name}' must be an integer, not {value!r}")
    return value


def expect_number(body: Json, name: str, default: float) -> float:
    value = body.get(name, default)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise UserError(f"'{name}' must be a finite number, not {value!r}")
    return float(value)


def parse_tokens(model_input: Any) -> list[int]:
    """The token ids of a ModelInput: its encoded_text chunks, concatenated."""
    if not isinstance(model_input, Mapping) or not isinstance(model_input.get("chunks"), Sequence):
        raise UserError("a model input must be {'chunks': [{'type': 'encoded_text', 'tokens': [...]}]}")
    chunks = model_input["chunks"]
    tokens: list[int] = []
    for chunk in chunks:
        kind = chunk.get("type", "encoded_text") if isinstance(chunk, Mapping) else None
        if kind != "encoded_text":
            raise UserError(f"chunks of type {kind!r} are not supported; this engine reads encoded_text only")
        part = chunk.get("tokens")
        if not isinstance(part, list) or set(map(type, part)) - {int}:
            raise UserError("'tokens' of a chunk must be a list of integers")
        tokens.extend(part)
    return tokens


def parse_tensor(name: str, value: Any) -> np.ndarray:
    """TensorData: {"data", "dtype", "shape"?} or its sparse CSR form, or a bare list of numbers."""
    if isinstance(value, list):
        value = {"data": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("data"), list):
        raise UserError(f"loss input '{name}' must be {{'data': [...], 'dtype': ..., 'shape': [...]}}")
    data = value["data"]
    dtype = value.get("dtype")
    if dtype is None:
        dtype = "int64" if all(type(item) is int for item in data) else "float32"
    if dtype not in _DTYPES:
        raise UserError(f"loss input '{name}' has dtype {dtype!r}; int64 and float32 are supported")
    try:
        array = np.array(data, dtype=np.float64 if dtype == "float32" else np.int64)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"loss input '{name}' has items that are not {dtype}") from None
    if dtype == "float32":
        array = array.astype(np.float32)
    crow, col = value.get("sparse_crow_indices"), value.get("sparse_col_indices")
    shape = value.get("shape")
    if crow is not None or col is not None:
        if shape is None or crow is None or col is None:
            raise UserError(f"sparse loss input '{name}' needs shape, sparse_crow_indices and sparse_col_indices")
        return dense_from_csr(name, array, np.asarray(crow, np.int64), np.asarray(col, np.int64), shape)
    return reshape(name, array, shape)


def reshape(name: str, array: np.ndarray, shape: Sequence[int] | None) -> np.ndarray:
    """`array` in the given shape (1-D or 2-D), or UserError."""
    if not shape:
        return array
    if len(shape) > 2 or int(np.prod(shape)) != array.size:
        raise UserError(f"loss input '{name}' holds {array.size} numbers, which does not fit shape {list(shape)}")
    return array.reshape(tuple(shape))


def dense_from_csr(
    name: str, values: np.ndarray, crow: np.ndarray, col: np.ndarray, shape: Sequence[int]
) -> np.ndarray:
    """The dense [rows, columns] array of compressed sparse rows; what is not listed is 0."""
    if len(shape) != 2:
        raise UserError(f"sparse loss input '{name}' must have two dimensions")
    rows, columns = int(shape[0]), int(shape[1])
    counts = np.diff(crow)
    fits = crow.size == rows + 1 and (counts >= 0).all() and counts.sum() == values.size == col.size
    if not fits or (col.size and (col.min() < 0 or col.max() >= columns)):
        raise UserError(f"sparse loss input '{name}' has indices that do not fit shape {[rows, columns]}")
    dense = np.zeros((rows, columns), dtype=values.dtype)
    dense[np.repeat(np.arange(rows), counts), col] = values
    return dense


def parse_loss_request(body: Any) -> LossRequest:
    """{"data": [Datum], "loss_fn", "loss_fn_config"?}"""
    if not isinstance(body, Mapping) or not isinstance(body.get("data"), list):
        raise UserError("the input must be {'data': [...], 'loss_fn': ...}")
    data = []
    for item in body["data"]:
        if not isinstance(item, Mapping):
            raise UserError("each datum must be {'model_input': ..., 'loss_fn_inputs': {...}}")
        inputs = item.get("loss_fn_inputs") or {}
        if not isinstance(inputs, Mapping):
            raise UserError("'loss_fn_inputs' must map names to tensors")
        tokens = np.asarray(parse_tokens(item.get("model_input")), dtype=np.int64)
        data.append(Datum(tokens, {name: parse_tensor(name, value) for name, value in inputs.items()}))
    config = body.get("loss_fn_config") or {}
    if not isinstance(config, Mapping):
        raise UserError("'loss_fn_config' must map names to numbers")
    return LossRequest(data, expect_str(body, "loss_fn"), {k: expect_number(config, k, 0.0) for k in config})


def parse_adam(body: Json) -> AdamParams:
    """The `adam_params` of optim_step, ranges checked."""
    kind = (body.get("optimizer_params") or {}).get("type", "adamw")
    if kind not in ("adam", "adamw"):
        raise UserError(f"optimizer {kind!r} is not supported; this engine has AdamW")
    given = body.get("adam_params") or body.get("optimizer_params") or {}
    if not isinstance(given, Mapping):
        raise UserError("'adam_params' must be an object")
    default = AdamParams()
    names = ("learning_rate", "beta1", "beta2", "eps", "weight_decay", "grad_clip_norm")
    params = AdamParams(**{name: expect_number(given, name, getattr(default, name)) for name in names})
    if not (0 <= params.beta1 < 1 and 0 <= params.beta2 < 1):
        raise UserError("'beta1' and 'beta2' must lie in [0, 1)")
    if min(params.learning_rate, params.eps, params.weight_decay, params.grad_clip_norm) < 0:
        raise UserError("'learning_rate', 'eps', 'weight_decay' and 'grad_clip_norm' must not be negative")
    return params


def parse_lora(body: Json) -> LoraConfig:
    """The `lora_config` of create_model; absent means full training."""
    given = body.get("lora_config") or {}
    if not isinstance(given, Mapping):
        raise UserError("'lora_config' must be an object")
    rank = optional_int(given, "rank") or 0
    if rank < 0:
        raise UserError("'rank' must not be negative")
    flags = {name: bool(given.get(name, True)) for name in ("train_attn", "train_mlp", "train_unembed")}
    return LoraConfig(rank=rank, seed=optional_int(given, "seed"), **flags)


def parse_sample(body: Json) -> SampleCall:
    """The body of asample. Sessions and sequence numbers are the caller's business."""
    for name in ("topk_sample_logprobs", "prompt_alt_tokens_k", "target_prompt_logprobs"):
        if body.get(name):
            raise UserError(f"'{name}' is not supported by this engine")
    num_samples = optional_int(body, "num_samples")
    num_samples = 1 if num_samples is None else num_samples
    if not 1 <= num_samples <= 4096:
        raise UserError("'num_samples' must lie in 1..4096")
    last_n = optional_int(body, "prompt_logprobs_last_n")
    return SampleCall(
        prompt=parse_tokens(body.get("prompt")),
        params=parse_sample_params(body.get("sampling_params") or {}),
        num_samples=num_samples,
        prompt_logprobs=bool(body.get("prompt_logprobs")) or last_n is not None,
        prompt_logprobs_last_n=last_n,
        topk_prompt_logprobs=optional_int(body, "topk_prompt_logprobs") or 0,
    )


def parse_sample_params(given: Any) -> SampleParams:
    if not isinstance(given, Mapping):
        raise UserError("'sampling_params' must be an object")
    stop = given.get("stop")
    if isinstance(stop, str):
        stop = [stop]
    stop_tokens: frozenset[int] | None = None
    strings: tuple[str, ...] = ()
    if stop is not None:
        if not isinstance(stop, list) or any(type(item) not in (int, str) for item in stop):
            raise UserError("'stop' must be a string, or a list of strings or token ids")
        stop_tokens = frozenset(item for item in stop if type(item) is int)
        strings = tuple(item for item in stop if type(item) is str)
    max_tokens = optional_int(given, "max_tokens")
    if max_tokens is not None and max_tokens < 1:
        raise UserError("'max_tokens' must be at least 1")
    params = SampleParams(
        max_tokens=max_tokens,
        temperature=expect_number(given, "temperature", 1.0),
        top_k=optional_int(given, "top_k") or -1,
        top_p=expect_number(given, "top_p", 1.0),
        seed=optional_int(given, "seed"),
        stop_tokens=stop_tokens,
        stop_strings=strings,
    )
    if params.temperature < 0 or not 0 < params.top_p <= 1:
        raise UserError("'temperature' must not be negative and 'top_p' must lie in (0, 1]")
    return params
