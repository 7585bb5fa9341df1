"""Checkpoints on disk, named by Tinker paths.

  tinker://RUN/weights/NAME          STATE/RUN/weights/NAME          trained parameters and optimizer, for training on
  tinker://RUN/sampler_weights/NAME  STATE/RUN/sampler_weights/NAME  a complete Hugging Face directory, for sampling

A checkpoint appears whole or not at all: it is written beside its place, synced and renamed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .errors import NotFoundError, UserError
from .protocol import LoraConfig
from .registry import TOKENIZER_FILES, BaseModel
from .trainer import TrainedModel

_PATH = re.compile(r"^tinker://([^/]+)/(weights|sampler_weights)/([^/]+)$")
_NAME = re.compile(r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}$")
_RUN = re.compile(r"^[A-Za-z0-9_-][A-Za-z0-9._:-]{0,199}$")
_META = "ale-checkpoint.json"
_MODEL, _OPTIMIZER = "model.safetensors", "optimizer.safetensors"


@dataclass(frozen=True, slots=True)
class CheckpointPath:
    run: str
    kind: str
    name: str

    @staticmethod
    def parse(text: str) -> CheckpointPath:
        match = _PATH.match(text)
        if match is None:
            raise UserError(f"'{text}' is not a path of the form tinker://RUN/weights|sampler_weights/NAME")
        path = CheckpointPath(*match.groups())
        if not _RUN.match(path.run) or not _NAME.match(path.name):
            raise UserError(f"'{text}' holds characters that a checkpoint path may not have")
        return path

    def __str__(self) -> str:
        return f"tinker://{self.run}/{self.kind}/{self.name}"


class CheckpointStore:
    """All checkpoints below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        for leftover in root.glob("*/*/.*.part"):
            shutil.rmtree(leftover, ignore_errors=True)

    def directory(self, path: CheckpointPath) -> Path:
        return self.root / path.run / path.kind / path.name

    def place(self, run: str, kind: str, name: str, overwrite: bool = False) -> CheckpointPath:
        """A path that may be written; refuses bad names and, unless told otherwise, names in use."""
        if not _NAME.match(name):
            raise UserError(f"checkpoint name '{name}' may hold letters, digits, '.', '_' and '-' only")
        path = CheckpointPath(run, kind, name)
        if not overwrite and self.directory(path).exists():
            raise UserError(f"checkpoint {path} exists already")
        return path

    def save_training(self, path: CheckpointPath, model: TrainedModel, user_metadata: Any = None) -> None:
        """Trained parameters, optimizer state and all that is needed to build the model again."""
        weights = {name: parameter.detach().cpu().contiguous() for name, parameter in model.parameters.items()}
        with self._writing(path) as directory:
            save_file(weights, directory / _MODEL)
            save_file(_optimizer_tensors(model), directory / _OPTIMIZER)
            self._write_meta(directory, path, describe(model), user_metadata)

    def save_sampler(
        self, path: CheckpointPath, model: TrainedModel, weights: dict[str, Tensor], user_metadata: Any = None
    ) -> None:
        """All weights, adapters merged in, beside config and tokenizer: a directory that anything can load."""
        base = model.base
        with self._writing(path) as directory:
            tied = bool(base.config.tie_word_embeddings)
            kept = {n: t.cpu().contiguous() for n, t in weights.items() if not (tied and n == "lm_head.weight")}
            save_file(kept, directory / _MODEL, metadata={"format": "pt"})
            for name in ("config.json", *TOKENIZER_FILES):
                if (base.path / name).exists():
                    shutil.copyfile(base.path / name, directory / name)
            self._write_meta(directory, path, describe(model), user_metadata)

    def meta(self, path: CheckpointPath) -> dict[str, Any]:
        file = self.directory(path) / _META
        if not file.exists():
            raise NotFoundError(f"there is no checkpoint {path}")
        return json.loads(file.read_text())

    def load_training(self, path: CheckpointPath, model: TrainedModel, optimizer: bool) -> None:
        """Put the checkpoint's parameters (and optimizer state) into `model`, which must be of the same make."""
        if path.kind != "weights":
            raise UserError(f"{path} holds weights for sampling; training needs one of tinker://RUN/weights/NAME")
        meta, mine = self.meta(path), describe(model)
        for key in ("base_model", "lora", "seed"):
            if key == "seed" and (model.base.has_weights or not model.lora.rank):
                continue  # the base weights do not come from the seed, or are in the checkpoint
            if _shape_of(meta[key]) != _shape_of(mine[key]):
                raise UserError(f"{path} was made with {key} {meta[key]!r}; this model has {mine[key]!r}")
        directory = self.directory(path)
        weights = load_file(directory / _MODEL, device=str(model.base.device))
        if weights.keys() != model.parameters.keys():
            raise UserError(f"{path} does not hold the parameters of this model")
        with torch.no_grad():
            for name, parameter in model.parameters.items():
                parameter.copy_(weights[name])
        model.optimizer.zero_grad(set_to_none=True)
        model.failed = None
        model.optimizer.state.clear()
        model.steps = 0
        if optimizer:
            _restore_optimizer(model, load_file(directory / _OPTIMIZER, device=str(model.base.device)))
            model.steps = int(meta["steps"])

    def load_sampler(self, path: CheckpointPath, base: BaseModel) -> dict[str, Tensor]:
        """All weights of a sampler checkpoint by their Hugging Face names."""
        self.meta(path)
        weights = load_file(self.directory(path) / _MODEL, device=str(base.device))
        if "lm_head.weight" not in weights:
            weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
        return weights

    def list(self, run: str | None = None) -> list[dict[str, Any]]:
        """Metadata of every complete checkpoint (of `run`), oldest first."""
        found = [json.loads(file.read_text()) for file in self.root.glob(f"*/*/*/{_META}")]
        chosen = [meta for meta in found if run is None or CheckpointPath.parse(meta["path"]).run == run]
        return sorted(chosen, key=lambda meta: meta["created"])

    def delete(self, path: CheckpointPath) -> None:
        self.meta(path)
        shutil.rmtree(self.directory(path))

    def _writing(self, path: CheckpointPath) -> _Writing:
        return _Writing(self.directory(path))

    def _write_meta(self, directory: Path, path: CheckpointPath, about: dict[str, Any], user: Any) -> None:
        size = sum(file.stat().st_size for file in directory.iterdir())
        meta = {"format": 1, "path": str(path), "created": time.time(), "size_bytes": size, **about}
        (directory / _META).write_text(json.dumps({**meta, "user_metadata": user}, indent=1))


