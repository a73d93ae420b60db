"""Every key that swarmq keeps in Redis: name, type, how long it lives, who writes it.

All keys of a swarm share the hash tag ``{<id>}``. A script gets the swarm's record as its first key and names the
others from it. The few scripts that also touch the indexes of all swarms need one primary, as Celery's transport does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_Scope = Literal["fleet", "swarm", "stage", "branch"]
KEPT = "keep_days after the end of the swarm"


@dataclass(frozen=True)
class Key:
    """A family of keys. ``name`` holds ``%s`` for each part that a call of the Key fills in, swarm id first."""

    name: str
    type: Literal["string", "hash", "list", "set", "zset", "stream"]
    scope: _Scope
    ttl: str
    writer: str

    def __call__(self, *parts: str | int) -> str:
        return self.name % parts


def _swarm(name: str, type_: Literal["hash", "list", "set", "stream"], writer: str) -> Key:
    scope: _Scope = "branch" if name.startswith(("branch:", "transcript:")) else "swarm"
    scope = "stage" if name.startswith("stage:") else scope
    return Key(f"swarmq:{{%s}}:{name}", type_, scope, KEPT, writer)


SWARM = _swarm("swarm", "hash", "swarm_*, stage_open: spec, state, plan, result, limits, cancel_reason, paused_at")
RESULTS = _swarm("results", "hash", "swarm_results: subtask id -> SubtaskResult")
SUBTASKS = _swarm("subtasks", "hash", "swarm_plan, swarm_results, branch_*: subtask id -> status")
CANVASES = _swarm("canvases", "hash", "swarm_create, swarm_canvas, swarm_told: Celery task id -> what to call")
TOLD = _swarm("told", "set", "swarm_told: Celery task ids of those whose canvas goes on")
COUNTERS = _swarm("counters", "hash", "record, budget_*, counters_add: steps, tokens, cost, reservations, retries …")
JOBS = _swarm("jobs", "hash", "job_*, budget_*: leases of plan, merge, finish_swarm; what their calls reserve")
EVENTS = _swarm("events", "stream", "any: what the swarm tells, at most about 100,000")
AUDIT = _swarm("audit", "stream", "audit: who decided what")
SHARED = _swarm("shared", "hash", "shared_publish: key -> value with its schema and tags")
SHARED_INDEX = _swarm("shared-index", "hash", "shared_publish: key -> producer, tags, expiry")
SHARED_NEWS = _swarm("shared-news", "stream", "shared_publish: keys as they came, at most about 10,000")
BRANCHES = _swarm("branches", "list", "stage_open: ids of all branches, oldest first")
WAITING = _swarm("waiting", "list", "stage_open, branch ends: branches for which there is no slot yet")
SLOTS = _swarm("slots", "set", "stage_open, branch ends: queued and running branches, at most max_subagents")
RUNNING = _swarm("running", "set", "branch_*: branches that somebody holds; fewer than slots")
NUDGES = _swarm("nudges", "hash", "nudge: what was found standing still, how often it was sent again, and when next")
COLLAPSE = _swarm("collapse", "hash", "collapse_decide: the controller's state between its looks, and their number")
SCORES = _swarm("scores", "stream", "collapse_decide: what the looks found, at most about 2,000")
RACES = _swarm("races", "hash", "branch_finish, race_decide: subtask id -> who won its race, by what and when")
VERIFIED = _swarm(
    "verified", "hash", "verify_*: tree and commands -> the run that verifies it, its report if it passed"
)
STAGE = _swarm("stage:%s", "hash", "stage_*, branch ends: state, times, merges")
STAGE_BRANCHES = _swarm("stage:%s:branches", "list", "stage_open: ids of the stage's branches")
STAGE_DONE = _swarm("stage:%s:done", "set", "branch ends: ids of those that have ended")
BRANCH = _swarm("branch:%s", "hash", "stage_open, branch_*, record: spec, lease, fencing token, outcome")
TRANSCRIPT = _swarm("transcript:%s", "list", "record: one Entry per message")
ONCE = Key("swarmq:{%s}:once:%s", "string", "swarm", "1 hour", "any: call ids of writes that must not be repeated")

ALL_SWARMS = Key(
    "swarmq:swarms", "zset", "fleet", "entries of expired swarms leave when they are met, or with gc", "swarm_create"
)
ACTIVE = Key(
    "swarmq:active",
    "set",
    "fleet",
    "an entry until its swarm has ended and its producers were told, or has expired",
    "swarm_create, swarm_finish, swarm_canvas, swarm_told",
)
NAME = Key("swarmq:name", "string", "fleet", "for good", "gc: a random one, which tells this Redis from any other")
TASK = Key("swarmq:task:%s", "string", "fleet", KEPT, "swarm_create, swarm_canvas: Celery task id -> swarm")
IDEMPOTENCY = Key("swarmq:idempotency:%s", "string", "fleet", KEPT, "swarm_create: idempotency key -> swarm")
FLEET_EVENTS = Key("swarmq:events", "stream", "fleet", "for good, at most about 10,000", "swarm_create, swarm_finish")
TICK_DONE = Key("swarmq:tick-done:%s", "string", "fleet", "half an interval", "upkeep: that beat's tick has been done")
WORKER = Key("swarmq:worker:%s", "string", "fleet", "three heartbeats", "workers: what a worker says of itself")
WORKERS = Key("swarmq:workers", "set", "fleet", "gone workers leave when they are met", "workers: their names")
DEMAND = Key(
    "swarmq:demand:%s", "set", "fleet", "for good", "reconcile: what that queue's workers have to do or are doing"
)
TOTALS = Key("swarmq:totals", "hash", "fleet", "for good", "swarm_finish, swarm_delete: what ended swarms have used")
TICK = Key("swarmq:tick", "string", "fleet", "for good", "reconcile: when it last looked at all swarms")
COLLAPSE_LOCK = Key("swarmq:collapse-lock", "string", "fleet", "a lease", "lock_*: who looks at all swarms now")
BASELINE = Key("swarmq:baseline:%s", "string", "fleet", "30 days", "finish_swarm: by task, what one agent needed")
CACHE = Key("swarmq:{cache}:results", "hash", "fleet", "24 h an entry, 1,000 entries, 100 MB", "cache_*")
CACHE_AGES = Key("swarmq:{cache}:ages", "zset", "fleet", "as its entry", "cache_*: key -> when it was stored")
CACHE_STATS = Key("swarmq:{cache}:stats", "hash", "fleet", "for good", "cache_*: bytes, hits, misses, waits …")
FLIGHT = Key(
    "swarmq:{cache}:flight:%s", "string", "fleet", "a lease", "cache_join, flight_*: by cache key, who works on it"
)
CACHE_ONCE = Key("swarmq:{cache}:once:%s", "string", "fleet", "1 hour", "cache_*: answers to calls, for their retries")

LEARNED = "an hour after the endpoint's last call"


def _limiter(name: str, type_: Literal["string", "hash", "zset"], writer: str) -> Key:
    return Key(f"swarmq:{{limiter:%s}}:{name}", type_, "fleet", LEARNED, f"limiter_*: {writer}")


LIMITER = (
    _limiter("state", "string", "what is known of the endpoint's limits, and the pace"),
    _limiter("permits", "zset", "calls that may start or have started -> when the permit expires"),
    _limiter("queue", "zset", "calls that wait -> their place in fair order"),
    _limiter("tickets", "hash", "call -> start, tokens, lease, process, swarm"),
    _limiter("shares", "hash", "swarm with waiting calls -> the place of its last one"),
    _limiter("processes", "hash", "process -> when it was last heard of"),
)
"""By endpoint. The scripts get all of them, in this order."""


def _pods(name: str, type_: Literal["hash", "zset"], writer: str) -> Key:
    return Key(f"swarmq:{{pods}}:{name}", type_, "fleet", "an hour after the last pod", f"pods_*: {writer}")


PODS = (
    _pods("permits", "zset", "branches that may have a pod -> when the permit expires"),
    _pods("queue", "zset", "branches that wait for one -> their place in fair order"),
    _pods("tickets", "hash", "branch -> fencing token, when it last asked, swarm"),
    _pods("shares", "hash", "swarm with waiting branches -> the place of its last one"),
)
"""The scripts get all of them, in this order."""

REGISTRY = (*(value for value in list(globals().values()) if isinstance(value, Key)), *LIMITER, *PODS)

FLIGHT_CHANNEL = "swarmq:{cache}:flight:%s"
"""Not a key, though one has its name: the pub/sub channel that is rung when nobody works on that any more."""
SHARED_CHANNEL = "swarmq:{%s}:shared"
"""Not a key: the pub/sub channel that is rung when a result is shared."""
PODS_CHANNEL = "swarmq:{pods}:ring"
"""Not a key: rung when a permit for a pod is given back."""
LIMITER_CHANNEL = "swarmq:{limiter:%s}:ring:%s"
"""Not a key: rung when a waiting call of that endpoint and process has its permit."""


def names_to_expire() -> tuple[list[str], list[str], list[str]]:
    """What a swarm's keys are called behind ``swarmq:{<id>}:``: once per swarm, per stage (%s), per branch (%s).

    With the list of branches and the number of stages these are all keys of a swarm: none is searched for.
    """

    def of(scope: _Scope) -> list[str]:
        lasting = (key for key in REGISTRY if key.scope == scope and key.ttl == KEPT)
        return [key.name.partition("}:")[2] for key in lasting]

    return of("swarm"), of("stage"), of("branch")


def transcript_keys(swarm_id: str, branch_id: str) -> tuple[str, str, str, str, str]:
    """What ``record`` works on, in its order. Written out because every step of every branch comes by here."""
    base = f"swarmq:{{{swarm_id}}}:"
    return (
        f"{base}swarm",
        f"{base}branch:{branch_id}",
        f"{base}transcript:{branch_id}",
        f"{base}events",
        f"{base}counters",
    )
