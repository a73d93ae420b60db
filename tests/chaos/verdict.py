"""What passing means, the same for every fault: see docs/design/chaos.md."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
from chaos_fleet import LEASE_SECONDS, ChaosFleet, ChaosSwarm
from chaos_swarm import CALLS, PARTS, STEPS, command, expected_files
from fleet_stack import git, until
from processors import Recovery

from swarmq.models.events import EventType
from swarmq.models.messages import Role
from swarmq.models.swarm import SubtaskStatus, SwarmResult
from swarmq.store import keys

RECOVERY_SECONDS = LEASE_SECONDS + 1.5
"""The lease and 15 s, which is scaled as all intervals are."""
START_SECONDS = 3.0
"""More where a process had to be started: that is not scaled."""
QUIET_SECONDS = 60.0
BRANCH_MARK = "SWARMQ_BRANCH"
LOST = "may or may not have taken effect"


@dataclass(frozen=True)
class Verdict:
    """The figures of a swarm that passed."""

    faults: int
    extra_calls: int
    recovery: Recovery


def check(swarm: ChaosSwarm, result: SwarmResult, faults: int, bound_seconds: float = RECOVERY_SECONDS) -> Verdict:
    """Fails with what is wrong; else the figures."""
    check_result(swarm, result)
    extra = check_calls(swarm, faults)
    for part in PARTS:
        check_transcript(swarm, part.name)
    check_events(swarm)
    check_remains(swarm)
    return Verdict(faults, extra, check_recoveries(swarm, bound_seconds))


def check_result(swarm: ChaosSwarm, result: SwarmResult) -> None:
    """Everything that an undisturbed run brings, and nothing else."""
    assert result.success, result.report
    found = {each.name: (each.kind, each.stage, each.status, each.text, each.steps) for each in result.subtasks}
    wanted = {part.name: (part.kind, part.stage, SubtaskStatus.SUCCEEDED, part.text, STEPS) for part in PARTS}
    assert found == wanted
    assert result.commit is not None
    files = git(swarm.repo, "ls-tree", "-r", "--name-only", result.commit).split()
    assert set(files) == {"shared.txt", *expected_files()}
    for name, text in expected_files().items():
        part = name.removesuffix(".txt")
        assert git(swarm.repo, "show", f"{result.commit}:{name}") == text, (name, swarm.handle.transcript(part))
    merges = git(swarm.repo, "log", "--merges", "--format=%s", f"main..{result.commit}").split("\n")
    assert len(set(merges)) == len(merges), merges
    assert git(swarm.repo, "status", "--porcelain") == ""


def check_calls(swarm: ChaosSwarm, faults: int) -> int:
    """At most one more model call for each branch and fault; returns how many more there were."""
    calls = swarm.calls()
    assert not calls["unknown"], "the model was asked what no undisturbed run asks"
    too_many = {name: count for name, count in calls.items() if count > CALLS[name] + faults}
    assert not too_many, f"more than one call for each of {faults} faults: {too_many}"
    return sum(calls.values()) - sum(CALLS.values())


def check_transcript(swarm: ChaosSwarm, name: str) -> None:
    """One writer: each step once and in order. Each step's tool ran once, or is marked as interrupted."""
    entries = swarm.handle.transcript(name)
    answers = [entry for entry in entries if entry.message.role is Role.ASSISTANT]
    assert [entry.step for entry in answers] == list(range(1, STEPS + 1)), name
    asked = [call for entry in answers for call in entry.message.tool_calls]
    given = {result.call_id: result for entry in entries for result in entry.message.tool_results}
    results = sum(len(entry.message.tool_results) for entry in entries)
    assert results == len(given) == len(asked) == STEPS - 1, name
    ledger = Counter((swarm.ledger / name).read_text().split()) if (swarm.ledger / name).exists() else Counter()
    part = next(part for part in PARTS if part.name == name)
    for step, call in enumerate(asked, 1):
        lost = LOST in given[call.id].content
        if part.kind == "read":
            assert lost or not given[call.id].is_error, (name, step)
            continue
        assert json.loads(call.arguments)["command"] == command(part, step)
        runs = ledger[str(step)]
        assert runs == 1 or (lost and runs == 0), f"{name}: the tool of step {step} ran {runs} times, lost: {lost}"


def check_events(swarm: ChaosSwarm) -> None:
    """What can happen once has happened once."""
    events = list(swarm.handle.events())
    ended = Counter(event.branch for event in events if event.type is EventType.BRANCH_FINISHED)
    assert ended == {part.name: 1 for part in PARTS}
    for type_, count in ((EventType.SWARM_PLANNED, 1), (EventType.STAGE_FINISHED, 3), (EventType.SWARM_FINISHED, 1)):
        assert sum(event.type is type_ for event in events) == count, type_


def check_remains(swarm: ChaosSwarm) -> None:
    """No process, worktree, lock or lasting key of the swarm is left."""
    until(lambda: not processes_of(swarm.handle.id) or None, "the end of all processes")
    directory = swarm.fleet.stack.root / "state" / "swarms" / swarm.handle.id
    until(lambda: not remains(directory) or None, f"an empty {directory}: {remains(directory)}")
    locks = [path for top in (directory / "repo.git", swarm.repo / ".git") for path in top.rglob("*.lock")]
    assert not locks, locks
    until(lambda: not lasting_keys(swarm) or None, f"the expiry of {lasting_keys(swarm)}")


def check_recoveries(swarm: ChaosSwarm, bound_seconds: float) -> Recovery:
    """None took longer than that, but for what it waited for a processor; the worst by the clock, and the worst so."""
    corrected = max((recovery.corrected_seconds for recovery in swarm.recoveries), default=0.0)
    assert corrected <= bound_seconds, (
        f"recovery took {corrected:.1f} s, more than {bound_seconds} s: {swarm.recoveries}"
    )
    return Recovery(max((recovery.seconds for recovery in swarm.recoveries), default=0.0), corrected)


def processes_of(swarm_id: str) -> list[psutil.Process]:
    """Processes that agents of the swarm have started, by their mark."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(BRANCH_MARK, "").startswith(f"{swarm_id}/"):
                found.append(process)
    return found


def remains(directory: Path) -> list[Path]:
    """Worktrees, their indexes, and what a process that died in the middle of making one has left."""
    found = [path for name in ("worktrees", "indexes") for path in (directory / name).glob("*")]
    return found + list(directory.glob(".making-*")) + list(directory.glob(".doomed-*"))


def lasting_keys(swarm: ChaosSwarm) -> list[str]:
    found: list[bytes] = list(swarm.fleet.redis.scan_iter(match=f"swarmq:{{{swarm.handle.id}}}:*", count=1000))
    return [key.decode() for key in found if swarm.fleet.redis.ttl(key) == -1]


def check_quiet(fleet: ChaosFleet) -> None:
    """After everything has ended: no message waits, none is unacknowledged, nothing of any swarm is active."""

    def left() -> dict[str, int]:
        sizes = {key: int(fleet.redis.hlen(key)) for key in ("unacked",)}
        sizes["unacked_index"] = int(fleet.redis.zcard("unacked_index"))
        for queue in ("swarmq.control", "swarmq.integrate", "swarmq.agents"):
            sizes[queue] = int(fleet.redis.llen(queue))
        sizes["active"] = int(fleet.redis.scard(keys.ACTIVE()))
        return {name: size for name, size in sizes.items() if size}

    until(lambda: not left() or None, f"quiet queues: {left()}", QUIET_SECONDS)
