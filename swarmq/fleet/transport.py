"""kombu's Redis transport, for workers: a lost connection is no reason to end the worker.

kombu 5.7 hands unacked messages back when a channel closes, and a task that ends after a reconnect acks on the channel
that it came by. On a channel whose connection is gone both fail over that (``'NoneType' object has no attribute
'client'``), which Celery takes for an unrecoverable error. There is nothing to talk to at that moment: the messages
stay in ``unacked`` and come back after the visibility timeout, when the records answer that they are done.

And redis-py heals a subscription in the middle of a read: it connects again, subscribes again, and waits for the next
broadcast, in the worker's main thread and without a time limit. Where Redis was back before the end of its connection
was noticed, such a worker took no message any more, until somebody sent a revoke. So that read fails at once, as the
pop does, and Celery makes all connections new.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis


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

    def ack(self, delivery_tag: str) -> None:
        if not self._gone:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if not self._gone:
            super().reject(delivery_tag, requeue)  # type: ignore[no-untyped-call]


class Channel(redis.Channel):
    QoS = QoS

    def _subscribe(self) -> None:
        super()._subscribe()  # type: ignore[no-untyped-call]
        connection = self.subclient.connection
        if connection is not None:
            connection.retry.update_retries(0)  # its own copy: the other connections keep theirs


class Transport(redis.Transport):
    Channel = Channel


def use_patient_transport() -> None:
    """For every Redis connection of this process; only for processes that are swarmq's own."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
