"""Qwen3 and Qwen3-MoE over a slot cache, written out: about thirty tensor operations a layer instead of a hundred.

The arithmetic is that of transformers' modeling_qwen3 and modeling_qwen3_moe, with projections of the same input fused
into one product. Tests hold it against the original.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .kvcache import CacheShape, Window


class _Layer:
    """Weights of one layer, projections of the same input stacked."""

    def __init__(self, weights: dict[str, Tensor], prefix: str) -> None:
        def get(name: str) -> Tensor:
            return weights[f"{prefix}.{name}"]

        attention = ("q_proj", "k_proj", "v_proj")
        self.qkv = torch.cat([get(f"self_attn.{name}.weight") for name in attention])
        has_bias = f"{prefix}.self_attn.q_proj.bias" in weights
        self.qkv_bias = torch.cat([get(f"self_attn.{name}.bias") for name in attention]) if has_bias else None
        self.out = get("self_attn.o_proj.weight")
        self.out_bias = get("self_attn.o_proj.bias") if has_bias else None
        self.q_norm, self.k_norm = get("self_attn.q_norm.weight"), get("self_attn.k_norm.weight")
        self.norm1, self.norm2 = get("input_layernorm.weight"), get("post_attention_layernorm.weight")
        self.router = weights.get(f"{prefix}.mlp.gate.weight")
        if self.router is None:
            self.up = torch.cat([get("mlp.gate_proj.weight"), get("mlp.up_proj.weight")])
            self.down = get("mlp.down_proj.weight")
        else:
            self.up = get("mlp.experts.gate_up_proj")
            self.down = get("mlp.experts.down_proj")


class Qwen3Decoder:
    """See decoder.Decoder."""

    @staticmethod
    def supports(config: Any) -> bool:
        rope = getattr(config, "rope_parameters", None) or {}
        return (
            config.model_type in ("qwen3", "qwen3_moe")
            and config.hidden_act == "silu"
            and rope.get("rope_type", "default") == "default"
            and not getattr(config, "use_sliding_window", False)
        )

    def __init__(self, config: Any, weights: dict[str, Tensor], shape: CacheShape) -> None:
        self.shape = shape
        self.eps = config.rms_norm_eps
        self.heads, self.groups = shape.heads, config.num_attention_heads // shape.heads
        self.top_k = getattr(config, "num_experts_per_tok", 0)
        self.normalise_routes = getattr(config, "norm_topk_prob", False)
        self.embedding = weights["model.embed_tokens.weight"]
        self.norm = weights["model.norm.weight"]
        self.head = weights.get("lm_head.weight", self.embedding)
        self.layers = [_Layer(weights, f"model.layers.{index}") for index in range(shape.layers)]
        half = torch.arange(0, shape.head_dim, 2, dtype=torch.float32, device=shape.device) / shape.head_dim
        angles = torch.outer(
            torch.arange(shape.max_length + 1, dtype=torch.float32, device=shape.device),
            1.0 / config.rope_parameters["rope_theta"] ** half,
        )
        angles = torch.cat((angles, angles), dim=-1)
        # rotate_half folded into the table: sin multiplies (x2, x1), its first half negated
        sign = torch.ones(shape.head_dim, device=shape.device)
        sign[: shape.head_dim // 2] = -1
        self.cos = angles.cos().to(shape.dtype)
        self.sin = (angles.sin() * sign).to(shape.dtype)

    def hidden(self, tokens: Tensor, window: Window) -> Tensor:
        rows, width = tokens.shape
        heads, groups, dim = self.heads, self.groups, self.shape.head_dim
        cos = self.cos[window.positions].unsqueeze(2)
        sin = self.sin[window.positions].unsqueeze(2)
        # A group's query heads attend to the same keys, so they are stacked as further queries of one head.
        mask = window.mask if width == 1 else window.mask.repeat(1, 1, groups, 1)
        x = F.embedding(tokens, self.embedding)
        for index, layer in enumerate(self.layers):
            h = F.rms_norm(x, (x.shape[-1],), layer.norm1, self.eps)
            qkv = F.linear(h, layer.qkv, layer.qkv_bias).view(rows, width, -1, dim)
            q, k, v = qkv.split((heads * groups, heads, heads), dim=2)
            q = _rotate(F.rms_norm(q, (dim,), layer.q_norm, self.eps), cos, sin)
            k = _rotate(F.rms_norm(k, (dim,), layer.k_norm, self.eps), cos, sin)
            keys, values = window.update(index, k.transpose(1, 2), v.transpose(1, 2))
            q = q.view(rows, width, heads, groups, dim).permute(0, 2, 3, 1, 4).reshape(rows, heads, -1, dim)
            a = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
            a = a.view(rows, heads, groups, width, dim).permute(0, 3, 1, 2, 4).reshape(rows, width, -1)
            x = x + F.linear(a, layer.out, layer.out_bias)
            h = F.rms_norm(x, (x.shape[-1],), layer.norm2, self.eps)
            x = x + (_swiglu(h, layer.up, layer.down) if layer.router is None else self._experts(h, layer))
        return F.rms_norm(x, (x.shape[-1],), self.norm, self.eps)

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.head).float()

    def _experts(self, hidden: Tensor, layer: _Layer) -> Tensor:
        flat = hidden.flatten(0, 1)
        routes = F.linear(flat, layer.router).softmax(-1, dtype=torch.float32)
        gates, chosen = routes.topk(self.top_k, dim=-1)
        if self.normalise_routes:
            gates = gates / gates.sum(-1, keepdim=True)
        gates = gates.to(flat.dtype)
        # Tokens sorted by expert: one product per expert that was chosen at all.
        order = chosen.flatten().argsort(stable=True)
        counts = torch.bincount(chosen.flatten(), minlength=layer.up.shape[0]).tolist()
        source = order // self.top_k
        parts = flat[source].split(counts)
        done = [
            _swiglu(part, layer.up[expert], layer.down[expert]) for expert, part in enumerate(parts) if counts[expert]
        ]
        weighted = torch.cat(done) * gates.flatten()[order, None]
        # Back to token order first, then a sum over top_k in fixed order: the same for any batch around a token.
        unsorted = torch.empty_like(weighted).index_copy_(0, order, weighted)
        return unsorted.view(-1, self.top_k, flat.shape[-1]).sum(1).view_as(hidden)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x [B, T, heads, D]; `sin` carries the sign of rotate_half."""
    half = x.shape[-1] // 2
    return torch.addcmul(x * cos, torch.roll(x, half, dims=-1), sin)


def _swiglu(x: Tensor, up: Tensor, down: Tensor) -> Tensor:
    gate, value = F.linear(x, up).chunk(2, dim=-1)
    return F.linear(F.silu(gate) * value, down)
