"""A primary, a replica and the Sentinel that watches them, on random ports of the loopback."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import redis

from swarmq.devstack.valkey import find_binary

MASTER = "mine"
START_SECONDS = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class SentinelServers:
    """``ports`` are those of the two servers; which of them is the primary, the Sentinel tells."""

    directory: Path
    password: str
    own_password: str
    sentinel_port: int
    ports: list[int]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def url(self, database: int = 0) -> str:
        hosts = f"127.0.0.1:{free_port()},127.0.0.1:{self.sentinel_port}"  # the first one is down
        return f"sentinel://:{self.password}@{hosts}/{database}?master={MASTER}&sentinel_password={self.own_password}"

    def sentinel(self) -> redis.Redis:
        return redis.Redis(port=self.sentinel_port, password=self.own_password)

    def client(self, port: int) -> redis.Redis:
        return redis.Redis(port=port, password=self.password)

    def primary(self) -> int:
        with self.sentinel() as sentinel:
            return int(sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)[1])

    def fail_over(self) -> int:
        """Make the replica the primary, in agreement with the old one, which loses nothing; the new one's port."""
        before = self.primary()
        with self.sentinel() as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", MASTER, "COORDINATED")
        self._until(lambda: self.primary() != before)
        with self.client(before) as old:
            self._until(lambda: old.info("replication")["role"] == "slave")
        return self.primary()

    def kill_primary(self) -> None:
        """As a crash would; the Sentinel finds out, and makes the replica the primary."""
        process = self.processes[self.ports.index(self.primary())]
        process.kill()
        process.wait(10)

    def start(self) -> None:
        for number, port in enumerate(self.ports):
            lines = [f"replicaof 127.0.0.1 {self.ports[0]}"] if number else []
            lines += [f"requirepass {self.password}", f"primaryauth {self.password}", "appendonly yes"]
            self._launch(port, f"server-{number}", [*lines, 'save ""', "repl-diskless-sync-delay 0"])
        with self.client(self.ports[1]) as replica:
            self._until(lambda: replica.info("replication")["master_link_status"] == "up")
        watch = [
            f"requirepass {self.own_password}",
            f"sentinel monitor {MASTER} 127.0.0.1 {self.ports[0]} 1",
            f"sentinel auth-pass {MASTER} {self.password}",
            f"sentinel down-after-milliseconds {MASTER} 1500",
            f"sentinel failover-timeout {MASTER} 5000",
        ]
        self._launch(self.sentinel_port, "sentinel", watch, "--sentinel")
        with self.sentinel() as sentinel:
            self._until(lambda: len(sentinel.sentinel_slaves(MASTER)) == 1)
            self._until(lambda: sentinel.sentinel_slaves(MASTER)[0]["master-link-status"] == "ok")

    def _launch(self, port: int, name: str, lines: list[str], *arguments: str) -> None:
        directory = self.directory / name
        directory.mkdir()
        config = directory / "valkey.conf"
        common = ["bind 127.0.0.1", f"port {port}", f"dir {directory}"]
        config.write_text("\n".join([*common, *lines]) + "\n")
        command = [str(find_binary()), str(config), *arguments]
        self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))

    def _until(self, look: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(redis.RedisError):
                if look():
                    return
            assert time.monotonic() < deadline, "the servers behind the Sentinel are not ready"
            time.sleep(0.02)


@contextlib.contextmanager
def sentinel_servers() -> Iterator[SentinelServers]:
    directory = Path(tempfile.mkdtemp(prefix="sqs-", dir="/tmp"))
    servers = SentinelServers(
        directory, secrets.token_hex(8), secrets.token_hex(8), free_port(), [free_port(), free_port()]
    )
    try:
        servers.start()
        yield servers
    finally:
        for process in servers.processes:
            process.kill()
            process.wait(10)
        shutil.rmtree(directory, ignore_errors=True)
