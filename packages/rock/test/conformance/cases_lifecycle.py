"""Sandboxes: started, looked at, stopped, started again, deleted; what is refused."""

import asyncio
import time
import uuid

from harness import config, raised, running
from rock import BadRequestRockError, InternalServerRockError
from rock.actions import CreateBashSessionRequest
from rock.actions.sandbox.request import Command
from rock.sdk.sandbox.client import Sandbox, SandboxGroup
from rock.sdk.sandbox.config import SandboxGroupConfig


async def test_start_returns_when_the_sandbox_is_ready():
    sandbox = Sandbox(config(auto_delete_seconds=0))
    began = time.perf_counter()
    await sandbox.start()
    # The SDK looks every 3 s: it was ready at the first look.
    assert time.perf_counter() - began < 2.5
    assert sandbox.sandbox_id and sandbox.host_name and sandbox.host_ip
    assert sandbox.cluster == "vpc-nt-a" and sandbox.url.endswith("/apis/envs/sandbox/v1")
    assert sandbox.sandbox_id in str(sandbox) and sandbox.sandbox_id in repr(sandbox)
    assert (await sandbox.is_alive()).is_alive
    await sandbox.close()


async def test_defaults_of_the_sdk_work_on_a_small_host():
    sandbox = Sandbox(config(memory="8g", cpus=2, disk="50G", auto_delete_seconds=0))
    await sandbox.start()
    status = await sandbox.get_status()
    assert (status.cpus, status.memory, status.disk) == (2, "8g", "50G")
    assert (await sandbox.execute(Command(command=["true"]))).exit_code == 0
    await sandbox.stop()


async def test_status_tells_what_was_asked_for_and_how_far_it_is():
    async with running(cpus=1.5, memory="256m", user_id="u1", experiment_id="e1", namespace="n1") as sandbox:
        status = await sandbox.get_status()
        assert status.sandbox_id == sandbox.sandbox_id and status.is_alive and status.state == "running"
        assert status.image == "python:3.11" and status.cpus == 1.5 and status.memory == "256m"
        assert (status.user_id, status.experiment_id, status.namespace) == ("u1", "e1", "n1")
        assert {phase["status"] for phase in status.status.values()} == {"success"}
        assert status.port_mapping == {} and status.auto_stop_time and status.create_time
        assert [change.to_state for change in status.state_history] == ["pending", "running"]


async def test_attach_finds_a_running_sandbox():
    async with running() as sandbox:
        other = Sandbox(config())
        await other.attach(sandbox.sandbox_id)
        assert other.config.image == "python:3.11" and other.host_name == sandbox.host_name
        assert (await other.execute(Command(command=["echo", "hi"]))).stdout == "hi\n"
        assert "not found" in await raised(Sandbox(config()).attach("no-such-sandbox"))


async def test_restart_keeps_the_files_and_nothing_else():
    sandbox = Sandbox(config(auto_delete_seconds=300))
    await sandbox.start()
    await sandbox.create_session(CreateBashSessionRequest(session="default"))
    await sandbox.arun("echo kept > /root/kept; sleep 1000 & cd /tmp", session="default")
    await sandbox.stop()
    assert (await sandbox.get_status(include_all_states=True)).state == "stopped"
    assert "not found" in await raised(sandbox.get_status())
    assert "is stopped" in await raised(sandbox.execute(Command(command=["true"])))
    await sandbox.restart()
    assert (await sandbox.get_status()).state == "running"
    assert "does not exist" in await raised(sandbox.arun("true", session="default"))
    await sandbox.create_session(CreateBashSessionRequest(session="default"))
    result = await sandbox.arun("cat /root/kept; pgrep -c sleep || true", session="default")
    assert result.output.split() == ["kept", "0"]
    await sandbox.stop()
    await sandbox.delete()


async def test_restart_of_a_running_sandbox_is_a_bad_request():
    async with running() as sandbox:
        assert "current state is 'running'" in await raised(sandbox.restart(), BadRequestRockError)


async def test_delete_wants_a_stopped_sandbox_and_is_idempotent():
    sandbox = Sandbox(config(auto_delete_seconds=300))
    await sandbox.start()
    assert "stop it first" in await raised(sandbox.delete(), BadRequestRockError)
    await sandbox.stop()
    await sandbox.stop()
    await sandbox.delete()
    await sandbox.delete()
    assert "not found" in await raised(sandbox.get_status())


async def test_stop_with_auto_delete_at_once_leaves_nothing():
    sandbox = Sandbox(config(auto_delete_seconds=0))
    await sandbox.start()
    await sandbox.stop()
    assert (await sandbox.get_status(include_all_states=True)).state == "deleted"


