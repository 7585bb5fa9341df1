"""What the SDK builds on sessions and files: scripts, speed-ups, jobs; commit; EnvHub; GEM; what listens in a sandbox."""

import asyncio
import sys
import uuid

import httpx
import rock
from harness import TOKEN, URL, raised, running
from rock import env_vars
from rock.actions.sandbox.request import Command
from rock.sdk.envhub.client import EnvHubClient, EnvHubError
from rock.sdk.envhub.schema import EnvHubClientConfig
from rock.sdk.envs import RockEnv
from rock.sdk.sandbox.client import Sandbox
from rock.sdk.sandbox.speedup import SpeedupType

HEADERS = {"Authorization": f"Bearer {TOKEN}"}
API = f"{URL}/apis/envs/sandbox/v1"


async def test_a_script_runs_and_is_cleaned_up():
    async with running() as sandbox:
        result = await sandbox.process.execute_script("echo a\necho b", script_name="mine.sh")
        assert (result.output, result.exit_code) == ("a\nb", 0)
        assert (await sandbox.execute(Command(command=["test", "-e", "/tmp/mine.sh"]))).exit_code == 1
        failed = await sandbox.process.execute_script("echo why\nexit 5", script_name="kept.sh", cleanup=False)
        assert (failed.output, failed.exit_code) == ("why", 5)
        assert (await sandbox.execute(Command(command=["test", "-e", "/tmp/kept.sh"]))).exit_code == 0


async def test_speed_ups_write_their_files():
    async with running() as sandbox:
        # Images without apt and pip have neither the directory nor the program that the SDK looks for.
        prepare = "mkdir -p /etc/apt/apt.conf.d && printf '#!/bin/sh\\necho pip 0\\n' > /usr/local/bin/pip3 && chmod +x /usr/local/bin/pip3"
        await sandbox.execute(Command(command=["sh", "-c", prepare]))
        for kind, value in [
            (SpeedupType.APT, "http://mirror.invalid"),
            (SpeedupType.PIP, "https://mirror.invalid"),
            (SpeedupType.GITHUB, "11.11.11.11"),
        ]:
            result = await sandbox.network.speedup(kind, value)
            assert result.exit_code == 0, result.output
        shown = await sandbox.execute(
            Command(command=["cat", "/etc/apt/sources.list", "/root/.pip/pip.conf", "/etc/hosts"])
        )
        assert "http://mirror.invalid/debian" in shown.stdout
        assert "index-url = https://mirror.invalid" in shown.stdout.replace("=", " = ").replace("  ", " ")
        assert "11.11.11.11 github.com" in shown.stdout


async def test_a_committed_sandbox_is_an_image():
    tag = f"committed/{uuid.uuid4().hex[:8]}:v1"
    async with running() as sandbox:
        assert "STATUS_NOT_FOUND" in await raised(sandbox.get_commit_status())
        await sandbox.write_file_by_path("inside", "/root/committed")
        status = await sandbox.commit(tag, "", "", interval=0.1)
        assert status.phase == "SUCCEEDED", status
        assert (await sandbox.get_commit_status()).image_tag == tag
        assert (await sandbox.commit_async(tag, "", "")).sandbox_id == sandbox.sandbox_id
        assert (await sandbox.execute(Command(command=["cat", "/root/committed"]))).stdout == "inside"
    async with running(image=tag) as copy:
        assert (await copy.execute(Command(command=["cat", "/root/committed"]))).stdout == "inside"


async def test_envhub_registers_finds_lists_and_deletes():
    # The SDK's client of EnvHub sends no header of the caller's choice.
    client = EnvHubClient(EnvHubClientConfig(base_url=URL))
    client.headers.update(HEADERS)
    name = f"env-{uuid.uuid4().hex[:8]}"
    assert await client.health_check() == {"status": "ok"}
    made = await client.register(name, "img:1", "me", "what", ["a", "b"], {"gpu": True})
    assert (made.env_name, made.image, made.extra_spec) == (name, "img:1", {"gpu": True})
    changed = await client.register(name, "img:2", "you")
    assert (changed.image, changed.owner, changed.create_at) == ("img:2", "you", made.create_at)
    assert (await client.get_env(name)).image == "img:2"
    assert name in {each.env_name for each in await client.list_envs(owner="you")}
    assert name not in {each.env_name for each in await client.list_envs(tags=["a"])}
    assert "EnvhubDefaultDockerImage" in {each.env_name for each in await client.list_envs(tags=["system"])}
    assert await client.delete_env(name) is True
    assert await client.delete_env(name) is False
    await raised(client.get_env(name), EnvHubError)


