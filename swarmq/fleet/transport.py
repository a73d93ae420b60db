"""kombu's Redis transport, for workers: a lost connection is no reason to end the worker.

kombu 5.7 hands unacked messages back when a channel closes, and a task that ends after a reconnect acks on the channel
that it came by. On a channel whose connection is gone both fail over that (``'NoneType' object has no attribute
'client'``), which Celery takes for an unrecoverable error. There is nothing to talk to at that moment: the messages
stay in ``unacked`` and come back after the visibility timeout, when the records answer that they are done.
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


class Transport(redis.Transport):
    Channel = Channel


class SentinelChannel(redis.SentinelChannel):
    QoS = QoS


class SentinelTransport(redis.SentinelTransport):
    Channel = SentinelChannel


def use_patient_transport() -> None:
    """For every Redis connection of this process; only for processes that are swarmq's own."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:Transport"
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:SentinelTransport"
