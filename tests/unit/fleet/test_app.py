from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from swarmq.errors import EnvironmentFault, UsageError
from swarmq.fleet.app import CONTROL, celery_url, make_app, require_url
from swarmq.fleet.build import build_app
from swarmq.settings import load_settings


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://:pw@host:6379/2", "redis://:pw@host:6379/2"),
        ("redis://me:p%40%3A@[::1]", "redis://me:p%40%3A@[::1]:6379/0"),
        ("rediss://me:pw@host?ssl_ca_certs=/ca.pem", "rediss://me:pw@host:6379/0"),
        ("unix:///run/x.sock", "redis+socket:///run/x.sock?virtual_host=0"),
        ("unix:///run/x.sock?db=3&password=a%2Fb", "redis+socket://:a%2Fb@/run/x.sock?virtual_host=3"),
        ("unix://me:p%40w@/run/x.sock?db=1", "redis+socket://me:p%40w@/run/x.sock?virtual_host=1"),
        ("sentinel://me:pw@a,b:1/2?master=m", "sentinel://me:pw@a:26379/2;sentinel://me:pw@b:1/2"),
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


def test_a_worker_is_back_soon_after_a_long_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kombu.utils.functional.sleep", lambda seconds: None)
    waits: list[float] = []

    def failed(_: Exception, seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 7:
            raise KeyboardInterrupt

    app = make_app(load_settings(), f"unix://{tmp_path}/none.sock")
    with pytest.raises(KeyboardInterrupt):
        app.connection_for_read().clone().ensure_connection(failed)
    assert waits == [1, 2, 3, 4, 5, 5, 5]


def test_a_publication_whose_connection_was_lost_keeps_its_own_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("kombu.utils.functional.sleep", waits.append)
    app = make_app(load_settings(), f"unix://{tmp_path}/none.sock")

    def lost() -> None:
        raise ConnectionError("gone")

    policy = {"max_retries": 3, "interval_start": 0.25, "interval_step": 0, "interval_max": 0.25}
    with app.connection_for_write() as connection:
        publish = connection.ensure(app.amqp.Producer(connection, auto_declare=False), lost, **policy)
        with pytest.raises(OperationalError):
            publish()
    assert set(waits) == {0.25}


@pytest.mark.parametrize("scheme", ["rediss://u:s3cret@h/0?", "sentinels://u:s3cret@h/0?master=m&"])
def test_tls_checks_the_certificate_unless_told_otherwise(scheme: str) -> None:
    app = make_app(load_settings(), f"{scheme}ssl_ca_certs=/ca.pem")
    expected = {"ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_ca_certs": "/ca.pem"}
    assert app.connection_for_write().ssl == expected
    assert app.backend.connparams["ssl_cert_reqs"] is ssl.CERT_REQUIRED
    assert app.backend.connparams["ssl_ca_certs"] == "/ca.pem"
    unchecked = make_app(load_settings(), f"{scheme}ssl_cert_reqs=none")
    assert unchecked.conf.broker_use_ssl == {"ssl_cert_reqs": "none", "ssl_check_hostname": False}


def test_sentinels_have_time_outs_and_a_login_of_their_own() -> None:
    app = make_app(load_settings(), "sentinel://:pw@h/0?master=m&sentinel_password=own")
    for options in (app.conf.broker_transport_options, app.conf.result_backend_transport_options):
        assert options["master_name"] == "m"
        asking = options["sentinel_kwargs"]
        assert (asking["socket_timeout"], asking["socket_connect_timeout"], asking["password"]) == (1, 1, "own")
        assert asking["retry"].get_retries() == 0


@pytest.mark.parametrize(
    "url", ["redis://u:s3cret@h", "rediss://:s3cret@h", "unix://u:s3cret@/x", "sentinel://:s3cret@a,b?master=m"]
)
def test_what_celery_shows_of_a_url_holds_no_password(url: str) -> None:
    app = make_app(load_settings(), url)
    shown = f"{app.connection_for_read()!r} {app.connection_for_read().as_uri()} {app.backend.as_uri()}"
    assert "s3cret" not in shown


def test_a_broker_that_is_not_redis_is_refused() -> None:
    with pytest.raises(UsageError, match="RabbitMQ"):
        make_app(load_settings(), "amqp://guest:guest@rabbit//")


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


@pytest.mark.parametrize("url", ["rediss://h/0", "unix:///x", "sentinels://h/0?master=m"])
def test_every_setting_is_on_the_page_with_its_reason(url: str) -> None:
    page = (Path(__file__).parents[3] / "docs" / "design" / "celery.md").read_text(encoding="utf-8")
    conf = make_app(load_settings(), url).conf
    options = {*conf.broker_transport_options, *conf.result_backend_transport_options}
    chosen = (set(conf.changes) - {"broker_url", "result_backend", "deprecated_settings"}) | options
    assert chosen
    assert sorted(name for name in chosen if f"`{name}`" not in page) == []
