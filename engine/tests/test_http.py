"""The protocol as a plain HTTP client sees it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import zstandard

from ale_engine.server import main

from .conftest import ENGINE, VOCABULARY, Client, EngineProcess, chunks, datum

DATA = [datum([1, 2, 3, 4], [1.0, 0.0, -0.5]), datum([5, 6, 7], [1.0, 2.0])]
CROSS_ENTROPY = {"data": DATA, "loss_fn": "cross_entropy"}
ADAM = {"learning_rate": 1e-2}


def test_the_capabilities_name_the_models(client: Client) -> None:
    assert client.get("healthz") == {"status": "ok"}
    models = client.get("get_server_capabilities")["supported_models"]
    assert {model["model_name"]: model["max_context_length"] for model in models}["nano"] == 96


@pytest.mark.parametrize(("base", "rank"), [("nano", 0), ("nano-moe", 0), ("nano-moe", 4)])
def test_one_step_of_training_through_to_a_sample(client: Client, base: str, rank: int) -> None:
    model = client.model(base, rank)
    losses = []
    for step in range(3):
        result = client.run(
            "forward_backward", model_id=model, seq_id=2 * step + 1, forward_backward_input=CROSS_ENTROPY
        )
        losses.append(result["metrics"]["loss:sum"])
        first = result["loss_fn_outputs"][0]["logprobs"]
        assert (first["dtype"], first["shape"], len(first["data"])) == ("float32", [3], 3)
        assert result["metrics"]["tokens:sum"] == 5
        metrics = client.run("optim_step", model_id=model, seq_id=2 * step + 2, adam_params=ADAM)["metrics"]
        assert metrics["grad_norm"] > 0
    assert losses[2] < losses[0]
    sampler = client.run("save_weights_for_sampler", model_id=model, seq_id=7, sampling_session_seq_id=0)
    session = sampler["sampling_session_id"]
    assert client.get(f"samplers/{session}")["base_model"] == base
    answer = client.post(
        "asample",
        sampling_session_id=session,
        seq_id=0,
        num_samples=2,
        prompt=chunks([1, 2, 3, 4]),
        sampling_params={"max_tokens": 5, "seed": 1, "stop": []},
        prompt_logprobs=True,
        wait=True,
    )
    assert len(answer["sample_sequence_ids"]) == 2
    result = answer["result"]
    assert [len(s["tokens"]) for s in result["sequences"]] == [5, 5]
    assert [len(s["logprobs"]) for s in result["sequences"]] == [5, 5]
    # The sampler and the trainer give the same log-probabilities for the same weights.
    scored = client.run("forward", model_id=model, seq_id=8, forward_input=CROSS_ENTROPY)
    assert result["prompt_logprobs"][0] is None
    assert result["prompt_logprobs"][1:] == pytest.approx(scored["loss_fn_outputs"][0]["logprobs"]["data"], abs=1e-5)


def test_without_wait_the_result_is_retrieved(client: Client) -> None:
    model = client.model()
    answer = client.post("forward_backward", model_id=model, seq_id=1, forward_backward_input=CROSS_ENTROPY)
    assert "result" not in answer
    result = client.post("retrieve_future", request_id=answer["request_id"])
    assert result["metrics"]["tokens:sum"] == 5
    assert client.post("retrieve_future", request_id=answer["request_id"]) == result


def test_requests_run_in_the_order_of_seq_id(client: Client) -> None:
    """Step 2 arrives before the gradient it needs, and waits for it."""
    model = client.model()
    step = client.post("optim_step", model_id=model, seq_id=2, adam_params=ADAM)
    time.sleep(0.1)
    client.run("forward_backward", model_id=model, seq_id=1, forward_backward_input=CROSS_ENTROPY)
    assert client.post("retrieve_future", request_id=step["request_id"])["metrics"]["grad_norm"] > 1e-3


def test_requests_without_seq_id_run_in_the_order_of_arrival(client: Client) -> None:
    model = client.model()
    client.run("forward_backward", model_id=model, forward_backward_input=CROSS_ENTROPY)
    assert client.run("optim_step", model_id=model, adam_params=ADAM)["metrics"]["grad_norm"] > 1e-3


def test_a_repeated_request_is_carried_out_once(client: Client) -> None:
    model = client.model()
    body = {"model_id": model, "seq_id": 1, "forward_backward_input": CROSS_ENTROPY}
    first, again = client.post("forward_backward", **body), client.post("forward_backward", **body)
    assert first["request_id"] == again["request_id"]
    once = client.run("optim_step", model_id=model, seq_id=2, adam_params=ADAM)["metrics"]["grad_norm"]
    other = client.model()
    client.run("forward_backward", model_id=other, seq_id=1, forward_backward_input=CROSS_ENTROPY)
    reference = client.run("optim_step", model_id=other, seq_id=2, adam_params=ADAM)["metrics"]["grad_norm"]
    assert once == reference


def test_a_sequence_number_names_one_request(client: Client) -> None:
    model = client.model()
    client.run("forward", model_id=model, seq_id=1, forward_input=CROSS_ENTROPY)
    error = client.post("optim_step", 400, model_id=model, seq_id=1, adam_params=ADAM)
    assert "used before" in error["error"]


def test_a_repeated_sample_gives_the_same_promise(client: Client) -> None:
    model = client.model()
    session = client.run("save_weights_for_sampler", model_id=model)["sampling_session_id"]
    body = {"sampling_session_id": session, "prompt": chunks([3]), "sampling_params": {"max_tokens": 8, "stop": []}}
    same = [client.post("asample", seq_id=5, **body)["request_id"] for _ in range(2)]
    assert same[0] == same[1]
    assert client.post("asample", **body)["request_id"] != client.post("asample", **body)["request_id"]
    assert client.post("asample", 400, seq_id=5, **{**body, "prompt": chunks([4])})["category"] == "user"


def test_sequence_numbers_beyond_53_bits(client: Client) -> None:
    session = client.run("save_weights_for_sampler", model_id=client.model())["sampling_session_id"]
    body = {"sampling_session_id": session, "prompt": chunks([3]), "sampling_params": {"max_tokens": 1}}
    near = [client.post("asample", seq_id=316361279000000000 + index, **body)["request_id"] for index in (0, 1)]
    assert near[0] != near[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss_fn": "mystery"}, "not supported"),
        ({"data": []}, "empty"),
        ({"data": [datum([1, VOCABULARY], [1.0])]}, "outside the vocabulary"),
        ({"data": [datum([1] * 98, [1.0] * 97)]}, "1..96"),
        ({"data": [{"model_input": {"chunks": [{"type": "image"}]}, "loss_fn_inputs": {}}]}, "encoded_text"),
        ({"data": [datum([1, 2], [None])]}, "NaN"),
        ({"data": [datum([1, 2], ["one"])]}, "not float32"),
        ({"loss_fn_config": {"temperature": 2}}, "no temperature"),
        ({"data": [DATA[0], "x"]}, "datum"),
    ],
)
def test_a_bad_request_says_what_is_wrong_and_takes_its_turn(client: Client, change, message: str) -> None:
    model = client.model()
    bad = {**CROSS_ENTROPY, **change}
    error = client.post("forward_backward", 400, model_id=model, seq_id=1, forward_backward_input=bad, wait=True)
    assert message in error["error"]
    assert error["category"] == "user"
    step = client.post("optim_step", 400, model_id=model, seq_id=2, adam_params=ADAM, wait=True)
    assert "forward_backward before it failed" in step["error"]
    client.run("forward_backward", model_id=model, seq_id=3, forward_backward_input=CROSS_ENTROPY)
    assert client.run("optim_step", model_id=model, seq_id=4, adam_params=ADAM)["metrics"]["step"] == 1


def test_a_failed_request_is_retrieved_as_an_error(client: Client) -> None:
    bad = {**CROSS_ENTROPY, "loss_fn": "mystery"}
    answer = client.post("forward_backward", model_id=client.model(), seq_id=1, forward_backward_input=bad)
    assert client.post("retrieve_future", request_id=answer["request_id"])["category"] == "user"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"prompt": chunks([])}, "empty"),
        ({"prompt": chunks([VOCABULARY])}, "vocabulary"),
        ({"prompt": chunks([1] * 96)}, "96 tokens"),
        ({"prompt": "text"}, "chunks"),
        ({"sampling_params": {"temperature": -1}}, "temperature"),
        ({"sampling_params": {"top_p": 0}}, "top_p"),
        ({"sampling_params": {"max_tokens": 0}}, "max_tokens"),
        ({"num_samples": 0}, "num_samples"),
        ({"prompt_alt_tokens_k": 2}, "not supported"),
    ],
)
def test_a_bad_sample_request_says_what_is_wrong(client: Client, body, message: str) -> None:
    session = client.run("save_weights_for_sampler", model_id=client.model())["sampling_session_id"]
    error = client.post("asample", 400, **{"sampling_session_id": session, "prompt": chunks([1]), **body})
    assert message in error["error"]


def test_what_does_not_exist_is_not_found(client: Client) -> None:
    assert "not served here" in client.post("create_model", 404, session_id=client.session(), base_model="x")["error"]
    for path, body in {
        "optim_step": {"model_id": "m"},
        "get_info": {"model_id": "m"},
        "asample": {"sampling_session_id": "s", "prompt": chunks([1])},
        "retrieve_future": {"request_id": "999999"},
        "session_heartbeat": {"session_id": "s"},
        "weights_info": {"tinker_path": "tinker://run/weights/none"},
        "no_such_call": {},
    }.items():
        assert client.post(path, 404, **body)["error"]


@pytest.mark.parametrize(
    ("body", "kind"), [(b"{", "application/json"), (b"[]", "application/json"), (b"{}", "text/plain"), (b"", "")]
)
def test_a_body_is_a_json_object_or_absent(client: Client, body: bytes, kind: str) -> None:
    answer = client.http.post("create_session", content=body, headers={"content-type": kind})
    assert answer.status_code == (200 if body == b"" else 400)


def test_weights_can_be_saved_loaded_and_described(client: Client) -> None:
    model = client.model("nano", seed=3)
    client.run("forward_backward", model_id=model, forward_backward_input=CROSS_ENTROPY)
    client.run("optim_step", model_id=model, adam_params=ADAM)
    saved = client.run("save_weights", model_id=model, path="ck", user_metadata={"note": "x"})
    assert saved["path"] == f"tinker://{model}/weights/ck"
    assert (Path(saved["directory"]) / "model.safetensors").exists()
    assert "exists already" in client.post("save_weights", 400, model_id=model, path="ck", wait=True)["error"]
    info = client.post("weights_info", tinker_path=saved["path"])
    assert (info["base_model"], info["is_lora"], info["steps"]) == ("nano", False, 1)

    session = client.session()
    created = client.run("load_weights", session_id=session, model_seq_id=0, path=saved["path"], optimizer=True)
    assert created["model_id"] == f"{session}:train:0"
    old = client.run("forward", model_id=model, forward_input=CROSS_ENTROPY)
    new = client.run("forward", model_id=created["model_id"], seq_id=1, forward_input=CROSS_ENTROPY)
    assert old == new
    client.run("load_weights", model_id=model, path=saved["path"], optimizer=False)
    run = client.get(f"training_runs/{model}")
    assert run["last_checkpoint"]["tinker_path"] == saved["path"]
    assert run["last_checkpoint"]["user_metadata"] == {"note": "x"}
    assert client.http.delete(f"training_runs/{model}/checkpoints/weights/ck").status_code == 200
    assert client.get(f"training_runs/{model}/checkpoints")["checkpoints"] == []


def test_a_named_sampler_checkpoint_samples_as_the_snapshot_does(client: Client) -> None:
    session = client.session()
    model = client.run("create_model", session_id=session, base_model="nano", lora_config={"rank": 4})["model_id"]
    client.run("forward_backward", model_id=model, forward_backward_input=CROSS_ENTROPY)
    client.run("optim_step", model_id=model, adam_params=ADAM)
    snapshot = client.run("save_weights_for_sampler", model_id=model)["sampling_session_id"]
    named = client.run("save_weights_for_sampler", model_id=model, path="s")["path"]
    stored = client.post("create_sampling_session", session_id=session, model_path=named)["sampling_session_id"]
    base = client.post("create_sampling_session", session_id=session, base_model="nano")["sampling_session_id"]
    body = {
        "prompt": chunks([3, 4]),
        "sampling_params": {"max_tokens": 9, "seed": 5, "stop": []},
        "prompt_logprobs": True,
    }
    one, two, three = (client.run("asample", sampling_session_id=s, **body) for s in (snapshot, stored, base))
    assert one["sequences"][0]["tokens"] == two["sequences"][0]["tokens"]
    assert one["prompt_logprobs"][1] == pytest.approx(two["prompt_logprobs"][1], abs=1e-6)
    assert one["prompt_logprobs"][1] != pytest.approx(three["prompt_logprobs"][1], abs=1e-4)
    direct = client.run("asample", model_path=named, **body)
    assert direct["sequences"][0]["tokens"] == two["sequences"][0]["tokens"]


def test_only_the_newest_snapshots_of_a_model_are_kept(client: Client) -> None:
    model = client.model()
    sessions = [client.run("save_weights_for_sampler", model_id=model)["sampling_session_id"] for _ in range(10)]
    body = {"prompt": chunks([3]), "sampling_params": {"max_tokens": 1}}
    assert "newest snapshots" in client.post("asample", 404, sampling_session_id=sessions[0], **body)["error"]
    assert client.run("asample", sampling_session_id=sessions[-1], **body)["sequences"]


def test_a_sampling_session_number_names_one_set_of_weights(client: Client) -> None:
    model = client.model()
    client.run("save_weights_for_sampler", model_id=model, seq_id=1, sampling_session_seq_id=3)
    body = {"model_id": model, "seq_id": 2, "sampling_session_seq_id": 3, "wait": True}
    assert "exists already" in client.post("save_weights_for_sampler", 400, **body)["error"]


def test_an_inflight_sampler_follows_the_model(client: Client) -> None:
    model = client.model()
    first = client.run("save_weights_for_sampler", model_id=model, kind="inflight")["sampling_session_id"]
    body = {"prompt": chunks([1, 2]), "sampling_params": {"max_tokens": 1, "seed": 1}, "prompt_logprobs": True}
    before = client.run("asample", sampling_session_id=first, **body)["prompt_logprobs"][1]
    client.run("forward_backward", model_id=model, forward_backward_input=CROSS_ENTROPY)
    client.run("optim_step", model_id=model, adam_params=ADAM)
    client.run("save_weights_for_sampler", model_id=model, kind="inflight")
    assert client.run("asample", sampling_session_id=first, **body)["prompt_logprobs"][1] != before


def test_an_unloaded_model_and_its_snapshots_are_gone(client: Client) -> None:
    model = client.model()
    sampler = client.run("save_weights_for_sampler", model_id=model)["sampling_session_id"]
    waiting = client.post("optim_step", model_id=model, seq_id=9, adam_params=ADAM)
    client.run("unload_model", model_id=model)
    assert "unloaded" in client.post("retrieve_future", request_id=waiting["request_id"])["error"]
    client.post("optim_step", 404, model_id=model, adam_params=ADAM)
    client.post("asample", 404, sampling_session_id=sampler, prompt=chunks([1]))


def test_a_finished_session_frees_its_models(client: Client) -> None:
    session = client.session()
    model = client.run("create_model", session_id=session, base_model="nano")["model_id"]
    assert client.http.post(f"sessions/{session}/finish", json={}).status_code == 204
    client.post("get_info", 404, model_id=model)
    client.post("session_heartbeat", 404, session_id=session)


def test_many_concurrent_samples_share_steps(engine: EngineProcess) -> None:
    """96 callers over 12 slots, all exact in length and all answered."""
    client = Client(engine.port)
    session = client.run("save_weights_for_sampler", model_id=client.model())["sampling_session_id"]

    def turn(index: int) -> int:
        prompt = chunks([index % 60 + 2] * (1 + index % 30))
        params = {"max_tokens": 1 + index % 20, "stop": []}
        return len(
            client.run("asample", sampling_session_id=session, prompt=prompt, sampling_params=params)["sequences"][0][
                "tokens"
            ]
        )

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(turn, range(96))) == [1 + index % 20 for index in range(96)]


def test_compressed_bodies(client: Client) -> None:
    raw = zstandard.compress(json.dumps({"session_id": client.session()}).encode())
    headers = {"content-encoding": "zstd", "content-type": "application/json"}
    assert client.http.post("session_heartbeat", content=raw, headers=headers).status_code == 200
    assert client.http.post("session_heartbeat", content=b"no", headers=headers).status_code == 400


@pytest.fixture
def start(tmp_path: Path, model_dirs: dict[str, Path]):
    started: list[EngineProcess] = []

    def make(*options: str, state: str = "state") -> EngineProcess:
        started.append(EngineProcess(tmp_path / state, [str(model_dirs["nano"])], *options))
        return started[-1]

    yield make
    for process in started:
        if process.process.poll() is None:
            process.stop()


def test_a_token_guards_every_call_but_health(start) -> None:
    process = start("--token", "tml-secret")
    stranger, friend = Client(process.port), Client(process.port, "tml-secret")
    assert stranger.get("healthz") == {"status": "ok"}
    assert "X-API-Key" in stranger.post("create_session", 401)["error"]
    assert friend.session()


def test_sigterm_ends_the_process_cleanly_and_answers_held_requests(start) -> None:
    process = start()
    client = Client(process.port)
    model = client.model()
    answers: list[httpx.Response] = []
    held = threading.Thread(
        target=lambda: answers.append(
            client.http.post("optim_step", json={"model_id": model, "seq_id": 5, "adam_params": ADAM, "wait": True})
        )
    )
    held.start()
    time.sleep(0.3)
    assert process.stop() == 0
    held.join(5)
    assert answers[0].status_code == 503
    assert "shutting down" in answers[0].json()["error"]
    assert not process.ready.exists()


def test_training_goes_on_in_a_new_process(start) -> None:
    """Kill -9 after a save; the next engine continues as if nothing had happened."""
    first = start()
    client = Client(first.port)
    model = client.model(seed=4)

    def step(client: Client, model: str) -> float:
        client.run("forward_backward", model_id=model, forward_backward_input=CROSS_ENTROPY)
        return client.run("optim_step", model_id=model, adam_params=ADAM)["metrics"]["grad_norm"]

    step(client, model)
    path = client.run("save_weights", model_id=model, path="ck")["path"]
    expected = [step(client, model) for _ in range(2)]
    first.process.kill()
    first.process.wait()
    first.ready.unlink()
    client = Client(start().port)
    resumed = client.run("load_weights", session_id=client.session(), path=path, optimizer=True)["model_id"]
    assert [step(client, resumed) for _ in range(2)] == expected


def test_an_engine_that_cannot_say_where_it_listens_leaves(tmp_path: Path, model_dirs: dict[str, Path]) -> None:
    ready = tmp_path / "nowhere" / "ready.json"
    command = [sys.executable, "-m", "ale_engine", "--models", str(model_dirs["nano"])]
    command += ["--state", str(tmp_path / "state"), "--ready-file", str(ready)]
    ended = subprocess.run(command, cwd=ENGINE, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert "nowhere/ready.json" in ended.stderr


def test_the_engine_leaves_with_the_process_it_was_started_for(tmp_path: Path, model_dirs: dict[str, Path]) -> None:
    ready = tmp_path / "ready.json"
    code = (
        "import subprocess, sys, os; subprocess.Popen([sys.executable, '-m', 'ale_engine', '--models', sys.argv[1],"
        " '--state', sys.argv[2], '--ready-file', sys.argv[3], '--parent-pid', str(os.getpid())]); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(model_dirs["nano"]), str(tmp_path / "state"), str(ready)],
        cwd=ENGINE,
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not ready.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pid = json.loads(ready.read_text())["pid"]
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not ready.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "/nowhere"], "not a model directory"),
        (["--models", "NANO", "--port", "TAKEN"], "Address already in use"),
        (["--models", "NANO", "--host", "0.0.0.0"], "needs a --token"),
    ],
)
def test_a_start_that_cannot_succeed_says_why(
    tmp_path: Path, model_dirs, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        values = {"NANO": str(model_dirs["nano"]), "TAKEN": str(taken.getsockname()[1])}
        assert main(["--state", str(tmp_path), *(values.get(argument, argument) for argument in arguments)]) == 2
    assert message in capsys.readouterr().err
