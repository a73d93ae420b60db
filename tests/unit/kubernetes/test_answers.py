"""What answers of the API server mean, and how long to wait after one."""

from __future__ import annotations

import json

import pytest

from swarmq.errors import ClusterError, PodError
from swarmq.kubernetes.answers import (
    MAX_TOLD_SECONDS,
    MAX_WAIT_SECONDS,
    Call,
    NotTheServer,
    Refused,
    explain,
    read_change,
    read_object,
    read_refusal,
    wait_seconds,
)
from swarmq.kubernetes.rights import RIGHTS, granted

CREATE = Call("create", "pods", "swarmq-fix")
RBAC = 'pods is forbidden: User "worker" cannot create resource "pods" in API group "" in the namespace "swarms"'
QUOTA = 'pods "swarmq-fix" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=9, limited: pods=9'
STANDARD = 'pods "swarmq-fix" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'


def refusal(status: int, message: str, **told: object) -> Refused:
    body = json.dumps({"kind": "Status", "message": message, "reason": "Reason", **told}).encode()
    return read_refusal(CREATE, status, body, None)


def test_three_kinds_of_forbidden() -> None:
    assert refusal(403, RBAC).lacks_rights
    assert refusal(403, QUOTA).over_quota
    assert not refusal(403, QUOTA).lacks_rights
    assert not refusal(403, STANDARD).lacks_rights
    assert 'needs the verb "create" on the resource "pods"' in str(explain(refusal(403, RBAC), "swarms"))
    assert isinstance(explain(refusal(403, STANDARD), "swarms"), PodError)
    assert "violates PodSecurity" in str(explain(refusal(403, STANDARD), "swarms"))


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, PodError), (422, PodError), (401, ClusterError), (404, ClusterError), (405, ClusterError)],
)
def test_errors_by_status(status: int, kind: type[Exception]) -> None:
    assert type(explain(refusal(status, "what is wrong"), "swarms")) is kind
    assert "what is wrong" in str(explain(refusal(status, "what is wrong"), "swarms"))


def test_what_a_proxy_answers_is_told_too() -> None:
    refused = read_refusal(CREATE, 502, b"<html>\n<h1>Bad Gateway</h1>", "7")
    assert (refused.passes, refused.retry_after_seconds) == (True, 7)
    assert "Bad Gateway" in str(refused)
    assert read_refusal(CREATE, 429, b"[]", "soon").retry_after_seconds == 0
    assert refusal(429, "", details={"retryAfterSeconds": 3}).retry_after_seconds == 3


@pytest.mark.parametrize("said", [b"<html>\n<h1>Sign in</h1>", b"[]", b'"yes"', b"\xff", b"{", b"null"])
def test_a_success_of_somebody_else_is_none(said: bytes) -> None:
    for read in (read_object, read_change):
        with pytest.raises(NotTheServer) as refused:
            read(CREATE, said)
        assert refused.value.passes
    assert "<h1>Sign in</h1>" in str(NotTheServer(CREATE, b"<html>\n<h1>Sign in</h1>"))


def test_successes_of_the_server() -> None:
    assert read_object(Call("delete", "pods"), b"") == {}
    assert read_object(CREATE, b'{"kind": "Pod"}') == {"kind": "Pod"}
    listed: dict[str, object] = {"metadata": {}, "items": []}
    assert read_object(Call("list", "pods"), json.dumps(listed).encode()) == listed
    with pytest.raises(NotTheServer):
        read_object(Call("list", "pods"), b'{"items": []}')


def test_changes_of_a_watch() -> None:
    watch, pod = Call("watch", "pods"), {"metadata": {"name": "fix"}}
    assert read_change(watch, json.dumps({"type": "ADDED", "object": pod}).encode()) == ("ADDED", pod)
    assert read_change(watch, b'{"type": "ERROR", "object": {"code": 410}}') == ("ERROR", {"code": 410})
    for said in ({"type": "ADDED"}, {"type": "ADDED", "object": {}}, {"object": pod}, {"type": 1, "object": pod}):
        with pytest.raises(NotTheServer):
            read_change(watch, json.dumps(said).encode())


def test_waits_grow_and_are_never_shorter_than_told() -> None:
    assert wait_seconds(0, 0) <= 0.2
    assert MAX_WAIT_SECONDS / 2 <= wait_seconds(1000, 0) <= MAX_WAIT_SECONDS
    assert wait_seconds(0, 30) == 30
    assert wait_seconds(0, 1e9) == MAX_TOLD_SECONDS


def test_rules_grant_rights() -> None:
    right = Call("get", "pods/log")
    assert granted(right, [{"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}])
    assert granted(right, [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}])
    assert not granted(right, [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}])
    assert not granted(right, [{"apiGroups": ["apps"], "resources": ["pods/log"], "verbs": ["get"]}])
    assert not granted(
        right, [{"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"], "resourceNames": ["x"]}]
    )
    assert not {"get", "list", "update"} & {wanted.verb for wanted in RIGHTS if wanted.resource == "secrets"}
