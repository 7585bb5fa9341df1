"""Forward and backward of a weighted log-likelihood as one would write it without an engine, for comparison with one.

The model is the Hugging Face one, the microbatches are those of the engine (similar lengths together, the same number of padded
tokens at most). First line in: {"model": DIR, "threads": N, "budget": N, "data": [{"tokens", "targets", "weights"}]}; then one empty
line a measurement. Out: {"versions", "parameters"}, then {"seconds", "loss", "gradNorm"} a measurement.
"""

from __future__ import annotations

import json
import sys
import time

import torch
import transformers
from torch.nn import functional as F


def microbatches(lengths: list[int], budget: int) -> list[list[int]]:
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= budget:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def padded(rows: list[list[float]], value: float, dtype: torch.dtype) -> torch.Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([row + [value] * (width - len(row)) for row in rows], dtype=dtype)


def main() -> None:
    setup = json.loads(sys.stdin.readline())
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(setup["threads"])
    model = transformers.AutoModelForCausalLM.from_pretrained(
        setup["model"], dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
    ).eval()
    data = setup["data"]
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(json.dumps({"versions": versions, "parameters": parameters}), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        loss = 0.0
        for rows in microbatches([len(datum["tokens"]) for datum in data], setup["budget"]):
            tokens = padded([data[row]["tokens"] for row in rows], 0, torch.int64)
            targets = padded([data[row]["targets"] for row in rows], 0, torch.int64)
            weights = padded([data[row]["weights"] for row in rows], 0.0, torch.float32)
            logits = model(input_ids=tokens, use_cache=False).logits
            negative_logp = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
            part = (weights.flatten() * negative_logp).sum()
            part.backward()
            loss += part.item()
        seconds = time.perf_counter() - started
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]).item()
        model.zero_grad(set_to_none=True)
        print(json.dumps({"seconds": seconds, "loss": loss, "gradNorm": norm}), flush=True)


if __name__ == "__main__":
    main()
