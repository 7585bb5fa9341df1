"""The gradient is the plain sum over tokens, the same as a bare PyTorch loop's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ale_engine import trainer
from ale_engine.errors import UserError
from ale_engine.lora import merged_state
from ale_engine.protocol import AdamParams, Datum, LoraConfig, LossRequest
from ale_engine.trainer import TrainedModel, microbatches

from .conftest import VOCABULARY

FULL = LoraConfig(rank=0)


def batch(seed: int = 0, count: int = 9) -> list[Datum]:
    """Sequences of mixed length with signed weights."""
    rng = np.random.default_rng(seed)
    data = []
    for _ in range(count):
        tokens = rng.integers(0, VOCABULARY, int(rng.integers(3, 40)))
        weights = rng.normal(size=tokens.size - 1).astype(np.float32)
        data.append(Datum(tokens[:-1], {"target_tokens": tokens[1:], "weights": weights}))
    return data


def cross_entropy(data: list[Datum]) -> LossRequest:
    return LossRequest(data, "cross_entropy", {})


def gradients(model: TrainedModel) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.parameters.items() if p.grad is not None}


def bare_gradients(model: TrainedModel, data: list[Datum]) -> dict[str, torch.Tensor]:
    """One sequence at a time through the Hugging Face module, loss by its definition."""
    for parameter in model.parameters.values():
        parameter.grad = None
    for item in data:
        logits = model.model(input_ids=torch.from_numpy(item.tokens)[None]).logits[0]
        logp = torch.log_softmax(logits, -1)[torch.arange(item.tokens.size), item.inputs["target_tokens"]]
        (-(torch.from_numpy(item.inputs["weights"]) * logp).sum()).backward()
    return gradients(model)


def relative_error(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    difference = sum(float((a[name] - b[name]).square().sum()) for name in a)
    return (difference / sum(float(b[name].square().sum()) for name in b)) ** 0.5


@pytest.mark.parametrize("name", ["nano", "nano-moe", "llama"])
@pytest.mark.parametrize("rank", [0, 4])
def test_gradient_equals_a_bare_loop(base_of, name: str, rank: int) -> None:
    model = TrainedModel(base_of(name), LoraConfig(rank=rank), 0)
    if rank:  # B starts at zero, and with it the gradient of A
        for parameter in model.parameters.values():
            torch.nn.init.normal_(parameter.data, std=0.1)
    model.forward_backward(cross_entropy(batch()))
    ours = gradients(model)
    assert relative_error(ours, bare_gradients(model, batch())) < 1e-6


def test_gradient_does_not_depend_on_microbatches_or_calls(base_of, monkeypatch: pytest.MonkeyPatch) -> None:
    data = batch()
    whole, pieces = (TrainedModel(base_of("nano"), FULL, 0) for _ in range(2))
    whole.forward_backward(cross_entropy(data))
    monkeypatch.setitem(trainer.TOKENS_PER_MICROBATCH, "cpu", 50)
    pieces.forward_backward(cross_entropy(data[:4]))
    pieces.forward_backward(cross_entropy(data[4:]))
    assert relative_error(gradients(pieces), gradients(whole)) < 1e-6


def test_weights_are_neither_normalised_nor_clipped(base_of) -> None:
    """Twice the weights give twice the gradient, negative ones its negative, also where they sum to zero."""

    def gradient(scale: float) -> dict[str, torch.Tensor]:
        data = batch()
        for item in data:
            weights = item.inputs["weights"]
            item.inputs["weights"] = ((weights - weights.mean()) * scale).astype(np.float32)
        model = TrainedModel(base_of("nano"), FULL, 0)
        model.forward_backward(cross_entropy(data))
        return gradients(model)

    once = gradient(1)
    assert relative_error(gradient(2), {name: 2 * g for name, g in once.items()}) < 1e-6
    assert relative_error(gradient(-1), {name: -g for name, g in once.items()}) < 1e-6


def test_importance_sampling_at_the_same_weights_is_weighted_likelihood(base_of) -> None:
    model = TrainedModel(base_of("nano"), FULL, 0)
    data = batch()
    logprobs = model.forward(cross_entropy(data)).logprobs
    model.forward_backward(cross_entropy(data))
    expected = gradients(model)
    for loss_fn in ("importance_sampling", "ppo", "cispo"):
        model.optimizer.zero_grad()
        rl = [
            Datum(
                item.tokens,
                {
                    "target_tokens": item.inputs["target_tokens"],
                    "logprobs": old,
                    "advantages": item.inputs["weights"],
                },
            )
            for item, old in zip(data, logprobs, strict=True)
        ]
        model.forward_backward(LossRequest(rl, loss_fn, {}))
        assert relative_error(gradients(model), expected) < 1e-5, loss_fn


def test_clipped_losses_follow_their_definition(base_of) -> None:
    model = TrainedModel(base_of("nano"), FULL, 0)
    tokens, targets = np.array([3, 4, 5, 6]), np.array([4, 5, 6, 7])
    logp = model.forward(cross_entropy([Datum(tokens, {"target_tokens": targets})])).logprobs[0].astype(np.float64)
    ratio, advantages = np.array([0.5, 1.5, 0.5, 1.5]), np.array([1.0, 1.0, -1.0, -1.0])
    inputs = {
        "target_tokens": targets,
        "logprobs": (logp - np.log(ratio)).astype(np.float32),
        "advantages": advantages.astype(np.float32),
    }

    def loss(loss_fn: str, config: dict[str, float]) -> float:
        return model.forward(LossRequest([Datum(tokens, inputs)], loss_fn, config)).metrics["loss:sum"]

    clipped = np.clip(ratio, 0.8, 1.2)
    assert loss("ppo", {}) == pytest.approx(-np.minimum(ratio * advantages, clipped * advantages).sum(), rel=1e-5)
    assert loss("cispo", {"clip_high_threshold": 1.0}) == pytest.approx(
        -(np.clip(ratio, 0, 1) * advantages * logp).sum(), rel=1e-5
    )


def test_several_targets_a_position(base_of) -> None:
    """[N, K] targets weigh K log-probabilities of the same distribution; results keep the shape."""
    model = TrainedModel(base_of("nano"), FULL, 0)
    tokens = np.array([3, 4, 5])
    targets = np.array([[4, 9], [5, 9], [6, 9]])
    weights = np.array([[1, 0.5], [1, 0], [1, -2]], dtype=np.float32)
    wide = model.forward(cross_entropy([Datum(tokens, {"target_tokens": targets, "weights": weights})]))
    columns = [
        model.forward(cross_entropy([Datum(tokens, {"target_tokens": targets[:, k]})])).logprobs[0] for k in (0, 1)
    ]
    assert np.allclose(wide.logprobs[0], np.stack(columns, 1), atol=1e-6)
    assert wide.metrics["loss:sum"] == pytest.approx(-(weights * wide.logprobs[0]).sum(), rel=1e-5)


def test_results_come_in_the_order_of_the_request(base_of) -> None:
    model = TrainedModel(base_of("nano"), FULL, 0)
    data = batch(count=6)
    together = model.forward(cross_entropy(data)).logprobs
    for item, logprobs in zip(data, together, strict=True):
        alone = model.forward(cross_entropy([item])).logprobs[0]
        assert logprobs.shape == item.inputs["target_tokens"].shape
        assert np.abs(alone - logprobs).max() < 1e-5


def test_microbatches_hold_every_row_once_within_the_budget() -> None:
    data = batch(count=50)
    groups = list(microbatches(data, 100))
    assert sorted(row for group in groups for row in group) == list(range(50))
    for group in groups:
        assert len(group) == 1 or len(group) * max(data[row].tokens.size for row in group) <= 100


def test_forward_leaves_no_gradient(base_of) -> None:
    model = TrainedModel(base_of("nano"), FULL, 0)
    model.forward(cross_entropy(batch()))
    assert gradients(model) == {}


def test_forward_and_forward_backward_agree_bitwise(base_of) -> None:
    model = TrainedModel(base_of("nano"), FULL, 0)
    forward = model.forward(cross_entropy(batch())).logprobs
    backward = model.forward_backward(cross_entropy(batch())).logprobs
    assert all(np.array_equal(a, b) for a, b in zip(forward, backward, strict=True))


def test_optim_step_is_adamw_with_clipping(base_of) -> None:
    ours, reference = (TrainedModel(base_of("nano"), FULL, 0) for _ in range(2))
    optimizer = torch.optim.AdamW(
        reference.parameters.values(), lr=1e-2, betas=(0.8, 0.9), eps=1e-8, weight_decay=0.1, foreach=False
    )
    for seed in range(3):
        ours.forward_backward(cross_entropy(batch(seed)))
        metrics = ours.optim_step(AdamParams(1e-2, 0.8, 0.9, 1e-8, 0.1, 0.5))
        reference.forward_backward(cross_entropy(batch(seed)))
        norm = torch.nn.utils.clip_grad_norm_(reference.parameters.values(), 0.5)
        assert metrics["grad_norm"] == pytest.approx(float(norm), rel=1e-5)
        optimizer.step()
        optimizer.zero_grad()
    for name, parameter in ours.parameters.items():
        assert torch.allclose(parameter, reference.parameters[name], atol=1e-6), name


def test_a_new_adapter_changes_nothing_and_trains_only_itself(base_of) -> None:
    base = base_of("nano-moe")
    plain, adapted = TrainedModel(base, FULL, 0), TrainedModel(base, LoraConfig(rank=4, seed=3), 0)
    before = plain.forward(cross_entropy(batch())).logprobs
    assert all(
        np.allclose(a, b, atol=1e-6)
        for a, b in zip(before, adapted.forward(cross_entropy(batch())).logprobs, strict=True)
    )
    adapted.forward_backward(cross_entropy(batch()))
    adapted.optim_step(AdamParams(learning_rate=1e-2))
    merged, original = merged_state(adapted.model), merged_state(plain.model)
    assert merged.keys() == original.keys()
    changed = {name for name in merged if not torch.equal(merged[name], original[name])}
    assert "model.layers.0.self_attn.q_proj.weight" in changed
    assert "model.layers.0.mlp.experts.gate_up_proj" in changed
    assert "lm_head.weight" in changed
    assert not any("norm" in name or "embed" in name or name.endswith("gate.weight") for name in changed)


def test_a_failed_forward_backward_fails_the_step_after_it_and_only_that(base_of) -> None:
    model = TrainedModel(base_of("nano"), FULL, 0)
    before = merged_state(model.model)
    model.forward_backward(cross_entropy(batch()))
    bad = [Datum(np.array([1]), {"target_tokens": np.array([2]), "weights": np.array([np.nan], np.float32)})]
    with pytest.raises(UserError, match="NaN"):
        model.forward_backward(cross_entropy(bad))
    with pytest.raises(UserError, match="forward_backward before it failed"):
        model.optim_step(AdamParams())
    assert all(torch.equal(before[name], tensor) for name, tensor in merged_state(model.model).items())
    model.forward_backward(cross_entropy(batch()))
    assert model.optim_step(AdamParams())["step"] == 1


@pytest.mark.parametrize(
    ("tokens", "inputs", "message"),
    [
        ([1, VOCABULARY], {"target_tokens": [2, 3]}, "outside the vocabulary"),
        ([1, 2], {"target_tokens": [2, -1]}, "outside the vocabulary"),
        ([1] * 97, {"target_tokens": [1] * 97}, "the model takes 1..96"),
        ([1, 2], {"target_tokens": [2]}, "1 rows for 2 tokens"),
        ([1, 2], {}, "lacks target_tokens"),
        ([1, 2], {"target_tokens": [2, 3], "weights": np.float32([1])}, "has shape"),
        ([1, 2], {"target_tokens": [2, 3], "weights": np.float32([1, np.inf])}, "NaN or infinity"),
        ([1, 2], {"target_tokens": [2, 3], "advantages": np.float32([1, 1])}, "takes no advantages"),
    ],
)
def test_what_cannot_be_computed_exactly_is_refused(base_of, tokens, inputs, message: str) -> None:
    model = TrainedModel(base_of("nano"), FULL, 0)
    good = batch(count=1)[0]
    bad = Datum(np.array(tokens), {name: np.asarray(value) for name, value in inputs.items()})
    with pytest.raises(UserError, match=f"datum 1.*{message}"):
        model.forward(cross_entropy([good, bad]))


def test_random_base_weights_are_a_function_of_the_seed(base_of) -> None:
    base = base_of("nano")
    one, same, other = (merged_state(base.build(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["model.embed_tokens.weight"], other["model.embed_tokens.weight"])
