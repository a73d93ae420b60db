"""What Redis or one of our scripts answers instead of a result, as an error of ours with the way out."""

from __future__ import annotations

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


def passes_soon(error: BaseException) -> bool:
    """Whether the same command may succeed in a while: the server starts, moves, or a script holds it up."""
    if isinstance(error, ResponseError):
        return str(error).startswith(_SOON)
    return not isinstance(error, AuthenticationError | AuthorizationError)


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
        return StoreError(
            f"{where} is full (maxmemory); give it more memory, or let 'swarmq gc' and keep_days free some"
        )
    if isinstance(error, ReadOnlyError):
        return StoreError(f"{where} is a read-only replica; name the primary in redis_url")
    if isinstance(error, AuthenticationError | AuthorizationError):
        return StoreError(f"{where} refuses the login ({text}); check user and password in redis_url")
    if code == "MISCONF":
        return StoreError(f"{where} cannot save to its disk and refuses to write; mend its disk ({rest})")
    return StoreError(f"{where} refuses: {text}")
