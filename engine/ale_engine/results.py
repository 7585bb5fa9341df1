"""Results as JSON-ready values. The protobuf form of the same is in wire.py."""

from __future__ import annotations

from typing import Any

from .errors import EngineError
from .sampler import SampleResult
from .trainer import LossResult

LOSS_OUTPUT_TYPE = "TorchLossReturn"


def to_json(value: Any) -> Any:
    """What the client gets for a finished promise that did not fail. NaN becomes null on the wire."""
    if isinstance(value, LossResult):
        return loss_json(value)
    if isinstance(value, SampleResult):
        return sample_json(value)
    return value


def loss_json(result: LossResult) -> dict[str, Any]:
    outputs = [
        {"logprobs": {"data": part.ravel().tolist(), "dtype": "float32", "shape": list(part.shape)}}
        for part in result.logprobs
    ]
    return {"loss_fn_output_type": LOSS_OUTPUT_TYPE, "loss_fn_outputs": outputs, "metrics": result.metrics}


def sample_json(result: SampleResult) -> dict[str, Any]:
    sequences = [
        {"stop_reason": sample.stop_reason, "tokens": sample.tokens, "logprobs": sample.logprobs}
        for sample in result.samples
    ]
    prompt = result.prompt_logprobs
    return {
        "type": "sample",
        "sequences": sequences,
        "prompt_logprobs": None if prompt is None else prompt.tolist(),
        "topk_prompt_logprobs": result.topk_prompt,
        "prompt_cache_hit_tokens": result.cached_tokens,
    }


def error_json(error: Exception) -> dict[str, Any]:
    category = error.category if isinstance(error, EngineError) else "server"
    return {"error": str(error), "category": category}
