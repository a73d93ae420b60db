"""What Redis or one of our scripts answers instead of a result, as an error of ours with the way out."""

from __future__ import annotations

import ssl

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from swarmq.errors import LeaseLost, NotFoundError, SchemaError, StoreError, UsageError

_OURS: dict[str, type[Exception]] = {
    "LEASELOST": LeaseLost,
    "NOTFOUND": NotFoundError,
    "SCHEMA": SchemaError,
    "USAGE": UsageError,
}
_SOON = ("TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "BUSY ")
_MENDED = ("MISCONF", "NOREPLICAS")

_OF_ITS_CA = "name the file of its CA in redis_url: ?ssl_ca_certs=/PATH"
_OF_ITS_NAME = "name the server in redis_url as its certificate does, or add ssl_check_hostname=false"
_TRUST = {10: "renew it", 62: _OF_ITS_NAME, 64: _OF_ITS_NAME}
"""What mends it, by OpenSSL's code: expired, the name of another host, its address."""


def passes_soon(error: BaseException) -> bool:
    """Whether the same command may succeed in a while: the server starts, moves, or a script holds it up."""
    if isinstance(error, ResponseError):
        return str(error).startswith(_SOON)
    return not (isinstance(error, AuthenticationError | AuthorizationError) or _distrust(error))


def _distrust(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """What made this end refuse the server's certificate; redis-py wraps it."""
    chain: list[BaseException] = []
    while error not in chain:  # an error that is raised again can be its own cause
        if isinstance(error, ssl.SSLCertVerificationError):
            return error
        chain.append(error)
        error = error.__cause__ or error.__context__ or error
    return None


def can_be_mended(error: BaseException) -> bool:
    """Whether the server refuses all writes for a reason of its own, until it is mended, and nothing was written.

    It is full (with noeviction), cannot save, lacks the replicas that it must have, or a fail-over made it a replica.
    The command itself is right: what was acknowledged stands, and the same command passes afterwards.
    """
    return isinstance(error, OutOfMemoryError | ReadOnlyError) or (
        isinstance(error, ResponseError) and str(error).startswith(_MENDED)
    )


def refusal(error: BaseException, shown: str) -> Exception:
    """The error to raise. NoScriptError stays what it is: the gate loads the script."""
    if isinstance(error, NoScriptError):
        return error
    text = (str(error).splitlines() or [type(error).__name__])[0]
    code, _, rest = text.partition(" ")
    if code in _OURS:
        return _OURS[code](rest)
    where = f"Redis at {shown}"
    if isinstance(error, OutOfMemoryError):
        return StoreError(full_message(where))
    if isinstance(error, ReadOnlyError):
        return StoreError(f"{where} is a read-only replica; name the primary in redis_url")
    if isinstance(error, AuthenticationError | AuthorizationError):
        return StoreError(f"{where} refuses the login ({text}); check user and password in redis_url")
    distrust = _distrust(error)
    if distrust is not None:
        why = distrust.verify_message.rstrip(".") or "it cannot be verified"
        return StoreError(
            f"{where} shows a certificate that is not trusted ({why}); {_TRUST.get(distrust.verify_code, _OF_ITS_CA)}"
        )
    if code == "MISCONF":
        return StoreError(f"{where} cannot save to its disk and refuses to write; mend its disk ({rest})")
    if code == "NOPERM":
        return StoreError(
            f"{where} refuses: {text}; docs/how-to/several-machines.md lists the rights that its user needs"
        )
    return StoreError(f"{where} refuses: {text}")


def full_message(where: str) -> str:
    """What to say of a server that has reached its maxmemory."""
    return (
        f"{where} is full (maxmemory): give it more memory (redis-cli CONFIG SET maxmemory BYTES), or free some"
        " (swarmq cache clear); swarmq doctor shows the use"
    )
