"""The tests' trouble in front of a real API server, and the node's own port, from which that server gets logs."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from aiohttp import web

from kubernetes_double.control_plane import ADMIN_TOKEN, ControlPlane, openssl
from kubernetes_double.kubelet import Kubelet
from kubernetes_double.mirror import Mirror
from kubernetes_double.reports import NODE
from kubernetes_double.rights import ACCOUNT, Rights
from kubernetes_double.server import Server
from kubernetes_double.state import Json, Status

_PASSED_ON = ("Authorization", "Content-Type", "Accept")
_GOODBYE_SECONDS = 0.2
"""What closing TLS connections takes, which nothing tells the end of."""
_RBAC = "/apis/rbac.authorization.k8s.io/v1"


class RealServer(Server):
    def __init__(self, plane: ControlPlane, mirror: Mirror, kubelet: Kubelet, rights: Rights, port: NodePort) -> None:
        super().__init__(mirror, kubelet, rights)
        self._mirror, self._port = mirror, port
        self._upstream = plane.session("")
        self._granted: object = self
        self._quota: int | None = None
        self._closing = asyncio.Event()
        self._changing = asyncio.Lock()

    async def _answer(self, request: web.Request, verb: str, resource: str, name: str) -> web.StreamResponse:
        if self.trouble.answers.get((verb, resource)):
            raise self.trouble.answers[verb, resource].pop(0)
        if not resource.startswith("selfsubject"):
            self.rights.used.add((verb, resource))
        async with self._changing:
            await self._grant()
            await self._limit()
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        body = await request.read()
        async with self._upstream.request(request.method, request.path_qs, data=body, headers=headers) as answer:
            kind = {"Content-Type": answer.headers.get("Content-Type", "text/plain")}
            if resource == "pods/log" and answer.status == 200:
                return await self._pass_log(request, answer, kind)
            if verb == "watch" and answer.status == 200:
                return await self._pass_watch(request, answer, kind)
            waits = {"Retry-After": answer.headers["Retry-After"]} if "Retry-After" in answer.headers else {}
            return web.Response(status=answer.status, body=await answer.read(), headers=kind | waits)

    async def _pass_log(
        self, request: web.Request, answer: aiohttp.ClientResponse, kind: dict[str, str]
    ) -> web.StreamResponse:
        async def pieces() -> AsyncIterator[bytes]:
            async for piece in answer.content.iter_any():
                yield piece

        response = web.StreamResponse(headers=kind)
        await response.prepare(request)
        await self._send_log(request, response, pieces())
        return response

    async def _pass_watch(
        self, request: web.Request, answer: aiohttp.ClientResponse, kind: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=kind)
        await response.prepare(request)
        if not self.trouble.watches_end_at_once:
            passing = asyncio.create_task(self._pass_changes(answer, response))
            closing = asyncio.create_task(self._closing.wait())
            await asyncio.wait({passing, closing}, return_when=asyncio.FIRST_COMPLETED)
            for task in (passing, closing):
                task.cancel()
            await asyncio.gather(passing, closing, return_exceptions=True)
        await response.write_eof()
        return response

    async def _pass_changes(self, answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        rest = b""
        async for piece in answer.content.iter_any():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if not self.trouble.silent_watches:
                    await asyncio.sleep(self.trouble.watch_delay_seconds)
                    await response.write(line + b"\n")

    async def close_watches(self) -> None:
        self._closing.set()
        self._closing = asyncio.Event()

    async def delete(self, resource: str, name: str, options: Json) -> None:
        await self._mirror.delete(resource, name, options)

    async def _grant(self) -> None:
        """The test's rights as a Role."""
        wanted = None if self.rights.granted is None else frozenset(self.rights.granted)
        if wanted == self._granted:
            return
        self._granted = wanted
        path = f"{_RBAC}/namespaces/{self._mirror.namespace}"
        role = {"metadata": {"name": "worker"}, "rules": [rule | {"apiGroups": ["*"]} for rule in self.rights.rules()]}
        subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": ACCOUNT}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "worker"}
        binding = {"metadata": {"name": "worker"}, "subjects": [subject], "roleRef": reference}
        for plural, thing in (("roles", role), ("rolebindings", binding)):
            await self._put(f"{path}/{plural}", thing)
        await asyncio.sleep(0.5)  # the server hears of its own roles by a watch

    async def _limit(self) -> None:
        """The test's quota as a ResourceQuota, whose controller has counted."""
        if self.trouble.quota_pods == self._quota:
            return
        self._quota = wanted = self.trouble.quota_pods
        path = self._mirror.path("resourcequotas")
        await self._put(path, {"metadata": {"name": "compute"}, "spec": {"hard": {"pods": str(wanted or 1000)}}})
        while not (await self._mirror.ask("GET", f"{path}/compute"))["status"].get("used"):
            await asyncio.sleep(0.05)

    async def _put(self, path: str, thing: Json) -> None:
        name = thing["metadata"]["name"]
        try:
            await self._mirror.ask("POST", path, json=thing)
        except Status as status:
            if status.code != 409:
                raise
            await self._mirror.ask("PUT", f"{path}/{name}", json=thing)

    async def close(self) -> None:
        await self._port.close()
        await self._upstream.close()
        await self._mirror.close()
        await asyncio.sleep(_GOODBYE_SECONDS)


