"""Where Redis is: a URL in anybody's words, taken apart. What is shown of it never holds a password."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from swarmq.errors import UsageError

REDIS_PORT, SENTINEL_PORT = 6379, 26379
_FORMS = (
    "redis://HOST:PORT/DB, rediss://… (TLS), unix:///PATH?db=N, redis+socket:///PATH?virtual_host=N"
    " or sentinel://HOST:PORT,HOST:PORT/DB?master=NAME"
)
_ENCODE = "percent-encode what is special in user and password: # as %23, / as %2F, ? as %3F, @ as %40, [ as %5B"
_SCHEMES = {
    "redis": REDIS_PORT,
    "rediss": REDIS_PORT,
    "sentinel": SENTINEL_PORT,
    "sentinels": SENTINEL_PORT,
    "unix": 0,
    "redis+socket": 0,
}
_TLS_SCHEMES = ("rediss", "sentinels")
_TLS_OPTIONS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
_CERT_REQS = ("required", "optional", "none")
_NO_TLS: Mapping[str, str | bool] = MappingProxyType({})


@dataclass(frozen=True)
class Login:
    """Of an ACL user, or of the default user where there is a password alone; empty: none is sent."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Address:
    """``shown`` is for people. ``hosts`` are the server, or the Sentinels of ``master``; none for a ``socket``.

    ``tls`` holds redis-py's ``ssl_*`` options where the connections are encrypted (``ssl_cert_reqs`` always is in it),
    and is empty where they are not.
    """

    shown: str
    database: int
    login: Login = Login()
    hosts: tuple[tuple[str, int], ...] = ()
    socket: str | None = None
    tls: Mapping[str, str | bool] = field(default_factory=lambda: _NO_TLS)
    master: str | None = None
    sentinel_login: Login = Login()


def parse_address(url: str) -> Address:
    """Accepts Celery's and redis-py's forms. UsageError names the accepted ones, without showing what was given."""
    try:
        parts = urlsplit(url)
        if parts.fragment or "@" in parts.query or ("@" in parts.path and parts.netloc):
            raise UsageError(f"redis_url: {_ENCODE}")
        query = dict(parse_qsl(parts.query))
        if parts.scheme not in _SCHEMES:
            raise _unknown_form(parts.scheme)
        hosts = _hosts(parts.netloc.rpartition("@")[2], _SCHEMES[parts.scheme])
    except ValueError:
        hint = f"; {_ENCODE}" if "@" in url else ""
        raise UsageError(f"redis_url is not a URL; it looks like {_FORMS}{hint}") from None
    login = _login(parts, query)
    if parts.scheme in ("unix", "redis+socket"):
        return _socket(parts, query, login)
    tls = _tls(parts.scheme, query)
    database, other = (_number(text) for text in (parts.path.strip("/") or query.get("db", "0"), query.get("db", "0")))
    if "db" in query and other != database:
        raise UsageError(f"redis_url names database {database} and database {other}: leave one out")
    shown = f"{parts.scheme}://{','.join(map(_shown_host, hosts))}/{database}"
    if _SCHEMES[parts.scheme] == REDIS_PORT:
        if len(hosts) > 1:
            raise UsageError(f"redis_url names several servers; Sentinels look like {_FORMS.rpartition(' or ')[2]}")
        return Address(shown, database, login, hosts, tls=tls)
    master = query.get("master") or query.get("master_name")
    if not master:
        raise UsageError("redis_url names Sentinels without the primary that they watch: add ?master=NAME")
    own = Login(query.get("sentinel_username"), query.get("sentinel_password"))
    return Address(f"{shown}?master={master}", database, login, hosts, tls=tls, master=master, sentinel_login=own)


def _unknown_form(scheme: str) -> UsageError:
    if scheme.startswith(("amqp", "pyamqp")):
        return UsageError(
            "redis_url names RabbitMQ, which is not supported: broker, results and records are one Redis; "
            f"redis_url looks like {_FORMS}"
        )
    what = f"the unknown form {scheme!r}" if scheme else "no '://'"
    return UsageError(f"redis_url has {what}; it looks like {_FORMS}")


def _socket(parts: SplitResult, query: Mapping[str, str], login: Login) -> Address:
    if not parts.path or parts.netloc.rpartition("@")[2]:
        raise UsageError(f"redis_url names no socket (its path begins with /); it looks like {_FORMS}")
    path = unquote(parts.path)
    database = _number(query.get("virtual_host", query.get("db", "0")).strip("/"))
    return Address(f"unix://{path}", database, login, socket=path)


def _login(parts: SplitResult, query: Mapping[str, str]) -> Login:
    """Percent-encoded before the ``@``, or as redis-py's options ``username`` and ``password``."""
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return Login(unquote(user) or query.get("username"), unquote(password) or query.get("password"))


def _hosts(text: str, port: int) -> tuple[tuple[str, int], ...]:
    """ValueError where a port is no number, or a bracket is missing."""
    found = []
    for one in text.split(","):
        parts = urlsplit(f"//{one}")
        found.append((unquote(parts.hostname or "localhost"), parts.port or port))
    return tuple(found)


def _shown_host(host: tuple[str, int]) -> str:
    name, port = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def _tls(scheme: str, query: Mapping[str, str]) -> Mapping[str, str | bool]:
    """Options of the query that are not of TLS (Celery's, for instance) are left out: they could change replies."""
    given = {name: value for name, value in query.items() if name.startswith("ssl_")}
    if scheme not in _TLS_SCHEMES:
        if given:
            raise UsageError(f"redis_url has {', '.join(sorted(given))}, but no TLS: write {scheme}s://…")
        return _NO_TLS
    unknown = sorted(given.keys() - set(_TLS_OPTIONS))
    if unknown:
        raise UsageError(f"redis_url: unknown option {unknown[0]}; there are {', '.join(_TLS_OPTIONS)}")
    # Celery writes CERT_REQUIRED where redis-py wants required; kombu's own default checks nothing.
    needs = given.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if needs not in _CERT_REQS:
        raise UsageError(f"redis_url: ssl_cert_reqs is one of {', '.join(_CERT_REQS)}")
    check = given.get("ssl_check_hostname", "true").lower() not in ("false", "no", "0")
    return MappingProxyType({**given, "ssl_cert_reqs": needs, "ssl_check_hostname": check and needs != "none"})


def _number(database: str) -> int:
    if not (database.isascii() and database.isdecimal()):
        raise UsageError("redis_url: the database is a number, such as redis://localhost:6379/0")
    return int(database)
