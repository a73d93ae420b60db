"""The objects of one namespace, their versions, and what watches are told of them. Used by the double's loop alone."""

from __future__ import annotations

import asyncio
import copy
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

Json = dict[str, Any]


class Status(Exception):
    """An answer that is no success, as a ``Status`` object."""

    def __init__(self, code: int, reason: str, message: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.retry_after_seconds = code, reason, message, retry_after_seconds

    def body(self) -> Json:
        body: Json = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        return body | {"message": self.message, "reason": self.reason, "code": self.code}


@dataclass(frozen=True)
class Change:
    version: int
    kind: str
    resource: str
    thing: Json


@dataclass
class State:
    namespace: str
    objects: dict[tuple[str, str], Json] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    version: int = 1000
    oldest: int = 0
    """Watches from before this version are told 410."""
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def get(self, resource: str, name: str) -> Json:
        if (resource, name) not in self.objects:
            raise Status(404, "NotFound", f'{resource} "{name}" not found')
        return self.objects[resource, name]

    def find(self, resource: str, selector: str) -> list[Json]:
        wanted = parse_selector(selector)
        things = [thing for (kind, _), thing in self.objects.items() if kind == resource]
        return [thing for thing in things if wanted.matches(thing["metadata"].get("labels") or {})]

    async def look(self, resource: str) -> list[Json]:
        """All of them, as somebody sees them who asks now."""
        return self.find(resource, "")

    def find_changes(self, resource: str, selector: str, after: int) -> list[Change]:
        wanted = parse_selector(selector)
        changes = [change for change in self.changes if change.version > after and change.resource == resource]
        return [change for change in changes if wanted.matches(change.thing["metadata"].get("labels") or {})]

    async def create(self, resource: str, manifest: Json) -> Json:
        name = manifest["metadata"]["name"]
        if (resource, name) in self.objects:
            being_deleted = "deletionTimestamp" in self.objects[resource, name]["metadata"]
            raise Status(
                409, "AlreadyExists", f'{"object is being deleted: " * being_deleted}{resource} "{name}" already exists'
            )
        thing = copy.deepcopy(manifest)
        thing["metadata"] |= {
            "namespace": self.namespace,
            "uid": str(uuid.uuid4()),
            "creationTimestamp": stamp(),
        }
        if resource == "pods":
            thing["status"] = {"phase": "Pending", "qosClass": "Burstable"}
        self.objects[resource, name] = thing
        await self.tell("ADDED", resource, thing)
        return thing

    async def apply(self, manifest: Json) -> None:
        """Keep the object; of a Deployment, its pods."""
        if manifest["kind"] != "Deployment":
            await self.create(f"{manifest['kind'].lower()}s", manifest)
            return
        spec, name = manifest["spec"], manifest["metadata"]["name"]
        for number in range(spec["replicas"]):
            await self.create("pods", pod_of(spec["template"], f"{name}-{number}"))

    async def update(self, resource: str, name: str, **fields: Any) -> Json | None:
        """Top-level fields are replaced, in a copy; None where it is gone."""
        if (resource, name) not in self.objects:
            return None
        thing = copy.deepcopy(self.objects[resource, name])
        thing |= fields
        self.objects[resource, name] = thing
        await self.tell("MODIFIED", resource, thing)
        return thing

    async def remove(self, resource: str, name: str) -> None:
        """And all that it owns."""
        thing = self.objects.pop((resource, name), None)
        if thing is None:
            return
        await self.tell("DELETED", resource, copy.deepcopy(thing))
        uid = thing["metadata"]["uid"]
        for (kind, owned_name), owned in list(self.objects.items()):
            if any(owner["uid"] == uid for owner in owned["metadata"].get("ownerReferences") or ()):
                await self.remove(kind, owned_name)

    async def tell(self, kind: str, resource: str, thing: Json) -> None:
        async with self.news:
            self.version += 1
            thing["metadata"]["resourceVersion"] = str(self.version)
            self.changes.append(Change(self.version, kind, resource, copy.deepcopy(thing)))
            self.news.notify_all()


class Selector:
    """``a=b,c!=d,e in (f,g),h notin (i),j,!k``"""

    def __init__(self, terms: list[tuple[str, str, set[str]]]) -> None:
        self._terms = terms

    def matches(self, labels: dict[str, str]) -> bool:
        return all(self._holds(labels.get(name), operator, values) for name, operator, values in self._terms)

    @staticmethod
    def _holds(value: str | None, operator: str, values: set[str]) -> bool:
        if operator == "exists":
            return value is not None
        if operator == "absent":
            return value is None
        return (value in values) is (operator == "in")


def parse_selector(text: str) -> Selector:
    return Selector(list(_terms(text)))


def _terms(text: str) -> Iterator[tuple[str, str, set[str]]]:
    for term in filter(None, re.split(r",(?![^(]*\))", text)):
        match = re.fullmatch(r"\s*(\S+)\s+(in|notin)\s+\(([^)]*)\)\s*", term)
        if match:
            yield match[1], match[2], {value.strip() for value in match[3].split(",")}
        elif term.startswith("!"):
            yield term[1:], "absent", set()
        elif "!=" in term:
            name, value = term.split("!=")
            yield name, "notin", {value}
        elif "=" in term:
            name, value = re.split("==?", term)
            yield name, "in", {value}
        else:
            raise Status(400, "BadRequest", f"unable to parse requirement: {term}")


def pod_of(template: Json, name: str) -> Json:
    """What a controller makes of a template."""
    metadata = template["metadata"] | {"name": name}
    return copy.deepcopy({"apiVersion": "v1", "kind": "Pod", **template, "metadata": metadata})


def stamp(in_seconds: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=in_seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
