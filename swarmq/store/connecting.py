"""redis-py's connections for an address. Timeouts and retries are the Line's and the Gate's, so redis-py has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import WatchError as WatchError
from redis.retry import Retry as BlockingRetry

from swarmq.errors import EnvironmentFault
from swarmq.store.address import Address

_TLS_FILES = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}
SENTINEL_SECONDS = 1.0
"""A Sentinel that is silent for longer is passed over; connecting as a whole has the Line's time."""


class Connections:
    """Makes connections and holds none. Behind Sentinels each new one asks them which server is the primary now.

    EnvironmentFault where a file of the URL's TLS options is not there: to connect would fail without naming it.
    """

    def __init__(self, address: Address) -> None:
        for option in _TLS_FILES & address.tls.keys():
            if not Path(str(address.tls[option])).exists():
                raise EnvironmentFault(f"redis_url: {option}={address.tls[option]}: there is no such file here")
        self._sentinel: Sentinel | None = None
        options: dict[str, Any] = {
            "username": address.login.user,
            "password": address.login.password,
            "protocol": 2,
            "retry": _once(),
            "db": address.database,
            "socket_timeout": None,
            "encoding_errors": "replace",  # a model may answer with lone surrogates, which no encoding can carry
            "client_name": "swarmq",
            **address.tls,
        }
        if address.socket is not None:
            pool = ConnectionPool(connection_class=UnixDomainSocketConnection, path=address.socket, **options)
        elif address.master is None:
            host, port = address.hosts[0]
            kind = SSLConnection if address.tls else Connection
            pool = ConnectionPool(connection_class=kind, host=host, port=port, **options)
        else:
            asking = sentinel_options(address) | {"retry": _once()}
            managed = SentinelManagedSSLConnection if address.tls else SentinelManagedConnection
            self._sentinel = Sentinel(address.hosts, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
            pool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
                address.master, self._sentinel, connection_class=managed, **options
            )
        self._pool = pool

    def make(self) -> AbstractConnection:
        """A new one; it connects when it is told to."""
        made: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        return made

    async def aclose(self) -> None:
        """Hang up on the Sentinels; the connections that were made are their owners' to close."""
        for asked in self._sentinel.sentinels if self._sentinel is not None else ():
            await asked.aclose()


def _once() -> Retry:
    return Retry(NoBackoff(), 0)


def blocking_once() -> BlockingRetry:
    """For redis-py's blocking clients: a connection that fails says so at once."""
    return BlockingRetry(NoBackoff(), 0)


def sentinel_options(address: Address) -> dict[str, Any]:
    """How to ask the Sentinels, for redis-py's blocking clients: once each, since the next one can be asked instead.

    By default redis-py would insist for seconds on a Sentinel that is down, each time something connects.
    """
    login = address.sentinel_login
    options: dict[str, Any] = {
        "socket_timeout": SENTINEL_SECONDS,
        "socket_connect_timeout": SENTINEL_SECONDS,
        "protocol": 2,
        "retry": blocking_once(),
    }
    if login.password:
        options |= {"username": login.user, "password": login.password}
    if address.tls:
        options |= {"ssl": True, **address.tls}
    return options
