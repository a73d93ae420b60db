from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import CollectorRegistry
from prometheus_client.exposition import generate_latest

from swarmq.errors import StoreError, UsageError
from swarmq.fleet.exporter import SHARED_SECONDS, FleetCollector, parse_listen
from swarmq.models.swarm import SwarmState
from swarmq.store.health import Tick
from swarmq.store.scaling import FleetLoad, SwarmLoad, demand_of

BUSY = SwarmLoad(
    "swarm00001",
    SwarmState.RUNNING,
    halted=False,
    slots=frozenset({"a", "b", "c"}),
    running=frozenset({"a"}),
    waiting=7,
    counters={"steps": 5, "input_tokens": 100, "cost_nano_usd": 2e9, "rate_limit_wait_seconds": 1.5},
)
PAUSED = SwarmLoad("swarm00002", SwarmState.RUNNING, True, frozenset({"a", "b"}), frozenset({"b"}))
PLANNING = SwarmLoad("swarm00003", SwarmState.PLANNING, halted=False)
LOAD = FleetLoad(
    swarms=(BUSY, PAUSED, PLANNING),
    ended={"steps": 10, "swarms:succeeded": 3, "lost_leases": 2},
    messages={"swarmq.agents": 2, "swarmq.integrate": 4},
    unacked=1,
    workers=({"queues": ["agents"], "running": 2}, {"queues": ["control", "integrate"], "running": 3}),
    tick=Tick(1234.0, 10),
)


def scraped(look: Callable[[], FleetLoad]) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(FleetCollector(look))
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_demand_is_what_runs_and_what_more_workers_would_start() -> None:
    assert demand_of([BUSY, PAUSED, PLANNING]) == {
        *("swarm00001/a", "swarm00001/b", "swarm00001/c"),  # but none of the seven without a slot
        "swarm00002/b",
        "swarm00003:plan",
    }


def test_branches_with_pods_of_their_own_are_the_business_of_other_workers() -> None:
    in_pods = SwarmLoad("swarm00004", SwarmState.RUNNING, False, frozenset({"a", "b"}), frozenset({"a"}), queue="pods")
    assert demand_of([in_pods], "pods") == {"swarm00004/a", "swarm00004/b"}
    assert demand_of([in_pods]) == set()
    assert demand_of([BUSY], "pods") == set()
    found = scraped(lambda: replace(LOAD, swarms=(BUSY, in_pods)))
    assert found['swarmq_branches{queue="swarmq.pods",state="running"}'] == 1
    assert found['swarmq_demand{queue="swarmq.agents"}'] == 3


def test_the_figures() -> None:
    found = scraped(lambda: LOAD)
    assert found['swarmq_branches{queue="swarmq.agents",state="running"}'] == 2
    assert found['swarmq_branches{queue="swarmq.agents",state="queued"}'] == 3
    assert found['swarmq_branches{queue="swarmq.agents",state="waiting"}'] == 7
    assert found['swarmq_demand{queue="swarmq.agents"}'] == 5
    assert found['swarmq_demand{queue="swarmq.integrate"}'] == 4 + 3
    assert found['swarmq_messages{queue="swarmq.agents"}'] == 2
    assert found['swarmq_swarms{state="running"}'] == 2
    assert found['swarmq_swarms{state="finishing"}'] == 0
    assert found["swarmq_swarms_halted"] == 1
    assert found['swarmq_swarms_ended_total{state="succeeded"}'] == 3
    assert found["swarmq_steps_total"] == 15
    assert found['swarmq_tokens_total{kind="input"}'] == 100
    assert found["swarmq_cost_usd_total"] == 2
    assert found["swarmq_rate_limit_wait_seconds_total"] == 1.5
    assert found["swarmq_lost_leases_total"] == 2
    assert found['swarmq_workers{queue="swarmq.control"}'] == 1
    assert found['swarmq_worker_tasks{queue="swarmq.agents"}'] == 2
    assert found["swarmq_reconciled_timestamp_seconds"] == 1234
    assert found["swarmq_redis_up"] == 1


def test_of_a_redis_that_is_away_it_says_so_and_tells_nothing_old() -> None:
    def look() -> FleetLoad:
        raise StoreError("gone")

    assert scraped(look) == {"swarmq_redis_up": 0}


def test_scrapes_that_come_together_share_one_look() -> None:
    looks, now = [0], [0.0]

    def look() -> FleetLoad:
        looks[0] += 1
        return LOAD

    collector = FleetCollector(look, lambda: now[0])
    for _ in range(5):
        collector.collect()
    now[0] += SHARED_SECONDS + 0.1
    collector.collect()
    assert looks == [2]


names = st.frozensets(st.sampled_from("abcdefgh"))


@given(names, names, st.booleans())
def test_a_branch_counts_once_whatever_it_does(slots: frozenset[str], running: frozenset[str], halted: bool) -> None:
    swarm = SwarmLoad("swarm00001", SwarmState.RUNNING, halted, slots, slots & running)
    assert len(demand_of([swarm, swarm])) == len(slots & running if halted else slots)


@pytest.mark.parametrize("address", ["", "9540", "host", "host:", "host:99999", "host:x"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        parse_listen(address)


def test_addresses() -> None:
    assert parse_listen("0.0.0.0:0") == ("0.0.0.0", 0)
    assert parse_listen("[::1]:80") == ("::1", 80)
