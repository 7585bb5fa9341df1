"""How fast the engine is on this machine, beside a bare PyTorch loop over the same model in the same run.

    python engine/bench.py MODEL_DIR [--threads 1] [--seconds 8]

Prints one JSON object: sampled tokens a second at several numbers of rows, training tokens a second, and the time of
forward + backward against a loop written by hand (interleaved, medians). `cpu` figures count processor time of the
thread and so say what a busy machine would give when idle.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ale_engine.decoder import make_decoder
from ale_engine.kvcache import SlotCache
from ale_engine.protocol import AdamParams, Datum, LoraConfig, LossRequest, SampleCall, SampleParams
from ale_engine.registry import BaseModel
from ale_engine.sampler import Policy
from ale_engine.samplers import sample_job
from ale_engine.trainer import TrainedModel

SEQUENCES, MEAN_LENGTH = 64, 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8.0, help="time for each of the three measurements")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    base = BaseModel("bench", arguments.model.resolve(), torch.device("cpu"), torch.float32)
    report = {
        "torch": torch.__version__,
        "threads": arguments.threads,
        "parameters": sum(parameter.numel() for parameter in base.build(0).parameters()),
        "sampling": [sampling(base, rows, arguments.seconds / 4) for rows in (1, 8, 32, 96)],
        "training": training(base, arguments.seconds),
    }
    print(json.dumps(report))


def sampling(base: BaseModel, rows: int, seconds: float) -> dict[str, Any]:
    """Conversations of ten turns: 4 to 10 new prompt tokens and 10 sampled ones a turn, all rows at once."""
    policy = Policy(make_decoder(base, TrainedModel(base, LoraConfig(), 0).snapshot()))
    policy.cache = SlotCache(policy.decoder.shape, 128)
    rng = np.random.default_rng(0)
    sampled, turns = 0, 0
    wall, cpu = time.perf_counter(), time.thread_time()
    while time.perf_counter() - wall < seconds:
        talks = [rng.integers(0, base.vocab_size, int(rng.integers(30, 70))).tolist() for _ in range(rows)]
        for _ in range(10):
            for talk in talks:
                params = SampleParams(max_tokens=10, stop_tokens=frozenset())
                policy.add(sample_job(SampleCall(talk, params), base, lambda result, talk=talk: _extend(talk, result)))
            while policy.has_work:
                policy.step()
            for talk in talks:
                talk.extend(rng.integers(0, base.vocab_size, int(rng.integers(4, 11))).tolist())
            sampled, turns = sampled + 10 * rows, turns + rows
    wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
    return {
        "rows": rows,
        "tokensPerSecond": round(sampled / wall),
        "tokensPerCpuSecond": round(sampled / cpu),
        "turnsPerSecond": round(turns / wall),
    }


def _extend(talk: list[int], result: Any) -> None:
    if isinstance(result, Exception):
        raise result
    talk.extend(result.samples[0].tokens)


def training(base: BaseModel, seconds: float) -> dict[str, Any]:
    """64 sequences of about 40 tokens, cross-entropy with signed weights."""
    rng = np.random.default_rng(0)
    data = []
    for _ in range(SEQUENCES):
        tokens = rng.integers(0, base.vocab_size, int(rng.integers(MEAN_LENGTH // 2, MEAN_LENGTH * 3 // 2)) + 1)
        weights = rng.normal(size=tokens.size - 1).astype(np.float32)
        data.append(Datum(tokens[:-1], {"target_tokens": tokens[1:], "weights": weights}))
    count = sum(datum.tokens.size for datum in data)
    model = TrainedModel(base, LoraConfig(), 0)
    request = LossRequest(data, "cross_entropy", {})
    bare = BareLoop(TrainedModel(base, LoraConfig(), 0).model, data)
    ours: list[float] = []
    theirs: list[float] = []
    steps: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(ours) < 3:
        ours.append(_cpu_seconds(lambda: model.forward_backward(request)))
        steps.append(ours[-1] + _cpu_seconds(lambda: model.optim_step(AdamParams(learning_rate=1e-4))))
        theirs.append(_cpu_seconds(bare.forward_backward))
        bare.model.zero_grad()
    return {
        "tokens": count,
        "tokensPerCpuSecond": round(count / statistics.median(steps)),
        "forwardBackwardMs": round(1e3 * statistics.median(ours), 2),
        "bareForwardBackwardMs": round(1e3 * statistics.median(theirs), 2),
        "ratio": round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3),
        "repetitions": len(ours),
    }


class BareLoop:
    """What one would write by hand: pad the batch, mask, one forward and one backward of the Hugging Face model."""

    def __init__(self, model: torch.nn.Module, data: list[Datum]) -> None:
        self.model = model
        width = max(datum.tokens.size for datum in data)
        self.tokens = torch.zeros(len(data), width, dtype=torch.int64)
        self.targets = torch.zeros(len(data), width, dtype=torch.int64)
        self.weights = torch.zeros(len(data), width)
        self.mask = torch.zeros(len(data), width, dtype=torch.int64)
        for row, datum in enumerate(data):
            size = datum.tokens.size
            self.tokens[row, :size] = torch.from_numpy(datum.tokens)
            self.targets[row, :size] = torch.from_numpy(datum.inputs["target_tokens"])
            self.weights[row, :size] = torch.from_numpy(datum.inputs["weights"])
            self.mask[row, :size] = 1

    def forward_backward(self) -> None:
        logits = self.model(input_ids=self.tokens, attention_mask=self.mask, use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1), self.targets.flatten(), reduction="none")
        (loss * self.weights.flatten()).sum().backward()


def _cpu_seconds(work: Callable[[], Any]) -> float:
    # Of all threads: backward may run in one of its own.
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
