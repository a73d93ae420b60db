"""What ``swarmq doctor`` thinks of Redis, the workers and beat. Pure: it judges what the store has read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from swarmq.cli.checks import Finding, space
from swarmq.cli.render import count, duration

if TYPE_CHECKING:
    from swarmq.store.health import FleetLook, Tick
    from swarmq.store.server import ServerInfo

QUEUES = ("control", "integrate", "agents")
PODS = "pods"
"""Served where branches run in pods; nobody misses it elsewhere."""
SKEW_WARN_SECONDS = 5.0
"""Leases use the clock of Redis alone; a skew makes shown times wrong, and unacknowledged messages come back early."""
STALL_WARN_MS = 1000
FULL_WARN_SHARE = 0.9
LATE_TICKS = 3
"""Beat is taken for dead after so many intervals without a tick."""
LATE_SECONDS = 5.0
UNACKED_MARGIN_SECONDS = 60.0
RESTART_STACK = "swarmq down; swarmq up"


def redis(info: ServerInfo, *, embedded: bool) -> list[Finding]:
    """A server that answered, and each setting and state of it under which records may be lost or refused."""
    said = f"{'embedded ' if embedded else ''}{info.server} {info.version} at {info.address}"
    findings = [Finding("redis", "ok", said)]
    findings += [Finding("redis settings", "warn", danger.said, danger.remedy) for danger in info.dangers]
    if not info.dangers:
        findings.append(Finding("redis settings", "ok", "append-only file, nothing is evicted"))
    if info.evicted_keys:
        findings.append(_evicted(info))
    findings += _memory(info)
    for what in info.write_errors:
        remedy = "redis-cli BGSAVE" if what == "snapshot" else "redis-cli BGREWRITEAOF"
        said = f"it cannot write its {what}, and refuses to write records"
        findings.append(Finding("redis disk", "fail", said, f"free space on its disk, then {remedy}"))
    return findings


def _evicted(info: ServerInfo) -> Finding:
    said = f"it has dropped {count(info.evicted_keys, 'key')} since its start: records may be gone"
    if info.evicts:
        return Finding("redis memory", "fail", said, "redis-cli CONFIG SET maxmemory-policy noeviction")
    return Finding("redis memory", "warn", f"{said}; it drops none any more", "redis-cli CONFIG RESETSTAT forgets it")


def _memory(info: ServerInfo) -> list[Finding]:
    if not info.max_bytes:
        return []
    said = f"{info.used_bytes / 1e6:,.1f} of {info.max_bytes / 1e6:,.1f} MB (maxmemory) are used"
    remedy = f"redis-cli CONFIG SET maxmemory {2 * max(info.max_bytes, info.used_bytes)}; or swarmq cache clear"
    if info.full:
        return [Finding("redis memory", "fail", f"{said}: it refuses to write, and everything waits", remedy)]
    near = info.used_bytes >= FULL_WARN_SHARE * info.max_bytes
    return [Finding("redis memory", "warn" if near else "ok", said, remedy)]


def clock(skew_seconds: float, whose: str = "this clock", check: str = "clock") -> Finding:
    """A machine's clock against that of Redis."""
    if abs(skew_seconds) <= SKEW_WARN_SECONDS:
        return Finding(check, "ok", f"within {SKEW_WARN_SECONDS:g} s of Redis")
    said = f"{whose} is {duration(abs(skew_seconds))} {'ahead of' if skew_seconds > 0 else 'behind'} Redis"
    return Finding(check, "warn", said, "synchronise the clocks (NTP); leases use the one of Redis")


def unserved(found: Sequence[Mapping[str, Any]], queues: Sequence[str] = QUEUES) -> list[str]:
    """The queues that no worker serves."""
    return [queue for queue in queues if not any(queue in (worker.get("queues") or ()) for worker in found)]


def queues(found: Sequence[Mapping[str, Any]], waiting: Mapping[str, int], *, embedded: bool) -> list[Finding]:
    """Whether each queue has a worker, and how many messages wait there; ``waiting`` is by short name."""
    findings = []
    for queue in (*QUEUES, PODS):
        serving = [worker for worker in found if queue in (worker.get("queues") or ())]
        messages = waiting.get(queue, 0)
        if queue == PODS and not serving and not messages:
            continue
        wait = f"{count(messages, 'message')} {'waits' if messages == 1 else 'wait'}"
        if serving:
            running = sum(int(worker.get("running") or 0) for worker in serving)
            said = f"{count(len(serving), 'worker')}, {count(running, 'task')} running{f', {wait}' if messages else ''}"
            findings.append(Finding(f"queue {queue}", "ok", said))
        else:
            remedy = RESTART_STACK if embedded else f"swarmq worker --queue {queue}"
            said = f"no worker is alive{f', {wait}' if messages else ''}"
            findings.append(Finding(f"queue {queue}", "fail", said, remedy))
    return findings


