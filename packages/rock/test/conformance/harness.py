"""Runs the conformance cases against a server: every function `test_*` of the modules `cases_*`, a few at a time, one line of JSON each.

usage: harness.py URL TOKEN [NAME...]
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

CONCURRENCY = 4

URL, TOKEN = sys.argv[1], sys.argv[2]
os.environ["ROCK_BASE_URL"] = URL
os.environ["ROCK_LOGGING_LEVEL"] = "CRITICAL"
logging.disable(logging.CRITICAL)

from rock.actions import CreateBashSessionRequest  # noqa: E402
from rock.sdk.sandbox.client import Sandbox  # noqa: E402
from rock.sdk.sandbox.config import SandboxConfig  # noqa: E402


def config(**more: object) -> SandboxConfig:
    """The SDK's own way to authenticate: a header of every call."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return SandboxConfig(**{"base_url": URL, "extra_headers": headers, "memory": "512m", "disk": "128m", **more})


@asynccontextmanager
async def running(**more: object) -> AsyncIterator[Sandbox]:
    """A sandbox with a session called `default`."""
    sandbox = Sandbox(config(**{"auto_delete_seconds": 0, **more}))
    await sandbox.start()
    try:
        await sandbox.create_session(CreateBashSessionRequest(session="default"))
        yield sandbox
    finally:
        await sandbox.close()


async def raised(awaitable: Awaitable[object], kind: type[BaseException] = Exception) -> str:
    """The text of what it raises."""
    try:
        result = await awaitable
    except kind as error:
        return f"{error!r} {error}"
    raise AssertionError(f"should have raised {kind.__name__}, gave {result!r}")


Case = Callable[[], Awaitable[None]]


def cases() -> dict[str, Case]:
    here = Path(__file__).parent
    sys.path.insert(0, str(here))
    sys.modules["harness"] = sys.modules[__name__]
    found: dict[str, Case] = {}
    for path in sorted(here.glob("cases_*.py")):
        module = importlib.import_module(path.stem)
        for name, value in vars(module).items():
            if name.startswith("test_"):
                found[name] = value
    return found


async def main() -> None:
    wanted = set(sys.argv[3:])
    limit = asyncio.Semaphore(CONCURRENCY)

    async def run(name: str, case: Case) -> None:
        async with limit:
            began = time.perf_counter()
            error = None
            try:
                await asyncio.wait_for(case(), 60)
            except BaseException:  # noqa: BLE001
                error = traceback.format_exc(limit=-4)
            took = round((time.perf_counter() - began) * 1000)
            print(json.dumps({"name": name, "error": error, "ms": took}), flush=True)

    await asyncio.gather(*[run(name, case) for name, case in cases().items() if not wanted or name in wanted])


if __name__ == "__main__":
    asyncio.run(main())
