"""What follows when an agent says that it is done: its work is verified, and it is sent back where that fails (S10)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from swarmq.agent.assignment import Ended
from swarmq.agent.narration import Narrator
from swarmq.agent.ports import Verify
from swarmq.agent.timing import Clock, Deadlines
from swarmq.agent.tools.text import printed, safe
from swarmq.models.branch import Exit
from swarmq.models.events import Event
from swarmq.models.messages import Message, user
from swarmq.models.verify import VerifyReport


@dataclass(frozen=True)
class SentBack:
    """What the agent is told, and the report that is recorded with it."""

    message: Message
    report: VerifyReport


@dataclass(frozen=True)
class Finishing:
    """Decides whether a run that says it is done may end. ``verify``: None where nothing is to be verified.

    ``rounds`` is how often the agent may be sent back; how often it was is counted from the transcript, so that a run
    that another worker goes on with decides the same.
    """

    verify: Verify | None
    rounds: int
    narrator: Narrator
    deadlines: Deadlines
    clock: Clock
    note: Callable[[Event], None]

    async def __call__(self, sent_back: int) -> SentBack:
        """What is said to an agent whose work does not pass. Raises Ended where the run is over.

        The time that verifying takes counts against no time-out of the agent: each command has one of its own.
        """
        started = self.clock.monotonic()
        report = await self.verify() if self.verify is not None else None
        self.deadlines.waited(self.clock.monotonic() - started)
        if report is None:
            raise Ended(Exit.COMPLETED)
        number = sent_back + 1
        if report.passed:
            self.note(self.narrator.verified(report))
            raise Ended(Exit.COMPLETED)
        if number > self.rounds:
            self.note(self.narrator.verified(report))
            tries = "once" if sent_back == 1 else f"{sent_back} times"
            error = f"verify did not pass, also after the agent was told {tries}: {report.command!r} {report.ending}"
            raise Ended(Exit.FAILED, error, limit="verify_rounds", fault="agent")
        self.note(self.narrator.verified(report, number, self.rounds))
        return SentBack(user(sent_back_text(report, number, self.rounds)), report)


def sent_back_text(report: VerifyReport, number: int, rounds: int) -> str:
    """What an agent is told whose work did not pass verify. Pure."""
    output = safe(printed(report.output)).strip()
    parts = [
        f"[Your work was verified and does not pass yet, so the task is not done (round {number} of {rounds}). The "
        f"command {report.command!r} {report.ending} (after {report.seconds:.1f} s).]",
        f"It printed:\n\n{output}" if output else "It printed nothing.",
    ]
    if report.whole is not None:
        parts.append(f"[The whole of what it printed: read {report.whole}]")
    if report.changed:
        parts.append(f"[It changed files, and they were put back as you left them: {', '.join(report.changed)}]")
    if report.lacks_command:
        parts.append(
            "[If what it lacks is yours to make, make it. If it is not, do not work around it: say so in your answer.]"
        )
    last = " This was the last round: if it does not pass then, the task has failed." if number == rounds else ""
    parts.append(f"Find the cause, mend it, and then answer without a tool call again: it is verified again.{last}")
    return "\n\n".join(parts)