def workers(found: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Versions, and each worker whose clock, disk or event loop is not in order."""
    findings = []
    own = version("swarmq")
    others = sorted({str(worker.get("version")) for worker in found} - {own})
    if others:
        said = f"workers of version {', '.join(others)}, this is {own}"
        remedy = "install the same version everywhere and restart the workers"
        findings.append(Finding("versions", "warn", said, remedy))
    elif found:
        findings.append(Finding("versions", "ok", f"all workers are {own}"))
    for worker in found:
        findings += [finding for finding in _worker(worker) if finding.status != "ok"]
    return findings


def _worker(worker: Mapping[str, Any]) -> list[Finding]:
    """Fields that an older version does not tell are passed over."""
    name, host = worker.get("name", "?"), worker.get("host", "?")
    findings = [clock(float(worker.get("clock_skew_seconds") or 0.0), f"the clock of worker {name}", "worker clock")]
    free = worker.get("free_bytes")
    if free is not None:
        said = f"{free / 1e9:.1f} GB free for the state directory of worker {name}"
        findings.append(Finding("worker disk", space(free), said, f"swarmq gc on {host}, or free space there"))
    stall_ms = int(worker.get("longest_stall_ms") or 0)
    said = f"the event loop of worker {name} once stood still for {duration(stall_ms / 1000)}: its branches waited"
    remedy = f"kill -TERM {worker.get('pid')} on {host}, and start it again, with fewer branches (--concurrency)"
    findings.append(Finding("worker stall", "warn" if stall_ms >= STALL_WARN_MS else "ok", said, remedy))
    return findings


def late_seconds(tick: Tick) -> float:
    """How old a tick may be."""
    return LATE_TICKS * tick.every_seconds + LATE_SECONDS


def beats(look: FleetLook) -> bool:
    """Whether beat and reconcile work: the last tick is a recent one."""
    return look.tick is not None and look.now - look.tick.at <= late_seconds(look.tick)


def beat(look: FleetLook, found: Sequence[Mapping[str, Any]], every_seconds: float, *, embedded: bool) -> Finding:
    """Whether somebody looks after what got lost. ``every_seconds`` is for a fleet that has not ticked yet."""
    remedy = RESTART_STACK if embedded else "swarmq beat"
    if "control" in unserved(found) and not embedded:
        remedy = "swarmq worker --queue control"  # it is what carries out the ticks
    if look.tick is None:
        started = min((float(worker.get("started_at") or 0.0) for worker in found), default=0.0)
        if look.now - started <= LATE_TICKS * every_seconds + LATE_SECONDS:
            return Finding("beat", "ok", "the workers have just started; no tick yet")
        return Finding("beat", "fail", "reconcile never ran: what got lost is not found again", remedy)
    past = duration(max(0.0, look.now - look.tick.at))
    if beats(look):
        return Finding("beat", "ok", f"reconcile ran {past} ago", since=look.tick.at)
    said = f"reconcile ran last {past} ago (due every {look.tick.every_seconds:g} s): lost work is not found again"
    return Finding("beat", "fail", said, remedy, since=look.tick.at)


def unacked(look: FleetLook, visibility_seconds: float) -> Finding:
    """Messages that workers hold; running branches keep theirs young."""
    if not look.unacked:
        return Finding("unacked", "ok", "no message is unacknowledged")
    age = max(0.0, look.now - look.oldest_unacked_at) if look.oldest_unacked_at else 0.0
    are = "message is" if look.unacked == 1 else "messages are"
    said = f"{look.unacked:,} {are} unacknowledged, the oldest for {duration(age)}"
    if age <= visibility_seconds + UNACKED_MARGIN_SECONDS:
        return Finding("unacked", "ok", said, since=look.oldest_unacked_at)
    said += f", longer than the visibility timeout ({visibility_seconds:g} s)"
    remedy = "a worker that runs hands it back: swarmq worker --queue control"
    return Finding("unacked", "warn", said, remedy, since=look.oldest_unacked_at)
