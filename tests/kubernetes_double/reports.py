"""What a node reports of its pods, and what it keeps of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubernetes_double.logs import ContainerLog
from kubernetes_double.state import Json, State, stamp

NODE = "node-1"
TICK_SECONDS = 0.05


@dataclass
class Faults:
    """What is wrong with the node and what is around it. Tests set these."""

    image_errors: dict[str, str] = field(default_factory=dict)
    """Image -> what the registry says."""
    unschedulable: str = ""
    lost: bool = False
    """It neither starts nor ends anything, reports nothing, and hands out no logs."""
    deaf_logs: bool = False
    slow_start_seconds: float = 0.0
    max_log_bytes: int = 10 << 20


@dataclass
class RunningPod:
    directory: Path
    pod: Json
    logs: dict[str, ContainerLog] = field(default_factory=dict)
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    statuses: dict[str, Json] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    ended: dict[str, Json] = field(default_factory=dict)
    """How containers ended that run again."""
    verdict: str = ""
    """Why a container that is killed will have ended."""
    timed_out: bool = False


class Reports:
    """To the API server; nothing where the node is lost."""

    def __init__(self, state: State, faults: Faults) -> None:
        self._state, self._faults = state, faults

    def is_there(self, running: RunningPod) -> bool:
        thing = self._state.objects.get(("pods", running.pod["metadata"]["name"]))
        return thing is not None and thing["metadata"]["uid"] == running.pod["metadata"]["uid"]

    def now(self, running: RunningPod) -> Json:
        """The pod as it is, or was last."""
        if self.is_there(running):
            running.pod = self._state.objects["pods", running.pod["metadata"]["name"]]
        return running.pod

    async def set(self, running: RunningPod, container: Json, state: Json, *, ready: bool = False) -> None:
        name, image = container["name"], container["image"]
        status = {"name": name, "image": image, "imageID": image, "ready": ready, "state": state}
        status |= {"restartCount": running.restarts.get(name, 0)}
        if name in running.ended:
            status["lastState"] = running.ended[name]
        if running.statuses.get(name) == status:
            return
        running.statuses[name] = status
        groups = {"initContainers": "initContainerStatuses", "containers": "containerStatuses"}
        fields: Json = {}
        for group, statuses in groups.items():
            names = [entry["name"] for entry in running.pod["spec"].get(group) or ()]
            fields[statuses] = [running.statuses[name] for name in names if name in running.statuses]
        await self.report(running, **fields)

    async def report(self, running: RunningPod, **fields: Any) -> None:
        while self._faults.lost:
            await asyncio.sleep(TICK_SECONDS)
        if self.is_there(running):
            status = self.now(running)["status"] | fields
            await self._state.update("pods", running.pod["metadata"]["name"], status=status)

    async def event(self, running: RunningPod, kind: str, reason: str, message: str) -> None:
        name = f"{running.pod['metadata']['name']}.{reason.lower()}"
        if ("events", name) in self._state.objects:
            count = self._state.objects["events", name]["count"] + 1
            await self._state.update("events", name, count=count, lastTimestamp=stamp())
            return
        pod = running.pod["metadata"]
        event = {"metadata": {"name": name}, "involvedObject": {"name": pod["name"], "uid": pod["uid"]}}
        await self._state.create(
            "events",
            event | {"type": kind, "reason": reason, "message": message, "count": 1, "lastTimestamp": stamp()},
        )
