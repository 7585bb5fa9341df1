"""A model under training: exact summed gradients over any batch, and AdamW.

The gradient of a request is the plain sum over its tokens, whatever the microbatches; nothing is averaged. Padding sits
to the right of causal attention, so it touches no result. Results come back in the order of the request.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import parametrize

from .errors import UserError
from .forward import HiddenStates
from .lora import add_lora, merged_state
from .losses import LOSSES, check_request
from .protocol import AdamParams, Datum, LoraConfig, LossRequest
from .registry import BaseModel

# Padded size of one forward and backward. On a CPU the activations of more no longer fit its cache (a third slower).
TOKENS_PER_MICROBATCH = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True, slots=True)
class LossResult:
    """`logprobs`: per datum, float32 of the shape of its target_tokens. Metric names carry their reduction."""

    logprobs: list[np.ndarray]
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class Scored:
    """Log-probabilities of one microbatch, still attached to their graph: `logp` and `inputs` are [tokens, K]."""

    order: list[int]
    logp: Tensor
    inputs: dict[str, Tensor]


class TrainedModel:
    """Weights, accumulated gradients and optimizer state of one model. Not thread-safe: one thread owns it."""

    def __init__(self, base: BaseModel, lora: LoraConfig, seed: int) -> None:
        """`seed` fixes the base weights where the base is random; the adapter's own seed is `lora.seed`."""
        self.base, self.lora, self.seed = base, lora, seed
        self.steps = 0
        self.failed: str | None = None
        self.model = base.build(seed)
        if lora.rank:
            add_lora(self.model, lora, tied=bool(base.config.tie_word_embeddings))
            trained = [(n, p) for n, p in self.model.named_parameters() if n.endswith(("lora_a", "lora_b"))]
        else:
            trained = list(self.model.named_parameters())
        self.parameters: dict[str, torch.nn.Parameter] = dict(trained)
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(list(self.parameters.values()), fused=base.device.type == "cuda")
        self._hidden = HiddenStates(self.model)

    def forward(self, request: LossRequest) -> LossResult:
        """Log-probabilities and loss of the data; weights and gradients stay as they are."""
        check_request(request, self.base.vocab_size, self.base.max_length)
        with torch.inference_mode():
            return self._run(request, backward=False)

    def forward_backward(self, request: LossRequest) -> LossResult:
        """As forward, and adds the gradient of the summed loss to what the next optim_step will use."""
        try:
            check_request(request, self.base.vocab_size, self.base.max_length)
            return self._run(request, backward=True)
        except Exception as error:
            self.failed = str(error)
            raise

    def optim_step(self, params: AdamParams) -> dict[str, float]:
        """One AdamW step on the accumulated gradient, which is then dropped.

        Refused, with weights untouched, when a forward_backward since the last step failed (the gradient would be
        partial) or when the gradient is not finite.
        """
        parameters = list(self.parameters.values())
        failed, self.failed = self.failed, None
        if failed is not None:
            self.optimizer.zero_grad(set_to_none=True)
            raise UserError(f"optim_step refused: a forward_backward before it failed ({failed})")
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        grad_norm = float(norm)
        if not math.isfinite(grad_norm):
            self.optimizer.zero_grad(set_to_none=True)
            raise UserError("optim_step refused: the gradient holds NaN or infinity; the weights are unchanged")
        if params.grad_clip_norm > 0:
            torch.nn.utils.clip_grads_with_norm_(parameters, params.grad_clip_norm, norm)
        for group in self.optimizer.param_groups:
            group.update(
                lr=params.learning_rate,
                betas=(params.beta1, params.beta2),
                eps=params.eps,
                weight_decay=params.weight_decay,
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return {"grad_norm": grad_norm, "learning_rate": params.learning_rate, "step": float(self.steps)}

    def snapshot(self) -> dict[str, Tensor]:
        """Copies of all weights by their Hugging Face names, adapters merged in."""
        return merged_state(self.model)

    def _run(self, request: LossRequest, backward: bool) -> LossResult:
        loss_of, names, _ = LOSSES[request.loss_fn]
        logprobs: list[np.ndarray | None] = [None] * len(request.data)
        total, positions = 0.0, 0
        for rows in microbatches(request.data, TOKENS_PER_MICROBATCH[self.base.device.type]):
            with parametrize.cached():
                scored = self._score([request.data[row] for row in rows], rows, names)
                loss = loss_of(scored.logp, scored.inputs, request.config)
                summed = loss.sum(dtype=torch.float64)
                value = float(summed.detach())
                if not math.isfinite(value):
                    raise UserError("the loss is NaN or infinite for this data and these weights")
                if backward:
                    summed.backward()
            total += value
            positions += scored.logp.shape[0]
            for row, part in zip(rows, _split(scored, request.data), strict=True):
                logprobs[row] = part
        return LossResult(
            [part for part in logprobs if part is not None],
            {"loss:sum": total, "tokens:sum": float(positions)},
        )

    def _score(self, data: Sequence[Datum], order: list[int], names: tuple[str, ...]) -> Scored:
        device = self.base.device
        lengths = [datum.tokens.size for datum in data]
        width = max(lengths)
        tokens = np.zeros((len(data), width), dtype=np.int64)
        for row, datum in enumerate(data):
            tokens[row, : lengths[row]] = datum.tokens
        real = np.arange(width) < np.asarray(lengths)[:, None]
        targets = _columns(data, "target_tokens").to(device)
        hidden = self._hidden(torch.from_numpy(tokens).to(device))
        if not real.all():
            hidden = hidden.flatten(0, 1)[torch.from_numpy(np.flatnonzero(real)).to(device)]
        logits = self._hidden.logits(hidden).flatten(0, -2)
        inputs = {}
        for name in names:
            if name == "weights" and any(name not in datum.inputs for datum in data):
                inputs[name] = _weights_or_ones(data).to(device)
            else:
                inputs[name] = _columns(data, name).to(device)
        return Scored(order, target_logprobs(logits, targets), inputs)


def target_logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """log softmax(logits [n, V]) in float32 at targets [n, K]; [n, K]."""
    logits = logits.float()
    if targets.shape[1] == 1:
        return -F.cross_entropy(logits, targets[:, 0], reduction="none")[:, None]
    return torch.log_softmax(logits, dim=-1).gather(1, targets)


def microbatches(data: Sequence[Datum], budget: int) -> Iterator[list[int]]:
    """Rows of similar length (and equal K), padded size within `budget` tokens; a longer row stands alone."""
    keys = [(_width(datum), datum.tokens.size) for datum in data]
    batch: list[int] = []
    for row in sorted(range(len(data)), key=lambda row: keys[row], reverse=True):
        if batch and (keys[row][0] != keys[batch[0]][0] or (len(batch) + 1) * keys[batch[0]][1] > budget):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _width(datum: Datum) -> int:
    targets = datum.inputs["target_tokens"]
    return 1 if targets.ndim == 1 else int(targets.shape[1])


def _columns(data: Sequence[Datum], name: str) -> Tensor:
    arrays = [datum.inputs[name].reshape(datum.tokens.size, -1) for datum in data]
    return torch.from_numpy(np.concatenate(arrays))


def _weights_or_ones(data: Sequence[Datum]) -> Tensor:
    arrays = [datum.inputs.get("weights", np.ones((datum.tokens.size, _width(datum)), np.float32)) for datum in data]
    return torch.from_numpy(np.concatenate([array.reshape(array.shape[0], -1) for array in arrays]))


def _split(scored: Scored, data: Sequence[Datum]) -> list[np.ndarray]:
    flat = scored.logp.detach().cpu().numpy()
    bounds = np.cumsum([data[row].tokens.size for row in scored.order])
    parts = np.split(flat, bounds[:-1])
    return [
        part.reshape(data[row].inputs["target_tokens"].shape) for row, part in zip(scored.order, parts, strict=True)
    ]
