"""The pods of one worker process: making, adopting, finding and removing them.

A branch has one pod at a time, by its name. Making one is three calls: the Secret with the payload, the pod, and the
pod as the Secret's owner, so that both go together.
"""

from __future__ import annotations

import asyncio
import math
import random
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from swarmq.errors import ClusterError, OptionError, PodError, SwarmqError
from swarmq.kubernetes import names
from swarmq.kubernetes.answers import CONFLICT, NOT_FOUND, Refused, explain
from swarmq.kubernetes.cluster import Cluster, Object
from swarmq.kubernetes.ends import PodEnd, PodReason, is_terminated, one_line
from swarmq.kubernetes.merging import read_template
from swarmq.kubernetes.podspec import PodDefaults, PodRequest, pod_manifest, secret_manifest
from swarmq.kubernetes.rights import require_rights
from swarmq.kubernetes.run import DEFAULT_GRACE_SECONDS, PodRun
from swarmq.kubernetes.telling import Notice
from swarmq.kubernetes.watching import PodWatch
from swarmq.models.pods import PodNews
from swarmq.settings import Settings
from swarmq.workspace.blocking import run_blocking

__all__ = ["PodEnd", "PodReason", "PodRequest", "PodRun", "PodSight", "Pods"]

DAY_SECONDS = 86_400


@dataclass(frozen=True)
class PodSight:
    """A pod of the fleet as a list shows it. ``over``: it has ended or is being deleted."""

    name: str
    swarm_id: str
    branch_id: str
    token: int
    age_seconds: float
    over: bool


