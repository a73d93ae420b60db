"""What kombu's Redis transport does when its connections break."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kombu import Connection, Consumer, Exchange, Producer, Queue  # type: ignore[attr-defined]
from kombu.transport import TRANSPORT_ALIASES
from valkey_server import Valkey

from swarmq.fleet.app import celery_url, make_app
from swarmq.fleet.transport import Channel, use_patient_transport
from swarmq.settings import load_settings


@pytest.fixture
def connection(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr("kombu.transport._transport_cache", {})
    for name, value in TRANSPORT_ALIASES.items():
        monkeypatch.setitem(TRANSPORT_ALIASES, name, value)  # as they were, after the test
    use_patient_transport()
    options = make_app(load_settings(), valkey.url).conf.broker_transport_options
    with Connection(celery_url(valkey.url), transport_options=options) as connected:  # type: ignore[no-untyped-call]
        yield connected


@pytest.mark.timeout(20)
@pytest.mark.parametrize("answered", [True, False])
def test_who_stops_to_consume_leaves_no_message_in_its_connection(
    valkey: Valkey, connection: Any, answered: bool
) -> None:
    """What it had asked Redis for is put back at once, also where it came already; what comes later it leaves alone."""
    channel, taken = connection.channel(), []
    assert isinstance(channel, Channel)
    queue = Queue("work", Exchange("work"), "work")  # type: ignore[no-untyped-call]
    consumer = Consumer(channel, [queue], callbacks=[lambda body, message: taken.append(body)])  # type: ignore[no-untyped-call]
    consumer.consume()  # type: ignore[no-untyped-call]
    channel.client.connection = channel.client.connection_pool.get_connection()  # as the worker's loop does
    channel._brpop_start()
    if answered:
        Producer(connection.channel()).publish("one", exchange="work", routing_key="work")  # type: ignore[no-untyped-call]
    consumer.cancel()  # type: ignore[no-untyped-call]
    with valkey.server.client(valkey.database) as client:
        assert (client.llen("work"), client.zcard("unacked_index")) == (int(answered), 0)
        Producer(connection.channel()).publish("two", exchange="work", routing_key="work")  # type: ignore[no-untyped-call]
        assert (client.llen("work"), taken) == (1 + answered, [])


@pytest.mark.timeout(20)
def test_a_broken_subscription_is_an_error_and_not_a_wait(valkey: Valkey, connection: Any) -> None:
    """redis-py would subscribe again and wait for the next broadcast, and the worker would take no message."""
    channel = connection.channel()
    assert isinstance(channel, Channel)
    broadcast = Exchange("pidbox", type="fanout")  # type: ignore[no-untyped-call]
    queue = Queue("reply", broadcast, auto_delete=True)  # type: ignore[no-untyped-call]
    with Consumer(channel, [queue], callbacks=[lambda *_: None]):  # type: ignore[no-untyped-call]
        subscription = channel.subclient
        subscription.connection = subscription.connection_pool.get_connection()  # as the worker's loop does
        channel._subscribe()  # type: ignore[no-untyped-call]
        channel._receive()  # type: ignore[no-untyped-call]  # what the subscription itself is answered
        with valkey.server.client(valkey.database) as client:
            client.client_kill_filter(_type="pubsub")
        with pytest.raises(connection.connection_errors):
            channel._receive()  # type: ignore[no-untyped-call]