class _Writing:
    """A directory that takes its final name when the block ends well, and vanishes when it does not."""

    def __init__(self, final: Path) -> None:
        self.final = final
        self.temporary = final.with_name(f".{final.name}.{os.getpid()}.part")

    def __enter__(self) -> Path:
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir(parents=True)
        return self.temporary

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            shutil.rmtree(self.temporary, ignore_errors=True)
            return
        for file in _and_itself(self.temporary):
            _sync(file)
        if self.final.exists():
            shutil.rmtree(self.final)
        self.temporary.rename(self.final)
        _sync(self.final.parent)


def _and_itself(directory: Path) -> Iterator[Path]:
    yield from directory.iterdir()
    yield directory


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def describe(model: TrainedModel) -> dict[str, Any]:
    """What another process needs to build the same model before loading its parameters."""
    lora = model.lora
    return {
        "base_model": model.base.name,
        "seed": model.seed,
        "steps": model.steps,
        "lora": {
            "rank": lora.rank,
            "seed": lora.seed,
            "train_attn": lora.train_attn,
            "train_mlp": lora.train_mlp,
            "train_unembed": lora.train_unembed,
        },
    }


def lora_of(meta: dict[str, Any]) -> LoraConfig:
    return LoraConfig(**meta["lora"])


def _shape_of(value: Any) -> Any:
    """What must agree for parameters to fit: an adapter's seed only chose its initial values."""
    if isinstance(value, dict):
        if not value.get("rank"):
            return {"rank": 0}
        return {key: item for key, item in value.items() if key != "seed"}
    return value


def _optimizer_tensors(model: TrainedModel) -> dict[str, Tensor]:
    tensors = {}
    for name, parameter in model.parameters.items():
        for key, value in model.optimizer.state.get(parameter, {}).items():
            tensors[f"{key}/{name}"] = value.detach().cpu().contiguous()
    return tensors


def _restore_optimizer(model: TrainedModel, tensors: dict[str, Tensor]) -> None:
    for name, parameter in model.parameters.items():
        state = {}
        for key in ("step", "exp_avg", "exp_avg_sq"):
            if f"{key}/{name}" in tensors:
                state[key] = tensors[f"{key}/{name}"]
        if state:
            model.optimizer.state[parameter] = state
