"""Continuous batching: all concurrent samples of one set of weights advance together, one token a step.

A `Policy` owns a set of weights, its slot cache and the rows in progress. New prompts join between steps, rows leave as
they end. One thread (scheduler.py) drives all policies; nothing here is thread-safe.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .choice import Settings, choose, stream_key, uniforms
from .decoder import Decoder
from .errors import EngineError
from .kvcache import SlotCache, Window
from .protocol import SampleCall

# Padded size of one prefill call, and the longest stretch of one prompt in it.
PREFILL_TOKENS = 4096
PREFILL_CHUNK = 1024


@dataclass(frozen=True, slots=True)
class Continuation:
    """One sample; `logprobs` of the temperature-1 distribution. A stop token is part of `tokens`."""

    tokens: list[int]
    logprobs: list[float]
    stop_reason: str


TopLogprobs = list[list[tuple[int, float]] | None]


@dataclass(slots=True)
class SampleResult:
    """`prompt_logprobs` [prompt], NaN where none was asked for or possible; `topk_prompt` one list a position."""

    samples: list[Continuation]
    prompt_logprobs: np.ndarray | None = None
    topk_prompt: TopLogprobs | None = None
    cached_tokens: int = 0


Done = Callable[[SampleResult | Exception], None]


@dataclass(slots=True)
class SampleJob:
    """One call: `seed`, `stop` and `limit` (new tokens) are resolved. `done` is called exactly once."""

    call: SampleCall
    seed: int
    stop: frozenset[int]
    limit: int
    done: Done
    tokenizer: Any | None = None
    result: SampleResult = field(default_factory=lambda: SampleResult([]))
    missing: int = 0


@dataclass(slots=True)
class Row:
    """One sample in progress: `tokens` is prompt and continuation, the first `held` of them have keys in `slot`."""

    job: SampleJob
    sample: int
    key: int
    tokens: list[int]
    slot: int = -1
    held: int = 0
    epoch: int = 0
    logprobs: list[float] = field(default_factory=list)


class Policy:
    """One set of weights being sampled. `cache` must be set (by whoever lends caches) before `step`."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.cache: SlotCache | None = None
        self.epoch = 0
        self.waiting: deque[Row] = deque()
        self.active: list[Row] = []
        self._settings: Settings | None = None
        self._keys = np.zeros(0, dtype=np.uint64)

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.active)

    def add(self, job: SampleJob) -> None:
        job.missing = job.call.num_samples
        job.result.samples = [Continuation([], [], "length")] * job.call.num_samples
        # Further samples of the job follow when the first has put the prompt into the cache.
        self.waiting.append(_row(job, 0))

    def replace(self, decoder: Decoder) -> None:
        """Go on with other weights; rows in progress keep the keys they have, later prompts start afresh."""
        self.decoder = decoder
        self.epoch += 1
        if self.cache is not None:
            self.cache.lengths[:] = 0

    def step(self) -> None:
        """Admit what fits, then one token for every row in progress."""
        with torch.inference_mode():
            admitted = self._admit()
            if self.active:
                self._decode()
            self._enter(admitted)

    def fail(self, error: EngineError) -> None:
        """End every job with `error`; nothing of the cache is kept."""
        jobs = {id(row.job): row.job for row in (*self.active, *self.waiting)}
        self.active, self.waiting, self._settings, self.cache = [], deque(), None, None
        for job in jobs.values():
            job.done(error)

    def _admit(self) -> list[Row]:
        """Give waiting rows slots and compute their prompts; the rows that go on after their first token."""
        cache = self._cache()
        rows: list[Row] = []
        for _ in range(min(cache.free, len(self.waiting))):
            row = self.waiting.popleft()
            wants_prompt = row.sample == 0 and row.job.call.prompt_logprobs
            row.slot, row.held = cache.acquire(row.tokens, reuse=not wants_prompt)
            row.epoch = self.epoch
            if row.sample == 0:
                row.job.result.cached_tokens = row.held
            rows.append(row)
        going: list[Row] = []
        for group in _prefill_groups(rows):
            going.extend(self._prefill(group))
        for row in rows:
            if row.sample == 0:
                siblings = [_row(row.job, sample) for sample in range(1, row.job.call.num_samples)]
                self.waiting.extendleft(reversed(siblings))
        return going

    def _prefill(self, rows: list[Row]) -> list[Row]:
        """Keys of the rest of each prompt, then each row's first token."""
        cache = self._cache()
        device = cache.shape.device
        last: list[Tensor | None] = [None] * len(rows)
        prompt_parts: dict[int, list[Tensor]] = {}
        while pending := [index for index, row in enumerate(rows) if last[index] is None]:
            chunks = [rows[i].tokens[rows[i].held : rows[i].held + PREFILL_CHUNK] for i in pending]
            counts = [len(chunk) for chunk in chunks]
            window = Window.of(cache, [rows[i].slot for i in pending], [rows[i].held for i in pending], counts)
            hidden = self.decoder.hidden(_padded(chunks, device), window)
            for at, index in enumerate(pending):
                row = rows[index]
                row.held += counts[at]
                if row.sample == 0 and row.job.call.prompt_logprobs:
                    prompt_parts.setdefault(index, []).append(hidden[at, : counts[at]])
                if row.held == len(row.tokens):
                    last[index] = hidden[at, counts[at] - 1]
        for index, parts in prompt_parts.items():
            self._score_prompt(rows[index].job, torch.cat(parts))
        for row in rows:
            cache.lengths[row.slot] = row.held
        logits = self.decoder.logits(torch.stack([state for state in last if state is not None]))
        settings = Settings.of([row.job.call.params for row in rows], device)
        keys = np.array([row.key for row in rows], dtype=np.uint64)
        return self._append(rows, *choose(logits, settings, uniforms(keys, np.zeros(len(rows), np.int64))))

    def _decode(self) -> None:
        """One token for every active row."""
        cache, rows = self._cache(), self.active
        device = cache.shape.device
        if self._settings is None:
            self._settings = Settings.of([row.job.call.params for row in rows], device)
            self._keys = np.array([row.key for row in rows], dtype=np.uint64)
        held = [row.held for row in rows]
        window = Window.of(cache, [row.slot for row in rows], held, [1] * len(rows))
        tokens = torch.tensor([row.tokens[-1] for row in rows], device=device)[:, None]
        logits = self.decoder.logits(self.decoder.hidden(tokens, window)[:, 0])
        steps = np.array([len(row.logprobs) for row in rows])
        for row in rows:
            row.held += 1
        going = self._append(rows, *choose(logits, self._settings, uniforms(self._keys, steps)))
        if len(going) != len(rows):
            self.active, self._settings = going, None

    def _enter(self, rows: list[Row]) -> None:
        if rows:
            self.active.extend(rows)
            self._settings = None

    def _append(self, rows: list[Row], tokens: Tensor, logprobs: Tensor) -> list[Row]:
        """Add one token to each row, end those that are complete; the rest."""
        going = []
        for row, token, logprob in zip(rows, tokens.tolist(), logprobs.tolist(), strict=True):
            row.tokens.append(token)
            row.logprobs.append(logprob)
            job = row.job
            if token in job.stop or (job.call.params.stop_strings and _ends_in_text(row)):
                self._finish(row, "stop")
            elif len(row.logprobs) >= job.limit:
                self._finish(row, "length")
            else:
                going.append(row)
        return going

    def _finish(self, row: Row, reason: str) -> None:
        job = row.job
        # Keys made by several sets of weights belong to no prompt of any of them.
        self._cache().release(row.slot, row.tokens, row.held if row.epoch == self.epoch else 0)
        job.result.samples[row.sample] = Continuation(row.tokens[len(job.call.prompt) :], row.logprobs, reason)
        job.missing -= 1
        if job.missing == 0:
            job.done(job.result)

    def _score_prompt(self, job: SampleJob, hidden: Tensor) -> None:
        """Log-probability of every prompt token given those before it; the first has none."""
        prompt = job.call.prompt
        scores = np.full(len(prompt), np.nan, dtype=np.float32)
        first = 1
        if job.call.prompt_logprobs_last_n is not None:
            first = max(1, len(prompt) - job.call.prompt_logprobs_last_n)
        top: TopLogprobs = [None] * len(prompt)
        for start in range(first, len(prompt), PREFILL_CHUNK):
            end = min(start + PREFILL_CHUNK, len(prompt))
            logprobs = torch.log_softmax(self.decoder.logits(hidden[start - 1 : end - 1]), dim=-1)
            targets = torch.tensor(prompt[start:end], device=logprobs.device)[:, None]
            scores[start:end] = logprobs.gather(1, targets)[:, 0].cpu().numpy()
            if job.call.topk_prompt_logprobs:
                values, ids = logprobs.topk(min(job.call.topk_prompt_logprobs, logprobs.shape[-1]))
                top[start:end] = [
                    list(zip(*pair, strict=True)) for pair in zip(ids.tolist(), values.tolist(), strict=True)
                ]
        job.result.prompt_logprobs = scores
        if job.call.topk_prompt_logprobs:
            job.result.topk_prompt = top

    def _cache(self) -> SlotCache:
        if self.cache is None:
            raise RuntimeError("a policy was stepped without a cache")
        return self.cache


def _row(job: SampleJob, sample: int) -> Row:
    return Row(job, sample, stream_key(job.seed, sample), list(job.call.prompt))


def _prefill_groups(rows: list[Row]) -> Iterator[list[Row]]:
    """Rows of similar remaining length, so that padding stays below half, within the token budget."""

    def rest(row: Row) -> int:
        return len(row.tokens) - row.held

    group: list[Row] = []
    for row in sorted(rows, key=rest, reverse=True):
        if group:
            widest = min(rest(group[0]), PREFILL_CHUNK)
            if (len(group) + 1) * widest > PREFILL_TOKENS or rest(row) < widest // 2 - 8:
                yield group
                group = []
        group.append(row)
    if group:
        yield group


def _padded(chunks: list[list[int]], device: torch.device) -> Tensor:
    columns = list(itertools.zip_longest(*chunks, fillvalue=0))
    return torch.tensor(columns, device=device).T


def _ends_in_text(row: Row) -> bool:
    """Whether the text sampled so far holds one of the job's stop strings."""
    text = row.job.tokenizer.decode(row.tokens[-len(row.logprobs) :], skip_special_tokens=False)
    return any(stop in text for stop in row.job.call.params.stop_strings)
