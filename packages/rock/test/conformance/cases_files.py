"""Files: read, written, uploaded, owned; what cannot be done is an error."""

import os
import tempfile
from pathlib import Path

from harness import raised, running
from rock.actions import UploadRequest
from rock.actions.sandbox.request import (
    ChmodRequest,
    ChownRequest,
    Command,
    ReadFileRequest,
    UploadMode,
    WriteFileRequest,
)


async def test_a_text_comes_back_as_it_was_written():
    async with running() as sandbox:
        text = "é 漢字 🙂\r\nline\n\n no end"
        assert (await sandbox.write_file(WriteFileRequest(content=text, path="/root/new/dir/a.txt"))).success
        assert (await sandbox.read_file(ReadFileRequest(path="/root/new/dir/a.txt"))).content == text
        assert (await sandbox.write_file_by_path("short", "/root/new/dir/a.txt")).success
        assert (await sandbox.execute(Command(command=["cat", "/root/new/dir/a.txt"]))).stdout == "short"


async def test_reading_what_is_not_there_raises():
    async with running() as sandbox:
        await raised(sandbox.read_file(ReadFileRequest(path="/no/such/file")))
        await raised(sandbox.read_file(ReadFileRequest(path="/root")))


async def test_writing_where_it_is_not_possible_is_no_success():
    async with running() as sandbox:
        answer = await sandbox.write_file_by_path("x", "/etc/passwd/x")
        assert not answer.success and "/etc/passwd" in answer.message
        assert not (await sandbox.write_file_by_path("x", "/root")).success
        assert not (await sandbox.write_file_by_path("x" * 200_000_000, "/root/big")).success


async def test_encodings_and_their_errors_are_honoured():
    async with running() as sandbox:
        await sandbox.execute(Command(command=["bash", "-c", "printf 'caf\\xe9' > /root/latin"]))
        read = ReadFileRequest
        assert (await sandbox.read_file(read(path="/root/latin", encoding="latin-1"))).content == "café"
        assert (await sandbox.read_file(read(path="/root/latin", errors="replace"))).content == "caf\ufffd"
        assert (await sandbox.read_file(read(path="/root/latin", errors="ignore"))).content == "caf"
        assert (await sandbox.read_file(read(path="/root/latin", errors="backslashreplace"))).content == "caf\\xe9"
        await raised(sandbox.read_file(read(path="/root/latin")))


async def test_lines_are_read_by_their_numbers():
    async with running() as sandbox:
        await sandbox.write_file_by_path("".join(f"line {n}\n" for n in range(1, 2502)), "/root/lines")
        part = await sandbox.read_file_by_line_range("/root/lines", start_line=2, end_line=3)
        assert part.content == "line 2\nline 3\n"
        whole = await sandbox.read_file_by_line_range("/root/lines")
        assert whole.content.count("\n") == 2501 and whole.content.endswith("line 2501\n")
        await raised(sandbox.read_file_by_line_range("/root/lines", start_line=3, end_line=2))


async def test_uploads_of_any_bytes_and_size_arrive_whole():
    async with running() as sandbox:
        with tempfile.TemporaryDirectory() as directory:
            for size, mode in [(0, UploadMode.AUTO), (70_000, UploadMode.AUTO), (5 * 2**20, UploadMode.AUTO), (3 * 2**20, UploadMode.DIRECT)]:
                path = Path(directory, "data.bin")
                path.write_bytes(os.urandom(size))
                answer = await sandbox.upload_by_path(path, f"/root/up/{size}", mode)
                assert answer.success, answer.message
                found = await sandbox.execute(Command(command=["sha256sum", f"/root/up/{size}"]))
                local = os.popen(f"sha256sum {path}").read().split()[0]
                assert found.stdout.split()[0] == local


async def test_an_upload_that_fails_says_so():
    async with running(disk="64m") as sandbox:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "a.txt")
            path.write_text("x")
            request = UploadRequest(source_path=str(path), target_path="/etc/passwd/x")
            assert not (await sandbox.upload(request)).success
            missing = await sandbox.upload(UploadRequest(source_path="/no/such", target_path="/root/x"))
            assert not missing.success and "not found" in missing.message
            stored = await sandbox.upload_by_path(path, "/root/x", UploadMode.OSS)
            assert not stored.success and "oss" in stored.message
            path.write_bytes(bytes(100 * 2**20))
            assert not (await sandbox.upload_by_path(path, "/root/big", UploadMode.DIRECT)).success


async def test_a_directory_is_uploaded_and_replaces_what_was_there():
    async with running() as sandbox:
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "sub").mkdir()
            Path(directory, "sub", "f.txt").write_text("hello")
            Path(directory, "run.sh").write_text("#!/bin/sh\necho ran\n")
            Path(directory, "run.sh").chmod(0o755)
            await sandbox.write_file_by_path("old", "/root/dir/old")
            result = await sandbox.fs.upload_dir(directory, "/root/dir")
            assert result.exit_code == 0, result.failure_reason
            listing = await sandbox.execute(Command(command=["find", "/root/dir", "-type", "f"]))
            assert sorted(listing.stdout.split()) == ["/root/dir/run.sh", "/root/dir/sub/f.txt"]
            assert (await sandbox.execute(Command(command=["/root/dir/run.sh"]))).stdout == "ran\n"
            bad = await sandbox.fs.upload_dir("/no/such", "/root/dir")
            assert bad.exit_code == 1


async def test_a_working_directory_is_deployed_and_named_in_templates():
    async with running() as sandbox:
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "f.txt").write_text("hello")
            target = await sandbox.deploy.deploy_working_dir(directory)
            assert sandbox.deploy.working_dir == target
            command = sandbox.deploy.format("cat <<working_dir>>/f.txt")
            assert (await sandbox.arun(command, session="default")).output == "hello"


async def test_owner_and_mode_of_files_are_changed():
    async with running() as sandbox:
        await sandbox.remote_user.create_remote_user("rock")
        await sandbox.execute(Command(command=["mkdir", "-p", "/srv/a/b"]))
        assert (await sandbox.fs.chown(ChownRequest(remote_user="rock", paths=["/srv/a"], recursive=True))).success
        assert (await sandbox.fs.chmod(ChmodRequest(paths=["/srv/a"], mode="750", recursive=True))).success
        shown = await sandbox.execute(Command(command=["stat", "-c", "%U:%G %a", "/srv/a/b"]))
        assert shown.stdout == "rock:rock 750\n"
        assert not (await sandbox.fs.chown(ChownRequest(remote_user="nobody-here", paths=["/srv/a"]))).success
        assert not (await sandbox.fs.chmod(ChmodRequest(paths=["/no/such"], mode="755"))).success


async def test_downloads_without_object_storage_are_refused_quietly():
    async with running() as sandbox:
        answer = await sandbox.fs.download_file("/etc/hostname", "/tmp/never")
        assert not answer.success and answer.message == "OSS is not available"


async def test_links_never_lead_out_of_the_sandbox():
    async with running() as sandbox:
        link = ["ln", "-s", "/../../../../../../../../etc/hostname", "/root/link"]
        await sandbox.execute(Command(command=link))
        inside = await sandbox.execute(Command(command=["cat", "/etc/hostname"]))
        assert (await sandbox.read_file(ReadFileRequest(path="/root/link"))).content == inside.stdout
        assert (await sandbox.read_file(ReadFileRequest(path="/root/../../../etc/hostname"))).content == inside.stdout