async def test_auto_delete_comes_when_its_time_is_over():
    sandbox = Sandbox(config(auto_delete_seconds=1))
    await sandbox.start()
    await sandbox.stop()
    for _ in range(40):
        if (await sandbox.get_status(include_all_states=True)).state == "deleted":
            return
        await asyncio.sleep(0.1)
    raise AssertionError("was never deleted")


async def test_archive_says_that_there_is_none():
    async with running(auto_delete_seconds=300) as sandbox:
        assert "current state is 'running'" in await raised(sandbox.archive(), BadRequestRockError)
        await sandbox.stop()
        assert "commit it to an image" in await raised(sandbox.archive(), BadRequestRockError)
        await sandbox.delete()


async def test_limits_above_the_maximum_are_a_bad_request():
    for more, text in [({"cpus": 20}, "CPUs 20"), ({"memory": "65g"}, "64g"), ({"disk": "300g"}, "256g")]:
        assert text in await raised(Sandbox(config(**more)).start(), BadRequestRockError)


async def test_sizes_that_are_none_are_a_bad_request():
    for more in [{"memory": "lots"}, {"memory": "8 parsecs"}, {"disk": "-1g"}]:
        assert "Invalid" in await raised(Sandbox(config(**more)).start(), BadRequestRockError)


async def test_what_this_host_cannot_give_is_a_bad_request():
    for more in [{"num_gpus": 1}, {"use_kata_runtime": True}, {"image_os": "windows"}]:
        await raised(Sandbox(config(**more)).start(), BadRequestRockError)


async def test_an_image_that_is_nowhere_fails_the_start_and_is_named():
    text = await raised(Sandbox(config(image="docker.invalid/not/found:1", startup_timeout=20)).start(), InternalServerRockError)
    assert "Failed to pull image docker.invalid/not/found:1" in text


async def test_an_id_of_ones_own_is_taken_once():
    name = f"own-{uuid.uuid4().hex[:12]}"
    async with running(sandbox_id=name) as sandbox:
        assert sandbox.sandbox_id == name
        assert "already exists" in await raised(Sandbox(config(sandbox_id=name)).start(), BadRequestRockError)
    await raised(Sandbox(config(sandbox_id="../../etc")).start(), BadRequestRockError)


async def test_memory_is_a_hard_limit():
    async with running(memory="256m") as sandbox:
        script = "x = bytearray(600 * 2**20); print(len(x))"
        result = await sandbox.execute(Command(command=["python3", "-c", script]))
        assert result.exit_code in (137, None) and result.stdout == ""
        assert (await sandbox.execute(Command(command=["echo", "alive"]))).stdout == "alive\n"


async def test_disk_is_a_hard_limit():
    async with running(disk="64m") as sandbox:
        result = await sandbox.execute(Command(command=["dd", "if=/dev/zero", "of=/root/big", "bs=1M", "count=100"]))
        assert result.exit_code != 0 and "No space left" in result.stderr
        await sandbox.execute(Command(command=["rm", "/root/big"]))
        assert (await sandbox.execute(Command(command=["dd", "if=/dev/zero", "of=/root/ok", "bs=1M", "count=8"]))).exit_code == 0


async def test_there_is_no_way_out_to_the_network():
    async with running() as sandbox:
        script = "import socket; socket.create_connection(('192.0.2.1', 80), 3)"
        result = await sandbox.execute(Command(command=["python3", "-c", script]))
        assert result.exit_code == 1 and "Network is unreachable" in result.stderr


async def test_a_group_starts_and_stops_together():
    group = SandboxGroup(SandboxGroupConfig(**{**config(auto_delete_seconds=300).model_dump(exclude={"xrl_authorization"}), "size": 3}))
    await group.start()
    states = [(await each.get_status()).state for each in group.sandbox_list]
    assert states == ["running"] * 3 and len({each.sandbox_id for each in group.sandbox_list}) == 3
    await group.stop()
    for each in group.sandbox_list:
        assert (await each.get_status(include_all_states=True)).state == "stopped"
        await each.delete()


async def test_calls_without_a_token_are_refused():
    assert "401" in await raised(Sandbox(config(extra_headers={})).start())
    assert "401" in await raised(Sandbox(config(extra_headers={"Authorization": "Bearer wrong"})).start())


async def test_every_header_that_rock_knows_carries_the_token():
    token = config().extra_headers["Authorization"]
    for headers in [{"XRL-Authorization": token}, {"X-API-Key": token[7:]}, {"X-Key": token[7:]}]:
        text = await raised(Sandbox(config(extra_headers=headers, cpus=99)).start(), BadRequestRockError)
        assert "99" in text
