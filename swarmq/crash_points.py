"""Named places at which tests let a process die or stand still: one before each effect of docs/design/records.md.

A worker or beat arms one of them from its settings; in every other process, and on every other path, ``reached`` is
one comparison.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self


class CrashPoint(StrEnum):
    """Each is reached right before the effect that it is named after."""

    SWARM_RECORDED = "swarm_recorded"
    """control: a producer's message becomes a record."""
    PLAN_SENT = "plan_sent"
    """control: the message ``plan`` goes out."""
    PLAN_RECORDED = "plan_recorded"
    """agents: the model has planned."""
    START_STAGE_SENT = "start_stage_sent"
    """agents: the message ``start_stage`` goes out after planning."""
    STAGE_RECORDED = "stage_recorded"
    """control: a stage is opened with its branches."""
    CHORD_PUBLISHED = "chord_published"
    """control: the chord of an open stage goes out."""
    MEMBER_PUBLISHED = "member_published"
    """control: one branch of a chord, others of which are out already, goes out (reached once for each)."""
    BRANCH_CLAIMED = "branch_claimed"
    """agents: a message has come, its branch is still queued."""
    ANSWER_RECORDED = "answer_recorded"
    """agents: the model has answered."""
    TOOLS_RUN = "tools_run"
    """agents: the answer is recorded, its tool calls are about to run."""
    WORKTREE_SAVED = "worktree_saved"
    """agents: the tools have run."""
    CHECKPOINT_RECORDED = "checkpoint_recorded"
    """agents: the worktree is saved as a commit."""
    RESULTS_RECORDED = "results_recorded"
    """agents: the tool results go into the transcript."""
    VERIFY_RUN = "verify_run"
    """agents: the agent says that it is done, its work is about to be verified."""
    SENT_BACK = "sent_back"
    """agents: the work did not pass verify, the agent is not told yet."""
    COMMIT_MADE = "commit_made"
    """agents: the final answer is recorded, the branch's work is still uncommitted."""
    OUTCOME_RECORDED = "outcome_recorded"
    """agents: the finished commit is made, the branch is still running."""
    SLOTS_SENT = "slots_sent"
    """agents: a branch has ended, and the messages of those that got its slot go out."""
    FINISH_STAGE_SENT = "finish_stage_sent"
    """agents: the last branch of a stage has ended, ``finish_stage`` goes out."""
    BRANCH_ACKED = "branch_acked"
    """agents: a delivery has done its work, its message is not acknowledged."""
    MERGE_MADE = "merge_made"
    """integrate: a branch's commit is about to be merged."""
    MERGE_RECORDED = "merge_recorded"
    """integrate: the merge is made, its report is not recorded."""
    RESOLVER_SENT = "resolver_sent"
    """integrate: the resolver of a conflict is recorded, its message goes out."""
    LOSERS_STOPPED = "losers_stopped"
    """agents: a candidate has won its race, the others still run."""
    STAGE_CLOSED = "stage_closed"
    """integrate: all merges are recorded."""
    NEXT_SENT = "next_sent"
    """integrate: the stage is closed, the next message (``start_stage``, ``finish_swarm``) goes out."""
    RESULT_BRANCH_WRITTEN = "result_branch_written"
    """integrate: the result goes into the user's repository."""
    SWARM_ENDED = "swarm_ended"
    """integrate: the result branch is written, the swarm is still finishing."""
    VALUE_SENT = "value_sent"
    """integrate: the swarm has ended, its producer is not told."""
    CANCEL_SPREAD = "cancel_spread"
    """control: the swarm is marked cancelled, its branches are not."""
    REVOKE_SENT = "revoke_sent"
    """control: the branches are marked, those that run are not stopped."""
    COLLAPSE_DECIDED = "collapse_decided"
    """control: a look at a swarm has decided, nothing of it is recorded."""
    KILL_SENT = "kill_sent"
    """control: branches that lose are marked, and are not stopped."""


@dataclass
class Trap:
    """What is to happen at a point: a signal to this process, the ``nth`` time that it comes by.

    With a marker (a file that must not exist) it happens once, in the first of all processes that know the marker; the
    file then holds that process's id.
    """

    point: CrashPoint
    signal: signal.Signals = signal.SIGKILL
    nth: int = 1
    marker: Path | None = None
    _seen: int = field(default=0, init=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``POINT[:kill|stop[:NTH]]``; ValueError."""
        name, _, rest = text.partition(":")
        how, _, nth = rest.partition(":")
        signals = {"": signal.SIGKILL, "kill": signal.SIGKILL, "stop": signal.SIGSTOP}
        if how not in signals or (nth and (not nth.isdecimal() or int(nth) < 1)):
            raise ValueError(f"{text!r} is not POINT[:kill|stop[:NTH]]")
        if name not in list(CrashPoint):
            raise ValueError(f"{name!r} is no crash point; there are {', '.join(CrashPoint)}")
        return cls(CrashPoint(name), signals[how], int(nth or 1))

    def spring(self) -> None:
        self._seen += 1
        if self._seen == self.nth and self._first():
            os.kill(os.getpid(), self.signal)

    def _first(self) -> bool:
        if self.marker is None:
            return True
        with suppress(FileExistsError), self.marker.open("x") as file:
            file.write(str(os.getpid()))
            return True
        return False


_trap: Trap | None = None


def arm(trap: Trap | None) -> None:
    """Set the one trap of this process, or none."""
    global _trap
    _trap = trap


def reached(point: CrashPoint) -> None:
    """Called right before the effect; does nothing but in a process that was armed with this point."""
    if _trap is not None and _trap.point is point:
        _trap.spring()
