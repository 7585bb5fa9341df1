"""Checkpoints: training goes on bit for bit, and what is written is whole and standard."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from ale_engine.checkpoints import CheckpointPath, CheckpointStore, lora_of
from ale_engine.errors import EngineError, NotFoundError, UserError
from ale_engine.lora import merged_state
from ale_engine.protocol import AdamParams, LoraConfig
from ale_engine.trainer import TrainedModel

from .test_gradients import batch, cross_entropy


def train(model: TrainedModel, steps: range) -> None:
    for seed in steps:
        model.forward_backward(cross_entropy(batch(seed)))
        model.optim_step(AdamParams(learning_rate=1e-2, weight_decay=0.01))


def path(name: str = "ck", kind: str = "weights") -> CheckpointPath:
    return CheckpointPath("session_1:train:0", kind, name)


@pytest.mark.parametrize(("name", "rank"), [("nano", 0), ("nano", 4), ("nano-moe", 0), ("nano-moe", 4)])
def test_training_resumes_bit_for_bit(base_of, tmp_path: Path, name: str, rank: int) -> None:
    store, lora = CheckpointStore(tmp_path), LoraConfig(rank=rank, seed=5)
    unbroken = TrainedModel(base_of(name), lora, 3)
    train(unbroken, range(3))
    store.save_training(path(), unbroken)
    train(unbroken, range(3, 6))

    meta = CheckpointStore(tmp_path).meta(path())
    resumed = TrainedModel(base_of(name), lora_of(meta), meta["seed"])
    store.load_training(path(), resumed, optimizer=True)
    assert resumed.steps == 3
    train(resumed, range(3, 6))
    for key, parameter in unbroken.parameters.items():
        assert torch.equal(parameter, resumed.parameters[key]), key


def test_without_optimizer_the_moments_start_afresh(base_of, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    model = TrainedModel(base_of("nano"), LoraConfig(), 0)
    train(model, range(2))
    store.save_training(path(), model)
    store.load_training(path(), model, optimizer=False)
    assert model.steps == 0
    assert not model.optimizer.state


def test_loading_drops_gradients_of_the_weights_that_are_gone(base_of, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    model = TrainedModel(base_of("nano"), LoraConfig(), 0)
    store.save_training(path(), model)
    model.forward_backward(cross_entropy(batch()))
    store.load_training(path(), model, optimizer=True)
    assert all(parameter.grad is None for parameter in model.parameters.values())


@pytest.mark.parametrize(("name", "rank"), [("nano", 0), ("nano-moe", 4), ("llama", 4)])
def test_a_sampler_checkpoint_is_a_hugging_face_directory(base_of, tmp_path: Path, name: str, rank: int) -> None:
    store = CheckpointStore(tmp_path)
    model = TrainedModel(base_of(name), LoraConfig(rank=rank), 0)
    train(model, range(2))
    place = path("s", "sampler_weights")
    store.save_sampler(place, model, model.snapshot())
    loaded = AutoModelForCausalLM.from_pretrained(store.directory(place), local_files_only=True)
    tokens = torch.arange(2, 20)[None]
    with torch.inference_mode():
        assert torch.allclose(loaded.eval()(tokens).logits, model.model(tokens).logits, atol=1e-5)
    weights = store.load_sampler(place, model.base)
    assert weights.keys() == merged_state(model.model).keys()
    assert (store.directory(place) / "tokenizer.json").exists() == (name == "nano")


def test_a_checkpoint_of_another_make_is_refused(base_of, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save_training(path(), TrainedModel(base_of("nano"), LoraConfig(rank=4), 0))
    for base, lora in (("llama", LoraConfig(rank=4)), ("nano", LoraConfig(rank=8)), ("nano", LoraConfig())):
        with pytest.raises(UserError, match="was made with"):
            store.load_training(path(), TrainedModel(base_of(base), lora, 0), optimizer=True)
    with pytest.raises(UserError, match="was made with seed"):
        store.load_training(path(), TrainedModel(base_of("nano"), LoraConfig(rank=4), 1), optimizer=True)


def test_names_cannot_leave_the_store_or_overwrite_unasked(base_of, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save_training(path(), TrainedModel(base_of("nano"), LoraConfig(), 0))
    for name in ("..", ".hidden", "a/b", "a b", ""):
        with pytest.raises(UserError):
            store.place("run", "weights", name)
    for text in ("tinker://../weights/a", "tinker://run/other/a", "tinker://run/weights/..", "/etc/passwd"):
        with pytest.raises(UserError):
            CheckpointPath.parse(text)
    with pytest.raises(UserError, match="exists already"):
        store.place("session_1:train:0", "weights", "ck")
    assert store.place("session_1:train:0", "weights", "ck", overwrite=True) == path()
    with pytest.raises(NotFoundError):
        store.meta(path("other"))


def test_a_failed_save_leaves_nothing(base_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CheckpointStore(tmp_path)

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ale_engine.checkpoints.save_file", full)
    with pytest.raises(OSError, match="No space"):
        store.save_training(path(), TrainedModel(base_of("nano"), LoraConfig(), 0))
    assert not any(file.is_file() for file in tmp_path.rglob("*"))
    assert store.list() == []


def test_leftovers_of_a_killed_save_are_swept_at_start(tmp_path: Path) -> None:
    leftover = tmp_path / "run" / "weights" / ".ck.123.part"
    leftover.mkdir(parents=True)
    (leftover / "model.safetensors").write_bytes(b"half")
    CheckpointStore(tmp_path)
    assert not leftover.exists()


def test_list_and_delete(base_of, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    model = TrainedModel(base_of("nano"), LoraConfig(), 0)
    for name in ("b", "a"):
        store.save_training(path(name), model, {"note": name})
    assert [meta["path"].rsplit("/")[-1] for meta in store.list("session_1:train:0")] == ["b", "a"]
    store.delete(path("b"))
    assert len(store.list()) == 1
    with pytest.raises(EngineError):
        store.delete(path("b"))
