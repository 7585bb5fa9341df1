"""Keys and values of many sequences, one slot each, and which tokens they belong to.

A slot outlives the request that filled it: a later prompt that begins with the same tokens starts from there. All
bookkeeping (which tokens, who uses the slot, when it was last used) is here; the arithmetic of attention is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Below this, copying keys from another slot is not worth its overhead over computing them.
MIN_COPY = 4


@dataclass(frozen=True, slots=True)
class CacheShape:
    """Shape of one model's cache; caches of equal shape can be handed from one set of weights to the next."""

    layers: int
    heads: int
    max_length: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes_per_slot(self) -> int:
        return 2 * self.layers * self.heads * (self.max_length + 1) * self.head_dim * self.dtype.itemsize


class SlotCache:
    """`data` [layers, 2 (key, value), slots, heads, max_length + 1, head_dim]; the last position takes padding writes.

    `tokens` [slots, max_length] and `lengths` [slots] name the tokens whose keys and values a slot holds.
    """

    def __init__(self, shape: CacheShape, slots: int) -> None:
        self.shape, self.slots = shape, slots
        # Zeros, not garbage: masked positions still enter the dot products, and 0 * NaN is NaN.
        self.data = torch.zeros(
            (shape.layers, 2, slots, shape.heads, shape.max_length + 1, shape.head_dim),
            dtype=shape.dtype,
            device=shape.device,
        )
        self.tokens = np.zeros((slots, shape.max_length), dtype=np.int32)
        self.lengths = np.zeros(slots, dtype=np.int64)
        self.busy = np.zeros(slots, dtype=bool)
        self.used = np.zeros(slots, dtype=np.int64)
        self._clock = 0

    @property
    def free(self) -> int:
        return int(self.slots - self.busy.sum())

    def forget(self) -> None:
        """Drop every prefix that no request is using (the weights have changed)."""
        self.lengths[~self.busy] = 0

    def acquire(self, prompt: Sequence[int], reuse: bool = True) -> tuple[int, int]:
        """A slot for `prompt` and how many of its tokens are already in it (always fewer than the prompt has).

        A resident prefix that the prompt extends is continued in place; one that it shares only in part, or that is in
        use, is copied to the least recently used free slot. Needs `free` > 0.
        """
        wanted = np.asarray(prompt, dtype=np.int32)
        self._clock += 1
        slot, held = int(np.where(self.busy, np.iinfo(np.int64).max, self.used).argmin()), 0
        shared = self._shared(wanted) if reuse else np.zeros(self.slots, dtype=np.int64)
        whole = np.where(self.busy | (self.lengths > shared), 0, shared)
        best, other = int(whole.argmax()), int(shared.argmax())
        if whole[best] > 0 and whole[best] + MIN_COPY >= shared[other]:
            slot, held = best, int(whole[best])
        elif shared[other] >= MIN_COPY:
            held = int(shared[other])
            if other != slot:
                self.data[:, :, slot, :, :held] = self.data[:, :, other, :, :held]
        self.tokens[slot, : wanted.size] = wanted
        self.lengths[slot] = held
        self.busy[slot] = True
        self.used[slot] = self._clock
        return slot, held

    def release(self, slot: int, tokens: Sequence[int], held: int) -> None:
        """The request in `slot` is over; the keys of the first `held` of its `tokens` stay for later prompts."""
        self._clock += 1
        self.tokens[slot, :held] = tokens[:held]
        self.lengths[slot] = held
        self.busy[slot] = False
        self.used[slot] = self._clock

    def _shared(self, wanted: np.ndarray) -> np.ndarray:
        """[slots] number of leading tokens of `wanted` that each slot holds, its last token never counted."""
        usable = wanted.size - 1
        if usable == 0:
            return np.zeros(self.slots, dtype=np.int64)
        differs = self.tokens[:, :usable] != wanted[:usable]
        first = np.where(differs.any(axis=1), differs.argmax(axis=1), usable)
        return np.minimum(first, self.lengths)


@dataclass(frozen=True, slots=True)
class Window:
    """One call of the decoder: where its tokens sit. B rows, T tokens a row, L positions looked at.

    `slots` [B], `positions` [B, T] (padding has the position after the last), `mask` additive [B, 1, T, L].
    """

    cache: SlotCache
    slots: Tensor
    positions: Tensor
    mask: Tensor
    length: int

    @staticmethod
    def of(cache: SlotCache, slots: Sequence[int], starts: Sequence[int], counts: Sequence[int]) -> Window:
        """Rows of `counts` tokens that follow `starts` resident ones, padded to the longest."""
        device = cache.shape.device
        width = max(counts)
        first = np.asarray(starts)[:, None]
        step = np.arange(width)[None]
        positions = np.where(step < np.asarray(counts)[:, None], first + step, cache.shape.max_length)
        length = int((first[:, 0] + np.asarray(counts)).max())
        at = torch.from_numpy(positions).to(device)
        seen = torch.arange(length, device=device) <= at[:, None, :, None]
        mask = torch.zeros(seen.shape, dtype=cache.shape.dtype, device=device)
        mask.masked_fill_(~seen, torch.finfo(mask.dtype).min)
        return Window(cache, torch.tensor(slots, device=device), at, mask, length)

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store key and value [B, heads, T, D] of this call; all keys and values of its rows, [B, heads, L, D]."""
        keys, values = self.cache.data[layer]
        index = self.slots[:, None]
        keys[index, :, self.positions] = key.transpose(1, 2)
        values[index, :, self.positions] = value.transpose(1, 2)
        # Along the first dimension only the chosen rows are read; along another the whole cache would be.
        keys, values = keys[:, :, : self.length], values[:, :, : self.length]
        return keys.index_select(0, self.slots), values.index_select(0, self.slots)
