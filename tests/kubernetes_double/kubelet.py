"""The node: runs each pod's containers as processes of this machine, in temporary directories, and reports on them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubernetes_double.containers import Place
from kubernetes_double.logs import ContainerLog
from kubernetes_double.reports import NODE, TICK_SECONDS, Faults, Reports, RunningPod
from kubernetes_double.state import State, stamp

Json = dict[str, Any]
RESTART_SECONDS = 0.5
"""A node waits ten seconds, then longer and longer."""
PROBE_SECONDS = 0.5


class Kubelet:
    def __init__(self, state: State, directory: Path, faults: Faults, image_env: dict[str, str]) -> None:
        self._state, self._directory, self.faults, self._image_env = state, directory, faults, image_env
        self._reports = Reports(state, faults)
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
        while (self.faults.unschedulable or self.faults.lost) and self._reports.is_there(running):
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            if self.faults.unschedulable and not self._reports.now(running)["status"].get("conditions"):
                await self._reports.report(running, conditions=[condition | {"message": self.faults.unschedulable}])
            if self.faults.unschedulable:
                await self._reports.event(running, "Warning", "FailedScheduling", self.faults.unschedulable)
            await asyncio.sleep(TICK_SECONDS)
        if not self._reports.is_there(running):
            return False
        spec = self._reports.now(running)["spec"] | {"nodeName": NODE}
        await self._state.update("pods", running.pod["metadata"]["name"], spec=spec)
        await self._reports.report(running, startTime=stamp(), conditions=[{"type": "PodScheduled", "status": "True"}])
        await asyncio.sleep(self.faults.slow_start_seconds)
        return await self._make_volumes(running)

    async def _make_volumes(self, running: RunningPod) -> bool:
        for volume in running.pod["spec"].get("volumes") or ():
            where = running.directory / volume["name"]
            if "persistentVolumeClaim" in volume:
                (self._directory / volume["persistentVolumeClaim"]["claimName"]).mkdir(parents=True, exist_ok=True)
                continue
            where.mkdir(parents=True)
            if "secret" not in volume:
                continue
            name = volume["secret"]["secretName"]
            while ("secrets", name) not in self._state.objects:
                await self._reports.event(
                    running, "Warning", "FailedMount", f'MountVolume.SetUp failed: secret "{name}" not found'
                )
                for container in running.pod["spec"]["containers"]:
                    await self._reports.set(running, container, {"waiting": {"reason": "ContainerCreating"}})
                if not self._reports.is_there(running):
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
            await self._reports.set(running, container, {"waiting": {"reason": "PodInitializing"}})
        for container in spec.get("initContainers") or ():
            if await self._run(running, container) != 0:
                await self._reports.report(running, phase="Failed")
                return
        codes = await asyncio.gather(*(self._keep(running, container) for container in spec["containers"]))
        if self._reports.now(running)["status"].get("phase") != "Failed":
            await self._reports.report(running, phase="Failed" if any(codes) else "Succeeded")

    async def _keep(self, running: RunningPod, container: Json) -> int:
        """As often as the pod's restart policy says; the last exit code."""
        while True:
            code = await self._run(running, container)
            goes_on = running.pod["spec"].get("restartPolicy", "Always") == "Always" and self._reports.is_there(running)
            if not goes_on or "deletionTimestamp" in self._reports.now(running)["metadata"]:
                return code
            ended = running.statuses[container["name"]]
            running.verdict = ""
            running.ended[container["name"]] = ended["state"]
            running.restarts[container["name"]] = ended["restartCount"] + 1
            await self._reports.set(running, container, {"waiting": {"reason": "CrashLoopBackOff"}})
            await asyncio.sleep(RESTART_SECONDS)

    async def _run(self, running: RunningPod, container: Json) -> int:
        """One container from its image to its exit code; -1 where it never ran."""
        await self._pull(running, container)
        if not self._reports.is_there(running):
            return -1
        starting = asyncio.create_task(self._start(running, container))
        try:
            process = await asyncio.shield(starting)
        except asyncio.CancelledError:  # a process that is half started cannot be ended
            await asyncio.wait({starting})
            raise
        except OSError as error:
            told: Json = {
                "reason": "StartError",
                "exitCode": 128,
                "message": f"failed to create containerd task: {error}",
            }
            await self._reports.set(
                running, container, {"terminated": told | {"startedAt": stamp(), "finishedAt": stamp()}}
            )
            return 128
        started = stamp()
        probed = "exec" in container.get("readinessProbe", {})
        is_main = container in running.pod["spec"]["containers"]
        if is_main:
            await self._reports.report(running, phase="Running")
        await self._reports.set(running, container, {"running": {"startedAt": started}}, ready=is_main and not probed)
        log = running.logs[container["name"]]
        pipes = [pipe for pipe in (process.stdout, process.stderr) if pipe]
        collecting = {asyncio.create_task(self._collect(pipe, log)) for pipe in pipes}
        probing = asyncio.create_task(self._probe(running, container)) if probed else None
        try:
            code = await self._wait(process)
            await asyncio.wait(collecting)
        finally:
            for task in (*collecting, *([probing] if probing else ())):
                task.cancel()
        while self.faults.lost:
            await asyncio.sleep(TICK_SECONDS)
        if running.pod["spec"].get("restartPolicy", "Always") == "Never":
            await log.close()
        ended: Json = {"startedAt": started, "finishedAt": stamp(), "exitCode": code if code >= 0 else 128 - code}
        reason = running.verdict or ("Completed" if code == 0 else "Error")
        await self._reports.set(running, container, {"terminated": ended | {"reason": reason}})
        return int(ended["exitCode"])

    async def _probe(self, running: RunningPod, container: Json) -> None:
        """Report what its readiness probe says, as long as it runs."""
        command = Place(self._directory, running.directory, running.pod, container).words(
            container["readinessProbe"]["exec"]["command"]
        )
        while True:
            probe = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
            ready = await probe.wait() == 0
            await self._reports.set(running, container, running.statuses[container["name"]]["state"], ready=ready)
            await asyncio.sleep(PROBE_SECONDS)

    async def _pull(self, running: RunningPod, container: Json) -> None:
        backing_off = False
        while (said := self.faults.image_errors.get(container["image"])) and self._reports.is_there(running):
            told = {"reason": "ErrImagePull", "message": f'failed to pull image "{container["image"]}": {said}'}
            await self._reports.event(
                running, "Warning", "Failed", f'Failed to pull image "{container["image"]}": {said}'
            )
            if backing_off:
                told = {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{container["image"]}"'}
            await self._reports.set(running, container, {"waiting": told})
            backing_off = True
            await asyncio.sleep(TICK_SECONDS)

    async def _start(self, running: RunningPod, container: Json) -> asyncio.subprocess.Process:
        place = Place(self._directory, running.directory, running.pod, container)
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        env = {"PATH": path, **place.environment(self._image_env, self._state.objects)}
        command = place.command()
        program = shutil.which(command[0], path=path) or command[0]
        if container["name"] not in running.logs:
            log = running.directory / f"{container['name']}.log"
            running.logs[container["name"]] = ContainerLog(log, self.faults.max_log_bytes)
        process = await asyncio.create_subprocess_exec(
            program,
            *command[1:],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=env,
            cwd=place.local(container.get("workingDir") or str(running.directory)),
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
        while self._reports.is_there(running) or (running.processes and kill_at == 0):
            await asyncio.sleep(TICK_SECONDS)
            if self.faults.lost:
                continue
            metadata = self._reports.now(running)["metadata"]
            there = self._reports.is_there(running)
            if loop.time() > deadline and not running.timed_out:
                running.timed_out = True
                told = {"reason": "DeadlineExceeded", "message": "Pod was active on the node longer than the deadline"}
                await self._reports.report(running, phase="Failed", **told)
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
                    if self._reports.is_there(running):
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

    def read_log(self, uid: str, container: str, query: Mapping[str, str]) -> AsyncGenerator[bytes] | None:
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
