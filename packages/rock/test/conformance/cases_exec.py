"""Programs: sessions and what stays in them, background jobs with their exit codes, programs on their own."""

import asyncio
import time

from harness import raised, running
from httpx import ReadTimeout
from rock.actions import BashAction, CloseBashSessionRequest, CreateBashSessionRequest
from rock.actions.sandbox.request import Command


async def test_a_session_keeps_directory_variables_and_functions():
    async with running() as sandbox:
        assert (await sandbox.arun("pwd", session="default")).output == "/"
        await sandbox.arun("cd /tmp; export A=1; b=2; f() { echo f$1; }", session="default")
        result = await sandbox.arun("pwd; echo $A$b; f 3", session="default")
        assert result.output.split() == ["/tmp", "12", "f3"] and result.exit_code == 0


async def test_sessions_know_nothing_of_each_other():
    async with running() as sandbox:
        await sandbox.create_session(CreateBashSessionRequest(session="other"))
        await sandbox.arun("cd /tmp; x=1", session="default")
        assert (await sandbox.arun("pwd; echo ${x:-none}", session="other")).output.split() == ["/", "none"]


async def test_a_command_that_fails_raises_with_its_exit_code_and_output():
    async with running() as sandbox:
        text = await raised(sandbox.arun("echo oops >&2; (exit 7)", session="default"))
        assert "failed with exit code 7" in text and "oops" in text


async def test_check_silent_gives_the_exit_code_and_ignore_gives_none():
    async with running() as sandbox:
        silent = await sandbox.run_in_session(BashAction(command="(exit 7)", check="silent"))
        assert silent.exit_code == 7
        assert (await sandbox.run_in_session(BashAction(command="(exit 7)", check="ignore"))).exit_code is None


async def test_output_is_both_streams_without_colours_and_outer_blanks():
    async with running() as sandbox:
        result = await sandbox.arun("echo; printf '\\033[31mred\\033[0m\\n'; echo err >&2; echo", session="default")
        assert result.output == "red\nerr"


async def test_a_syntax_error_runs_no_line_at_all():
    async with running() as sandbox:
        text = await raised(sandbox.arun("touch /tmp/ran\nif then fi", session="default"))
        assert "while checking bash command" in text and "syntax error" in text
        assert (await sandbox.execute(Command(command=["test", "-e", "/tmp/ran"]))).exit_code == 1
        assert "syntax error" in await raised(sandbox.arun("if then fi", session="default"))


async def test_heredocs_and_many_lines_are_one_command():
    async with running() as sandbox:
        result = await sandbox.arun("cat <<'EOF'\n$HOME !x `y`\nEOF\nfor i in 1 2; do\n  echo $i\ndone", session="default")
        assert result.output == "$HOME !x `y`\n1\n2"


async def test_a_client_that_times_out_leaves_a_usable_session():
    async with running() as sandbox:
        await sandbox.arun("x=kept", session="default")
        began = time.perf_counter()
        await raised(sandbox.run_in_session(BashAction(command="sleep 60", timeout=1)), ReadTimeout)
        assert (await sandbox.arun("echo $x", session="default")).output == "kept"
        assert time.perf_counter() - began < 10


async def test_a_command_is_not_ended_before_its_time():
    async with running() as sandbox:
        result = await sandbox.run_in_session(BashAction(command="sleep 1.2; echo done", timeout=20))
        assert result.output == "done"


async def test_unknown_doubled_and_closed_sessions_are_errors():
    async with running() as sandbox:
        assert "does not exist" in await raised(sandbox.arun("true", session="never"))
        assert "exists already" in await raised(sandbox.create_session(CreateBashSessionRequest(session="default")))
        await sandbox.close_session(CloseBashSessionRequest(session="default"))
        assert "does not exist" in await raised(sandbox.arun("true", session="default"))
        assert "does not exist" in await raised(sandbox.close_session(CloseBashSessionRequest(session="default")))


async def test_env_and_startup_source_begin_a_session():
    async with running() as sandbox:
        await sandbox.write_file_by_path("export FROM_FILE=yes\ncd /tmp\n", "/root/start up.sh")
        request = CreateBashSessionRequest(session="s", env={"GIVEN": "a b"}, startup_source=["/root/start up.sh"])
        await sandbox.create_session(request)
        assert (await sandbox.arun('echo "$GIVEN" $FROM_FILE $PWD', session="s")).output == "a b yes /tmp"
        missing = CreateBashSessionRequest(session="t", startup_source=["/no/such/file"])
        assert "/no/such/file" in await raised(sandbox.create_session(missing))
        assert "does not exist" in await raised(sandbox.arun("true", session="t"))


async def test_env_enable_decides_whether_the_images_environment_is_seen():
    async with running() as sandbox:
        await sandbox.create_session(CreateBashSessionRequest(session="bare"))
        await sandbox.create_session(CreateBashSessionRequest(session="full", env_enable=True))
        bare = set((await sandbox.arun("compgen -e", session="bare")).output.split())
        full = set((await sandbox.arun("compgen -e", session="full")).output.split())
        assert "PATH" in bare and bare <= full


async def test_commands_without_a_session_never_run_out_of_sessions():
    async with running() as sandbox:
        for i in range(70):
            assert (await sandbox.arun(f"echo {i}")).output == str(i)


async def test_a_shell_that_exits_is_replaced():
    async with running() as sandbox:
        await raised(sandbox.arun("exit 3", session="default"))
        assert (await sandbox.arun("echo again", session="default")).output == "again"


async def test_nohup_gives_output_and_success_at_once():
    async with running() as sandbox:
        began = time.perf_counter()
        result = await sandbox.arun("bash -c 'sleep 0.3; echo out; echo err >&2'", session="default", mode="nohup")
        assert (result.output.split(), result.exit_code) == (["out", "err"], 0)
        assert time.perf_counter() - began < 4.5


