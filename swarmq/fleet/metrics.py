"""What ``swarmq exporter`` says, as Prometheus metric families. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from swarmq.fleet.app import QUEUES
from swarmq.models.money import NANO_PER_USD
from swarmq.models.swarm import SwarmState
from swarmq.store.scaling import AGENTS, PODS, FleetLoad, demand_of

UNFINISHED = [state for state in SwarmState if not state.final]
ENDED = [state for state in SwarmState if state.final]
COUNTERS = {
    "steps": "Model calls of agents, and what they asked for.",
    "tool_calls": "Tool calls of agents.",
    "retries": "Model calls that were tried again.",
    "lost_leases": "Branches that were taken over from a worker that had gone.",
    "rate_limit_wait_seconds": "Seconds that model calls waited for a permit.",
    "cache_hits": "Branches whose result the cache gave.",
    "cache_misses": "Branches that the cache was asked for in vain.",
    "unpriced_calls": "Model calls whose price is not known; they are not in swarmq_cost_usd_total.",
}
TOKENS = {"input": "input_tokens", "output": "output_tokens", "cached": "cached_tokens"}


def families(load: FleetLoad) -> Iterator[Metric]:
    """One family after the other; every series is there from the start, at 0."""
    yield GaugeMetricFamily("swarmq_redis_up", "Whether Redis answered this scrape.", 1)
    yield from _work(load)
    yield from _swarms(load)
    yield from _used(load)
    yield from _workers(load)


def _work(load: FleetLoad) -> Iterator[Metric]:
    branches = GaugeMetricFamily(
        "swarmq_branches",
        "Branches of unfinished swarms: running, queued (for a worker), waiting (for a slot: max_subagents).",
        labels=("queue", "state"),
    )
    for name in (AGENTS, PODS):
        swarms, queue = [swarm for swarm in load.swarms if swarm.queue == name], f"swarmq.{name}"
        running = sum(len(swarm.running) for swarm in swarms)
        branches.add_metric((queue, "running"), running)
        branches.add_metric((queue, "queued"), sum(len(swarm.slots) for swarm in swarms) - running)
        branches.add_metric((queue, "waiting"), sum(swarm.waiting for swarm in swarms))
    yield branches
    demand = GaugeMetricFamily(
        "swarmq_demand", "What that queue's workers have to do or are doing: what to scale them by.", labels=("queue",)
    )
    messages = GaugeMetricFamily("swarmq_messages", "Messages on a queue, of all priorities.", labels=("queue",))
    busy = Counter[str]()
    for worker in load.workers:
        for queue in worker.get("queues", ()):
            busy[str(queue)] += int(worker.get("running", 0))
    for name, queue in QUEUES.items():
        waiting = load.messages.get(queue, 0)
        messages.add_metric((queue,), waiting)
        of_branches = name in (AGENTS, PODS)
        demand.add_metric((queue,), len(demand_of(load.swarms, name)) if of_branches else waiting + busy[name])
    yield demand
    yield messages
    yield GaugeMetricFamily("swarmq_unacked_messages", "Messages that workers hold.", load.unacked)


def _swarms(load: FleetLoad) -> Iterator[Metric]:
    swarms = GaugeMetricFamily("swarmq_swarms", "Unfinished swarms.", labels=("state",))
    states = Counter(swarm.state for swarm in load.swarms)
    for state in UNFINISHED:
        swarms.add_metric((state,), states[state])
    yield swarms
    halted = sum(swarm.halted for swarm in load.swarms)
    yield GaugeMetricFamily("swarmq_swarms_halted", "Unfinished swarms that are paused or being cancelled.", halted)
    yield GaugeMetricFamily("swarmq_swarms_left_out", "Unfinished swarms beyond those looked at.", load.left_out)
    ended = CounterMetricFamily("swarmq_swarms_ended", "Swarms that ended.", labels=("state",))
    for state in ENDED:
        ended.add_metric((state,), load.ended.get(f"swarms:{state}", 0))
    yield ended


def _used(load: FleetLoad) -> Iterator[Metric]:
    total: dict[str, float] = defaultdict(float)
    for used in (load.ended, *(swarm.counters for swarm in load.swarms)):
        for name, value in used.items():
            total[name] += value
    for name, text in COUNTERS.items():
        yield CounterMetricFamily(f"swarmq_{name}", text, total[name])
    tokens = CounterMetricFamily("swarmq_tokens", "Tokens; cached ones are part of the input.", labels=("kind",))
    for kind, name in TOKENS.items():
        tokens.add_metric((kind,), total[name])
    yield tokens
    yield CounterMetricFamily(
        "swarmq_cost_usd", "What calls with a known price cost.", total["cost_nano_usd"] / NANO_PER_USD
    )


def _workers(load: FleetLoad) -> Iterator[Metric]:
    alive = GaugeMetricFamily(
        "swarmq_workers", "Workers that were heard of within three heartbeats.", labels=("queue",)
    )
    tasks = GaugeMetricFamily("swarmq_worker_tasks", "Tasks that those workers run.", labels=("queue",))
    for name, queue in QUEUES.items():
        found = [worker for worker in load.workers if name in worker.get("queues", ())]
        alive.add_metric((queue,), len(found))
        tasks.add_metric((queue,), sum(int(worker.get("running", 0)) for worker in found))
    yield alive
    yield tasks
    if load.tick is not None:
        yield GaugeMetricFamily(
            "swarmq_reconciled_timestamp_seconds", "When beat's reconcile last looked at all swarms.", load.tick.at
        )
