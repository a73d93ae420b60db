from __future__ import annotations

import pytest
from celery import Celery

from swarmq.errors import EnvironmentFault
from swarmq.fleet.app import CONTROL, celery_url, make_app, require_url
from swarmq.fleet.build import build_app
from swarmq.settings import load_settings


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://:pw@host:6379/2", "redis://:pw@host:6379/2"),
        ("unix:///run/x.sock", "redis+socket:///run/x.sock?virtual_host=0"),
        ("unix:///run/x.sock?db=3&password=a%2Fb", "redis+socket://:a%2Fb@/run/x.sock?virtual_host=3"),
        ("unix://:p%40w@/run/x.sock?db=1", "redis+socket://:p%40w@/run/x.sock?virtual_host=1"),
    ],
)
def test_urls_in_kombus_words(url: str, expected: str) -> None:
    assert celery_url(url) == expected


def test_keepalive_is_for_tcp_only() -> None:
    settings = load_settings()
    tcp = make_app(settings, "redis://localhost:1/0")
    unix = make_app(settings, "unix:///run/x.sock")
    assert tcp.conf.broker_transport_options["socket_keepalive"] is True
    assert "socket_keepalive" not in unix.conf.broker_transport_options
    assert unix.conf.redis_socket_keepalive is False


def test_the_default_queue_stays_the_producers() -> None:
    app = build_app(load_settings(), "redis://localhost:1/0")
    assert app.conf.task_default_queue == "celery"
    own = {name for name in app.tasks if name.startswith("swarmq.")}
    assert own == set(app.conf.task_routes)
    assert all(entry["options"]["queue"] == CONTROL for entry in app.conf.beat_schedule.values())


def test_ticks_depend_on_no_clock() -> None:
    """An expiry is a moment by beat's clock: a worker whose clock is ahead would discard every tick."""
    schedule = make_app(load_settings(reconcile_seconds=3), "redis://localhost:1/0").conf.beat_schedule
    assert schedule["reconcile"]["schedule"] == 3
    assert not any("expires" in entry["options"] for entry in schedule.values())


def test_workers_never_start_an_embedded_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SWARMQ_REDIS_URL", raising=False)
    with pytest.raises(EnvironmentFault, match="swarmq up"):
        require_url(load_settings())


def test_tasks_stay_with_their_application() -> None:
    first = build_app(load_settings(), "redis://localhost:1/0")
    second = build_app(load_settings(), "redis://localhost:1/0")
    foreign = Celery("foreign", set_as_current=False)
    assert first.tasks["swarmq.plan"].app is first
    assert second.tasks["swarmq.plan"].app is second
    assert not [name for name in foreign.tasks if name.startswith("swarmq.")]
