"""A whole small cluster in a thread: start it, use ``kubeconfig``, bring it into trouble, close it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from aiohttp import web

from kubernetes_double.control_plane import ControlPlane
from kubernetes_double.kubelet import Kubelet
from kubernetes_double.real_server import open_mirror, open_real
from kubernetes_double.reports import Faults
from kubernetes_double.rights import TOKEN, Rights
from kubernetes_double.server import Server, Trouble
from kubernetes_double.state import Json, State, Status

T = TypeVar("T")
NAMESPACE = "swarms"
CLOSE_SECONDS = 10.0


class KubernetesDouble:
    def __init__(self, directory: Path, rights: Rights) -> None:
        self.kubeconfig = directory / "kubeconfig"
        self.image_env: dict[str, str] = {}
        self.rights = rights
        self._directory = directory
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kubernetes-double", daemon=True)
        self._server: Server
        self._runner: web.AppRunner
        self._kubelet_task: asyncio.Task[None]

    @classmethod
    def start(cls, directory: Path, rights: Rights | None = None) -> KubernetesDouble:
        """On a free port of the loopback interface."""
        directory.mkdir(parents=True, exist_ok=True)
        double = cls(directory, rights or Rights())
        double._thread.start()
        port = double.do(double._open(), 200)
        double.kubeconfig.write_text(yaml.safe_dump(_kubeconfig(port, double.state.namespace)))
        double.kubeconfig.chmod(0o600)
        return double

    async def _open(self) -> int:
        directory, plane = self._directory, await ControlPlane.of_this_process()
        if plane is None:
            state = State(NAMESPACE)
            kubelet = Kubelet(state, directory / "pods", Faults(), self.image_env)
            self._server = Server(state, kubelet, self.rights)
        else:
            state = mirror = await open_mirror(plane)
            kubelet = Kubelet(mirror, directory / "pods", Faults(), self.image_env)
            self._server = await open_real(plane, mirror, kubelet, self.rights, directory)
        self._runner = web.AppRunner(self._server.app(), access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._kubelet_task = asyncio.create_task(kubelet.run())
        return int(self._runner.addresses[0][1])

    def close(self) -> None:
        """All processes of all pods are ended too."""
        self.do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)
        self._loop.close()

    async def _close(self) -> None:
        self._kubelet_task.cancel()
        await self._server.kubelet.close()
        await self._server.close_watches()
        self._abort_connections()
        await self._runner.cleanup()
        await self._server.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for other in rest:
            other.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def do(self, coroutine: Coroutine[Any, Any, T], seconds: float = 30) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(seconds)

    # What the tests look at.

    @property
    def requests(self) -> list[tuple[str, str, str]]:
        return list(self._server.requests)

    def counted(self) -> Counter[str]:
        """Requests by verb and resource."""
        return Counter(f"{verb} {resource}" for verb, resource, _ in self.requests)

    def objects(self, resource: str) -> list[Json]:
        return self.do(self._server.state.look(resource))

    def pod(self, branch: str) -> Json | None:
        """By the branch's id."""
        found = [pod for pod in self.objects("pods") if pod["metadata"]["annotations"]["swarmq.dev/branch"] == branch]
        return found[0] if found else None

    def processes(self) -> list[int]:
        """Of containers that run."""
        running = list(self._server.kubelet.pods.values())
        return [process.pid for pod in running for process in pod.processes.values() if process.returncode is None]

    # What the tests bring about.

    @property
    def state(self) -> State:
        """Its coroutines are for ``do``."""
        return self._server.state

    @property
    def kubelet(self) -> Kubelet:
        """Its coroutines are for ``do``."""
        return self._server.kubelet

    @staticmethod
    async def call(function: Callable[[], T]) -> T:
        """Something that is no coroutine, for ``do``."""
        return function()

    @property
    def trouble(self) -> Trouble:
        return self._server.trouble

    @property
    def faults(self) -> Faults:
        return self._server.kubelet.faults

    def go_away(self) -> None:
        """Every connection breaks, and new ones do, until ``come_back``."""

        async def cut() -> None:
            self.trouble.away = True
            self._abort_connections()

        self.do(cut())

    def _abort_connections(self) -> None:
        assert self._runner.server is not None
        for connection in self._runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    def come_back(self) -> None:
        self.trouble.away = False

    def fail(self, verb: str, resource: str, code: int, times: int = 1, retry_after_seconds: int | None = None) -> None:
        """The next ones are answered so."""
        answers = [Status(code, "Trouble", f"the double was told to answer {code}", retry_after_seconds)] * times
        self.trouble.answers.setdefault((verb, resource), []).extend(answers)

    def lose_reply(self, verb: str, resource: str) -> None:
        """The next one is done, and its answer lost."""
        self.trouble.lost_replies[verb, resource] += 1

    def close_watches(self) -> None:
        """They end as they do when their time is up."""
        self.do(self._server.close_watches())

    def compact(self) -> None:
        """Versions so far are forgotten, and all watches end: they will be told 410."""

        async def forget() -> None:
            self._server.state.version += 10
            self._server.state.oldest = self._server.state.version

        self.do(forget())
        self.close_watches()

    def apply(self, manifests: Iterable[Json]) -> None:
        """As somebody with all rights would, in this namespace: what Deployments want is made where they are known."""
        for manifest in manifests:
            self.do(self.state.apply(manifest))

    def delete_pod(self, branch: str, *, at_once: bool = True) -> None:
        """As somebody with kubectl would, with --force or without."""
        pod = self.pod(branch)
        assert pod is not None
        self.delete(pod["metadata"]["name"], at_once=at_once)

    def delete(self, pod: str, *, at_once: bool = True) -> None:
        self.do(self._server.delete("pods", pod, {"gracePeriodSeconds": 0} if at_once else {}))

    def kill(self, branch: str, verdict: str) -> None:
        """Its containers end as the kernel ends them; ``verdict`` is the reason that is reported."""
        pod = self.pod(branch)
        assert pod is not None
        self.kill_pod(pod["metadata"]["name"], verdict)

    def kill_pod(self, pod: str, verdict: str) -> None:
        self.do(self.kubelet.kill(self.state.get("pods", pod)["metadata"]["uid"], verdict))

    def evict(self, branch: str) -> None:
        """Its node is drained: the pod is marked, and deleted."""
        pod = self.pod(branch)
        assert pod is not None
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "EvictionByEvictionAPI",
            "message": "drained",
        }
        status = pod["status"] | {"conditions": [*pod["status"].get("conditions", []), condition]}
        self.do(self._server.state.update("pods", pod["metadata"]["name"], status=status))
        self.do(self._server.delete("pods", pod["metadata"]["name"], {"gracePeriodSeconds": 1}))


def _kubeconfig(port: int, namespace: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "double",
        "clusters": [{"name": "double", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "worker", "user": {"token": TOKEN}}],
        "contexts": [{"name": "double", "context": {"cluster": "double", "user": "worker", "namespace": namespace}}],
    }
