"""The API of Kubernetes: every call goes through here, is counted, and is repeated through a short outage.

Objects are plain JSON. The client's models are not used: they would drop fields that they do not know, which the server
is to refuse by name, and cost milliseconds a pod.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from swarmq.errors import ClusterError
from swarmq.kubernetes.answers import (
    CONFLICT,
    NOT_FOUND,
    UNAUTHORIZED,
    Call,
    Refused,
    explain,
    read_object,
    read_refusal,
    wait_seconds,
)
from swarmq.kubernetes.connecting import configure, connect
from swarmq.kubernetes.patience import PATIENT, Patience
from swarmq.settings import Settings

if TYPE_CHECKING:
    from aiohttp import ClientResponse, StreamReader
    from kubernetes.aio.client import ApiClient

Object = dict[str, Any]

CALL_SECONDS = 30.0
CONNECT_SECONDS = 10.0
MERGE_PATCH = "application/merge-patch+json"
_METHODS = {"create": "POST", "patch": "PATCH", "delete": "DELETE", "deletecollection": "DELETE"}


class Cluster:
    """One namespace, as this process may see it. Belongs to one event loop; ``aclose`` hangs up."""

    def __init__(
        self, client: ApiClient, namespace: str, settings: Settings | None = None, patience: Patience = PATIENT
    ) -> None:
        self.namespace = namespace
        self.calls: Counter[str] = Counter()
        """What was sent, by verb and resource, repetitions included."""
        self._client, self._settings, self.patience = client, settings, patience

    @classmethod
    async def open(cls, settings: Settings, patience: Patience = PATIENT) -> Cluster:
        """ClusterError where there is no client or no cluster is configured; whether it answers shows later."""
        client, namespace = await connect(settings)
        return cls(client, namespace, settings, patience)

    async def aclose(self) -> None:
        await self._client.close()  # type: ignore[no-untyped-call]

    async def create(self, resource: str, manifest: Object, **query: str) -> Object:
        """Fields that the server does not know are refused. Refused with 409 where there is one of that name."""
        call = Call("create", resource, manifest["metadata"]["name"])
        return await self.request(call, {"fieldValidation": "Strict", **query}, manifest)

    async def get(self, resource: str, name: str) -> Object:
        """Refused with 404 where there is none."""
        return await self.request(Call("get", resource, name))

    async def patch(self, resource: str, name: str, change: Object) -> Object:
        """A JSON merge patch."""
        return await self.request(Call("patch", resource, name), {"fieldValidation": "Strict"}, change)

    async def delete(self, resource: str, name: str, uid: str | None = None, grace_seconds: int | None = None) -> None:
        """Afterwards it is gone or on its way. Nothing happens where there is none, or one with another uid."""
        options: Object = {"propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            await self.request(Call("delete", resource, name), body=options)
        except Refused as refused:
            if refused.status not in (NOT_FOUND, CONFLICT):
                raise explain(refused, self.namespace) from None

    async def delete_all(self, resource: str, selector: str) -> None:
        """All that the label selector finds, in one call."""
        call, query = Call("deletecollection", resource), {"labelSelector": selector}
        try:
            await self.request(call, query, {"propagationPolicy": "Background"})
        except Refused as refused:
            raise explain(refused, self.namespace) from None

    async def list(self, resource: str, selector: str, **query: str) -> Object:
        """The whole list object, with its resourceVersion; it is as new as the call."""
        try:
            return await self.request(Call("list", resource), {"labelSelector": selector, **query})
        except Refused as refused:
            raise explain(refused, self.namespace) from None

    async def request(self, call: Call, query: Mapping[str, str] | None = None, body: Object | None = None) -> Object:
        """One call, its answer as JSON. Refused for what the caller may know how to handle; ClusterError for no rights
        and for a server that stays away. A repeated call may find that its first copy was executed.
        """
        now = asyncio.get_running_loop().time
        deadline, attempt = now() + self.patience.retry_seconds, 0
        while True:
            try:
                return await self._once(call, query or {}, body)
            except Refused as refused:
                if refused.lacks_rights:
                    raise explain(refused, self.namespace) from None
                if not refused.passes:
                    raise
                failure, told_seconds = str(refused), refused.retry_after_seconds
            except unreachable() as error:
                refuse_certificate(error)
                failure, told_seconds = describe(error), 0.0
            wait = wait_seconds(attempt, told_seconds)
            if now() + wait > deadline:
                tried = f"{self.patience.retry_seconds:g} s"
                raise ClusterError(f"the API of Kubernetes does not {call} after trying for {tried} ({failure})")
            await asyncio.sleep(wait)
            attempt += 1

    async def _once(self, call: Call, query: Mapping[str, str], body: Object | None) -> Object:
        async with asyncio.timeout(CALL_SECONDS):
            response = await self._send(call, query, body, _timeout(CALL_SECONDS))
            try:
                raw = await response.read()
            finally:
                response.release()
        return read_object(call, raw)

    @asynccontextmanager
    async def stream(self, call: Call, query: Mapping[str, str], quiet_seconds: float) -> AsyncIterator[StreamReader]:
        """A long answer as it comes; not repeated. What ``unreachable`` names is raised in the middle of it when the
        connection breaks, or brings nothing for that long.
        """
        response = await self._send(call, query, None, _timeout(None, quiet_seconds))
        try:
            yield response.content
        finally:
            response.close()  # what has not been read is not wanted

    async def _send(self, call: Call, query: Mapping[str, str], body: Object | None, timeout: Any) -> ClientResponse:
        """The response of a success, its body not read yet; Refused for any other."""
        response = await self._send_once(call, query, body, timeout)
        if response.status == UNAUTHORIZED and self._settings is not None:  # the credentials may have been renewed
            response.release()
            await configure(self._client.configuration, self._settings)
            response = await self._send_once(call, query, body, timeout)
        if response.status < 300:
            return response
        try:
            told = await response.read()
        finally:
            response.release()
        raise read_refusal(call, response.status, told, response.headers.get("Retry-After"))

    async def _send_once(
        self, call: Call, query: Mapping[str, str], body: Object | None, timeout: Any
    ) -> ClientResponse:
        self.calls[str(call)] += 1
        headers = {"Accept": "*/*" if call.resource == "pods/log" else "application/json"}
        if body is not None:
            headers["Content-Type"] = MERGE_PATCH if call.verb == "patch" else "application/json"
        method, url, sent_headers, sent_body, _ = await self._client.param_serialize(
            method=_METHODS.get(call.verb, "GET"),
            resource_path=self._path(call),
            query_params=list(query.items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = await self._client.call_api(method, url, sent_headers, sent_body, _request_timeout=timeout)
        response: ClientResponse = answer.response
        return response

    def _path(self, call: Call) -> str:
        if call.resource.startswith("selfsubject"):
            return f"/apis/authorization.k8s.io/v1/{call.resource}"
        resource, _, below = call.resource.partition("/")
        path = f"/api/v1/namespaces/{self.namespace}/{resource}"
        if call.name and call.verb != "create":
            path += f"/{call.name}"
        return f"{path}/{below}" if below else path


def unreachable() -> tuple[type[BaseException], ...]:
    """What is raised when there is no answer. A function, because the client is only imported where it is used."""
    from aiohttp import ClientError

    return (ClientError, TimeoutError, OSError)


def refuse_certificate(error: BaseException) -> None:
    """ClusterError where the server is somebody else, as far as its certificate says: that does not pass."""
    from aiohttp import ClientConnectorCertificateError

    if isinstance(error, ClientConnectorCertificateError):
        raise ClusterError(f"the certificate of the API of Kubernetes is not trusted: {error}") from None


def describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _timeout(total_seconds: float | None, quiet_seconds: float | None = None) -> Any:
    from aiohttp import ClientTimeout

    return ClientTimeout(total=total_seconds, sock_connect=CONNECT_SECONDS, sock_read=quiet_seconds)
