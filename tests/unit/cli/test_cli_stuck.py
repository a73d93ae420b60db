"""What the doctor thinks of the fleet: each thing that can stand still, with the command that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import pytest
from cli_fakes import SWARM, branch, fleet_look, record
from typer.main import get_command

from swarmq.cli import doctor, fleet_checks, stuck
from swarmq.cli.checks import Finding
from swarmq.cli.main import app
from swarmq.models.branch import BranchState
from swarmq.models.swarm import SwarmState
from swarmq.settings import load_settings
from swarmq.store.health import JobLook, SwarmLook, Tick
from swarmq.store.server import Danger, ServerInfo, dangers

NOW = 10_000.0
QUEUES = ("control", "integrate", "agents")


def judged(
    swarm: SwarmLook, *, unserved: Sequence[str] = (), ticked: float = NOW - 5, embedded: bool = False
) -> list[Finding]:
    look = fleet_look(now=NOW, tick=Tick(ticked, 10), swarms=[swarm])
    return stuck.swarms(look, stuck.surroundings(look, unserved, 30, 10, embedded=embedded))


def running(lease_until: float) -> SwarmLook:
    branches = [branch("fix-parser", BranchState.RUNNING, lease_until=lease_until, worker="agents@a")]
    return SwarmLook(record(SwarmState.RUNNING), branches=branches, last_event_at=NOW - 1000)


def queued(queued_at: float) -> SwarmLook:
    return SwarmLook(
        record(SwarmState.RUNNING), branches=[branch("fix-parser", BranchState.QUEUED, queued_at=queued_at)]
    )


def idle(state: SwarmState, last_event_at: float = NOW - 100, jobs: dict[str, JobLook] | None = None) -> SwarmLook:
    return SwarmLook(record(state), jobs=jobs or {}, last_event_at=last_event_at)


@pytest.mark.parametrize(
    "swarm",
    [
        running(NOW + 10),
        queued(NOW - 20),
        idle(SwarmState.PLANNING, NOW - 20),
        idle(SwarmState.PLANNING, jobs={"plan": JobLook("agents@a", NOW + 10)}),
    ],
)
def test_what_moves_is_one_line(swarm: SwarmLook) -> None:
    (finding,) = judged(swarm)
    assert (finding.status, finding.said) == ("ok", "1 unfinished swarm, none stands still")


def test_a_paused_swarm_does_not_stand_still() -> None:
    waiting = queued(NOW - 5000)
    paused = SwarmLook(waiting.record.model_copy(update={"paused_at": NOW - 7200}), branches=waiting.branches)
    (finding,) = judged(paused)
    assert (finding.status, finding.swarm) == ("ok", SWARM)
    assert finding.said == f"{SWARM} is paused for 2 h 00 min; swarmq resume {SWARM} lets it go on"
    why = {"paused_at": NOW - 7200, "pause_reason": "lunch"}
    (finding,) = judged(SwarmLook(waiting.record.model_copy(update=why), branches=waiting.branches))
    assert finding.said.startswith(f"{SWARM} is paused for 2 h 00 min (lunch); ")


def test_an_expired_lease_is_mended_by_beat_and_is_a_fault_when_it_is_not() -> None:
    (fresh,) = judged(running(NOW - 12))
    assert (fresh.status, fresh.since, fresh.swarm, fresh.branch) == ("warn", NOW - 12, SWARM, "fix-parser")
    assert "its lease ended 12 s ago, with worker agents@a" in fresh.said
    assert fresh.remedy == "nothing to do: it is sent again within 30 s"
    (unserved,) = judged(running(NOW - 12), unserved=["agents"])
    assert (unserved.status, unserved.remedy) == ("warn", "swarmq worker --queue agents")
    (old,) = judged(running(NOW - 60))
    assert (old.status, old.remedy) == ("fail", f"swarmq cancel {SWARM} fix-parser")


@pytest.mark.parametrize(
    ("around", "remedy"),
    [
        ({"ticked": NOW - 100}, "swarmq beat"),
        ({"unserved": ["agents"]}, "swarmq worker --queue agents"),
        ({"unserved": ["control", "agents"], "ticked": NOW - 100}, "swarmq worker --queue control"),
        ({"unserved": ["agents"], "embedded": True}, "swarmq down; swarmq up"),
        ({}, f"swarmq cancel {SWARM} fix-parser"),
    ],
)
def test_the_remedy_is_the_process_that_is_missing(around: dict[str, Any], remedy: str) -> None:
    (finding,) = judged(queued(NOW - 500), **around)
    assert (finding.check, finding.status, finding.remedy) == ("branch", "fail", remedy)
    assert "no worker claims it" in finding.said


def test_branches_in_pods_need_a_worker_of_theirs() -> None:
    waiting = queued(NOW - 500)
    spec = waiting.record.spec
    options = spec.options.model_copy(update={"placement": "pod"})
    in_pods = waiting.record.model_copy(update={"spec": spec.model_copy(update={"options": options})})
    swarm = SwarmLook(in_pods, branches=waiting.branches)
    (finding,) = judged(swarm, unserved=["agents", "pods"])
    assert finding.remedy == "swarmq worker --queue pods"
    look = fleet_look(now=NOW, tick=Tick(NOW - 5, 10), swarms=[swarm])
    found = doctor.judge(load_settings(), look, [alive(*QUEUES)], embedded=False)
    assert [finding.remedy for finding in found if finding.check == "branch"] == ["swarmq worker --queue pods"]


@pytest.mark.parametrize(
    ("name", "queue"), [("plan", "agents"), ("finish_stage:0", "integrate"), ("finish_swarm", "integrate")]
)
def test_a_job_whose_holder_is_gone(name: str, queue: str) -> None:
    swarm = idle(SwarmState.RUNNING, jobs={name: JobLook("w@h", NOW - 50)})
    (finding,) = judged(swarm, unserved=[queue])
    assert (finding.check, finding.status, finding.since) == ("job", "fail", NOW - 50)
    assert finding.said == f"{name} of swarm {SWARM}: its lease ended 50 s ago, with worker w@h"
    assert finding.remedy == f"swarmq worker --queue {queue}"


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (SwarmState.SUBMITTED, "nobody plans it"),
        (SwarmState.RUNNING, "stage 1 does not move on"),
        (SwarmState.FINISHING, "nobody finishes it"),
        (SwarmState.SUCCEEDED, "its producers were not told"),
    ],
)
def test_a_swarm_of_which_nothing_is_held_and_nothing_heard(state: SwarmState, said: str) -> None:
    (finding,) = judged(idle(state))
    assert (finding.status, finding.since) == ("fail", NOW - 100)
    assert said in finding.said


def test_swarms_that_cannot_be_read_and_those_beyond_the_limit_are_told() -> None:
    look = fleet_look(unreadable={"abc": "swarm abc: schema version 9"}, left_out=7)
    found = stuck.swarms(look, stuck.surroundings(look, (), 30, 10, embedded=False))
    assert [(finding.status, finding.swarm) for finding in found] == [("fail", "abc"), ("warn", "")]


def test_a_swarm_that_cannot_be_read_is_told_where_it_alone_is_asked_for() -> None:
    look = fleet_look(unreadable={"abc": "swarm abc: schema version 9"})
    found = doctor.judge(load_settings(), look, [], embedded=False, explained=True)
    assert [finding.said for finding in found if finding.swarm == "abc"] == ["swarm abc: schema version 9"]


def alive(*queues: str, **about: Any) -> dict[str, Any]:
    return {"name": "w@h", "queues": list(queues), "host": "h", "pid": 7, "started_at": 1.0, **about}


@pytest.mark.parametrize(
    ("tick", "found", "status", "remedy"),
    [
        (Tick(NOW - 34, 10), QUEUES, "ok", ""),
        (Tick(NOW - 36, 10), QUEUES, "fail", "swarmq beat"),
        (Tick(NOW - 36, 10), ("agents",), "fail", "swarmq worker --queue control"),
        (None, QUEUES, "fail", "swarmq beat"),
    ],
)
def test_beat(tick: Tick | None, found: Sequence[str], status: str, remedy: str) -> None:
    finding = fleet_checks.beat(fleet_look(now=NOW, tick=tick), [alive(*found)], 10, embedded=False)
    assert (finding.status, finding.remedy) == (status, remedy)


def test_a_fleet_that_has_just_started_has_no_tick_yet() -> None:
    just = [alive(*QUEUES, started_at=NOW - 5)]
    assert fleet_checks.beat(fleet_look(now=NOW, tick=None), just, 10, embedded=True).status == "ok"


def test_messages_that_wait_are_counted_with_their_queue() -> None:
    found = fleet_checks.queues([alive("control", running=2)], {"control": 1, "agents": 3}, embedded=False)
    assert [finding.said for finding in found] == [
        "1 worker, 2 tasks running, 1 message waits",
        "no worker is alive",
        "no worker is alive, 3 messages wait",
    ]


def test_unacknowledged_messages_that_should_have_come_back() -> None:
    assert fleet_checks.unacked(fleet_look(), 300).status == "ok"
    young = fleet_look(now=NOW, unacked=2, oldest_unacked_at=NOW - 200)
    assert fleet_checks.unacked(young, 300).status == "ok"
    old = fleet_checks.unacked(fleet_look(now=NOW, unacked=1, oldest_unacked_at=NOW - 400), 300)
    assert (old.status, old.since) == ("warn", NOW - 400)
    assert old.said.startswith("1 message is unacknowledged, the oldest for 6 min 40 s")


def test_workers_whose_clock_disk_or_loop_is_not_in_order() -> None:
    sound = alive("agents", version=version("swarmq"), clock_skew_seconds=0.1, free_bytes=9_000_000_000)
    assert [finding.status for finding in fleet_checks.workers([sound])] == ["ok"]
    bad = sound | {"clock_skew_seconds": -90.0, "free_bytes": 5_000, "longest_stall_ms": 2300}
    found = {finding.check: finding for finding in fleet_checks.workers([bad])}
    assert found["worker clock"].said == "the clock of worker w@h is 1 min 30 s behind Redis"
    assert found["worker disk"].status == "fail"
    assert "stood still for 2.3 s" in found["worker stall"].said
    assert found["worker stall"].remedy.startswith("kill -TERM 7 on h")


@pytest.mark.parametrize(
    ("server", "check", "status", "remedy"),
    [
        (
            ServerInfo("a", "redis", "8", used_bytes=95, max_bytes=100),
            "redis memory",
            "warn",
            "CONFIG SET maxmemory 200",
        ),
        (
            ServerInfo("a", "redis", "8", used_bytes=105, max_bytes=100),
            "redis memory",
            "fail",
            "CONFIG SET maxmemory 210",
        ),
        (ServerInfo("a", "redis", "8", used_bytes=5, max_bytes=100), "redis memory", "ok", ""),
        (
            ServerInfo("a", "redis", "8", evicts=True, evicted_keys=3),
            "redis memory",
            "fail",
            "maxmemory-policy noeviction",
        ),
        (ServerInfo("a", "redis", "8", evicted_keys=3), "redis memory", "warn", "CONFIG RESETSTAT"),
        (ServerInfo("a", "redis", "8", write_errors=("append-only file",)), "redis disk", "fail", "BGREWRITEAOF"),
        (ServerInfo("a", "redis", "8", write_errors=("snapshot",)), "redis disk", "fail", "redis-cli BGSAVE"),
        (ServerInfo("a", "redis", "8", (Danger("x", "y"),)), "redis settings", "warn", "y"),
    ],
)
def test_redis(server: ServerInfo, check: str, status: str, remedy: str) -> None:
    (finding,) = [one for one in fleet_checks.redis(server, embedded=False) if one.check == check]
    assert finding.status == status
    assert remedy in finding.remedy


def test_settings_of_redis_that_may_lose_records() -> None:
    assert dangers({"maxmemory_policy": "noeviction", "aof_enabled": "1", "redis_version": "7.2.4"}) == ()
    found = dangers({"maxmemory_policy": "allkeys-lru", "aof_enabled": "0", "redis_version": "6.2.0"})
    assert ["noeviction" in one.remedy for one in found] == [True, False, False]
    assert "redis-cli CONFIG SET appendonly yes" in str(found[1])


def test_every_swarmq_command_that_is_named_as_a_remedy_exists() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    named = {"beat", "cache", "cancel", "down", "gc", "logs", "ls", "up", "worker"}
    assert named <= set(commands)
