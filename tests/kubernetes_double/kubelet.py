"""The node: runs each pod's containers as processes of this machine, in temporary directories, and reports on them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubernetes_double.logs import ContainerLog
from kubernetes_double.state import State, stamp

Json = dict[str, Any]
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
    verdict: str = ""
    """Why a container that is killed will have ended."""
    timed_out: bool = False


class Kubelet:
    def __init__(self, state: State, directory: Path, faults: Faults, image_env: dict[str, str]) -> None:
        self._state, self._directory, self.faults, self._image_env = state, directory, faults, image_env
        self.pods: dict[str, RunningPod] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until cancelled: start what is new, end what is to be deleted."""
        version = 0
        while True:
            async with self._state.news:
                await self._state.news.wait_for(lambda seen=version: self._state.version != seen)  # type: ignore[misc]
                version = self._state.version
            for (resource, _), thing in list(self._state.objects.items()):
                uid = thing["metadata"]["uid"]
                if resource == "pods" and uid not in self._tasks:
                    self._tasks[uid] = asyncio.create_task(self._live(thing))

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for running in self.pods.values():
            await self._kill(running)
            for process in running.processes.values():
                process._transport.close()  # type: ignore[attr-defined]  # nothing else closes its pipes at once
        await asyncio.sleep(TICK_SECONDS)  # what was closed is told so

    async def _live(self, pod: Json) -> None:
        """A pod's whole life."""
        uid = pod["metadata"]["uid"]
        running = RunningPod(self._directory / uid, pod)
        self.pods[uid] = running
        ending = asyncio.create_task(self._end_when_told(running))
        try:
            if await self._schedule(running):
                await self._containers(running)
        finally:
            await self._kill(running)
        with contextlib.suppress(asyncio.CancelledError):
            await ending

    async def _schedule(self, running: RunningPod) -> bool:
        """Give it to the node and make its volumes; False where it was removed before."""
        while (self.faults.unschedulable or self.faults.lost) and self._is_there(running):
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            if self.faults.unschedulable and not self._now(running)["status"].get("conditions"):
                await self._report(running, conditions=[condition | {"message": self.faults.unschedulable}])
            if self.faults.unschedulable:
                await self._event(running, "Warning", "FailedScheduling", self.faults.unschedulable)
            await asyncio.sleep(TICK_SECONDS)
        if not self._is_there(running):
            return False
        spec = self._now(running)["spec"] | {"nodeName": NODE}
        await self._state.update("pods", running.pod["metadata"]["name"], spec=spec)
        await self._report(running, startTime=stamp(), conditions=[{"type": "PodScheduled", "status": "True"}])
        await asyncio.sleep(self.faults.slow_start_seconds)
        return await self._make_volumes(running)

    async def _make_volumes(self, running: RunningPod) -> bool:
        for volume in running.pod["spec"].get("volumes") or ():
            where = running.directory / volume["name"]
            where.mkdir(parents=True)
            if "secret" not in volume:
                continue
            name = volume["secret"]["secretName"]
            while ("secrets", name) not in self._state.objects:
                await self._event(
                    running, "Warning", "FailedMount", f'MountVolume.SetUp failed: secret "{name}" not found'
                )
                for container in running.pod["spec"]["containers"]:
                    await self._set(running, container, {"waiting": {"reason": "ContainerCreating"}})
                if not self._is_there(running):
                    return False
                await asyncio.sleep(TICK_SECONDS)
            secret = self._state.objects["secrets", name]
            hidden = where / "..data"  # as the real one: files are links into a hidden directory
            hidden.mkdir()
            for key, value in (secret.get("data") or {}).items():
                (hidden / key).write_bytes(base64.b64decode(value))
                (where / key).symlink_to(Path("..data") / key)
        return True

    async def _containers(self, running: RunningPod) -> None:
        spec = running.pod["spec"]
        for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
            await self._set(running, container, {"waiting": {"reason": "PodInitializing"}})
        for container in spec.get("initContainers") or ():
            if await self._run(running, container) != 0:
                await self._report(running, phase="Failed")
                return
        codes = await asyncio.gather(*(self._run(running, container) for container in spec["containers"]))
        if self._now(running)["status"].get("phase") != "Failed":
            await self._report(running, phase="Failed" if any(codes) else "Succeeded")

    async def _run(self, running: RunningPod, container: Json) -> int:
        """One container from its image to its exit code; -1 where it never ran."""
        await self._pull(running, container)
        if not self._is_there(running):
            return -1
        starting = asyncio.create_task(self._start(running, container))
        try:
            process = await asyncio.shield(starting)
        except asyncio.CancelledError:  # a process that is half started cannot be ended
            await asyncio.wait({starting})
            raise
        except OSError as error:
            told = {"reason": "StartError", "exitCode": 128, "message": f"failed to create containerd task: {error}"}
            await self._set(running, container, {"terminated": told | {"startedAt": stamp(), "finishedAt": stamp()}})
            return 128
        started = stamp()
        is_main = container in running.pod["spec"]["containers"]
        if is_main:
            await self._report(running, phase="Running")
        await self._set(running, container, {"running": {"startedAt": started}}, ready=is_main)
        log = running.logs[container["name"]]
        pipes = [pipe for pipe in (process.stdout, process.stderr) if pipe]
        collecting = {asyncio.create_task(self._collect(pipe, log)) for pipe in pipes}
        try:
            code = await self._wait(process)
            await asyncio.wait(collecting)
        finally:
            for task in collecting:
                task.cancel()
        while self.faults.lost:
            await asyncio.sleep(TICK_SECONDS)
        await log.close()
        ended: Json = {"startedAt": started, "finishedAt": stamp(), "exitCode": code if code >= 0 else 128 - code}
        reason = running.verdict or ("Completed" if code == 0 else "Error")
        await self._set(running, container, {"terminated": ended | {"reason": reason}})
        return int(ended["exitCode"])

    async def _pull(self, running: RunningPod, container: Json) -> None:
        backing_off = False
        while (said := self.faults.image_errors.get(container["image"])) and self._is_there(running):
            told = {"reason": "ErrImagePull", "message": f'failed to pull image "{container["image"]}": {said}'}
            await self._event(running, "Warning", "Failed", f'Failed to pull image "{container["image"]}": {said}')
            if backing_off:
                told = {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{container["image"]}"'}
            await self._set(running, container, {"waiting": told})
            backing_off = True
            await asyncio.sleep(TICK_SECONDS)

    async def _start(self, running: RunningPod, container: Json) -> asyncio.subprocess.Process:
        mounts = {
            mount["mountPath"]: running.directory / mount["name"] for mount in container.get("volumeMounts") or ()
        }

        def local(text: str) -> str:
            if not mounts:
                return text
            paths = "|".join(re.escape(path) for path in sorted(mounts, key=len, reverse=True))
            return re.sub(rf"(?<![\w/.-])({paths})(?![\w.-])", lambda match: str(mounts[match[1]]), text)

        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        env = {"PATH": path, **self._image_env}
        if "/tmp" in mounts:  # other paths begin with it on this machine, so that it cannot be told by its text
            env["TMPDIR"] = str(mounts.pop("/tmp"))
        env |= {variable["name"]: local(variable.get("value", "")) for variable in container.get("env") or ()}
        command = [local(word) for word in (*(container.get("command") or ()), *(container.get("args") or ()))]
        program = shutil.which(command[0], path=path) or command[0]
        running.logs[container["name"]] = ContainerLog(
            running.directory / f"{container['name']}.log", self.faults.max_log_bytes
        )
        process = await asyncio.create_subprocess_exec(
            program,
            *command[1:],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=env,
            cwd=local(container.get("workingDir") or str(running.directory)),
            start_new_session=True,
            limit=1 << 20,
        )
        running.processes[container["name"]] = process
        return process

    @staticmethod
    async def _collect(pipe: asyncio.StreamReader, log: ContainerLog) -> None:
        rest = b""
        while piece := await pipe.read(1 << 18):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                await log.write(line)
        if rest:
            await log.write(rest, whole=False)

    async def _end_when_told(self, running: RunningPod) -> None:
        """Keep the deadline and the deletion of the pod; returns when it is not there any more."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + running.pod["spec"].get("activeDeadlineSeconds", 1 << 30)
        kill_at = 0.0
        while self._is_there(running) or (running.processes and kill_at == 0):
            await asyncio.sleep(TICK_SECONDS)
            if self.faults.lost:
                continue
            metadata = self._now(running)["metadata"]
            there = self._is_there(running)
            if loop.time() > deadline and not running.timed_out:
                running.timed_out = True
                told = {"reason": "DeadlineExceeded", "message": "Pod was active on the node longer than the deadline"}
                await self._report(running, phase="Failed", **told)
                self._signal(running, signal.SIGKILL)
            if not there:
                self._signal(running, signal.SIGKILL)
                kill_at = loop.time()
            elif metadata.get("deletionTimestamp"):
                if not kill_at:
                    kill_at = loop.time() + metadata.get("deletionGracePeriodSeconds", 30)
                    self._signal(running, signal.SIGTERM)
                if loop.time() > kill_at:
                    self._signal(running, signal.SIGKILL)
                if all(process.returncode is not None for process in running.processes.values()):
                    await asyncio.sleep(TICK_SECONDS)  # its end is reported first
                    if self._is_there(running):
                        await self._state.remove("pods", metadata["name"])

    @staticmethod
    async def _wait(process: asyncio.subprocess.Process) -> int:
        """The exit code; as in a container, nothing outlives the first process."""
        while process.returncode is None:  # wait() would wait for the pipes too, which others may hold
            await asyncio.sleep(TICK_SECONDS / 5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.returncode

    @staticmethod
    def _signal(running: RunningPod, number: signal.Signals) -> None:
        for process in running.processes.values():
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)

    def read_log(self, uid: str, container: str, query: Mapping[str, str]) -> AsyncIterator[bytes] | None:
        """As a request asks for it; None where the container has none yet."""
        running = self.pods.get(uid)
        if running is None or container not in running.logs:
            return None
        since = query.get("sinceTime", "")
        if since:  # a real server hands on whole seconds
            since = f"{datetime.fromisoformat(since).astimezone(UTC):%Y-%m-%dT%H:%M:%S}.000000000Z"
        return running.logs[container].read(
            follow=query.get("follow") == "true",
            timestamps=query.get("timestamps") == "true",
            since=since.encode(),
            deaf=self.faults.deaf_logs,
        )

    async def kill(self, uid: str, verdict: str) -> None:
        """End the pod's processes for that reason, such as OOMKilled."""
        running = self.pods[uid]
        running.verdict = verdict
        self._signal(running, signal.SIGKILL)

    async def _kill(self, running: RunningPod) -> None:
        self._signal(running, signal.SIGKILL)
        for process in running.processes.values():
            await self._wait(process)
        for log in running.logs.values():
            await log.close()

    def _is_there(self, running: RunningPod) -> bool:
        thing = self._state.objects.get(("pods", running.pod["metadata"]["name"]))
        return thing is not None and thing["metadata"]["uid"] == running.pod["metadata"]["uid"]

    def _now(self, running: RunningPod) -> Json:
        """The pod as it is, or was last."""
        if self._is_there(running):
            running.pod = self._state.objects["pods", running.pod["metadata"]["name"]]
        return running.pod

    async def _set(self, running: RunningPod, container: Json, state: Json, *, ready: bool = False) -> None:
        name, image = container["name"], container["image"]
        status = {"name": name, "image": image, "imageID": image, "restartCount": 0, "ready": ready, "state": state}
        if running.statuses.get(name) == status:
            return
        running.statuses[name] = status
        groups = {"initContainers": "initContainerStatuses", "containers": "containerStatuses"}
        fields: Json = {}
        for group, statuses in groups.items():
            names = [entry["name"] for entry in running.pod["spec"].get(group) or ()]
            fields[statuses] = [running.statuses[name] for name in names if name in running.statuses]
        await self._report(running, **fields)

    async def _report(self, running: RunningPod, **fields: Any) -> None:
        while self.faults.lost:
            await asyncio.sleep(TICK_SECONDS)
        if self._is_there(running):
            status = self._now(running)["status"] | fields
            await self._state.update("pods", running.pod["metadata"]["name"], status=status)

    async def _event(self, running: RunningPod, kind: str, reason: str, message: str) -> None:
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
