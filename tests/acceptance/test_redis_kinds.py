"""A whole fleet on the Redis of others: behind TLS, as an ACL user with few rights, behind Sentinels that fail over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import redis
from fleet_stack import FleetStack, running_fleet, until
from sentinel_servers import SentinelServers, free_port, sentinel_servers
from tls_relay import make_authority, make_certificate, tls_relay

from swarmq import Client, Plan, Subtask
from swarmq.models.events import EventType

PLAN = Plan(
    subtasks=(
        Subtask(name="Counting", instruction="Count ten steps"),
        Subtask(name="Beta", instruction="Write beta", dependencies=("Counting",)),
    )
)
TIMEOUT = 60.0
RIGHTS = Path(__file__).parents[2] / "docs" / "how-to" / "several-machines.md"


def runs_a_swarm(fleet: FleetStack, name: str) -> None:
    with Client(fleet.url, settings=fleet.settings()) as client:
        result = client.submit(PLAN, repo=fleet.repository(name)).result(TIMEOUT)
    assert result.success, result.report


def shows_none_of(fleet: FleetStack, *secrets: str) -> None:
    """Neither logs nor commands show a password."""
    said = "".join(fleet.log(name) for name in fleet.processes)
    for command in (("doctor",), ("config", "show", "--origin"), ("workers",), ("ls",)):
        done = fleet.run_cli(*command)
        said += done.stdout + done.stderr
    assert "Connected to" in said
    assert [secret for secret in secrets if secret in said] == []


def test_tls(tmp_path: Path) -> None:
    authority = make_authority(tmp_path, "authority")
    with (
        running_fleet(start=False) as fleet,
        tls_relay(fleet.root / "valkey.sock", make_certificate(authority)) as port,
    ):
        fleet.url = f"rediss://:{fleet.password}@127.0.0.1:{port}/0?ssl_ca_certs={authority}"
        fleet.start_all()
        runs_a_swarm(fleet, "tls")
        shows_none_of(fleet, fleet.password)


def granted() -> list[str]:
    """The rule of the documentation, word by word."""
    line = next(line for line in RIGHTS.read_text().splitlines() if line.startswith("user swarmq on"))
    return line.split()[3:]


def test_an_acl_user_with_no_more_rights_than_the_documentation_says() -> None:
    with running_fleet(start=False) as fleet:
        socket = fleet.root / "valkey.sock"
        with redis.Redis(unix_socket_path=str(socket), password=fleet.password) as admin:
            rules = [rule for rule in granted() if not rule.startswith(">")]
            admin.execute_command("ACL", "SETUSER", "swarmq", "on", ">only-t%his", *rules)
            fleet.url = f"unix://swarmq:only-t%25his@{socket}"
            fleet.start_all()
            runs_a_swarm(fleet, "acl")
            shows_none_of(fleet, "only-t")
            flower_shows_the_workers(fleet)
            for command in (("gc",), ("cache", "stats"), ("cache", "clear"), ("status",)):
                assert fleet.run_cli(*command).returncode in (0, 5)
            refused = {entry["object"] for entry in admin.acl_log()}
        assert refused == set()


def flower_shows_the_workers(fleet: FleetStack) -> None:
    port = free_port()
    with (fleet.root / "flower.log").open("ab") as log:
        flower = subprocess.Popen(
            [sys.executable, "-m", "celery", "--app", "swarmq.fleet.app", "flower", f"--port={port}"],
            env=fleet.environment | {"FLOWER_ADDRESS": "127.0.0.1"},
            cwd=fleet.root,
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: "agents-" in page(port) or None, "Flower")
    finally:
        flower.terminate()
        flower.wait(30)
    assert "only-t" not in fleet.log("flower")


def page(port: int) -> str:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/workers").text
    except httpx.TransportError:
        return ""


@pytest.mark.parametrize("how", ["agreed", "killed"])
def test_a_fail_over_in_the_middle_of_a_swarm(how: str) -> None:
    with sentinel_servers() as servers, running_fleet(start=False) as fleet:
        fleet.url = servers.url()
        fleet.start_all()
        with Client(fleet.url, settings=fleet.settings()) as client:
            handle = client.submit(PLAN, repo=fleet.repository("fail-over"))
            next(event for event in handle.events() if event.type is EventType.BRANCH_TOOL_CALL)
            before = servers.primary()
            fail_over(servers, how)
            result = handle.result(TIMEOUT)
        assert result.success, result.report
        assert servers.primary() != before
        assert all(process.poll() is None for process in fleet.processes.values())
        shows_none_of(fleet, servers.password, servers.own_password)


def fail_over(servers: SentinelServers, how: str) -> None:
    if how == "agreed":
        servers.fail_over()
        return
    before = servers.primary()
    servers.kill_primary()
    until(lambda: servers.primary() != before or None, "the Sentinel to make the replica the primary")
