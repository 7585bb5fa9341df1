"""The base models that this engine may train and sample, each a local Hugging Face directory.

A directory with weights is loaded; a directory with only config.json gives fresh random weights, a pure function of the
config and a seed. Nothing is ever fetched over the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from .errors import NotFoundError, UserError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


@dataclass(frozen=True)
class BaseModel:
    """A named model directory; `device` and `dtype` are where and how it is computed."""

    name: str
    path: Path
    device: torch.device
    dtype: torch.dtype

    @cached_property
    def config(self) -> Any:
        config = AutoConfig.from_pretrained(self.path, local_files_only=True)
        for key in vars(config):
            if "dropout" in key or key.endswith("_pdrop"):
                setattr(config, key, 0.0)
        return config

    @property
    def has_weights(self) -> bool:
        return any(self.path.glob("*.safetensors")) or any(self.path.glob("pytorch_model*.bin"))

    @property
    def vocab_size(self) -> int:
        return int(self.config.vocab_size)

    @property
    def max_length(self) -> int:
        return int(self.config.max_position_embeddings)

    @cached_property
    def eos_tokens(self) -> frozenset[int]:
        """Ids that end a generation when the client names no stop."""
        eos = self.config.eos_token_id
        if (self.path / "generation_config.json").exists():
            eos = GenerationConfig.from_pretrained(self.path, local_files_only=True).eos_token_id or eos
        if eos is None:
            return frozenset()
        return frozenset(eos if isinstance(eos, list) else [eos])

    @cached_property
    def tokenizer(self) -> Any | None:
        """The fast tokenizer, needed only for stop strings; None where the directory has none."""
        file = self.path / "tokenizer.json"
        if not file.exists():
            return None
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(file))

    @cached_property
    def template(self) -> PreTrainedModel:
        """A module of this architecture to copy; what its weights are does not matter."""
        return self.build(0)

    def build(self, seed: int) -> PreTrainedModel:
        """A new module with its own weights, in eval mode (no dropout), every parameter without gradient."""
        if self.has_weights:
            model = AutoModelForCausalLM.from_pretrained(
                self.path, config=self.config, dtype=self.dtype, attn_implementation="sdpa", local_files_only=True
            )
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = AutoModelForCausalLM.from_config(self.config, dtype=self.dtype, attn_implementation="sdpa")
        model.requires_grad_(False)
        return model.eval().to(self.device)


class Registry:
    """Base models by name; a directory may also be named by its own path."""

    def __init__(self, models: list[BaseModel]) -> None:
        self.models = {model.name: model for model in models}

    def get(self, name: str) -> BaseModel:
        if name in self.models:
            return self.models[name]
        for model in self.models.values():
            if str(model.path) == name:
                return model
        known = ", ".join(sorted(self.models)) or "none"
        raise NotFoundError(f"base model '{name}' is not served here (served: {known})")


def parse_model_argument(text: str, device: torch.device, dtype: torch.dtype) -> BaseModel:
    """`DIR` (named by its last part) or `NAME=DIR`."""
    name, _, directory = text.rpartition("=")
    path = Path(directory).expanduser().resolve()
    if not (path / "config.json").is_file():
        raise UserError(f"'{directory}' is not a model directory: it has no config.json")
    return BaseModel(name or path.name, path, device, dtype)
