"""Pods for tests without a cluster: each runs the real agent as a task of the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from swarmq.kubernetes.ends import PodEnd, PodReason
from swarmq.kubernetes.podspec import PodRequest
from swarmq.models.pods import PodNews
from swarmq.pod.agent import run_payload
from swarmq.pod.payload import decode

Edit = Callable[[list[str]], list[str]]
"""What becomes of the log's lines on their way."""


class LocalPod:
    """One agent. After so many numbered lines the cluster takes it away, or lets it end, as ``end`` says."""

    def __init__(self, request: PodRequest, directory: Path, end: PodEnd | None, ends_after: int, edit: Edit) -> None:
        self.request, self.nonce = request, request.nonce
        self.written: list[str] = []
        self.numbered = 0
        self.deleted = False
        self._end, self._ends_after, self._edit = end, ends_after, edit
        self._news = asyncio.Condition()
        self.task = asyncio.create_task(self._run(directory))

    async def _run(self, directory: Path) -> PodEnd:
        def write(text: str) -> None:
            for line in text.splitlines():
                probe = line.startswith("SWARMQ_PROBE")
                if self._end is not None and not probe and self.numbered >= self._ends_after:
                    raise asyncio.CancelledError
                self.numbered += not probe
                self.written.append(line)
            self._ringing = asyncio.ensure_future(self._ring())

        end = PodEnd(PodReason.COMPLETED, "the agent has ended", 0, True)
        try:
            await run_payload(decode(self.request.payload), directory, write)
        except asyncio.CancelledError:
            end = self._end or PodEnd(PodReason.VANISHED, "the pod is gone", None, True)
        await self._ring()
        return end

    async def _ring(self) -> None:
        async with self._news:
            self._news.notify_all()

    @property
    def running(self) -> bool:
        return not self.task.done() and not self.deleted

    async def lines(self) -> AsyncIterator[str]:
        given = 0
        while True:
            over = self.task.done()
            lines = self._edit(list(self.written))
            for line in lines[given:]:
                given += 1
                yield line
            if over:
                return
            async with self._news:
                if not self.task.done() and given == len(self._edit(list(self.written))):
                    await self._news.wait()

    async def end(self) -> PodEnd:
        return await asyncio.shield(self.task)

    async def delete(self) -> None:
        self.deleted = True
        self.task.cancel()


class Followed:
    """A pod as one supervisor follows it."""

    def __init__(self, pod: LocalPod, adopted: bool) -> None:
        self._pod, self.adopted, self.nonce = pod, adopted, pod.nonce
        self.lines, self.end, self.delete = pod.lines, pod.end, pod.delete

    async def __aenter__(self) -> Followed:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


class LocalPods:
    """The cluster. The next pods end as ``ends`` says: (end, after how many lines); None: by themselves."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.made: list[LocalPod] = []
        self.ends: list[tuple[PodEnd, int] | None] = []
        self.edits: list[Edit] = []
        self.checked = 0

    async def get(self) -> LocalPods:
        return self

    async def check(self) -> None:
        self.checked += 1

    async def run(self, request: PodRequest, notice: Callable[[PodNews], Awaitable[None]] | None = None) -> Followed:
        running = [pod for pod in self.made if pod.running and pod.request.branch_id == request.branch_id]
        if running:
            return Followed(running[0], True)
        end, after = (self.ends.pop(0) if self.ends else None) or (None, 0)
        edit = self.edits.pop(0) if self.edits else list
        if notice is not None:
            await notice(PodNews(text="no node has room"))
        pod = LocalPod(request, self._directory / f"pod-{len(self.made)}", end, after, edit)
        self.made.append(pod)
        return Followed(pod, False)

    async def delete_branch(self, swarm_id: str, branch_id: str) -> None:
        for pod in self.made:
            if pod.running and pod.request.branch_id == branch_id:
                await pod.delete()

    async def remove_residual(self, swarm_id: str, stage: int | None = None) -> None:
        for pod in self.made:
            await pod.delete()

    async def remove_aged(self, older_than_seconds: float) -> int:
        return 0

    async def aclose(self) -> None:
        await self.remove_residual("")
        await asyncio.gather(*(pod.task for pod in self.made), return_exceptions=True)


def instead(pods: LocalPods, runtime: Any) -> None:
    """Have a worker's runtime reach these pods and no cluster."""
    object.__setattr__(runtime, "pod_access", pods)
