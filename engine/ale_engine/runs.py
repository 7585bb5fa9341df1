"""Read-only views for the REST client: capabilities, training runs, checkpoints, sessions."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from .checkpoints import CheckpointPath, lora_of
from .errors import NotFoundError, UserError
from .service import Engine

_TYPES = {"weights": "training", "sampler_weights": "sampler"}


class Runs:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def capabilities(self) -> dict[str, Any]:
        models = [
            {
                "model_name": model.name,
                "max_context_length": model.max_length,
                "trainable": True,
                "sampleable": True,
            }
            for model in self._engine.registry.models.values()
        ]
        return {"supported_models": models}

    def weights_info(self, path: str) -> dict[str, Any]:
        meta = self._engine.store.meta(CheckpointPath.parse(path))
        lora = lora_of(meta)
        return {
            "base_model": meta["base_model"],
            "optimizer_config": {"type": "adamw"},
            "is_lora": lora.rank > 0,
            "lora_rank": lora.rank,
            "train_unembed": lora.train_unembed,
            "train_mlp": lora.train_mlp,
            "train_attn": lora.train_attn,
            "steps": meta["steps"],
            "directory": str(self._engine.store.directory(CheckpointPath.parse(path))),
        }

    def runs(self, query: dict[str, str]) -> dict[str, Any]:
        """Live models and those that left checkpoints, the most recently used first."""
        saved: dict[str, list[dict[str, Any]]] = {run: [] for run in self._engine.models}
        for meta in self._engine.store.list():
            saved.setdefault(CheckpointPath.parse(meta["path"]).run, []).append(meta)
        described = [self._describe(run, metas) for run, metas in saved.items()]
        page, cursor = _page(sorted(described, key=lambda run: run["last_request_time"], reverse=True), query)
        return {"training_runs": page, "cursor": cursor}

    def run(self, run: str) -> dict[str, Any]:
        metas = self._engine.store.list(run)
        if run not in self._engine.models and not metas:
            raise NotFoundError(f"training run '{run}' does not exist")
        return self._describe(run, metas)

    def _describe(self, run: str, metas: list[dict[str, Any]]) -> dict[str, Any]:
        model = self._engine.models.get(run)
        if model is not None:
            base, rank = model.base.name, model.lora.rank
            metadata, seen = model.user_metadata, model.last_request
        else:
            base, rank = metas[-1]["base_model"], metas[-1]["lora"]["rank"]
            metadata, seen = metas[-1].get("user_metadata"), metas[-1]["created"]
        newest = {meta["path"].split("/")[-2]: _checkpoint(meta) for meta in metas}
        return {
            "training_run_id": run,
            "base_model": base,
            "model_owner": "local",
            "is_lora": rank > 0,
            "lora_rank": rank,
            "corrupted": False,
            "last_request_time": _iso(seen),
            "last_checkpoint": newest.get("weights"),
            "last_sampler_checkpoint": newest.get("sampler_weights"),
            "user_metadata": metadata,
        }

    def checkpoints(self, query: dict[str, str], run: str | None = None) -> dict[str, Any]:
        found = [_checkpoint(meta) for meta in self._engine.store.list(run)]
        page, cursor = _page(found, query)
        return {"checkpoints": page, "cursor": cursor}

    def delete(self, rest: str) -> dict[str, Any]:
        """`RUN/checkpoints/KIND/NAME`"""
        run, _, name = rest.partition("/checkpoints/")
        self._engine.store.delete(CheckpointPath.parse(f"tinker://{run}/{name}"))
        return {}

    def session(self, session_id: str) -> dict[str, Any]:
        session = self._engine.session({"session_id": session_id})
        return {
            "training_run_ids": session.models,
            "sampler_ids": self._engine.samplers.of_session(session_id),
            "user_metadata": session.about.get("user_metadata"),
            "display_name": session.about.get("display_name"),
        }


def _checkpoint(meta: dict[str, Any]) -> dict[str, Any]:
    path = CheckpointPath.parse(meta["path"])
    return {
        "checkpoint_id": f"{path.kind}/{path.name}",
        "checkpoint_type": _TYPES[path.kind],
        "time": _iso(meta["created"]),
        "tinker_path": meta["path"],
        "size_bytes": meta["size_bytes"],
        "public": False,
        "user_metadata": meta.get("user_metadata"),
    }


def _page(items: list[Any], query: dict[str, str]) -> tuple[list[Any], dict[str, int]]:
    try:
        limit, offset = int(query.get("limit", "100")), int(query.get("offset", "0"))
    except ValueError:
        raise UserError("'limit' and 'offset' must be integers") from None
    return items[offset : offset + limit], {"offset": offset, "limit": limit, "total_count": len(items)}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="microseconds")
