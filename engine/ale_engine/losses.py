"""The losses of the Tinker protocol as functions of log-probabilities: sums over tokens, never means.

With logp_t the log-probability of the target at position t:
  cross_entropy        L = Σ -w_t logp_t                                   (w may be negative)
  importance_sampling  L = Σ -(p_t / q_t) A_t,  p/q = exp(logp_t - q_t)
  ppo                  L = Σ -min(r A, clip(r, low, high) A)               (absolute bounds, 0.8 and 1.2)
  cispo                L = Σ -sg[clip(r, low, high)] A logp_t              (0 and 4)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from .errors import UserError
from .protocol import Datum, LossRequest

Loss = Callable[[Tensor, Mapping[str, Tensor], Mapping[str, float]], Tensor]


def _cross_entropy(logp: Tensor, inputs: Mapping[str, Tensor], config: Mapping[str, float]) -> Tensor:
    return -inputs["weights"] * logp


def _importance_sampling(logp: Tensor, inputs: Mapping[str, Tensor], config: Mapping[str, float]) -> Tensor:
    return -torch.exp(logp - inputs["logprobs"]) * inputs["advantages"]


def _ppo(logp: Tensor, inputs: Mapping[str, Tensor], config: Mapping[str, float]) -> Tensor:
    low, high = config.get("clip_low_threshold", 0.8), config.get("clip_high_threshold", 1.2)
    ratio = torch.exp(logp - inputs["logprobs"])
    advantage = inputs["advantages"]
    return -torch.minimum(ratio * advantage, ratio.clamp(low, high) * advantage)


def _cispo(logp: Tensor, inputs: Mapping[str, Tensor], config: Mapping[str, float]) -> Tensor:
    low, high = config.get("clip_low_threshold", 0.0), config.get("clip_high_threshold", 4.0)
    ratio = torch.exp(logp.detach() - inputs["logprobs"]).clamp(low, high)
    return -ratio * inputs["advantages"] * logp


LOSSES: dict[str, tuple[Loss, tuple[str, ...], tuple[str, ...]]] = {
    "cross_entropy": (_cross_entropy, ("weights",), ()),
    "importance_sampling": (_importance_sampling, ("logprobs", "advantages"), ()),
    "ppo": (_ppo, ("logprobs", "advantages"), ("clip_low_threshold", "clip_high_threshold")),
    "cispo": (_cispo, ("logprobs", "advantages"), ("clip_low_threshold", "clip_high_threshold")),
}


def check_request(request: LossRequest, vocab_size: int, max_length: int) -> None:
    """Refuse, with the datum's index, whatever cannot be computed exactly as it was sent."""
    if request.loss_fn not in LOSSES:
        raise UserError(f"loss_fn '{request.loss_fn}' is not supported (supported: {', '.join(LOSSES)})")
    _, names, settings = LOSSES[request.loss_fn]
    unknown = set(request.config) - set(settings)
    if unknown:
        raise UserError(f"loss_fn_config of {request.loss_fn} has no {', '.join(sorted(unknown))}")
    if not request.data:
        raise UserError("'data' is empty")
    for index, datum in enumerate(request.data):
        try:
            _check_datum(datum, request.loss_fn, names, vocab_size, max_length)
        except UserError as error:
            raise UserError(f"datum {index}: {error}") from None


def _check_datum(datum: Datum, loss_fn: str, names: tuple[str, ...], vocab_size: int, max_length: int) -> None:
    length = datum.tokens.size
    if not 1 <= length <= max_length:
        raise UserError(f"has {length} tokens; the model takes 1..{max_length}")
    targets = datum.inputs.get("target_tokens")
    if targets is None:
        raise UserError("loss_fn_inputs lacks target_tokens")
    unknown = set(datum.inputs) - {"target_tokens", *names}
    if unknown:
        raise UserError(f"{loss_fn} takes no {', '.join(sorted(unknown))}")
    if targets.shape[0] != length:
        raise UserError(f"target_tokens has {targets.shape[0]} rows for {length} tokens")
    if targets.dtype != np.int64:
        raise UserError("target_tokens must be int64")
    check_tokens(datum.tokens, vocab_size, "model_input")
    check_tokens(targets, vocab_size, "target_tokens")
    for name in names:
        value = datum.inputs.get(name)
        if value is None:
            if name == "weights":  # cross_entropy without weights: every target counts once
                continue
            raise UserError(f"{loss_fn} needs {name}")
        if value.shape != targets.shape:
            raise UserError(f"{name} has shape {value.shape}, target_tokens has {targets.shape}")
        if not np.isfinite(value).all():
            raise UserError(f"{name} holds NaN or infinity")


def check_tokens(tokens: np.ndarray, vocab_size: int, what: str) -> None:
    if tokens.size and (tokens.min() < 0 or tokens.max() >= vocab_size):
        bad = tokens[(tokens < 0) | (tokens >= vocab_size)].flat[0]
        raise UserError(f"{what} holds token {bad}, outside the vocabulary of {vocab_size}")
