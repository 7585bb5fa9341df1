"""The unmodified Tinker SDK against the engine."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from .conftest import VOCABULARY, EngineProcess

tinker = pytest.importorskip("tinker", reason="the tinker SDK is not installed (engine/setup.sh VENV --dev)")
types = tinker.types

ADAM = types.AdamParams(learning_rate=1e-2)


@pytest.fixture(scope="module")
def service(engine: EngineProcess) -> Iterator[tinker.ServiceClient]:
    variables = {
        "TINKER_BASE_URL": f"http://127.0.0.1:{engine.port}",
        "TINKER_API_KEY": "tml-test",
        "TINKER_TELEMETRY": "0",
        "HF_HUB_OFFLINE": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setitem(os.environ, name, value)
        client = tinker.ServiceClient()
        yield client
        client.close("success")


@pytest.fixture(params=[("nano", 0), ("nano-moe", 4)], ids=["full", "moe-lora"])
def training(request: pytest.FixtureRequest, service: tinker.ServiceClient) -> tinker.TrainingClient:
    base, rank = request.param
    return service.create_lora_training_client(base_model=base, rank=rank, seed=7).result()


def make(tokens: list[int], **inputs: list[float]) -> types.Datum:
    tensors = {"target_tokens": torch.tensor(tokens[1:])} | {n: torch.tensor(v) for n, v in inputs.items()}
    return types.Datum(
        model_input=types.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={name: types.TensorData.from_torch(tensor) for name, tensor in tensors.items()},
    )


DATA = [make([1, 2, 3, 4], weights=[1.0, 1.0, 0.0]), make([5, 6, 7, 8, 9], weights=[1.0, -0.5, 0.0, 2.0])]


def test_supervised_steps_lower_the_loss(training: tinker.TrainingClient) -> None:
    losses = []
    for _ in range(4):
        backward, step = training.forward_backward(DATA, "cross_entropy"), training.optim_step(ADAM)
        result = backward.result()
        losses.append(result.metrics["loss:sum"])
        assert [len(output["logprobs"].tolist()) for output in result.loss_fn_outputs] == [3, 4]
        assert step.result().metrics["grad_norm"] > 0
    assert losses[-1] < losses[0]


def test_a_custom_loss_gives_the_gradient_of_the_built_in_one(service: tinker.ServiceClient) -> None:
    def norm(custom: bool) -> float:
        client = service.create_lora_training_client(base_model="nano", rank=0, seed=1).result()

        def loss(data: list[types.Datum], logprobs: list[torch.Tensor]):
            weights = [torch.tensor(item.loss_fn_inputs["weights"].tolist()) for item in data]
            total = -sum((w * lp).sum() for w, lp in zip(weights, logprobs, strict=True))
            return total, {"own:sum": float(total.detach())}

        if custom:
            metrics = client.forward_backward_custom(DATA, loss).result().metrics
            assert metrics["own:sum"] == pytest.approx(metrics["loss:sum"])
        else:
            client.forward_backward(DATA, "cross_entropy").result()
        return client.optim_step(ADAM).result().metrics["grad_norm"]

    assert norm(custom=True) == pytest.approx(norm(custom=False), rel=1e-5)


def test_reinforcement_losses_take_the_sampler_s_logprobs(training: tinker.TrainingClient) -> None:
    sampler = training.save_weights_and_get_sampling_client().result()
    params = types.SamplingParams(max_tokens=6, seed=3, stop=[])
    sampled = sampler.sample(types.ModelInput.from_ints([1, 2]), 2, params).result().sequences
    data = [
        make([1, 2, *s.tokens], logprobs=[0.0, *s.logprobs], advantages=[0.0] + [a] * 6)
        for s, a in zip(sampled, (1.0, -1.0), strict=True)
    ]
    for loss_fn in ("importance_sampling", "ppo", "cispo"):
        result = training.forward_backward(data, loss_fn).result()
        for output, sample in zip(result.loss_fn_outputs, sampled, strict=True):
            assert output["logprobs"].tolist()[1:] == pytest.approx(list(sample.logprobs), abs=1e-5)
    assert training.optim_step(ADAM).result().metrics["grad_norm"] > 0


def test_sampling(training: tinker.TrainingClient) -> None:
    sampler = training.save_weights_and_get_sampling_client().result()
    prompt = types.ModelInput.from_ints([1, 2, 3, 4])
    params = types.SamplingParams(max_tokens=5, seed=1, temperature=0.7, stop=[])
    answer = sampler.sample(prompt, 3, params, include_prompt_logprobs=True, topk_prompt_logprobs=3).result()
    assert [len(sequence.tokens) for sequence in answer.sequences] == [5, 5, 5]
    assert len({sequence.sequence_id for sequence in answer.sequences}) == 3
    assert len(answer.topk_prompt_logprobs[1]) == 3
    computed = sampler.compute_logprobs(prompt).result()
    assert computed == pytest.approx(answer.prompt_logprobs)
    forward = training.forward(DATA[:1], "cross_entropy").result().loss_fn_outputs[0]["logprobs"].tolist()
    assert computed[1:] == pytest.approx(forward, abs=1e-5)


def test_state_is_saved_and_loaded_with_the_optimizer(
    training: tinker.TrainingClient, service: tinker.ServiceClient
) -> None:
    def step(client: tinker.TrainingClient) -> tuple[float, float]:
        loss = client.forward_backward(DATA, "cross_entropy").result().metrics["loss:sum"]
        return loss, client.optim_step(ADAM).result().metrics["grad_norm"]

    step(training)
    path = training.save_state("state").result().path
    expected = [step(training), step(training)]
    resumed = service.create_training_client_from_state_with_optimizer(path).result()
    assert [step(resumed), step(resumed)] == expected
    fresh = service.create_training_client_from_state(path).result()
    assert step(fresh)[0] == expected[0][0]


def test_named_sampler_weights(training: tinker.TrainingClient, service: tinker.ServiceClient) -> None:
    path = training.save_weights_for_sampler("sampler").result().path
    stored = service.create_sampling_client(model_path=path).result()
    prompt = types.ModelInput.from_ints([1, 2, 3])
    live = training.save_weights_and_get_sampling_client().result()
    assert stored.compute_logprobs(prompt).result() == pytest.approx(live.compute_logprobs(prompt).result())


def test_stop_strings_and_the_tokenizer(service: tinker.ServiceClient) -> None:
    training = service.create_lora_training_client(base_model="nano", rank=0, seed=7).result()
    tokenizer = training.get_tokenizer()
    sampler = training.save_weights_and_get_sampling_client().result()
    params = types.SamplingParams(max_tokens=90, seed=2, stop=["e"])
    sequence = sampler.sample(types.ModelInput.from_ints([4]), 1, params).result().sequences[0]
    assert sequence.stop_reason == "stop"
    assert sequence.tokens[-1] == tokenizer.convert_tokens_to_ids("e")


def test_errors_reach_the_caller_and_stop_the_step_behind(training: tinker.TrainingClient) -> None:
    backward = training.forward_backward([make([1, VOCABULARY + 5], weights=[1.0])], "cross_entropy")
    step = training.optim_step(ADAM)
    with pytest.raises(tinker.RequestFailedError, match="outside the vocabulary"):
        backward.result()
    with pytest.raises(tinker.RequestFailedError, match="forward_backward before it failed"):
        step.result()


def test_the_rest_client_lists_runs_and_checkpoints(training: tinker.TrainingClient) -> None:
    training.save_state("listed").result()
    model = training.get_info().model_id
    rest = tinker.RestClient()
    assert model in [run.training_run_id for run in rest.list_training_runs().result().training_runs]
    names = [checkpoint.checkpoint_id for checkpoint in rest.list_checkpoints(model).result().checkpoints]
    assert names == ["weights/listed"]
