"""Nano models made on the spot, and one engine process for the tests that talk HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from ale_engine.registry import BaseModel

ENGINE = Path(__file__).parents[1]
VOCABULARY = 64

DENSE = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 96,
    "tie_word_embeddings": True,
    "rope_theta": 10000.0,
    "initializer_range": 0.2,
    "eos_token_id": 1,
    "attention_dropout": 0.5,
}
MIXTURE = {
    **DENSE,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "tie_word_embeddings": False,
}
LLAMA = {**DENSE, "architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": False}


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_dirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    for name, config in {"nano": DENSE, "nano-moe": MIXTURE, "llama": LLAMA}.items():
        (root / name).mkdir()
        (root / name / "config.json").write_text(json.dumps(config))
    _write_tokenizer(root / "nano")
    return {path.name: path for path in root.iterdir()}


def _write_tokenizer(directory: Path) -> None:
    """One letter or sign a token: id 2 is 'a', id 3 is 'b' ..."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = {chr(ord("a") + index): 2 + index for index in range(26)}
    vocabulary = {"<bos>": 0, "<eos>": 1, **letters}
    vocabulary |= {f"<{index}>": index for index in range(28, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<bos>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))


@pytest.fixture(scope="session")
def base_of(model_dirs: dict[str, Path]):
    def make(name: str) -> BaseModel:
        return BaseModel(name, model_dirs[name], torch.device("cpu"), torch.float32)

    return make


class Client:
    """Plain HTTP: what any client in any language would do."""

    def __init__(self, port: int, token: str | None = None) -> None:
        headers = {"X-API-Key": token} if token else {}
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1/", headers=headers, timeout=60)

    def post(self, call: str, status: int = 200, /, **body: Any) -> Any:
        answer = self.http.post(call, json=body)
        assert answer.status_code == status, (call, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def get(self, path: str, status: int = 200) -> Any:
        answer = self.http.get(path)
        assert answer.status_code == status, (path, answer.text)
        return answer.json()

    def run(self, call: str, /, **body: Any) -> Any:
        """The result of a call that is waited for."""
        return self.post(call, wait=True, **body)["result"]

    def session(self) -> str:
        return self.post("create_session")["session_id"]

    def model(self, base: str = "nano", rank: int = 0, seed: int = 1) -> str:
        lora = {"rank": rank, "seed": seed}
        return self.run("create_model", session_id=self.session(), base_model=base, lora_config=lora)["model_id"]


class EngineProcess:
    def __init__(self, state: Path, models: list[str], *options: str) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self.ready = state / "ready.json"
        self.log = state / "log"
        command = [sys.executable, "-m", "ale_engine", "--models", *models, "--state", str(state / "checkpoints")]
        command += ["--ready-file", str(self.ready), "--slots", "12", *options]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=ENGINE, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )
        self.wait_until(lambda: self.ready.exists())
        self.port = json.loads(self.ready.read_text())["port"]

    def wait_until(self, condition, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None or condition(), self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=10)


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory, model_dirs: dict[str, Path]) -> Iterator[EngineProcess]:
    process = EngineProcess(tmp_path_factory.mktemp("engine"), [f"{n}={d}" for n, d in model_dirs.items()])
    yield process
    process.stop()


@pytest.fixture
def client(engine: EngineProcess) -> Client:
    return Client(engine.port)


def chunks(tokens: list[int]) -> dict[str, Any]:
    return {"chunks": [{"type": "encoded_text", "tokens": tokens}]}


def datum(tokens: list[int], weights: list[float]) -> dict[str, Any]:
    """Next-token prediction on `tokens`, one weight a target."""
    return {
        "model_input": chunks(tokens[:-1]),
        "loss_fn_inputs": {
            "target_tokens": {"data": tokens[1:], "dtype": "int64", "shape": [len(tokens) - 1]},
            "weights": {"data": weights, "dtype": "float32", "shape": [len(tokens) - 1]},
        },
    }
