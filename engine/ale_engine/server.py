"""Starting and stopping: arguments, threads, the listening socket, the ready file, the parent process."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import uvicorn

from .app import App
from .checkpoints import CheckpointStore
from .errors import EngineError
from .registry import Registry, parse_model_argument
from .scheduler import Scheduler
from .service import Engine

log = logging.getLogger("ale_engine")

_GIB = 1024**3
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ale_engine", description=sys.modules[__package__ or ""].__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback only)")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--models", nargs="+", required=True, metavar="[NAME=]DIR", help="model directories")
    parser.add_argument("--state", type=Path, required=True, help="directory of checkpoints")
    parser.add_argument("--ready-file", type=Path, help="written as {port, pid} when calls are answered")
    parser.add_argument("--token", help="X-API-Key that every call must carry")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=tuple(_DTYPES), default="float32")
    parser.add_argument("--threads", type=int, default=1, help="threads of one tensor operation")
    parser.add_argument("--seed", type=int, default=0, help="of base models that have no weights")
    parser.add_argument("--slots", type=int, default=128, help="sequences sampled at once with one set of weights")
    parser.add_argument("--cache-gib", type=float, default=4.0, help="most memory for one set of slots")
    parser.add_argument("--parent-pid", type=int, help="exit when this process is gone")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    torch.set_num_threads(arguments.threads)
    if arguments.token is None and arguments.host not in _LOOPBACK:
        print(
            f"ale_engine: --host {arguments.host} can be reached from other machines: it needs a --token",
            file=sys.stderr,
        )
        return 2
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("ale_engine: --device cuda, but torch sees no CUDA device", file=sys.stderr)
        return 2
    try:
        device = torch.device(arguments.device)
        models = [parse_model_argument(text, device, _DTYPES[arguments.dtype]) for text in arguments.models]
        listener = socket.create_server((arguments.host, arguments.port), backlog=1024)
        # Accepted sockets inherit it; without, small answers wait 40 ms for an acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (EngineError, OSError) as error:
        print(f"ale_engine: {error}", file=sys.stderr)
        return 2
    return asyncio.run(_serve(arguments, Registry(models), listener))


class _Server(uvicorn.Server):
    """uvicorn without its signal handling, which would kill the process after a clean stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(arguments: argparse.Namespace, registry: Registry, listener: socket.socket) -> int:
    loop = asyncio.get_running_loop()
    scheduler = Scheduler(arguments.slots, int(arguments.cache_gib * _GIB))
    engine = Engine(registry, CheckpointStore(arguments.state), scheduler, loop, arguments.seed)
    config = uvicorn.Config(
        App(engine, arguments.token),
        lifespan="off",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=75,
    )
    server = _Server(config)

    def stop() -> None:
        engine.abort()
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    announcing = loop.create_task(_announce(server, listener, arguments.ready_file, stop))
    tasks: list[asyncio.Task] = [announcing]
    if arguments.parent_pid is not None:
        tasks.append(loop.create_task(_watch_parent(arguments.parent_pid, stop)))
    try:
        await server.serve(sockets=[listener])
    finally:
        for task in tasks:
            task.cancel()
        if arguments.ready_file is not None:
            arguments.ready_file.unlink(missing_ok=True)
        if not engine.close(seconds=1.0):
            # A long computation cannot be interrupted; checkpoints are whole or absent, so nothing is lost by leaving.
            logging.shutdown()
            os._exit(0)
    return 0 if announcing.cancelled() or not announcing.done() or announcing.result() else 2


async def _announce(
    server: uvicorn.Server, listener: socket.socket, ready_file: Path | None, stop: Callable[[], None]
) -> bool:
    """Says where we listen. Where that cannot be written down nobody would find us: false, and the server stops."""
    while not server.started:
        await asyncio.sleep(0.01)
    host, port = listener.getsockname()[:2]
    log.info("listening on http://%s:%d", host, port)
    if ready_file is not None:
        temporary = ready_file.with_name(f"{ready_file.name}.{os.getpid()}")
        try:
            temporary.write_text(json.dumps({"port": port, "pid": os.getpid()}))
            temporary.rename(ready_file)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            print(f"ale_engine: {error}", file=sys.stderr)
            stop()
            return False
    return True


async def _watch_parent(pid: int, stop: Callable[[], None]) -> None:
    """Stop when process `pid` has ended. As our parent, it has when we were given another one."""
    is_parent = os.getppid() == pid
    while True:
        await asyncio.sleep(1)
        if (is_parent and os.getppid() != pid) or not _alive(pid):
            log.info("process %d is gone; stopping", pid)
            stop()
            return


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
