"""Sampling: log-probabilities of a full forward, whatever the batch, the cache and the order of arrival."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from ale_engine.choice import Settings, choose, stream_key, uniforms
from ale_engine.decoder import HuggingFaceDecoder, cache_shape, make_decoder
from ale_engine.errors import EngineError
from ale_engine.fused import Qwen3Decoder
from ale_engine.kvcache import SlotCache
from ale_engine.lora import merged_state
from ale_engine.protocol import SampleCall, SampleParams
from ale_engine.sampler import Policy, SampleResult
from ale_engine.samplers import sample_job

from .conftest import VOCABULARY

EXACT = 1e-5


class Bench:
    """A policy stepped by hand, and the module it must agree with."""

    def __init__(self, base, slots: int = 8, generic: bool = False) -> None:
        self.base, self.model = base, base.build(0)
        weights = merged_state(self.model)
        decoder = HuggingFaceDecoder(base, weights, cache_shape(base)) if generic else make_decoder(base, weights)
        self.policy = Policy(decoder)
        self.policy.cache = SlotCache(decoder.shape, slots)
        self.results: dict[int, SampleResult | Exception] = {}

    def add(self, prompt: list[int], **options) -> int:
        number = len(self.results)
        self.results[number] = EngineError("unfinished")
        names = ("num_samples", "prompt_logprobs", "prompt_logprobs_last_n", "topk_prompt_logprobs")
        outer = {name: options.pop(name) for name in names if name in options}
        options = {"max_tokens": 10, "stop_tokens": frozenset(), "seed": number, **options}
        call = SampleCall(prompt, SampleParams(**options), **outer)
        self.policy.add(sample_job(call, self.base, lambda value: self.results.__setitem__(number, value)))
        return number

    def finish(self) -> None:
        while self.policy.has_work:
            self.policy.step()

    def sample(self, prompt: list[int], **options) -> SampleResult:
        number = self.add(prompt, **options)
        self.finish()
        return self.results[number]

    def error(self, prompt: list[int], result: SampleResult) -> float:
        """Largest difference to the log-probabilities of one full forward."""
        worst = 0.0
        for sample in result.samples:
            tokens = torch.tensor(prompt + sample.tokens)
            with torch.inference_mode():
                logp = self.model(input_ids=tokens[None]).logits[0].log_softmax(-1)
            reference = logp[:-1].gather(1, tokens[1:, None])[:, 0].numpy()
            worst = max(worst, np.abs(reference[len(prompt) - 1 :] - sample.logprobs).max())
            if result.prompt_logprobs is not None:
                worst = max(worst, np.abs(reference[: len(prompt) - 1] - result.prompt_logprobs[1:]).max(initial=0.0))
        return worst


def prompts(count: int, longest: int = 60, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, VOCABULARY, int(rng.integers(1, longest))).tolist() for _ in range(count)]


@pytest.mark.parametrize(
    ("name", "generic"), [("nano", False), ("nano", True), ("nano-moe", False), ("nano-moe", True), ("llama", False)]
)
def test_logprobs_equal_a_full_forward(base_of, name: str, generic: bool) -> None:
    """Mixed lengths, more requests than slots, arrivals between steps, several samples, prompt log-probabilities."""
    bench = Bench(base_of(name), slots=5, generic=generic)
    assert isinstance(bench.policy.decoder, Qwen3Decoder) == (not generic and name != "llama")
    asked = prompts(16)
    for index, prompt in enumerate(asked):
        bench.add(
            prompt, max_tokens=3 + index % 9, num_samples=1 + (index % 5 == 0) * 2, prompt_logprobs=index % 4 == 1
        )
        for _ in range(index % 3):
            bench.policy.step()
    bench.finish()
    for number, prompt in enumerate(asked):
        assert bench.error(prompt, bench.results[number]) < EXACT, number


@pytest.mark.parametrize("name", ["nano", "nano-moe", "llama"])
def test_a_growing_conversation_computes_only_what_is_new(base_of, name: str) -> None:
    bench = Bench(base_of(name), slots=4)
    talks = prompts(3, longest=12)
    for turn in range(5):
        numbers = [bench.add(talk, max_tokens=4 + turn) for talk in talks]
        bench.finish()
        for index, number in enumerate(numbers):
            result = bench.results[number]
            assert bench.error(talks[index], result) < EXACT
            if turn:  # all but the last sampled token, which was never fed, and the observation
                assert result.cached_tokens == len(talks[index]) - 4
            talks[index] = talks[index] + result.samples[0].tokens + [turn, 2 * turn, 7]


def test_a_fork_copies_the_shared_prefix_and_leaves_the_original(base_of) -> None:
    bench = Bench(base_of("nano"), slots=4)
    trunk = prompts(1, seed=5)[0] + list(range(20))
    first = bench.sample(trunk, max_tokens=6)
    branches = [[*trunk[:-3], 40 + index, 7] for index in range(3)]
    for branch in branches:
        result = bench.sample(branch)
        assert result.cached_tokens == len(trunk) - 3
        assert bench.error(branch, result) < EXACT
    again = bench.sample(trunk + first.samples[0].tokens + [3])
    assert again.cached_tokens == len(trunk) + 5


def test_a_prompt_shares_a_slot_that_is_still_in_use(base_of) -> None:
    bench = Bench(base_of("nano"), slots=4)
    trunk = list(range(30))
    first = bench.add(trunk, max_tokens=20)
    bench.policy.step()
    second = bench.add([*trunk, 5], max_tokens=20)
    bench.finish()
    assert bench.results[second].cached_tokens == 30
    assert bench.error(trunk, bench.results[first]) < EXACT
    assert bench.error([*trunk, 5], bench.results[second]) < EXACT


def test_random_traffic_over_few_slots_stays_exact(base_of) -> None:
    """Conversations that extend, fork, repeat and compete for slots, in random order."""
    bench, rng = Bench(base_of("nano"), slots=5), random.Random(3)
    known = prompts(4, longest=20)
    asked: dict[int, list[int]] = {}
    for _ in range(60):
        talk = rng.choice(known)
        cut = talk[: rng.randint(1, len(talk))] if rng.random() < 0.4 else talk
        prompt = (cut + [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, 5))])[-80:]
        asked[bench.add(prompt, max_tokens=rng.randint(1, 6), num_samples=rng.choice([1, 1, 3]))] = prompt
        for _ in range(rng.randint(0, 4)):
            bench.policy.step()
        for number, earlier in list(asked.items()):
            result = bench.results[number]
            if isinstance(result, SampleResult):
                assert bench.error(earlier, result) < EXACT
                known.append(earlier + result.samples[0].tokens)
                del asked[number]
    bench.finish()
    assert all(bench.error(prompt, bench.results[number]) < EXACT for number, prompt in asked.items())


def test_a_seed_gives_the_same_tokens_in_any_batch(base_of) -> None:
    alone = Bench(base_of("nano")).sample([3, 4, 5], seed=11, num_samples=3).samples
    crowd = Bench(base_of("nano"))
    for prompt in prompts(6):
        crowd.add(prompt)
    crowd.policy.step()
    together = crowd.sample([3, 4, 5], seed=11, num_samples=3).samples
    assert [sample.tokens for sample in together] == [sample.tokens for sample in alone]
    assert len({tuple(sample.tokens) for sample in alone}) == 3


def test_without_a_seed_samples_differ(base_of) -> None:
    bench = Bench(base_of("nano"))
    assert bench.sample([3, 4], seed=None).samples[0].tokens != bench.sample([3, 4], seed=None).samples[0].tokens


def test_stop_tokens_end_a_sample_and_belong_to_it(base_of) -> None:
    bench = Bench(base_of("nano"))
    free = bench.sample([7, 8], seed=1, max_tokens=20).samples[0]
    stop = free.tokens[5]
    first = free.tokens.index(stop)
    ended = bench.sample([7, 8], seed=1, max_tokens=20, stop_tokens=frozenset([stop])).samples[0]
    assert ended.tokens == free.tokens[: first + 1]
    assert (free.stop_reason, ended.stop_reason) == ("length", "stop")


def test_eos_stops_unless_the_client_says_otherwise(base_of) -> None:
    bench = Bench(base_of("nano"), slots=8)
    default = bench.sample([7], seed=2, num_samples=40, max_tokens=60, stop_tokens=None).samples
    assert any(sample.stop_reason == "stop" for sample in default)
    assert all(1 not in sample.tokens[:-1] for sample in default)
    nothing = bench.sample([7], seed=2, num_samples=40, max_tokens=60, stop_tokens=frozenset()).samples
    assert all(len(sample.tokens) == 60 for sample in nothing)


def test_stop_strings_need_a_tokenizer_and_may_span_tokens(base_of) -> None:
    bench = Bench(base_of("nano"))
    free = bench.sample([7], seed=4, max_tokens=40).samples[0]
    text = bench.base.tokenizer.decode(free.tokens, skip_special_tokens=False)
    stop = text[:6][-3:]
    ended = bench.sample([7], seed=4, max_tokens=40, stop_strings=(stop,)).samples[0]
    assert ended.stop_reason == "stop"
    assert stop in bench.base.tokenizer.decode(ended.tokens, skip_special_tokens=False)
    assert free.tokens[: len(ended.tokens)] == ended.tokens
    with pytest.raises(EngineError, match=r"tokenizer\.json"):
        Bench(base_of("llama")).add([7], stop_strings=("a",))


def test_the_model_s_length_ends_a_sample(base_of) -> None:
    bench = Bench(base_of("nano"))
    sample = bench.sample([5] * 90, max_tokens=50).samples[0]
    assert (len(sample.tokens), sample.stop_reason) == (6, "length")
    assert len(bench.sample([5] * 95, max_tokens=None).samples[0].tokens) == 1
    with pytest.raises(EngineError, match="96"):
        bench.add([5] * 96)


def test_prompt_logprobs_of_a_suffix_and_their_top_k(base_of) -> None:
    bench = Bench(base_of("nano"))
    prompt = prompts(1, seed=9)[0] + [4, 5, 6]
    whole = bench.sample(prompt, prompt_logprobs=True, topk_prompt_logprobs=VOCABULARY)
    assert np.isnan(whole.prompt_logprobs[0])
    assert not np.isnan(whole.prompt_logprobs[1:]).any()
    assert whole.topk_prompt[0] is None
    for position in range(1, len(prompt)):
        assert dict(whole.topk_prompt[position])[prompt[position]] == pytest.approx(whole.prompt_logprobs[position])
    suffix = bench.sample(prompt, prompt_logprobs=True, prompt_logprobs_last_n=2).prompt_logprobs
    assert np.isnan(suffix[:-2]).all()
    assert np.allclose(suffix[-2:], whole.prompt_logprobs[-2:], atol=1e-6)


def test_new_weights_under_way_serve_rows_in_progress_and_nothing_stale(base_of) -> None:
    bench = Bench(base_of("nano"))
    running = bench.add([3] * 10, max_tokens=20)
    bench.policy.step()
    other = bench.base.build(1)
    bench.policy.replace(make_decoder(bench.base, merged_state(other)))
    bench.finish()
    mixed = bench.results[running].samples[0].tokens
    assert len(mixed) == 20
    bench.model = other
    after = bench.sample([3] * 10 + mixed + [4])
    assert after.cached_tokens == 0
    assert bench.error([3] * 10 + mixed + [4], after) < EXACT


def test_a_failure_ends_every_job_once(base_of) -> None:
    bench = Bench(base_of("nano"), slots=2)
    for prompt in prompts(5):
        bench.add(prompt)
    bench.policy.step()
    bench.policy.fail(EngineError("broken"))
    assert all(str(result) == "broken" for result in bench.results.values())
    assert not bench.policy.has_work


def test_samples_follow_the_distribution() -> None:
    """A chi-square-like bound on 40,000 draws at temperature 0.7."""
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    count = 40_000
    keys = np.array([stream_key(seed, 0) for seed in range(count)], dtype=np.uint64)
    draws = uniforms(keys, np.zeros(count, dtype=np.int64))
    settings = Settings.of([SampleParams(temperature=0.7)] * count, torch.device("cpu"))
    tokens, logprobs = choose(logits.expand(count, -1), settings, draws)
    expected = (logits[0] / 0.7).softmax(-1) * count
    seen = torch.bincount(tokens, minlength=50)
    assert float(((seen - expected) ** 2 / expected).sum()) < 90  # 49 degrees of freedom: p < 0.0004
    assert torch.allclose(logprobs, logits[0].log_softmax(-1)[tokens])


def test_uniform_numbers_are_uniform_along_both_axes() -> None:
    keys = np.array([stream_key(seed, sample) for seed in range(100) for sample in range(10)], dtype=np.uint64)
    table = np.stack([uniforms(keys, np.full(keys.size, step)) for step in range(50)])
    assert table.min() > 0 and table.max() < 1
    for axis in (0, 1):
        assert np.abs(table.mean(axis) - 0.5).max() < 0.2
        assert abs(np.corrcoef(table.take(0, axis), table.take(1, axis))[0, 1]) < 0.15
    assert len(np.unique(table)) == table.size


def test_top_k_and_top_p_restrict_and_temperature_zero_is_greedy() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    draws = np.linspace(0.001, 0.999, 500)

    def reachable(**options) -> set[int]:
        settings = Settings.of([SampleParams(**options)] * draws.size, torch.device("cpu"))
        return set(choose(logits.expand(draws.size, -1), settings, draws)[0].tolist())

    assert reachable() == {0, 1, 2, 3}
    assert reachable(top_k=2) == {0, 1}
    assert reachable(top_p=0.5) == {0}
    assert reachable(top_p=0.79) == {0, 1}
    assert reachable(top_k=3, top_p=0.9) == {0, 1, 2}
    assert reachable(temperature=0.0) == {0}


def test_rows_with_different_settings_share_a_batch() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).expand(3, -1)
    params = [SampleParams(), SampleParams(temperature=0.0), SampleParams(top_k=1)]
    tokens, _ = choose(logits, Settings.of(params, torch.device("cpu")), np.array([0.99, 0.99, 0.99]))
    assert tokens.tolist() == [3, 0, 0]
