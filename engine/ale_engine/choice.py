"""Choosing the next token of many rows at once: a pure function of logits, settings and each row's own random numbers.

The uniform number of a row is a hash of (seed, sample index, step), so a seeded request draws the same numbers in
whatever batch it runs. Log-probabilities reported are always of the temperature-1 distribution over all tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .protocol import SampleParams

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SMALL_VOCABULARY = 4096


def stream_key(seed: int, sample: int) -> int:
    """The 64-bit key of one sample's random numbers."""
    mixed = _mix(np.array([seed % 2**64], dtype=np.uint64) * _GOLDEN + np.uint64(sample + 1))
    return int(mixed[0])


def uniforms(keys: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """[n] numbers in (0, 1), one for each (key, step)."""
    bits = _mix(keys + (steps.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    return ((bits >> np.uint64(24)).astype(np.float64) + 0.5) * 2.0**-40


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser, vectorised (wrapping arithmetic)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True, slots=True)
class Settings:
    """Sampling settings of a batch of rows; None where every row has the plain value."""

    temperature: Tensor | None
    top_k: Tensor | None
    top_p: Tensor | None

    @staticmethod
    def of(params: Sequence[SampleParams], device: torch.device) -> Settings:
        def column(values: list[float], plain: float, dtype: torch.dtype) -> Tensor | None:
            if all(value == plain for value in values):
                return None
            return torch.tensor(values, dtype=dtype, device=device)[:, None]

        return Settings(
            column([p.temperature for p in params], 1.0, torch.float32),
            column([p.top_k if p.top_k > 0 else 0 for p in params], 0, torch.int64),
            column([p.top_p for p in params], 1.0, torch.float32),
        )


def choose(logits: Tensor, settings: Settings, draws: np.ndarray) -> tuple[Tensor, Tensor]:
    """Tokens [n] and their temperature-1 log-probabilities [n] for logits [n, V] and uniform `draws` [n]."""
    logprobs = torch.log_softmax(logits, dim=-1)
    scaled = logprobs
    greedy: Tensor | None = None
    if settings.temperature is not None:
        greedy = settings.temperature == 0
        scaled = torch.log_softmax(logits / settings.temperature.masked_fill(greedy, 1.0), dim=-1)
    probabilities = scaled.exp()
    if settings.top_k is not None or settings.top_p is not None:
        probabilities = _filter(probabilities, settings)
    # Single precision loses small probabilities in the running sum over a large vocabulary.
    dtype = torch.float32 if logits.shape[-1] <= _SMALL_VOCABULARY else torch.float64
    cumulative = probabilities.cumsum(-1, dtype=dtype)
    threshold = torch.from_numpy(draws).to(cumulative.device, dtype)[:, None] * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, threshold, right=True).clamp_(max=logits.shape[-1] - 1)
    if greedy is not None:
        tokens = torch.where(greedy, logits.argmax(-1, keepdim=True), tokens)
    return tokens[:, 0], logprobs.gather(1, tokens)[:, 0]


def _filter(probabilities: Tensor, settings: Settings) -> Tensor:
    """Zero what lies outside the top k, then outside the smallest set that holds top_p of the rest."""
    ordered, index = probabilities.sort(dim=-1, descending=True, stable=True)
    if settings.top_k is not None:
        limit = settings.top_k.masked_fill(settings.top_k == 0, ordered.shape[-1])
        ordered = ordered * (torch.arange(ordered.shape[-1], device=ordered.device) < limit)
    if settings.top_p is not None:
        before = ordered.cumsum(-1) - ordered
        ordered = ordered * (before < settings.top_p * ordered.sum(-1, keepdim=True))
    return torch.zeros_like(probabilities).scatter_(1, index, ordered)
