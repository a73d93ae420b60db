"""Finding the cluster: the kubeconfig where there is one, else the service account of the pod this process runs in."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarmq.errors import ClusterError
from swarmq.settings import Settings
from swarmq.workspace.blocking import run_blocking

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_READ_BYTES = 1 << 16
"""What a stream buffers before the server has to wait: there may be hundreds of them."""


async def connect(settings: Settings) -> tuple[ApiClient, str]:
    """A client of the API and the namespace to work in. ClusterError where there is no client or no cluster.

    Nothing is sent yet, unless the kubeconfig names a program or server that hands out credentials.
    """
    try:  # a second of work, which must not stop the loop
        await run_blocking(importlib.import_module, "kubernetes.aio")
    except ImportError as error:
        raise ClusterError(
            f"pods need the client of Kubernetes, which is not installed ({error}): pip install 'swarmq[kubernetes]'"
        ) from None
    from kubernetes.aio.client import ApiClient, Configuration

    configuration: Any = Configuration()
    namespace = await configure(configuration, settings)
    configuration.connection_pool_maxsize = 0  # no limit: each log that is followed is a connection
    configuration.client_session_kwargs = {"read_bufsize": _READ_BYTES}
    client = await run_blocking(ApiClient, configuration)  # reads certificates
    client.user_agent = f"swarmq/{importlib.metadata.version('swarmq')}"
    return client, settings.kubernetes_namespace or namespace


async def configure(configuration: Any, settings: Settings) -> str:
    """Fill in server and credentials, anew where they were there; returns the namespace that goes with them."""
    from kubernetes.aio import config

    files = str(settings.kubeconfig or config.KUBE_CONFIG_DEFAULT_LOCATION)
    if settings.kubeconfig or settings.kubernetes_context or await run_blocking(_any_file, files) is not None:
        try:
            loader = await config.load_kube_config(  # type: ignore[no-untyped-call]
                files, settings.kubernetes_context, configuration, persist_config=False
            )
        except config.ConfigException as error:
            raise ClusterError(f"the kubeconfig {files} does not lead to a cluster: {error}") from None
        return str(loader.current_context["context"].get("namespace") or "default")
    try:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException as error:
        raise ClusterError(
            f"there is no cluster to make pods in: there is no kubeconfig at {files}, and this process does not run in "
            f"a pod with a service account ({error})"
        ) from None
    return await run_blocking(_account_namespace)


def _any_file(paths: str) -> Path | None:
    found = (Path(path).expanduser() for path in paths.split(os.pathsep))
    return next((path for path in found if path.is_file()), None)


def _account_namespace() -> str:
    try:
        return ACCOUNT_NAMESPACE.read_text().strip() or "default"
    except OSError:
        return "default"
