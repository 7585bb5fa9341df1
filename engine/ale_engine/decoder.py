"""One step of a set of weights over cached sequences: tokens and a Window in, hidden states out.

Any Hugging Face decoder with full attention goes through its own modules (`HuggingFaceDecoder`). The Qwen3 family also
has a direct form (`Qwen3Decoder`, fused.py) that computes the same without the wrappers, which dominate at small sizes.
"""

from __future__ import annotations

import copy
from typing import Protocol

from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from .errors import UserError
from .forward import HiddenStates
from .fused import Qwen3Decoder
from .kvcache import CacheShape, Window
from .registry import BaseModel

Weights = dict[str, Tensor]


class Decoder(Protocol):
    shape: CacheShape

    def hidden(self, tokens: Tensor, window: Window) -> Tensor:
        """[B, T, d] of tokens [B, T]; writes their keys and values to the window's cache."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """float32 [.., V] of any rows of hidden states."""
        ...


def make_decoder(base: BaseModel, weights: Weights) -> Decoder:
    """A decoder over `weights` (Hugging Face names, never written to)."""
    shape = cache_shape(base)
    if Qwen3Decoder.supports(base.config):
        return Qwen3Decoder(base.config, weights, shape)
    return HuggingFaceDecoder(base, weights, shape)


def cache_shape(base: BaseModel) -> CacheShape:
    config = base.config
    if config.is_encoder_decoder or not hasattr(config, "num_key_value_heads"):
        raise UserError(f"'{base.name}' ({config.model_type}) is not a decoder this engine can sample from")
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise UserError(f"sampling needs full attention in every layer; '{base.name}' has {sorted(kinds)}")
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return CacheShape(
        config.num_hidden_layers, config.num_key_value_heads, base.max_length, head_dim, base.dtype, base.device
    )


class _WindowLayer(CacheLayerMixin):
    """Hands one layer's keys and values to the window."""

    def __init__(self, window: Window, layer: int) -> None:
        super().__init__()
        self.window, self.layer = window, layer
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:  # noqa: ANN002, ANN003
        return self.window.update(self.layer, key_states, value_states)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: the window's cache exists already."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.window.length, 0

    def get_seq_length(self) -> int:
        return self.window.length

    def get_max_length(self) -> int:
        return self.window.cache.shape.max_length


class HuggingFaceDecoder:
    """The architecture's own modules over a slot cache."""

    def __init__(self, base: BaseModel, weights: Weights, shape: CacheShape) -> None:
        self.shape = shape
        self.model = copy.deepcopy(base.template)
        self.model.load_state_dict(weights, assign=True)
        self.model.requires_grad_(False)
        self._hidden = HiddenStates(self.model)

    def hidden(self, tokens: Tensor, window: Window) -> Tensor:
        layers = [_WindowLayer(window, layer) for layer in range(self.shape.layers)]
        arguments = {
            "input_ids": tokens,
            "position_ids": window.positions,
            "attention_mask": window.mask,
            "past_key_values": Cache(layers=layers),
            "use_cache": True,
        }
        return self._hidden.call(arguments)

    def logits(self, hidden: Tensor) -> Tensor:
        return self._hidden.logits(hidden).float()
