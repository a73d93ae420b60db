"""What an answer of the API server that is no success means. Pure."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from swarmq.errors import ClusterError, PodError, SwarmqError

RETRIED = frozenset({429, 500, 502, 503, 504})
BAD_GATEWAY, GONE, CONFLICT, NOT_FOUND, FORBIDDEN, UNAUTHORIZED = 502, 410, 409, 404, 403, 401
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.2, 10.0
MAX_TOLD_SECONDS = 60.0
"""A server that names a longer time is asked again after this one: it may be up by then."""


@dataclass(frozen=True)
class Call:
    """What was asked, in the words of RBAC: ``create pods``, ``get pods/log``."""

    verb: str
    resource: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


class Refused(Exception):
    """The server answered, and not with what was asked for. Callers of the cluster never see one that passes."""

    def __init__(self, call: Call, status: int, reason: str, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(f"{call}: {status} {reason}: {message}")
        self.call, self.status, self.reason, self.message = call, status, reason, message
        self.retry_after_seconds = retry_after_seconds

    @property
    def passes(self) -> bool:
        return self.status in RETRIED

    @property
    def over_quota(self) -> bool:
        return self.status == FORBIDDEN and "exceeded quota" in self.message

    @property
    def lacks_rights(self) -> bool:
        """By RBAC, as opposed to admission, which answers with 403 too."""
        return self.status == FORBIDDEN and f"cannot {self.call.verb} resource" in self.message


class NotTheServer(Refused):
    """What came as a success is nothing that the API server says: a sign-in page, say, of a proxy in between."""

    def __init__(self, call: Call, said: bytes) -> None:
        super().__init__(call, BAD_GATEWAY, "", f"somebody else has answered: {_words(said)}")


def read_object(call: Call, body: bytes) -> dict[str, Any]:
    """The object of a success; a deletion may tell none. NotTheServer for anything else."""
    told = _json(body) if body else {}
    if not isinstance(told, dict) or (call.verb == "list" and not _is_list(told)):
        raise NotTheServer(call, body)
    return told


def read_change(call: Call, line: bytes) -> tuple[str, dict[str, Any]]:
    """One line of a watch: the kind of change, and the object. NotTheServer for anything else."""
    told = _json(line)
    kind, thing = (told.get("type"), told.get("object")) if isinstance(told, dict) else (None, None)
    if not isinstance(kind, str) or not isinstance(thing, dict) or not (kind == "ERROR" or _is_object(thing)):
        raise NotTheServer(call, line)
    return kind, thing


def _json(body: bytes) -> object:
    """None for what is none."""
    try:
        return json.loads(body)
    except ValueError:
        return None


def _is_object(told: dict[str, Any]) -> bool:
    return isinstance(told.get("metadata"), dict)


def _is_list(told: dict[str, Any]) -> bool:
    return _is_object(told) and isinstance(told.get("items"), list)


def _words(body: bytes) -> str:
    return " ".join(body.decode(errors="replace").split())[:300]


def read_refusal(call: Call, status: int, body: bytes, retry_after: str | None) -> Refused:
    """From a ``Status`` object, or whatever a proxy in between has answered instead."""
    told = _json(body)
    if not isinstance(told, dict):
        told = {"message": _words(body)}
    reason, message = str(told.get("reason") or ""), str(told.get("message") or "")
    return Refused(call, status, reason, message, _seconds(retry_after) or _told_seconds(told.get("details")))


def _seconds(header: str | None) -> float:
    return float(header) if header and header.strip().isdigit() else 0.0


def _told_seconds(details: object) -> float:
    seconds = details.get("retryAfterSeconds") if isinstance(details, dict) else None
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def wait_seconds(attempt: int, told_seconds: float) -> float:
    """Before the attempt after that one (the first is 0): doubling with jitter, never less than was told."""
    own = min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(attempt, 10))
    return max(min(told_seconds, MAX_TOLD_SECONDS), random.uniform(own / 2, own))


def explain(refused: Refused, namespace: str) -> SwarmqError:
    """The error that a person can act on."""
    call, said = refused.call, refused.message or refused.reason or f"HTTP {refused.status}"
    if refused.lacks_rights:
        return ClusterError(
            f"Kubernetes does not let this process {call.verb} {call.resource} in the namespace {namespace}: its role "
            f'needs the verb "{call.verb}" on the resource "{call.resource}" (the server says: {said})'
        )
    if refused.status == UNAUTHORIZED:
        return ClusterError(f"Kubernetes does not accept the credentials of this process ({call}: {said})")
    if call.verb == "create" and refused.status in (400, FORBIDDEN, 422):
        return PodError(f"Kubernetes refuses the {call.resource.removesuffix('s')} {call.name}: {said}")
    return ClusterError(f"Kubernetes refuses to {call} in the namespace {namespace}: {refused.status} {said}")
