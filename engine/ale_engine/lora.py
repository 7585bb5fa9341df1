"""Low-rank additions: W + (alpha / r) B A, for linear layers and for stacked expert weights.

Linear layers are wrapped, so the full sum is never formed while training; expert stacks ([experts, out, in] parameters
of one module) are parametrised. B starts at zero, so a new adapter changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from .protocol import LoraConfig

ALPHA = 32.0
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "c_attn")
_UNEMBED = ("lm_head",)


class LoraLinear(nn.Module):
    """y = base(x) + (alpha / r) (x Aᵀ) Bᵀ with A [r, in], B [out, r]."""

    def __init__(self, base: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scale = ALPHA / rank
        self.lora_a = nn.Parameter(_initial_a((rank, base.in_features), base.weight, generator))
        self.lora_b = nn.Parameter(base.weight.new_zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + F.linear(F.linear(x, self.lora_a), self.lora_b) * self.scale

    def merged(self) -> Tensor:
        return self.base.weight + (self.lora_b @ self.lora_a) * self.scale


class LoraStack(nn.Module):
    """Parametrisation of a weight [experts, out, in], one adapter an expert."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        experts, rows, columns = weight.shape
        self.scale = ALPHA / rank
        self.lora_a = nn.Parameter(_initial_a((experts, rank, columns), weight, generator))
        self.lora_b = nn.Parameter(weight.new_zeros(experts, rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + torch.bmm(self.lora_b, self.lora_a) * self.scale


def _initial_a(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    bound = shape[-1] ** -0.5
    uniform = torch.rand(shape, generator=generator) * 2 - 1
    return (uniform * bound).to(dtype=like.dtype, device=like.device)


def add_lora(model: nn.Module, config: LoraConfig, tied: bool) -> None:
    """Wrap the chosen weights of `model` in place. A tied unembedding stays as it is: it is the embedding too."""
    generator = torch.Generator().manual_seed(config.seed or 0)
    for module_name, module in list(model.named_modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and _chosen(name, config, tied):
                setattr(module, name, LoraLinear(child, config.rank, generator))
        if config.train_mlp and module_name.endswith("experts"):
            for name, weight in list(module.named_parameters(recurse=False)):
                if weight.dim() == 3:
                    parametrize.register_parametrization(module, name, LoraStack(weight, config.rank, generator))


def _chosen(name: str, config: LoraConfig, tied: bool) -> bool:
    if name in _UNEMBED:
        return config.train_unembed and not tied
    return config.train_attn if name in _ATTENTION else config.train_mlp


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all weights under the names they have without adapters, adapters added in."""
    state: dict[str, Tensor] = {}
    with torch.no_grad():
        for module_name, module in model.named_modules():
            prefix = f"{module_name}." if module_name else ""
            if isinstance(module, LoraLinear):
                state[f"{prefix}weight"] = module.merged()
                if module.base.bias is not None:
                    state[f"{prefix}bias"] = module.base.bias.clone()
            elif parametrize.is_parametrized(module):
                for name in module.parametrizations:
                    state[f"{prefix}{name}"] = getattr(module, name).detach().clone()
    for name, tensor in model.state_dict().items():
        plain = name.replace(".base.", ".")
        if plain not in state and ".parametrizations." not in name and "lora_" not in name:
            state[plain] = tensor.detach().clone()
    return state
