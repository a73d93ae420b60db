"""The HTTP side: the paths that swarmq uses, answered as a real API server does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from kubernetes_double.kubelet import Kubelet
from kubernetes_double.rights import TOKEN, Rights, denial
from kubernetes_double.schema import problems
from kubernetes_double.state import Json, State, Status, stamp


@dataclass
class Trouble:
    """What the server does wrong. Tests set these."""

    away: bool = False
    answers: dict[tuple[str, str], list[Status]] = field(default_factory=dict)
    """By verb and resource: what the next ones are answered, instead of being done."""
    lost_replies: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By verb and resource: how many of the next ones are done and not answered."""
    said_between: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """By verb and resource: what the next ones are told, with 200, by something that does not pass them on."""
    quota_pods: int | None = None
    cut_logs_after: list[int] = field(default_factory=list)
    """For each of the next log requests: after how many bytes it is cut off; negative: ended as if it were whole."""
    silent_watches: bool = False
    watch_delay_seconds: float = 0.0
    watches_end_at_once: bool = False


def merge_patch(target: Any, change: Any) -> Any:
    """RFC 7386: objects are merged at every depth, null removes, all else replaces."""
    if not isinstance(change, dict):
        return change
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in change.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


class Server:
    def __init__(self, state: State, kubelet: Kubelet, rights: Rights) -> None:
        self.state, self.kubelet, self.rights = state, kubelet, rights
        self.trouble = Trouble()
        self.requests: list[tuple[str, str, str]] = []
        self._watch_round = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=4 << 20)
        base = "/api/v1/namespaces/{namespace}/{resource}"
        app.router.add_get(base, self._handle)
        app.router.add_post(base, self._handle)
        app.router.add_delete(base, self._handle)
        app.router.add_get(f"{base}/{{name}}", self._handle)
        app.router.add_patch(f"{base}/{{name}}", self._handle)
        app.router.add_delete(f"{base}/{{name}}", self._handle)
        app.router.add_get(f"{base}/{{name}}/log", self._handle)
        app.router.add_post("/apis/authorization.k8s.io/v1/{resource}", self._handle)
        return app

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        verb, resource = self._what(request)
        name = request.match_info.get("name", "")
        if self.trouble.away:
            return self._hang_up(request)
        self.requests.append((verb, resource, name))
        if self.trouble.said_between.get((verb, resource)):
            return web.Response(text=self.trouble.said_between[verb, resource].pop(0), content_type="text/html")
        try:
            answer = await self._answer(request, verb, resource, name)
        except Status as status:
            headers = {} if status.retry_after_seconds is None else {"Retry-After": str(status.retry_after_seconds)}
            return web.json_response(status.body(), status=status.code, headers=headers)
        except ConnectionError:  # the client has gone
            return web.Response()
        if self.trouble.lost_replies[verb, resource] > 0:
            self.trouble.lost_replies[verb, resource] -= 1
            return self._hang_up(request)
        return answer

    @staticmethod
    def _what(request: web.Request) -> tuple[str, str]:
        resource = request.match_info["resource"]
        if request.path.endswith("/log"):
            return "get", f"{resource}/log"
        single = "name" in request.match_info
        if request.method == "GET" and not single:
            return "watch" if request.query.get("watch") == "true" else "list", resource
        return {"POST": "create", "PATCH": "patch", "GET": "get"}.get(
            request.method, "delete" if single else "deletecollection"
        ), resource

    @staticmethod
    def _hang_up(request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _answer(self, request: web.Request, verb: str, resource: str, name: str) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Status(401, "Unauthorized", "Unauthorized")
        if self.trouble.answers.get((verb, resource)):
            raise self.trouble.answers[verb, resource].pop(0)
        if resource.startswith("selfsubject"):
            return self._review(resource, await request.json())
        namespace = request.match_info["namespace"]
        is_ours = namespace == self.state.namespace
        if not self.rights.allow(verb, resource) or not (is_ours or self.rights.granted is None):
            raise Status(403, "Forbidden", denial(verb, resource, namespace))
        if not is_ours and verb == "list":
            return web.json_response({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": []})
        if not is_ours:
            raise Status(404, "NotFound", f'namespaces "{namespace}" not found')
        if verb == "watch":
            return await self._watch(request, resource)
        if resource == "pods/log":
            return await self._log(request, name)
        if verb == "list":
            return self._list(request, resource)
        if verb == "get":
            return web.json_response(self.state.get(resource, name))
        if verb == "create":
            return await self._create(request, resource)
        if verb == "patch":
            return await self._patch(request, resource, name)
        options = await request.json() if request.can_read_body else {}
        if verb == "deletecollection":
            found = self.state.find(resource, request.query.get("labelSelector", ""))
            for thing in found:
                await self.delete(resource, thing["metadata"]["name"], options)
            return web.json_response({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": found})
        thing = self.state.get(resource, name)
        await self.delete(resource, name, options)
        return web.json_response(thing)

    def _review(self, resource: str, review: Json) -> web.Response:
        if resource == "selfsubjectrulesreviews":
            status: Json = {"resourceRules": self.rights.rules(), "nonResourceRules": [], "incomplete": False}
        else:
            asked = review["spec"]["resourceAttributes"]
            wanted = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
            granted = self.rights.granted
            status = {"allowed": granted is None or (asked["verb"], wanted) in granted}
        return web.json_response(review | {"status": status}, status=201)

    def _list(self, request: web.Request, resource: str) -> web.Response:
        found = self.state.find(resource, request.query.get("labelSelector", ""))
        for term in filter(None, request.query.get("fieldSelector", "").split(",")):
            path, _, value = term.partition("=")
            first, _, second = path.partition(".")
            found = [thing for thing in found if thing[first][second] == value]
        metadata = {"resourceVersion": str(self.state.version)}
        return web.json_response({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": found})

    async def _create(self, request: web.Request, resource: str) -> web.Response:
        manifest = await request.json()
        if request.query.get("fieldValidation") == "Strict":
            wrong = problems(resource, manifest)
            kind = manifest.get("kind", "")
            if wrong and wrong[0].startswith("unknown field"):
                said = ", ".join(wrong)
                raise Status(
                    400,
                    "BadRequest",
                    f'{kind} in version "v1" cannot be handled as a {kind}: strict decoding error: {said}',
                )
            if wrong:
                raise Status(
                    422, "Invalid", f'{kind} "{manifest["metadata"].get("name")}" is invalid: {"; ".join(wrong)}'
                )
        if resource == "pods" and self.trouble.quota_pods is not None:
            used = len([pod for pod in self.state.find("pods", "") if pod["status"]["phase"] in ("Pending", "Running")])
            if used >= self.trouble.quota_pods:
                name = manifest["metadata"]["name"]
                told = f"requested: pods=1, used: pods={used}, limited: pods={self.trouble.quota_pods}"
                raise Status(403, "Forbidden", f'pods "{name}" is forbidden: exceeded quota: compute, {told}')
        if request.query.get("dryRun") == "All":
            return web.json_response(manifest, status=201)
        return web.json_response(await self.state.create(resource, manifest), status=201)

    async def _patch(self, request: web.Request, resource: str, name: str) -> web.Response:
        if request.headers["Content-Type"] != "application/merge-patch+json":
            raise Status(415, "UnsupportedMediaType", "the double takes merge patches")
        thing, change = self.state.get(resource, name), await request.json()
        merged = merge_patch(thing, change)
        fields = {field_name: merged.get(field_name) for field_name in change}
        for owner in fields.get("metadata", {}).get("ownerReferences") or ():
            if not {"apiVersion", "kind", "name", "uid"} <= set(owner):
                raise Status(422, "Invalid", f"metadata.ownerReferences: Invalid value: {owner}")
        return web.json_response(await self.state.update(resource, name, **fields))

    async def delete(self, resource: str, name: str, options: Json) -> None:
        thing = self.state.get(resource, name)
        wanted = (options.get("preconditions") or {}).get("uid")
        if wanted not in (None, thing["metadata"]["uid"]):
            raise Status(409, "Conflict", f"Precondition failed: UID in precondition: {wanted}")
        grace = options.get("gracePeriodSeconds", (thing.get("spec") or {}).get("terminationGracePeriodSeconds", 30))
        waits = resource == "pods" and grace > 0 and thing["spec"].get("nodeName")
        if waits and thing["status"]["phase"] in ("Pending", "Running"):
            if "deletionTimestamp" not in thing["metadata"]:
                told = {"deletionTimestamp": stamp(grace), "deletionGracePeriodSeconds": grace}
                await self.state.update(resource, name, metadata=thing["metadata"] | told)
        else:
            await self.state.remove(resource, name)

    async def _log(self, request: web.Request, name: str) -> web.StreamResponse:
        pod = self.state.get("pods", name)
        container = request.query.get("container") or pod["spec"]["containers"][0]["name"]
        if self.kubelet.faults.lost:
            raise Status(500, "InternalError", 'Get "https://node-1:10250/containerLogs": dial tcp: i/o timeout')
        pieces = self.kubelet.read_log(pod["metadata"]["uid"], container, request.query)
        if pieces is None:
            raise Status(
                400, "BadRequest", f'container "{container}" in pod "{name}" is waiting to start: ContainerCreating'
            )
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        await self._send_log(request, response, pieces)
        return response

    async def _send_log(
        self, request: web.Request, response: web.StreamResponse, pieces: AsyncGenerator[bytes]
    ) -> None:
        left = self.trouble.cut_logs_after.pop(0) if self.trouble.cut_logs_after else None
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                if left is not None and len(piece) >= abs(left):
                    await response.write(piece[: abs(left)])
                    if left > 0 and request.transport is not None:
                        await asyncio.sleep(0.01)
                        request.transport.abort()
                    break
                if left is not None:
                    left -= len(piece) if left > 0 else -len(piece)
                await response.write(piece)
        await response.write_eof()

    async def _watch(self, request: web.Request, resource: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if not self.trouble.watches_end_at_once:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(float(request.query.get("timeoutSeconds", "1800"))):
                    await self._send_changes(request, response, resource)
        await response.write_eof()
        return response

    async def close(self) -> None:
        """Nothing of its own."""

    async def close_watches(self) -> None:
        """They end as they do when their time is up."""
        async with self.state.news:
            self._watch_round += 1
            self.state.news.notify_all()

    async def _send_changes(self, request: web.Request, response: web.StreamResponse, resource: str) -> None:
        seen, round_ = int(request.query.get("resourceVersion") or 0), self._watch_round
        if seen < self.state.oldest:
            gone = Status(410, "Expired", f"too old resource version: {seen} ({self.state.oldest})").body()
            await response.write(json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
            return
        while round_ == self._watch_round:
            for change in self.state.find_changes(resource, request.query.get("labelSelector", ""), seen):
                seen = change.version
                if not self.trouble.silent_watches:
                    await asyncio.sleep(self.trouble.watch_delay_seconds)
                    line = json.dumps({"type": change.kind, "object": change.thing}).encode() + b"\n"
                    half = len(line) // 2  # a line may come in pieces
                    await response.write(line[:half])
                    await response.write(line[half:])
            async with self.state.news:
                reached = (self.state.version, round_)
                if not self.state.find_changes(resource, request.query.get("labelSelector", ""), seen):
                    await self.state.news.wait_for(lambda old=reached: (self.state.version, self._watch_round) != old)  # type: ignore[misc]
