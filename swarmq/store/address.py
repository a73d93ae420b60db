"""Where Redis is: a URL in anybody's words, turned into redis-py's. What is shown of it never holds a password."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from swarmq.errors import UsageError

_FORMS = "redis://HOST:PORT/DB, rediss://…, unix:///PATH?db=N or redis+socket:///PATH?virtual_host=N"


@dataclass(frozen=True)
class Address:
    """``url`` is for redis-py and holds the password; ``shown`` is for people and does not."""

    url: str
    shown: str


def parse_address(url: str) -> Address:
    """Accepts Celery's and redis-py's forms. UsageError names the accepted ones, without showing what was given."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError(f"redis_url is not a URL; it looks like {_FORMS}") from None
    query = dict(parse_qsl(parts.query))
    if parts.scheme in ("unix", "redis+socket"):
        if not parts.path:
            raise UsageError(f"redis_url names no socket; it looks like {_FORMS}")
        database = _number(query.get("virtual_host", query.get("db", "0")).strip("/"))
        login, at, _ = parts.netloc.rpartition("@")
        path = quote(unquote(parts.path))
        return Address(f"unix://{login}{at}{path}?db={database}", f"unix://{unquote(parts.path)}")
    if parts.scheme in ("redis", "rediss"):
        database = _number(parts.path.strip("/") or query.get("db", "0"))
        # Other options of the query (Celery's, for instance) could change how replies are read; only TLS ones pass.
        tls = {name: _tls_word(name, value) for name, value in query.items() if name.startswith("ssl_")}
        options = f"?{urlencode(tls)}" if tls else ""
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or "localhost"
        shown = f"{parts.scheme}://{host}:{port or 6379}/{database}"
        return Address(f"{parts.scheme}://{parts.netloc or host}/{database}{options}", shown)
    what = f"the unknown form {parts.scheme!r}" if parts.scheme else "no '://'"
    raise UsageError(f"redis_url has {what}; it looks like {_FORMS}")


def _number(database: str) -> int:
    if not database.isdecimal():
        raise UsageError("redis_url: the database is a number, such as redis://localhost:6379/0")
    return int(database)


def _tls_word(name: str, value: str) -> str:
    """Celery writes CERT_REQUIRED where redis-py wants required."""
    return value.lower().removeprefix("cert_") if name == "ssl_cert_reqs" else value
