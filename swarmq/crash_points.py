"""Named places at which tests let a process die or stand still: one before each effect of docs/design/records.md.

Outside of tests ``reached`` is one comparison. A worker or beat with the setting ``crash_file`` looks at that file.
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
    CALL_MADE = "call_made"
    """agents: the permit of a model call is there."""
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
    BRANCH_PARKED = "branch_parked"
    """agents: the swarm is paused, a branch has stopped for that and is still held."""
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


@dataclass(frozen=True)
class Trap:
    """What is to happen at a point: a signal to this process, the ``nth`` time that it comes by."""

    point: CrashPoint
    signal: signal.Signals = signal.SIGKILL
    nth: int = 1

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


@dataclass
class Traps:
    """The trap that a file describes, for as long as it is there: processes run on while a test sets one after another.

    It springs once, in the first of all processes that come by for the nth time: that one adds its id to the file's
    name. A file that is put in its place is another trap.
    """

    file: Path
    _trap: Trap | None = field(default=None, init=False)
    _written_ns: int = field(default=0, init=False)
    _seen: int = field(default=0, init=False)

    def reached(self, point: CrashPoint) -> None:
        with suppress(FileNotFoundError):
            written_ns = self.file.stat().st_mtime_ns
            if written_ns != self._written_ns:
                self._trap, self._written_ns, self._seen = Trap.parse(self.file.read_text()), written_ns, 0
            if self._trap is not None and self._trap.point is point:
                self._spring(self._trap)

    def _spring(self, trap: Trap) -> None:
        self._seen += 1
        if self._seen == trap.nth:
            self.file.rename(f"{self.file}.{os.getpid()}")  # one process alone can
            os.kill(os.getpid(), trap.signal)


_traps: Traps | None = None


def arm(file: Path | None) -> None:
    """From now on heed the traps that this file describes; None: none, as outside of tests."""
    global _traps
    _traps = Traps(file) if file is not None else None


def armed() -> bool:
    return _traps is not None


def reached(point: CrashPoint) -> None:
    """Called right before the effect; does nothing but where a test has set a trap."""
    if _traps is not None:
        _traps.reached(point)
