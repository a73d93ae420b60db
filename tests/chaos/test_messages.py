"""Messages that come twice, never, or late."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

from chaos_fleet import VISIBILITY_SECONDS, ChaosFleet
from verdict import RECOVERY_SECONDS, check

Passed = Callable[..., None]
EVERY = 20
"""One message in so many is lost."""


def test_every_message_twice(fleet: ChaosFleet, passed: Passed) -> None:
    fleet.wire.publish = lambda queue, message: [message, message]
    swarm = fleet.begin()
    passed(check(swarm, swarm.result(), faults=1))


def test_one_message_in_twenty_is_lost(fleet: ChaosFleet, passed: Passed) -> None:
    """The branches' messages are counted from the third on, so that the first loss is of one of them."""
    numbers, lost, lock = itertools.count(EVERY - 4), list[bytes](), threading.Lock()

    def lossy(queue: bytes, message: bytes) -> list[bytes]:
        if b"swarmq.reconcile" in message:
            return [message]  # ticks are many, and made to be lost
        with lock:
            if next(numbers) % EVERY:
                return [message]
            lost.append(message)
            return []

    fleet.wire.publish = lossy
    swarm = fleet.begin()
    result = swarm.result()
    assert lost
    swarm.note_pause()
    passed(check(swarm, result, faults=len(lost), bound_seconds=RECOVERY_SECONDS))


def test_messages_come_late(fleet: ChaosFleet, passed: Passed) -> None:
    """Each branch's message once more when its work is long done, later than kombu would have sent it again."""
    kept: list[tuple[bytes, bytes]] = []

    def keeping(queue: bytes, message: bytes) -> list[bytes]:
        if b"swarmq.reconcile" not in message:
            kept.append((queue, message))
        return [message]

    fleet.wire.publish = keeping
    first = fleet.begin()
    result = first.result()
    fleet.wire.heal()
    fleet.wire.wait(VISIBILITY_SECONDS + 1)
    calls = first.calls()
    for queue, message in kept:
        fleet.redis.lpush(queue, message)
    fleet.drained()
    assert first.calls() == calls, "what had ended was worked on again"
    passed(check(first, result, faults=1))


def test_a_message_held_back(fleet: ChaosFleet, passed: Passed) -> None:
    """Two branches' messages come after everything else, when reconcile has sent them again and they are done."""
    held: list[tuple[bytes, bytes]] = []

    def holding(queue: bytes, message: bytes) -> list[bytes]:
        if queue == b"swarmq.agents" and b"swarmq.run_branch" in message and len(held) < 2:
            held.append((queue, message))
            return []
        return [message]

    fleet.wire.publish = holding
    swarm = fleet.begin()
    result = swarm.result()
    assert len(held) == 2
    for queue, message in held:
        fleet.redis.lpush(queue, message)
    fleet.drained()
    swarm.note_pause()
    passed(check(swarm, result, faults=1))