async def test_gem_games_are_made_reset_stepped_and_closed():
    # Nor does rock.make: the token goes into httpx's own default headers.
    env_vars.ROCK_BASE_URL = URL
    with_token(RockEnv)

    def play() -> list[float]:
        env = rock.make("game:GuessTheNumber-v0")
        observation, info = env.reset(seed=5)
        assert "guesses" in observation and isinstance(info, dict)
        low, high, rewards = 1, 50, []
        while True:
            middle = (low + high) // 2
            observation, reward, terminated, truncated, info = env.step(f"\\boxed{{{middle}}}")
            rewards.append(reward)
            if terminated:
                break
            assert not truncated
            low, high = (middle + 1, high) if "too low" in observation else (low, middle - 1)
        env.reset(seed=5)
        env.close()
        env.close()
        return rewards

    rewards = await asyncio.to_thread(play)
    assert rewards[-1] == 1 and not any(rewards[:-1])
    text = await raised(asyncio.to_thread(rock.make, "game:NoSuchGame"))
    assert "no environment" in text


def with_token(kind: type) -> None:
    """RockEnv makes its own httpx.Client and passes a fixed set of headers."""
    module = sys.modules[kind.__module__]
    if isinstance(module.httpx, Tokened):
        return
    module.httpx = Tokened(module.httpx)


class Tokened:
    def __init__(self, real: object):
        self.real = real

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)

    def Client(self, **options: object) -> httpx.Client:  # noqa: N802
        return httpx.Client(headers=HEADERS, **options)


async def test_many_games_are_stepped_in_one_call():
    async with httpx.AsyncClient(headers=HEADERS, base_url=f"{URL}/apis/v1/envs/gem") as http:
        made = (await http.post("/vector/make", json={"env_id": "game:GuessTheNumber-v0", "count": 3})).json()
        ids = made["sandbox_ids"]
        await http.post("/vector/reset", json={"sandbox_ids": ids, "seeds": [1, 1, 2]})
        body = {"sandbox_ids": [*ids, "gem-unknown"], "actions": ["25", "25", "25", "25"]}
        results = (await http.post("/vector/step", json=body)).json()["results"]
        assert results[0] == results[1] and "observation" in results[2] and "no game" in results[3]["error"]
        assert (await http.post("/vector/close", json={"sandbox_ids": ids})).status_code == 200
        assert "game:Sokoban-v0-easy" in (await http.post("/list", json={})).json()["env_id"]


async def test_what_listens_in_a_sandbox_is_reached_through_the_proxy():
    server = (
        "import http.server, sys\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "  def do_GET(self):\n"
        "    if self.path == '/go':\n"
        "      self.send_response(302); self.send_header('Location', '/there?x=1'); self.end_headers(); return\n"
        "    self.reply(self.path)\n"
        "  def do_POST(self):\n"
        "    self.reply(self.rfile.read(int(self.headers['content-length'])).decode() + str(self.headers.get('authorization')))\n"
        "  def reply(self, text):\n"
        "    self.send_response(200); self.end_headers(); self.wfile.write(text.encode())\n"
        "  def log_message(self, *a): pass\n"
        "http.server.HTTPServer(('127.0.0.1', 9000), H).serve_forever()\n"
    )
    async with running() as sandbox:
        await sandbox.write_file_by_path(server, "/root/server.py")
        await sandbox.start_nohup_process("python3 /root/server.py", "/tmp/server.out", "default")
        base = f"{API}/sandboxes/{sandbox.sandbox_id}/proxy"
        async with httpx.AsyncClient(headers=HEADERS) as http:
            assert (await http.get(f"{base}/port/9000/a%20b?c=1")).text == "/a%20b?c=1"
            by_header = await http.post(f"{base}/x", content="body ", headers={"X-ROCK-Target-Port": "9000"})
            assert by_header.text == "body None"
            assert (await http.get(f"{base}/y?rock_target_port=9000&z=2")).text == "/y?z=2"
            moved = await http.get(f"{base}/port/9000/go", follow_redirects=True)
            assert moved.text == "/there?x=1"
            twice = await http.get(f"{base}/port/9000/", headers={"X-ROCK-Target-Port": "9000"})
            assert twice.status_code == 400 and "multiple sources" in twice.json()["detail"]
            assert (await http.get(f"{base}/port/22/")).status_code == 400
            assert (await http.get(f"{base}/port/9999/")).status_code == 502
            assert (await http.get(f"{API}/sandboxes/{sandbox.sandbox_id}/vnc")).status_code == 404


