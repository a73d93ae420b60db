"""The state of the tests' kubelet where the objects are those of a real API server: a mirror, kept by watches."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

import aiohttp

from kubernetes_double.state import Change, Json, State, Status

MIRRORED = ("pods", "secrets", "configmaps")
_MERGE = {"Content-Type": "application/merge-patch+json"}


class Mirror(State):
    """What the kubelet and the tests change goes to the server, as the administrator."""

    def __init__(self, namespace: str, admin: aiohttp.ClientSession) -> None:
        super().__init__(namespace)
        self._admin = admin
        self._tasks: list[asyncio.Task[None]] = []

    def path(self, resource: str, *parts: str) -> str:
        return "/".join(("/api/v1/namespaces", self.namespace, resource, *parts))

    async def ask(self, method: str, path: str, **options: Any) -> Json:
        """Status where it is refused."""
        async with self._admin.request(method, path, **options) as answer:
            body: Json = json.loads(await answer.read())
        if answer.status >= 400:
            raise Status(answer.status, body["reason"], body["message"])
        return body

    async def patch(self, path: str, change: Json) -> Json:
        return await self.ask("PATCH", path, data=json.dumps(change), headers=_MERGE)

    async def has(self, path: str) -> bool:
        try:
            await self.ask("GET", path)
        except Status as status:
            if status.code != 404:
                raise
            return False
        return True

    async def start(self) -> None:
        for resource in MIRRORED:
            self._tasks.append(asyncio.create_task(self._follow(resource)))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._admin.close()

    async def _follow(self, resource: str) -> None:
        version = "0"
        while True:
            query = {"watch": "true", "resourceVersion": version}
            async with self._admin.get(self.path(resource), params=query) as answer:
                async for line in _lines(answer):
                    change = json.loads(line)
                    version = change["object"]["metadata"]["resourceVersion"]
                    await self._take(change["type"], resource, change["object"])

    async def _take(self, kind: str, resource: str, thing: Json) -> None:
        key = (resource, thing["metadata"]["name"])
        known = self.objects.get(key)
        if known is not None and _version(known) > _version(thing):
            return
        async with self.news:
            if kind == "DELETED":
                self.objects.pop(key, None)
            else:
                self.objects[key] = thing
            self.version += 1
            self.changes.append(Change(self.version, kind, resource, copy.deepcopy(thing)))
            self.news.notify_all()

    async def look(self, resource: str) -> list[Json]:
        return list((await self.ask("GET", self.path(resource)))["items"])

    async def apply(self, manifest: Json, *, really: bool = True) -> None:
        """Its controllers do the rest. Not ``really``: the server says what it would, and keeps nothing."""
        version, kind = manifest["apiVersion"], manifest["kind"].lower()
        plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
        group = "/api/v1" if version == "v1" else f"/apis/{version}"
        place = group if kind == "namespace" else f"{group}/namespaces/{self.namespace}"
        own = manifest | {"metadata": {**manifest["metadata"], "namespace": self.namespace}}
        query = {} if really else {"dryRun": "All"}
        thing = await self.ask("POST", f"{place}/{plural}", json=manifest if place == group else own, params=query)
        if plural in MIRRORED and really:
            await self._take("ADDED", plural, thing)

    async def create(self, resource: str, manifest: Json) -> Json:
        if resource == "events":
            place = {"kind": "Pod", "apiVersion": "v1", "namespace": self.namespace}
            manifest = manifest | {"involvedObject": manifest["involvedObject"] | place}
        thing = await self.ask("POST", self.path(resource), json=manifest)
        await self._take("ADDED", resource, thing)
        return thing

    async def update(self, resource: str, name: str, **fields: Any) -> Json | None:
        try:
            thing = await self._update(resource, name, fields)
        except Status as status:
            if status.code not in (404, 409):
                raise
            return None
        await self._take("MODIFIED", resource, thing)
        return thing

    async def _update(self, resource: str, name: str, fields: Json) -> Json:
        node = (fields.get("spec") or {}).get("nodeName")
        if node:
            target = {"apiVersion": "v1", "kind": "Node", "name": node}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
            await self.ask("POST", self.path(resource, name, "binding"), json=binding)
            return await self.ask("GET", self.path(resource, name))
        place = (name, "status") if resource == "pods" and set(fields) == {"status"} else (name,)
        own = {"uid": self.get(resource, name)["metadata"]["uid"]}  # there may be another one of that name by now
        metadata = {name: value for name, value in fields.get("metadata", {}).items() if name != "resourceVersion"}
        return await self.patch(self.path(resource, *place), {**fields, "metadata": metadata | own})

    async def remove(self, resource: str, name: str) -> None:
        known = self.objects.get((resource, name))
        if known is not None:
            own = {"uid": known["metadata"]["uid"]}  # there may be another one of that name by now
            await self.delete(resource, name, {"gracePeriodSeconds": 0, "preconditions": own})

    async def delete(self, resource: str, name: str, options: Json) -> None:
        try:
            await self.ask("DELETE", self.path(resource, name), json=options)
        except Status as status:
            if status.code not in (404, 409):
                raise


def _version(thing: Json) -> int:
    return int(thing["metadata"]["resourceVersion"])


async def _lines(answer: aiohttp.ClientResponse) -> Any:
    rest = b""
    async for piece in answer.content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line
