"""kombu's Redis transport, for workers: a lost connection is no reason to end the worker.

kombu 5.7 hands unacked messages back when a channel closes, and a task that ends after a reconnect acks on the channel
that it came by. On a channel whose connection is gone both fail over that (``'NoneType' object has no attribute
'client'``), which Celery takes for an unrecoverable error. There is nothing to talk to at that moment: the messages
stay in ``unacked`` and come back after the visibility timeout, when the records answer that they are done.

Behind Sentinels there is another way to get stuck. A message is handed back under WATCH, and redis-py 8.1 repeats a
transaction whose connection failed without end, and without asking the Sentinels again: where the primary has become
a replica meanwhile, the worker's main thread would never come out of it. So here the tries are counted.

And redis-py repairs a subscription whose connection was cut by itself and goes on reading, where kombu reads only what
is there: the worker's main thread then waits for the next broadcast, for minutes, and takes no message meanwhile. So
the connections that a worker listens on repair nothing, and Celery makes them anew.

Last, a worker that stops has asked Redis for a message before, and the answer is read when it closes its connections.
That message, and above all one that the worker itself has just sent, would wait as long as the pool does. So who stops
to consume reads the answer first: what comes then has no consumer, and kombu puts it back at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis

from swarmq.store.connecting import WatchError, blocking_once

RESTORE_TRIES = 100
"""Each acknowledged message of the fleet makes a try fail, so there have to be many."""
ANSWER_SECONDS = 2.0
"""Redis answers after one second (``brpop_timeout``) where there is no message; what takes longer is not waited for."""


class CountedTries:
    """A client whose transactions end: with an OSError after ``RESTORE_TRIES`` conflicts."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def transaction(self, work: Callable[[Any], None], *watched: str) -> None:
        with self._client.pipeline() as pipe:
            for _ in range(RESTORE_TRIES):
                try:
                    pipe.watch(*watched)
                    work(pipe)
                    pipe.execute()
                except WatchError:
                    continue
                return
        raise OSError("a message could not be handed back: it comes back by itself")


class QoS(redis.QoS):
    @property
    def _gone(self) -> bool:
        connection = self.channel.connection
        return connection is None or connection.client is None

    def restore_unacked(self, client: Any = None) -> Any:
        if self._gone:
            self._delivered.clear()
            return []
        return super().restore_unacked(client)  # type: ignore[no-untyped-call]

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        with self.channel.conn_or_acquire(client) as connected:
            super().restore_by_tag(tag, CountedTries(connected), leftmost)  # type: ignore[no-untyped-call]

    def ack(self, delivery_tag: str) -> None:
        if not self._gone:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if not self._gone:
            super().reject(delivery_tag, requeue)  # type: ignore[no-untyped-call]


class _Frugal:
    """For channels: what the event loop of a worker reads from fails at the first error.

    All else goes through one client, which takes a connection of the channel's pool for each command: kombu makes one
    for every message that is sent or acknowledged, a millisecond each. Who stops to consume leaves no message behind.
    """

    _sender: Any = None
    _talking = False
    """The handler of a signal may interrupt who asks or reads; then it leaves the connection alone."""

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        parameters: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]
        if asynchronous:
            parameters |= {"retry": blocking_once(), "retry_on_timeout": False}
        return parameters

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[misc]
        if self._sender is None or self._sender.connection_pool is not self.pool:  # type: ignore[attr-defined]
            self._sender = super()._create_client()  # type: ignore[misc]
        return self._sender

    @contextlib.contextmanager
    def _talk(self) -> Iterator[None]:
        before, self._talking = self._talking, True
        try:
            yield
        finally:
            self._talking = before

    def _brpop_start(self, timeout: float | None = None) -> None:
        with self._talk():
            super()._brpop_start(timeout)  # type: ignore[misc]

    def _brpop_read(self, **options: Any) -> Any:
        with self._talk():
            return super()._brpop_read(**options)  # type: ignore[misc]

    def _basic_cancel(self, consumer_tag: str) -> Any:
        cancelled = super()._basic_cancel(consumer_tag)  # type: ignore[misc]
        asked: Any = self._in_poll  # type: ignore[attr-defined]
        if asked and not self.active_queues and not self._talking and asked.can_read(ANSWER_SECONDS):  # type: ignore[attr-defined]
            with contextlib.suppress(Empty):
                self._brpop_read()
        return cancelled


class Channel(_Frugal, redis.Channel):
    QoS = QoS


class Transport(redis.Transport):
    Channel = Channel


class SentinelChannel(_Frugal, redis.SentinelChannel):
    QoS = QoS


class SentinelTransport(redis.SentinelTransport):
    Channel = SentinelChannel


def use_patient_transport() -> None:
    """For every Redis connection of this process; only for processes that are swarmq's own."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:SentinelTransport"