class NodePort:
    """What an API server asks a node for. ``kubelet``'s namespace is the only one that it knows."""

    def __init__(self, kubelet: Kubelet, mirror: Mirror) -> None:
        self._kubelet, self._mirror = kubelet, mirror
        self._runner: web.AppRunner

    async def open(self, directory: Path) -> int:
        key, certificate = directory / "node.key", directory / "node.crt"
        options = ("-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=node", "-days", "2")
        await asyncio.to_thread(openssl, "req", *options, "-keyout", key, "-out", certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        app = web.Application()
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._log)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        return int(self._runner.addresses[0][1])

    async def _log(self, request: web.Request) -> web.StreamResponse:
        name, container = request.match_info["pod"], request.match_info["container"]
        if self._kubelet.faults.lost:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        thing = self._mirror.objects.get(("pods", name))
        pieces = None if thing is None else self._kubelet.read_log(thing["metadata"]["uid"], container, request.query)
        if pieces is None:
            told = f'container "{container}" in pod "{name}" is waiting to start: ContainerCreating'
            return web.Response(status=400, text=told)
        response = web.StreamResponse(headers={"Content-Type": "text/plain", "Transfer-Encoding": "chunked"})
        await response.prepare(request)
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                await response.write(piece)
        await response.write_eof()
        return response

    async def close(self) -> None:
        await self._runner.cleanup()


async def open_mirror(plane: ControlPlane) -> Mirror:
    """Of a namespace that nobody has used."""
    mirror = Mirror(plane.new_namespace(), plane.session(ADMIN_TOKEN))
    await mirror.ask("POST", "/api/v1/namespaces", json={"metadata": {"name": mirror.namespace}})
    account = mirror.path("serviceaccounts", "default")
    while not await mirror.has(account):  # its controller makes it, and pods are refused without it
        await asyncio.sleep(0.05)
    await mirror.patch(account, {"automountServiceAccountToken": False})
    await mirror.start()
    return mirror


async def open_real(
    plane: ControlPlane, mirror: Mirror, kubelet: Kubelet, rights: Rights, directory: Path
) -> RealServer:
    port = NodePort(kubelet, mirror)
    await _register(mirror, await port.open(directory))
    return RealServer(plane, mirror, kubelet, rights, port)


async def _register(mirror: Mirror, port: int) -> None:
    """The node, with the port of the kubelet that came last."""
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Test", "message": "ready"}],
    }
    if not await mirror.has(f"/api/v1/nodes/{NODE}"):
        await mirror.ask("POST", "/api/v1/nodes", json={"metadata": {"name": NODE}})
    await mirror.patch(f"/api/v1/nodes/{NODE}/status", {"status": status})
