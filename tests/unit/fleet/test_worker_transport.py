"""The worker's transport: what it does not repeat."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Self

import pytest
from kombu.connection import Connection
from redis import ConnectionPool, Redis

from swarmq.fleet.transport import RESTORE_TRIES, Channel, CountedTries, SentinelChannel
from swarmq.store.connecting import WatchError


class FakePipeline:
    """Fails with a conflict as often as it is told."""

    def __init__(self, conflicts: int) -> None:
        self.left, self.tried = conflicts, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def pipeline(self) -> Self:
        return self

    def watch(self, *names: str) -> None:
        self.watched: Sequence[str] = names

    def execute(self) -> None:
        self.tried += 1
        if self.left:
            self.left -= 1
            raise WatchError


def test_a_message_is_handed_back_after_conflicts() -> None:
    client = FakePipeline(conflicts=3)
    done: list[Any] = []
    CountedTries(client).transaction(done.append, "unacked")
    assert (client.tried, len(done), client.watched) == (4, 4, ("unacked",))


def test_a_transaction_that_never_succeeds_ends() -> None:
    client = FakePipeline(conflicts=10_000)
    with pytest.raises(OSError, match="comes back by itself"):
        CountedTries(client).transaction(lambda pipe: None, "unacked")
    assert client.tried == RESTORE_TRIES


@pytest.mark.parametrize("channel", [Channel, SentinelChannel])
def test_what_the_event_loop_reads_from_repairs_nothing(channel: Any) -> None:
    unopened = channel.__new__(channel)
    client = Connection("redis://localhost:1/0")  # type: ignore[no-untyped-call]
    unopened.connection = SimpleNamespace(client=client, default_port=1)
    listening = unopened._connparams(asynchronous=True)
    assert (listening["retry"].get_retries(), listening["retry_on_timeout"]) == (0, False)
    assert "retry" not in unopened._connparams()


def test_all_that_is_sent_goes_through_one_client_of_the_pool() -> None:
    channel: Any = Channel.__new__(Channel)
    channel.Client, channel._pool = Redis, ConnectionPool()
    first = channel._create_client()
    with channel.conn_or_acquire() as client:
        assert client is first
    channel._pool = ConnectionPool()  # as after a lost connection
    assert channel._create_client() is not first
    assert channel._create_client().connection_pool is channel._pool
