"""The scripted model server as a process of its own: ``python -m swarmq.testing.server FILE --port-file P``."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from swarmq.errors import UsageError
from swarmq.testing.script import Script
from swarmq.testing.scripted import ScriptedServer

USAGE_EXIT = 2
ENVIRONMENT_EXIT = 5


async def serve(script: Script, host: str, port: int, port_file: Path | None) -> None:
    """Run until SIGTERM or SIGINT. The URL goes to stdout; the port file appears, whole, once it is listening."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = ScriptedServer(script, host, port)
    url = await server.start()
    try:
        if port_file is not None:
            _write(port_file, url.rpartition(":")[2])
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        await stop.wait()
    finally:
        await server.aclose()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m swarmq.testing.server", description=__doc__)
    parser.add_argument("file", type=Path, help="the script, as YAML")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument("--port-file", type=Path, help="where to write the port")
    given = parser.parse_args(arguments)
    try:
        asyncio.run(serve(Script.load(given.file), given.host, given.port, given.port_file))
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return USAGE_EXIT
    except OSError as error:
        sys.stderr.write(f"{given.host}:{given.port}: {error.strerror}\n")
        return ENVIRONMENT_EXIT
    return 0


def _write(port_file: Path, text: str) -> None:
    """By rename, so that whoever waits for the file never reads half of it."""
    partial = port_file.with_name(f"{port_file.name}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(port_file)


if __name__ == "__main__":
    sys.exit(main())
