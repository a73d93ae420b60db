"""What is known of the pods that branches run in, and who tells it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from pydantic import Field

from swarmq.models.base import Record


class PodHealth(Record):
    """How well a pod does as a place to work in. It says nothing of the agent in it."""

    score: float = Field(ge=0, le=1, description="1: nothing is wrong; 0: nothing can run there.")
    signals: int = Field(0, ge=0, description="Signs of ill health, for policies that count them.")
    reason: str = Field("", description="What Kubernetes says is wrong with it, such as OOMKilled.")
    seen_at: float = Field(0.0, description="Equal for what is known by the same list; by the clock of who asked.")
    dead: bool = Field(False, description="What ran in it has ended: its branches are to be given to others.")


class PodNews(Record):
    """One thing to tell of a branch's pod, in words and in Kubernetes' own."""

    text: str = Field(description="One line for a person.")
    pod: str = Field("", description="The pod's name; empty as long as none could be made.")
    uid: str = Field("", description="Tells pods of one name apart.")
    node: str = Field("", description="Empty as long as no node has it.")
    phase: str = Field("", description="As last seen: Pending, Running, Succeeded, Failed.")
    reason: str = Field("", description="What Kubernetes or the pod's end calls it, such as FailedScheduling.")
    count: int = Field(1, ge=1, description="How often the cluster has seen it.")

    def data(self) -> dict[str, object]:
        """For an event of the branch: without what says nothing."""
        return {"notice": self.text, **self.model_dump(exclude_defaults=True, exclude={"text"})}


class PodStates(Protocol):
    """Asked once a tick, by the names of workers as branches carry them."""

    async def health_of(self, workers: Collection[str]) -> Mapping[str, PodHealth]:
        """The health of each worker's pod.

        Left out are workers of which nothing is known: those that run in no pod, in one that has not started yet, or
        where the list of pods was not to be had. Who is left out is not judged.
        """
        ...


class NoPods:
    """Outside of a cluster: nothing is known of any pod."""

    async def health_of(self, workers: Collection[str]) -> Mapping[str, PodHealth]:
        return {}
