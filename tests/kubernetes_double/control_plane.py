"""A real API server: etcd, kube-apiserver and kube-controller-manager, as processes on free loopback ports.

``SWARMQ_TEST_KUBERNETES`` names the directory that holds the three programs (``scripts/kubernetes`` makes one). With it
the tests' kubelet and all of the tests' trouble work with that server; without it, with the server of this package.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

import aiohttp

from kubernetes_double.rights import ACCOUNT, TOKEN

ADMIN_TOKEN = "the-token-of-the-admin"
START_SECONDS = 120.0
VARIABLE = "SWARMQ_TEST_KUBERNETES"
IS_REAL = bool(os.environ.get(VARIABLE))
_BOUND_TOKENS = "--feature-gates=BoundServiceAccountTokenVolume=true"
"""As servers since 1.21 have it: no account has a Secret."""
_ADMIN_KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: admin
clusters: [{{name: test, cluster: {{server: "{url}", insecure-skip-tls-verify: true}}}}]
users: [{{name: admin, user: {{token: {token}}}}}]
contexts: [{{name: admin, context: {{cluster: test, user: admin}}}}]
"""


class ControlPlane:
    """One for all tests of a process; each of them has a namespace of its own."""

    _started: ControlPlane | None = None

    def __init__(self, directory: Path) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._programs, self._directory = directory, Path(tempfile.mkdtemp(prefix="swarmq-kubernetes-"))
        self.url = f"https://127.0.0.1:{_free_port()}"
        self._namespaces = itertools.count(1)

    @classmethod
    async def of_this_process(cls) -> ControlPlane | None:
        """None where tests are to do without."""
        directory = os.environ.get(VARIABLE)
        if cls._started is None and directory:
            cls._started = cls(Path(directory))
            atexit.register(cls._started.close)
            await cls._started._start()
        return cls._started

    def new_namespace(self) -> str:
        return f"swarms-{next(self._namespaces)}"

    async def _start(self) -> None:
        etcd, peers = f"http://127.0.0.1:{_free_port()}", f"http://127.0.0.1:{_free_port()}"
        key, tokens = self._directory / "accounts.key", self._directory / "tokens.csv"
        await asyncio.to_thread(openssl, "genrsa", "-out", key, "2048")
        tokens.write_text(f'{ADMIN_TOKEN},admin,admin,"system:masters"\n{TOKEN},{ACCOUNT},worker\n')
        kubeconfig = self._directory / "kubeconfig"
        kubeconfig.write_text(_ADMIN_KUBECONFIG.format(url=self.url, token=ADMIN_TOKEN))
        self._run(
            "etcd",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            f"--data-dir={self._directory / 'etcd'}",
        )
        self._run(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--secure-port={self.url.rpartition(':')[2]}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--cert-dir={self._directory / 'certificates'}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            _BOUND_TOKENS,
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--kubelet-preferred-address-types=InternalIP",
        )
        await self._await_ready()
        self._run(
            "kube-controller-manager",
            f"--kubeconfig={kubeconfig}",
            "--leader-elect=false",
            _BOUND_TOKENS,
            f"--service-account-private-key-file={key}",
            "--controllers=*,-nodelifecycle,-serviceaccount-token",
            "--use-service-account-credentials=false",
            "--port=0",
            f"--secure-port={_free_port()}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self._directory / 'certificates'}",
        )

    def _run(self, program: str, *arguments: str) -> None:
        with (self._directory / f"{program}.log").open("wb") as log:
            command = [str(self._programs / program), *arguments]
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))

    async def _await_ready(self) -> None:
        until = time.monotonic() + START_SECONDS
        async with self.session(ADMIN_TOKEN) as admin:
            while time.monotonic() < until:
                try:
                    async with admin.get("/readyz") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                assert all(process.poll() is None for process in self._processes), f"see the logs in {self._directory}"
                await asyncio.sleep(0.2)
        raise TimeoutError(f"the API server did not start: see the logs in {self._directory}")

    def session(self, token: str) -> aiohttp.ClientSession:
        context = ssl._create_unverified_context()
        return aiohttp.ClientSession(
            self.url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            connector=aiohttp.TCPConnector(ssl=context, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            skip_auto_headers=("Accept-Encoding",),
        )

    def close(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            process.wait(30)
        shutil.rmtree(self._directory, ignore_errors=True)


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
