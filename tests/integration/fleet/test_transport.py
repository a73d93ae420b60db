"""What kombu's Redis transport does when its connections break."""

from __future__ import annotations

from typing import Any

import kombu as untyped_kombu
import pytest
from kombu.transport import TRANSPORT_ALIASES
from valkey_server import Valkey

from swarmq.fleet.app import celery_url, make_app
from swarmq.fleet.transport import Channel, use_patient_transport
from swarmq.settings import load_settings

kombu: Any = untyped_kombu


@pytest.mark.timeout(20)
def test_a_broken_subscription_is_an_error_and_not_a_wait(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """redis-py would subscribe again and wait for the next broadcast, and the worker would take no message."""
    monkeypatch.setattr("kombu.transport._transport_cache", {})
    for name, value in TRANSPORT_ALIASES.items():
        monkeypatch.setitem(TRANSPORT_ALIASES, name, value)  # as they were, after the test
    use_patient_transport()
    options = make_app(load_settings(), valkey.url).conf.broker_transport_options
    with kombu.Connection(celery_url(valkey.url), transport_options=options) as connection:
        channel = connection.channel()
        assert isinstance(channel, Channel) is True
        broadcast = kombu.Exchange("pidbox", type="fanout")
        with kombu.Consumer(channel, [kombu.Queue("reply", broadcast, auto_delete=True)], callbacks=[lambda *_: None]):
            subscription = channel.subclient
            subscription.connection = subscription.connection_pool.get_connection()  # as the worker's loop does
            channel._subscribe()
            channel._receive()  # what the subscription itself is answered
            with valkey.server.client(valkey.database) as client:
                client.client_kill_filter(_type="pubsub")
            with pytest.raises(connection.connection_errors):
                channel._receive()