async def test_lists_batches_and_statistics_tell_of_ones_own_sandboxes():
    async with running(user_id="lister") as one, running(user_id="other") as other:
        async with httpx.AsyncClient(headers=HEADERS, base_url=API) as http:
            listed = (await http.get("/sandboxes", params={"user_id": "lister", "page_size": 10})).json()["result"]
            assert [each["sandbox_id"] for each in listed["items"]] == [one.sandbox_id] and listed["total"] == 1
            body = {"sandbox_ids": [one.sandbox_id, other.sandbox_id, "unknown"]}
            batch = (await http.post("/sandboxes/batch", json=body)).json()["result"]["statuses"]
            assert {each["sandbox_id"] for each in batch} == {one.sandbox_id, other.sandbox_id}
            query = {"sandbox_id": one.sandbox_id}
            used = (await http.get("/get_sandbox_statistics", params=query)).json()["result"]
            assert set(used) == {"cpu", "mem", "disk", "disk_log_percent", "disk_dind_percent", "net"}
            assert 0 <= used["mem"] <= 100
            alive = (await http.get("/is_alive", params=query)).json()["result"]
            assert alive["is_alive"] is True and alive["message"]
            gone = (await http.get("/is_alive", params={"sandbox_id": "unknown"})).json()
            assert gone["status"] == "Success" and gone["result"]["is_alive"] is False


async def test_requests_that_are_none_are_answered_as_rock_does():
    async with httpx.AsyncClient(headers=HEADERS, base_url=API) as http:
        answer = await http.post("/execute", json={"command": ["true"]})
        body = answer.json()
        assert answer.status_code == 200 and body["status"] == "Failed" and body["message"] == "invalid parameter"
        assert body["error"].startswith("body.sandbox_id: ") and body["result"] is None
        assert (await http.get("/get_token?account=primary")).json()["result"] == {"Expiration": "2099-01-01T00:00:00Z"}
        assert (await http.get(f"{URL}/")).json() == {"message": "hello, ROCK!"}


async def test_a_bash_job_runs_in_a_sandbox_of_its_own():
    from rock.sdk.envhub import EnvironmentConfig
    from rock.sdk.job import BashJobConfig, Job

    def job(script: str) -> Job:
        environment = EnvironmentConfig(
            image="python:3.11", base_url=URL, extra_headers=HEADERS, memory="512m", disk="128m", auto_delete_seconds=0
        )
        return Job(BashJobConfig(job_name=f"j{uuid.uuid4().hex[:6]}", script=script, environment=environment))

    good = await job("echo from the job").run()
    assert good.exit_code == 0 and "from the job" in good.raw_output
    # The SDK takes a job that ends at once with an error for one that could not be started.
    assert "what went wrong" in await raised(job("echo what went wrong; exit 6").run())


async def test_nothing_of_one_tenant_is_seen_by_another():
    async with running() as sandbox:
        stranger = Sandbox(sandbox.config.model_copy(update={"extra_headers": {"Authorization": "Bearer t-b"}}))
        assert "not found" in await raised(stranger.attach(sandbox.sandbox_id))
        stranger._sandbox_id = sandbox.sandbox_id
        await raised(stranger.execute(Command(command=["true"])))
        await raised(stranger.arun("true", session="default"))
        await stranger.stop()
        assert (await sandbox.get_status()).is_alive