class Pods:
    """Belongs to one event loop, as its cluster does; the caller closes both."""

    def __init__(self, cluster: Cluster, defaults: PodDefaults, watch: PodWatch | None = None) -> None:
        self._cluster = cluster
        self.defaults = defaults
        self._watch = watch or PodWatch(cluster)

    @classmethod
    async def open(cls, cluster: Cluster, settings: Settings) -> Pods:
        """OptionError where no image is set, or the template is none."""
        return cls(cluster, await run_blocking(read_defaults, settings))

    async def aclose(self) -> None:
        await self._watch.aclose()

    async def check(self) -> None:
        """Whether pods can be made here, without making one. ClusterError names the rights that are missing, PodError
        the field of the template that the server does not take.
        """
        await require_rights(self._cluster)
        sample = PodRequest("check", "check", "check", 0, 1, b"", 60.0, "")
        attempt = _new_attempt()
        for resource, manifest in (
            ("secrets", secret_manifest(sample, attempt, _day())),
            ("pods", pod_manifest(sample, self.defaults, attempt, _day())),
        ):
            try:
                await self._cluster.create(resource, manifest, dryRun="All")
            except Refused as refused:
                if not refused.over_quota:
                    raise explain(refused, self._cluster.namespace) from None

    async def run(self, request: PodRequest, notice: Notice | None = None) -> PodRun:
        """The branch's pod: the one that runs already, else a new one.

        ``notice`` is called with what is waited for, once for each change. PodError where the pod cannot be made as it
        is, ClusterError where none can. Called again after an end, it makes another pod.
        """
        pod, adopted = await self._find(request) if request.token > 1 else None, True
        if pod is None:
            pod, adopted = await self._make(request, notice)
        if adopted:  # who made it may have died before that
            await self._own(pod)
        run = PodRun(
            self._cluster,
            self._watch,
            pod,
            adopted=adopted,
            deadline_seconds=request.deadline_seconds,
            start_seconds=self.defaults.start_seconds,
            notice=notice,
        )
        if adopted:
            await run.confirm()
        return run

    async def delete_branch(self, swarm_id: str, branch_id: str) -> None:
        """Have the branch's pod ended, whoever follows it. Nothing happens where there is none."""
        await self._cluster.delete("pods", names.pod_name(swarm_id, branch_id))

    async def remove_residual(self, swarm_id: str, stage: int | None = None) -> None:
        """All pods and Secrets of a swarm, or of one of its stages."""
        labels = {**names.MANAGED, names.SWARM: names.label_value(swarm_id)}
        if stage is not None:
            labels[names.STAGE] = str(stage)
        for resource in ("pods", "secrets"):
            await self._cluster.delete_all(resource, names.selector(labels))

    async def remove_aged(self, older_than_seconds: float) -> int:
        """Pods that are older, and Secrets of the days before; returns how many pods. Secrets are not read for it."""
        aged = [pod for pod in await self.list() if pod.age_seconds > older_than_seconds]
        for pod in aged:
            await self._cluster.delete("pods", pod.name)
        today = datetime.now(UTC).date()
        kept = ",".join(str(today - timedelta(days)) for days in range(math.ceil(older_than_seconds / DAY_SECONDS) + 1))
        await self._cluster.delete_all("secrets", f"{names.selector(names.MANAGED)},{names.DAY} notin ({kept})")
        return len(aged)

    async def list(self) -> list[PodSight]:
        """All pods of the fleet in this namespace, in one call."""
        found = await self._cluster.list("pods", names.selector(names.MANAGED))
        return [_sight(pod) for pod in found["items"]]

    async def _find(self, request: PodRequest, attempt: str = "") -> Object | None:
        """The branch's pod, where it runs, or has ended and was made by this very attempt. Any other is removed."""
        name = names.pod_name(request.swarm_id, request.branch_id)
        try:
            pod = await self._cluster.get("pods", name)
        except Refused as refused:
            if refused.status == NOT_FOUND:
                return None
            raise ClusterError(str(explain(refused, self._cluster.namespace))) from None
        told = pod["metadata"].get("annotations") or {}
        if (told.get(names.SWARM), told.get(names.BRANCH)) != (request.swarm_id, request.branch_id):
            raise PodError(f"the pod {name} in the namespace {self._cluster.namespace} is not one of this branch")
        deleted = bool(pod["metadata"].get("deletionTimestamp"))
        wanted = request.adopt_ended or told.get(names.ATTEMPT) == attempt
        if not _is_over(pod) or (wanted and not deleted):
            return pod
        await self._remove(pod)
        return None

    async def _remove(self, pod: Object) -> None:
        """Until the name is free."""
        name, uid = str(pod["metadata"]["name"]), str(pod["metadata"]["uid"])
        with self._watch.seat(pod) as seat:  # before it is deleted, which may be done and told at once
            if not pod["metadata"].get("deletionTimestamp"):
                await self._cluster.delete("pods", name, uid=uid)
            patience = DEFAULT_GRACE_SECONDS + self._cluster.patience.deletion_seconds
            if not await seat.until(lambda: seat.gone, patience):  # its node does not answer
                await self._cluster.delete("pods", name, uid=uid, grace_seconds=0)
                await seat.until(lambda: seat.gone)

    async def _make(self, request: PodRequest, notice: Notice | None) -> tuple[Object, bool]:
        """A new pod, or that of the branch which turned out to be there; whether it is such a one."""
        attempt, day = _new_attempt(), _day()
        manifest = pod_manifest(request, self.defaults, attempt, day)
        await self._create("secrets", secret_manifest(request, attempt, day), notice)
        unused = names.secret_name(manifest["metadata"]["name"], attempt)
        try:
            while (pod := await self._create("pods", manifest, notice)) is None:
                pod = await self._find(request, attempt)
                if pod is not None:  # made by somebody else, or by a call whose answer was lost
                    break
        except PodError:  # after any other error the pod may have been made
            await self._cluster.delete("secrets", unused)
            raise
        if pod["metadata"]["annotations"].get(names.ATTEMPT) != attempt:
            await self._cluster.delete("secrets", unused)
            return pod, True
        await self._own(pod)
        return pod, False

    async def _create(self, resource: str, manifest: Object, notice: Notice | None) -> Object | None:
        """None where there is one of that name. Waits for as long as a quota leaves no room."""
        told = ""
        while True:
            try:
                return await self._cluster.create(resource, manifest)
            except Refused as refused:
                if refused.status == CONFLICT:
                    return None
                if not refused.over_quota:
                    raise explain(refused, self._cluster.namespace) from None
                if refused.message != told and notice is not None:
                    text = f"the quota of the namespace leaves no room: {one_line(refused.message)}"
                    await notice(PodNews(text=text, reason="exceeded quota"))
                told = refused.message
            wait = self._cluster.patience.quota_seconds
            await asyncio.sleep(random.uniform(wait / 2, wait))

    async def _own(self, pod: Object) -> None:
        """Let its Secret go with the pod. A pod that cannot have it so does not stay."""
        secret = names.secret_name(pod["metadata"]["name"], pod["metadata"]["annotations"][names.ATTEMPT])
        owner = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        try:
            await self._cluster.patch("secrets", secret, {"metadata": {"ownerReferences": [owner]}})
        except Refused as refused:
            if refused.status == NOT_FOUND:  # the pod ended meanwhile and somebody cleaned up: its end will tell
                return
            await self._cluster.delete("pods", owner["name"], uid=owner["uid"])
            raise explain(refused, self._cluster.namespace) from None
        except SwarmqError:
            await self._cluster.delete("pods", owner["name"], uid=owner["uid"])
            raise


def read_defaults(settings: Settings) -> PodDefaults:
    """What the settings say of all pods. OptionError where they do not do."""
    if settings.pod_image is None:
        raise OptionError(
            "pod_image: pods need an image that has swarmq and git; set it in the settings of the workers"
        )
    return PodDefaults(
        image=settings.pod_image,
        template=read_template(settings.pod_template),
        secrets=settings.pod_secrets,
        start_seconds=settings.pod_start_seconds,
    )


def _is_over(pod: Object) -> bool:
    return is_terminated(pod) or bool(pod["metadata"].get("deletionTimestamp"))


def _sight(pod: Object) -> PodSight:
    metadata: dict[str, Any] = pod["metadata"]
    told = metadata.get("annotations") or {}
    made_at = datetime.fromisoformat(metadata["creationTimestamp"]).timestamp()
    return PodSight(
        name=metadata["name"],
        swarm_id=str(told.get(names.SWARM) or ""),
        branch_id=str(told.get(names.BRANCH) or ""),
        token=int((metadata.get("labels") or {}).get(names.TOKEN) or 0),
        age_seconds=time.time() - made_at,
        over=_is_over(pod),
    )


def _new_attempt() -> str:
    return secrets.token_hex(4)


def _day() -> str:
    return str(datetime.now(UTC).date())
