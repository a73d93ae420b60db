"""The cluster, as the workers of pods reach it: opened when the first of them needs it, once for each event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from swarmq.errors import EnvironmentFault, PodError, UsageError
from swarmq.kubernetes.ends import PodEnd
from swarmq.kubernetes.podspec import PodRequest
from swarmq.models.pods import PodNews
from swarmq.providers.registry import SCRIPTED
from swarmq.settings import Settings

if TYPE_CHECKING:
    from swarmq.kubernetes.cluster import Cluster
    from swarmq.kubernetes.pods import Pods

Notice = Callable[[PodNews], Awaitable[None]]


class FollowedPod(Protocol):
    """A branch's pod. Leaving the block stops following, and the pod stays."""

    @property
    def nonce(self) -> str: ...
    @property
    def adopted(self) -> bool: ...

    async def __aenter__(self) -> FollowedPod: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def lines(self) -> AsyncIterator[str]: ...
    async def end(self) -> PodEnd: ...
    async def delete(self) -> None: ...


class PodPermit(Protocol):
    """A place among the pods that run at once."""

    async def release(self) -> None: ...


class BranchPods(Protocol):
    """What is done with pods. swarmq.kubernetes.pods.Pods says what each raises."""

    async def check(self) -> None: ...
    async def run(self, request: PodRequest, notice: Notice | None = None) -> FollowedPod: ...
    async def delete_branch(self, swarm_id: str, branch_id: str) -> None: ...
    async def remove_residual(self, swarm_id: str, stage: int | None = None) -> None: ...
    async def remove_aged(self, older_than_seconds: float) -> int: ...


class PodAccess:
    """Opens cluster and pods for one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opening = asyncio.Lock()
        self._cluster: Cluster | None = None
        self._pods: Pods | None = None

    async def get(self) -> BranchPods:
        """ClusterError where there is no client or no cluster; OptionError where no image is set."""
        from swarmq.kubernetes.cluster import Cluster
        from swarmq.kubernetes.pods import Pods

        async with self._opening:
            if self._pods is None:
                if self._cluster is None:
                    self._cluster = await Cluster.open(self._settings)
                self._pods = await Pods.open(self._cluster, self._settings)
            return self._pods

    async def aclose(self) -> None:
        pods, cluster, self._pods, self._cluster = self._pods, self._cluster, None, None
        if pods is not None:
            await pods.aclose()
        if cluster is not None:
            await cluster.aclose()


async def require_pods(access: PodAccess, model_specs: set[str]) -> None:
    """Everything that pods need and that can be known before the first model call. UsageError, EnvironmentFault."""
    for spec in model_specs:
        if spec.partition(":")[0] == SCRIPTED:
            raise UsageError(f"model {spec}: a scripted model is a file of this machine, which pods do not have")
    try:
        await (await access.get()).check()
    except PodError as error:
        raise EnvironmentFault(f"no pod can be made: {error}") from error
