"""Verify with real processes: a failure is told, bad commands do no harm, and a lost worker changes no decision."""

from __future__ import annotations

from pathlib import Path

import psutil
from fleet_stack import FleetStack, git, until

from swarmq import Client, Plan, Subtask, SwarmState
from swarmq.models.events import EventType
from swarmq.models.swarm import SubtaskResult, SubtaskStatus
from swarmq.models.verify import VerifyReport
from swarmq.workspace.verifying import KEPT_BYTES, OUTPUT_BYTES

TIMEOUT = 60.0
COMMANDS = {
    "Fails always": "echo because; false",
    "Prints": "yes | head -c 100000000",
    "Changes files": "echo x > scratch.txt; echo x >> shared.txt",
    "Does not exist": "no-such-program --check",
}


def subtasks() -> list[Subtask]:
    told = Subtask(name="Told", instruction="Write first, then second", verify="cat second.txt")
    others = (
        Subtask(name=name, instruction=f"Write one file for {name}", verify=one) for name, one in COMMANDS.items()
    )
    return [told, *others]


def test_what_verify_says_decides(fleet: FleetStack, client: Client) -> None:
    repo = fleet.repository("verified")
    plan = Plan(subtasks=tuple(subtasks()))
    handle = client.submit(plan, repo=repo, cache="bypass", verify_rounds=1)
    endless = Plan(subtasks=(Subtask(name="Never ends", instruction="Write one file for ever"),))
    verify = "sleep 81.5 & sleep 82.5"
    other = client.submit(endless, repo=repo, cache="bypass", verify=verify, verify_rounds=1, verify_timeout_seconds=1)
    result = handle.result(TIMEOUT)
    assert result.state is SwarmState.PARTIAL
    by_name = {subtask.name: subtask for subtask in (*result.subtasks, *other.result(TIMEOUT).subtasks)}
    for name in ("Told", "Prints", "Changes files"):
        assert by_name[name].success, result.report
        assert report_of(by_name[name]).passed
    assert by_name["Told"].steps == 4
    (sent_back,) = [entry for entry in handle.transcript("told") if entry.verify is not None]
    assert "No such file" in sent_back.message.text

    for name, said in (("Fails always", "exit code 1"), ("Never ends", "too long"), ("Does not exist", "not exist")):
        failed = by_name[name]
        assert (failed.status, failed.fault, failed.limit) == (SubtaskStatus.FAILED, "agent", "verify_rounds")
        assert said in (failed.error or "")
        assert failed.steps == 3, "it was told once, and answered"
    assert "    because" in result.report
    assert not named("sleep", "81.5")

    printed = report_of(by_name["Prints"])
    outputs = fleet.root / "state" / "swarms" / handle.id / "outputs" / "prints"
    assert len(printed.output) < OUTPUT_BYTES
    assert [path.stat().st_size for path in outputs.glob("*.txt")] == [KEPT_BYTES]
    assert report_of(by_name["Changes files"]).changed == ("scratch.txt", "shared.txt")
    files = git(repo, "ls-tree", "-r", "--name-only", f"swarmq/{handle.id}").split()
    assert {"first.txt", "second.txt", "shared.txt"} < set(files)
    assert "scratch.txt" not in files
    assert git(repo, "show", f"swarmq/{handle.id}:shared.txt") == git(repo, "show", "main:shared.txt")

    lines = fleet.run_cli("events", handle.id).stdout
    assert "the agent is told, 1 of 1" in lines
    assert "it changed 2 files, put back" in lines
    assert "verify" in fleet.run_cli("show", handle.id, "fails-always").stdout


def test_a_worker_that_is_killed_while_it_verifies(fleet: FleetStack, client: Client) -> None:
    repo, ledger = fleet.repository("killed"), fleet.root / "verify-ledger"
    verify = f"echo scratch > scratch.txt; echo $$ >> {ledger}; [ $(wc -l < {ledger}) -gt 1 ] || exec sleep 83.5"
    plan = Plan(subtasks=(Subtask(name="One", instruction="Write one file for Killed", verify=verify),))
    asked = fleet.requests("Write one file for")
    handle = client.submit(plan, repo=repo, cache="bypass")
    until(lambda: named("sleep", "83.5") or None, "verify")
    fleet.kill("agents")
    fleet.start_worker("agents")
    result = handle.result(TIMEOUT)
    assert result.success, result.report
    assert (result.subtasks[0].steps, fleet.requests("Write one file for") - asked) == (2, 2)
    assert not named("sleep", "83.5"), "who takes over ends what was left"
    assert len(ledger.read_text().split()) == 3, "twice in the branch's worktree, once on the merged tree"
    assert not [path for path in files_of(repo, handle.id) if path.name == "scratch.txt"]
    types = [event.type for event in handle.events()]
    assert types.count(EventType.VERIFY_STARTED) == 3
    assert types.count(EventType.VERIFY_PASSED) == 2


def report_of(subtask: SubtaskResult) -> VerifyReport:
    assert subtask.verify is not None
    return subtask.verify


def files_of(repo: Path, swarm_id: str) -> list[Path]:
    return [Path(name) for name in git(repo, "ls-tree", "-r", "--name-only", f"swarmq/{swarm_id}").split()]


def named(*command: str) -> list[psutil.Process]:
    """Processes with exactly this command line."""
    return [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == list(command)]
