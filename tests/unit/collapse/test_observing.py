"""What a heartbeat carries: looked at only where something was saved, never waited for too long."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from swarmq.collapse.observing import Looked, Observer
from swarmq.errors import WorkspaceError
from swarmq.models.verify import VerifyReport
from swarmq.workspace.surveying import ChangedFile, Survey


@dataclass
class Agent:
    steps: int = 3
    tokens: int = 100
    doing: str = "model call"
    writing: bool = False
    verified: VerifyReport | None = None


@dataclass
class Saved:
    """Commits by name: what ``a.py`` holds there; None fails."""

    commits: dict[str, str | None]
    surveys: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None

    async def survey(self, base: str, commit: str) -> Survey:
        self.surveys.append(commit)
        if self.gate is not None:
            await self.gate.wait()
        text = self.commits[commit]
        if text is None:
            raise WorkspaceError("git failed")
        return Survey((ChangedFile("a.py", commit, None),) if text else (), len(text))

    async def marked_files(self, base: str, commit: str) -> frozenset[str]:
        return frozenset({"a.py"})

    async def blob_contents(self, blobs: Sequence[str], limit_bytes: int) -> dict[str, bytes]:
        return {blob: (self.commits[blob] or "").encode() for blob in blobs}


class Bench:
    def __init__(self, saved: Saved) -> None:
        self.saved, self.agent, self.now = saved, Agent(), 100.0
        self.told: list[tuple[bool | None, str]] = []
        self.observer = Observer(self.agent, self._tell, lambda: self.now)

    async def _tell(self, looked: Looked, note: str) -> None:
        self.told.append((looked.checks, note))

    async def save(self, commit: str) -> None:
        self.now += 1
        self.observer.saved(commit)
        await self.observer.refresh(5.0)


async def test_a_branch_without_files_tells_what_its_agent_does() -> None:
    bench = Bench(Saved({}))
    await bench.observer.refresh(1.0)
    seen = bench.observer.observation()
    assert (seen.steps, seen.tokens, seen.doing, seen.checks, seen.editing) == (3, 100, "model call", None, False)
    assert seen.verified is None
    bench.agent.verified = VerifyReport(passed=False, command="pytest")
    assert bench.observer.observation().verified is False


async def test_files_are_looked_at_once_for_each_commit() -> None:
    bench = Bench(Saved({"1": "x = 1\n", "2": "x = (\n", "3": "x = 2\n"}))
    bench.observer.watch(bench.saved, "base", None)
    await bench.observer.refresh(1.0)
    assert bench.saved.surveys == []
    await bench.save("1")
    first = bench.observer.observation()
    assert (first.files, first.checks, first.changed_lines) == (("a.py",), True, 6)
    assert (first.changed_at, first.changed_step) == (101.0, 3)
    for _ in range(5):
        await bench.observer.refresh(1.0)
    assert bench.saved.surveys == ["1"]
    await bench.save("2")
    second = bench.observer.observation()
    assert (second.checks, second.changed_at) == (False, 102.0)
    assert second.problems == ("a.py: line 1: '(' was never closed",)
    await bench.save("3")
    assert bench.observer.observation().checks is True
    assert [checks for checks, _ in bench.told] == [True, False, True]


async def test_conflict_markers_are_a_problem() -> None:
    bench = Bench(Saved({"1": "x = 1\n<<<<<<< ours\n=======\n>>>>>>> theirs\n"}))
    bench.observer.watch(bench.saved, "base", None)
    await bench.save("1")
    assert bench.observer.observation().problems == ("a.py: conflict markers",)


async def test_a_slow_look_holds_no_heartbeat_up_and_says_that_the_files_are_being_edited() -> None:
    bench = Bench(Saved({"1": "x = 1\n"}, gate=asyncio.Event()))
    bench.observer.watch(bench.saved, "base", None)
    bench.observer.saved("1")
    await bench.observer.refresh(0.01)
    assert (bench.observer.observation().editing, bench.observer.observation().checks) == (True, None)
    await bench.observer.refresh(30.0)  # the look that is under way is not waited for again
    assert bench.saved.surveys == ["1"]
    assert bench.saved.gate is not None
    bench.saved.gate.set()
    while bench.observer.observation().editing:
        await asyncio.sleep(0)
    assert bench.observer.observation().checks is True


async def test_a_running_tool_that_may_write_is_editing() -> None:
    bench = Bench(Saved({}))
    bench.agent.writing = True
    assert bench.observer.observation().editing


async def test_a_look_that_fails_says_nothing() -> None:
    bench = Bench(Saved({"1": "x = (\n", "2": None}))
    bench.observer.watch(bench.saved, "base", None)
    await bench.save("1")
    await bench.save("2")
    seen = bench.observer.observation()
    assert (seen.checks, seen.editing) == (None, False)


async def test_a_probe_takes_the_place_of_the_checks_and_its_own_failure_is_told_once() -> None:
    bench = Bench(Saved({str(n): "x = (\n" * n for n in range(1, 6)}))
    answers: list[tuple[bool | None, str]] = [
        (True, ""),
        (False, "probe: exit 1: 3 failed"),
        *[(None, "not found")] * 2,
    ]

    async def probe() -> tuple[bool | None, str]:
        return answers.pop(0)

    bench.observer.watch(bench.saved, "base", probe)
    await bench.save("1")
    assert bench.observer.observation().checks is True
    await bench.save("2")
    failed = bench.observer.observation()
    assert (failed.checks, failed.problems) == (False, ("probe: exit 1: 3 failed",))
    await bench.save("3")
    assert bench.observer.observation().checks is None
    await bench.save("4")
    assert [note for _, note in bench.told if note] == ["not found"]
    answers.append((False, "probe: exit 2: x"))
    await bench.observer.aclose()
    await bench.save("5")  # the finished commit, after the shell is gone
    assert answers


async def test_closing_ends_a_look() -> None:
    bench = Bench(Saved({"1": "x = 1\n"}, gate=asyncio.Event()))
    bench.observer.watch(bench.saved, "base", None)
    bench.observer.saved("1")
    await bench.observer.refresh(0.01)
    await bench.observer.aclose()
    assert bench.observer.looked.commit is None
