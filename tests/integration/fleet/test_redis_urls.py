"""Store, broker and results through every form of URL: TLS, ACL users, Sentinels."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError
from sentinel_servers import SentinelServers, sentinel_servers
from tls_relay import make_authority, make_certificate, tls_relay
from valkey_server import ValkeyServer

from swarmq.errors import StoreError
from swarmq.fleet.app import make_app
from swarmq.settings import load_settings
from swarmq.store.connection import Gate
from swarmq.store.server import check

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # Celery's own
PASSWORD = "p@ss:w/rd?%&#[é"
"""Everything that has to be percent-encoded."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def tls_url(valkey_server: ValkeyServer, authority: Path) -> Iterator[str]:
    """Without the option that names the authority."""
    with tls_relay(valkey_server.socket, make_certificate(authority)) as port:
        yield f"rediss://:{valkey_server.password}@127.0.0.1:{port}/0"


@pytest.fixture(scope="module")
def servers() -> Iterator[SentinelServers]:
    with sentinel_servers() as running:
        yield running


async def through_store(url: str, value: str) -> None:
    gate = Gate.open(url, retry_seconds=10)
    await gate.call("SET", "swarmq-test-value", value)
    assert (await gate.call("GET", "swarmq-test-value")).decode() == value
    await gate.aclose()
    assert "noeviction" not in " ".join(map(str, (await check(url)).dangers))


def through_celery(url: str, value: str) -> None:
    """A message through the broker, and a result through the backend."""
    app = make_app(load_settings(), url)
    with app.connection_for_write() as connection:
        queue = connection.SimpleQueue("swarmq-test")
        queue.put({"value": value})
        message = queue.get(timeout=10)
        assert message.payload == {"value": value}
        message.ack()
        queue.close()
    task_id = str(uuid.uuid4())
    app.backend.store_result(task_id, value, "SUCCESS")
    assert app.backend.get_result(task_id) == value
    close(app)


def close(app: Celery) -> None:
    app.backend.client.connection_pool.disconnect()
    app.close()


async def test_an_acl_user_with_any_password(valkey_server: ValkeyServer) -> None:
    with valkey_server.client() as admin:
        admin.acl_setuser(
            "me@work", enabled=True, passwords=[f"+{PASSWORD}"], keys=["*"], channels=["*"], categories=["+@all"]
        )
    login = f"{quote('me@work', safe='')}:{quote(PASSWORD, safe='')}"
    for url in (f"unix://{login}@{valkey_server.socket}", f"redis+socket://{login}@{valkey_server.socket}"):
        await through_store(url, url)
        through_celery(url, url)


async def test_tls_for_store_broker_and_results(tls_url: str, authority: Path) -> None:
    url = f"{tls_url}?ssl_ca_certs={authority}"
    await through_store(url, "encrypted")
    through_celery(url, "encrypted")


@pytest.mark.parametrize("wrong", ["another authority", "no authority", "another name"])
async def test_a_certificate_that_is_not_trusted_is_refused_at_once(
    tls_url: str, authority: Path, tmp_path: Path, wrong: str
) -> None:
    url = {
        "another authority": f"{tls_url}?ssl_ca_certs={make_authority(tmp_path, 'other')}",
        "no authority": tls_url,
        "another name": f"{tls_url.replace('127.0.0.1', 'localhost')}?ssl_ca_certs={authority}",
    }[wrong]
    gate = Gate.open(url, retry_seconds=60)
    way_out = "add ssl_check_hostname=false" if wrong == "another name" else r"\?ssl_ca_certs=/PATH"
    with pytest.raises(StoreError, match=f"a certificate that is not trusted .*{way_out}") as caught:
        await gate.call("PING")
    await gate.aclose()
    with pytest.raises(StoreError, match="is not trusted"):
        await check(url)
    assert tls_url.partition(":")[2].partition("@")[0] not in str(caught.value)


def test_celery_refuses_it_too(tls_url: str, tmp_path: Path) -> None:
    app = make_app(load_settings(), f"{tls_url}?ssl_ca_certs={make_authority(tmp_path, 'other')}")
    with app.connection_for_write() as connection, pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
        connection.default_channel.client.ping()
    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        app.backend.client.ping()
    close(app)


async def test_a_certificate_need_not_be_checked_where_somebody_says_so(tls_url: str) -> None:
    await through_store(f"{tls_url}?ssl_cert_reqs=none", "unchecked")
    through_celery(f"{tls_url}?ssl_cert_reqs=none", "unchecked")


async def test_all_follow_the_sentinels_to_the_new_primary(servers: SentinelServers) -> None:
    url = servers.url(1)
    gate = Gate.open(url, retry_seconds=30)
    await gate.call("SET", "counted", 1)
    await through_store(url, "before")
    through_celery(url, "before")
    before = servers.primary()
    after = servers.fail_over()
    assert after != before
    assert await gate.call("INCR", "counted") == 2  # through the connection that led to the old primary
    await through_store(url, "after")
    through_celery(url, "after")
    await gate.aclose()
    assert (await check(url)).address == "sentinel://" + url.partition("@")[2].partition("&")[0]
    with servers.client(after) as primary:
        assert primary.info("replication")["role"] == "master"


async def test_sentinels_that_are_away_are_named_by_their_addresses() -> None:
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1 - .*127\.0\.0\.1:2 - ") as caught:
        await check("sentinel://:s3cret@127.0.0.1:1,127.0.0.1:2/0?master=m&sentinel_password=s3cret")
    assert "s3cret" not in str(caught.value)
    assert len(str(caught.value)) < 300


async def test_sentinels_that_know_no_such_primary_say_so(servers: SentinelServers) -> None:
    gate = Gate.open(servers.url().replace("master=mine", "master=yours"), retry_seconds=0.2)
    with pytest.raises(StoreError, match=r"sentinel://127.* does not answer .*No master found for 'yours'") as caught:
        await gate.call("PING")
    await gate.aclose()
    assert servers.password not in str(caught.value)
    assert servers.own_password not in str(caught.value)
