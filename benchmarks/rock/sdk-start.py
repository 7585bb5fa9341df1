"""Times ROCK's unmodified SDK against a server: seconds of `start()`, and until the first command's answer, one JSON list of pairs.

usage: sdk-start.py URL TOKEN REPEATS MEMORY DISK
"""

import asyncio
import json
import logging
import os
import sys
import time

URL, TOKEN, REPEATS, MEMORY, DISK = sys.argv[1:6]
os.environ["ROCK_BASE_URL"] = URL
logging.disable(logging.CRITICAL)

from rock.actions import Command  # noqa: E402
from rock.sdk.sandbox.client import Sandbox  # noqa: E402
from rock.sdk.sandbox.config import SandboxConfig  # noqa: E402


async def once() -> tuple[float, float]:
    sandbox = Sandbox(
        SandboxConfig(
            base_url=URL,
            extra_headers={"Authorization": f"Bearer {TOKEN}"},
            memory=MEMORY,
            disk=DISK,
            auto_delete_seconds=0,
        )
    )
    began = time.perf_counter()
    await sandbox.start()
    started = time.perf_counter() - began
    assert (await sandbox.execute(Command(command=["/bin/true"]))).exit_code == 0
    usable = time.perf_counter() - began
    await sandbox.close()
    return started, usable


async def main() -> None:
    await once()
    print(json.dumps([await once() for _ in range(int(REPEATS))]))


asyncio.run(main())
