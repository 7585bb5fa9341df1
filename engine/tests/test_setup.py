"""setup.sh says what is missing. What it installs is used by every other test."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .conftest import ENGINE


def setup(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(ENGINE / "setup.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60)


def fake_python(directory: Path, version: str, has_venv: bool) -> str:
    """A program that answers the questions setup.sh puts to Python."""
    script = directory / "python"
    script.write_text(
        f"""#!/bin/sh
case "$2" in
  *"sys.exit(not (3, 10)"*) exit {0 if version >= "3.10" else 1} ;;
  *"import venv"*) exit {0 if has_venv else 1} ;;
  *print*) echo {version} ;;
  *) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""
    )
    script.chmod(0o755)
    return str(script)


def test_without_a_python_it_names_the_package(tmp_path: Path) -> None:
    ended = setup(str(tmp_path / "venv"), ALE_PYTHON=str(tmp_path / "no-python"))
    assert ended.returncode == 1
    assert "no Python 3.10 or newer" in ended.stderr
    assert "apt install python3 python3-venv" in ended.stderr


def test_without_the_venv_module_it_names_the_package(tmp_path: Path) -> None:
    ended = setup(str(tmp_path / "venv"), ALE_PYTHON=fake_python(tmp_path, "3.12", has_venv=False))
    assert ended.returncode == 1
    assert "python3.12-venv" in ended.stderr
    assert not (tmp_path / "venv").exists()


def test_it_does_not_delete_what_it_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    ended = setup(str(tmp_path / "home"))
    assert ended.returncode == 1
    assert "not a Python environment" in ended.stderr
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"


def test_offline_it_says_so_and_the_next_run_starts_over(tmp_path: Path) -> None:
    offline = {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_FIND_LINKS": "",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_RETRIES": "0",
        "PIP_NO_CACHE_DIR": "1",
    }
    first = setup(str(tmp_path / "venv"), **offline)
    assert first.returncode == 1
    assert "could not be downloaded" in first.stderr
    assert not (tmp_path / "venv" / ".ale-engine-stamp").exists()
    second = setup(str(tmp_path / "venv"), **offline)
    assert "half made; starting over" in second.stdout
