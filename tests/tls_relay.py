"""TLS in front of a Valkey on a unix socket (the bundled one speaks none), with an authority of its own."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from swarmq.background import BackgroundLoop

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


def make_authority(directory: Path, name: str) -> Path:
    """The certificate of a new authority; its key lies beside it."""
    certificate = directory / f"{name}.pem"
    _openssl(
        *("req", "-x509", *_NEW_KEY, "-keyout", str(directory / f"{name}.key"), "-out", str(certificate)),
        *("-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign"),
    )
    return certificate


def make_certificate(authority: Path, address: str = "127.0.0.1") -> Path:
    """Certificate and key of a server at that address, in one file, signed by the authority."""
    key, signed = authority.with_suffix(".server.key"), authority.with_suffix(".server.pem")
    _openssl(
        *("req", "-x509", *_NEW_KEY, "-keyout", str(key), "-out", str(signed), "-subj", "/CN=redis"),
        *("-CA", str(authority), "-CAkey", str(authority.with_suffix(".key"))),
        *("-addext", f"subjectAltName=IP:{address}", "-addext", "basicConstraints=critical,CA:FALSE"),
    )
    both = authority.with_suffix(".both.pem")
    both.write_text(signed.read_text() + key.read_text())
    return both


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)


@contextmanager
def tls_relay(socket: Path, certificate: Path) -> Iterator[int]:
    """The port, on 127.0.0.1, where the server behind ``socket`` speaks TLS."""
    background = BackgroundLoop("tls-relay")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    serving: set[asyncio.Task[None]] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(str(socket))
        try:
            await asyncio.gather(forward(reader, server_writer), forward(server_reader, writer))
        finally:
            writer.transport.abort()
            server_writer.transport.abort()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(relay(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    async def start() -> asyncio.Server:
        return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)

    server = background.run(start())

    async def stop() -> None:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close in the next turn of the loop

    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        background.run(stop())
        background.stop()
