"""What the end of a pod means for its branch. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from swarmq.kubernetes.ends import PodEnd, PodReason
from swarmq.models.branch import Exit, Outcome

DISAPPEARED = "Sub-agent pod disappeared"


@dataclass(frozen=True)
class Replace:
    """The branch goes on in a new pod, from what was recorded. ``why`` is told when that has happened too often."""

    why: str


def judge_end(end: PodEnd, tail: str, *, spoke: bool) -> Outcome | Replace:
    """For a pod that left no result. ``tail`` is the end of what else stands in its log; ``spoke`` says that its agent
    knows the protocol, and so gives a result before it exits with 0.

    What the cluster took away, or what ran out of memory, says nothing against the agent's work so far.
    """
    if end.lost:
        return Replace(f"{DISAPPEARED}: {end.detail}")
    if end.reason is PodReason.OOM_KILLED:
        return Replace(f"the pod ran out of memory: {end.detail}")
    if end.reason is PodReason.TIMED_OUT:
        return Outcome(
            exit=Exit.TIMED_OUT, error=end.detail, fault="agent", limit="subagent_timeout_seconds", text=tail
        )
    if end.reason is PodReason.COMPLETED and spoke:
        return Replace(gap("its result is missing"))
    if end.reason is PodReason.COMPLETED:  # the log itself is what there is
        return Outcome(exit=Exit.COMPLETED, text=tail)
    if end.reason is PodReason.FAILED:
        said = _last_error(tail)
        why = f"the pod ended with exit code {end.exit_code} and without a result{f': {said}' if said else ''}"
        return Outcome(exit=Exit.FAILED, error=why, fault="infrastructure", text=tail)
    return Outcome(exit=Exit.FAILED, error=end.detail, fault="infrastructure")


def gap(what: str) -> str:
    """Why a pod whose log is not whole is replaced."""
    return f"the log of the pod has a gap: {what}"


def _last_error(tail: str) -> str:
    """The line in which ``swarmq`` says what is wrong."""
    errors = [line.removeprefix("error: ") for line in tail.splitlines() if line.startswith("error: ")]
    return errors[-1][:500] if errors else ""