async def test_nohup_without_a_session_works():
    async with running() as sandbox:
        assert (await sandbox.arun("echo x", mode="nohup")).output == "x"


async def test_nohup_gives_the_exit_code_of_a_job_that_fails_at_once():
    async with running() as sandbox:
        result = await sandbox.arun("bash -c 'echo out; exit 42'", session="default", mode="nohup")
        assert (result.exit_code, result.output) == (42, "out") and "exit code 42" in result.failure_reason
        assert (await sandbox.arun("no-such-program", session="default", mode="nohup")).exit_code == 127


async def test_nohup_does_not_call_a_job_that_fails_later_a_success():
    async with running() as sandbox:
        result = await sandbox.arun("bash -c 'sleep 3; echo out; exit 42'", session="default", mode="nohup")
        assert result.exit_code == 1 and "exit code 42" in result.failure_reason and "out" in result.output


async def test_nohup_limits_ignores_and_keeps_output_where_asked():
    async with running() as sandbox:
        limited = await sandbox.arun("seq 1000", session="default", mode="nohup", response_limited_bytes_in_nohup=4)
        assert limited.output == "1\n2"
        result = await sandbox.arun(
            "seq 3", session="default", mode="nohup", ignore_output=True, output_file="/tmp/deep/er/seq.out"
        )
        assert result.exit_code == 0 and "Output file: /tmp/deep/er/seq.out" in result.output
        assert "File size: 6 bytes" in result.output
        assert (await sandbox.arun("cat /tmp/deep/er/seq.out", session="default")).output == "1\n2\n3"


async def test_nohup_gives_up_after_its_wait_timeout():
    async with running() as sandbox:
        result = await sandbox.arun("sleep 100", session="default", mode="nohup", wait_timeout=3, wait_interval=5)
        assert result.exit_code == 1 and "did not complete" in result.failure_reason
        assert (await sandbox.arun("pgrep -c sleep", session="default")).output == "1"


async def test_other_commands_of_a_session_run_while_a_job_is_waited_for():
    async with running() as sandbox:
        job = asyncio.create_task(sandbox.arun("sleep 4", session="default", mode="nohup"))
        await asyncio.sleep(2.5)
        began = time.perf_counter()
        assert (await sandbox.arun("echo meanwhile", session="default")).output == "meanwhile"
        assert time.perf_counter() - began < 1
        assert (await job).exit_code == 0


async def test_the_parts_of_nohup_can_be_used_on_their_own():
    async with running() as sandbox:
        pid, error = await sandbox.start_nohup_process("sleep 2.5", "/tmp/n.out", "default")
        assert error is None and pid > 1
        done, message = await sandbox.wait_for_process_completion(pid, "default", 20, 5)
        assert done, message
        result = await sandbox.handle_nohup_output("/tmp/n.out", "default", done, message, False, None)
        assert result.exit_code == 0
        old = await sandbox.run_nohup_and_wait("echo x", "/tmp/o.out")
        assert old.success


async def test_execute_runs_a_list_of_arguments_as_they_are():
    async with running() as sandbox:
        result = await sandbox.execute(Command(command=["printf", "%s|", "a b", "$HOME", "*"]))
        assert (result.stdout, result.stderr, result.exit_code) == ("a b|$HOME|*|", "", 0)
        result = await sandbox.execute(Command(command=["bash", "-c", "echo e >&2; exit 9"]))
        assert (result.stdout, result.stderr, result.exit_code) == ("", "e\n", 9)


async def test_execute_takes_directory_and_environment():
    async with running() as sandbox:
        result = await sandbox.execute(Command(command=["bash", "-c", "pwd; echo $A"], cwd="/tmp", env={"A": "x y"}))
        assert result.stdout == "/tmp\nx y\n"
        assert (await sandbox.execute(Command(command="pwd", cwd="/root"))).stdout == "/root\n"
        assert (await sandbox.execute(Command(command="whoami"))).stdout == "root\n"


async def test_execute_says_why_a_string_with_blanks_does_not_run():
    async with running() as sandbox:
        result = await sandbox.execute(Command(command="ls -la"))
        assert result.exit_code == 127 and "pass a list of arguments" in result.stderr


async def test_execute_ends_a_program_at_its_timeout():
    async with running() as sandbox:
        began = time.perf_counter()
        assert "timed out after 1" in await raised(sandbox.execute(Command(command=["sleep", "60"], timeout=1)))
        assert time.perf_counter() - began < 8


async def test_a_session_runs_as_another_user():
    async with running() as sandbox:
        assert not await sandbox.remote_user.is_user_exist("rock")
        assert await sandbox.remote_user.create_remote_user("rock")
        assert await sandbox.remote_user.create_remote_user("rock")
        assert await sandbox.remote_user.is_user_exist("rock")
        await sandbox.create_session(CreateBashSessionRequest(session="theirs", remote_user="rock"))
        assert (await sandbox.arun("whoami; echo ~", session="theirs")).output.split() == ["rock", "/home/rock"]
        assert "Permission denied" in await raised(sandbox.arun("touch /root/x", session="theirs"))
        nobody = CreateBashSessionRequest(session="nobodys", remote_user="no-such-user")
        assert "no-such-user" in await raised(sandbox.create_session(nobody))


async def test_large_output_keeps_its_head_and_tail():
    async with running() as sandbox:
        result = await sandbox.arun("seq 1000000", session="default")
        assert result.output.startswith("1\n2\n") and result.output.endswith("\n1000000")
        assert len(result.output) <= 5 * 2**20
