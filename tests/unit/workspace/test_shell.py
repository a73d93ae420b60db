from __future__ import annotations

import asyncio
import os
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from swarmq.errors import ToolError
from swarmq.workspace.environment import COOKIE_VARIABLE
from swarmq.workspace.processes import find_processes
from swarmq.workspace.shell import Shell, ShellLimits, child_environment, cookie_of, kill_all

MakeShell = Callable[..., Shell]


@pytest.fixture
def cookie() -> str:
    return cookie_of("test", uuid.uuid4().hex)


@pytest.fixture
async def make_shell(tmp_path: Path, cookie: str) -> AsyncIterator[MakeShell]:
    made = []

    def make(**limits: float) -> Shell:
        values = {"grace_seconds": 0.2, "watch_seconds": 0.02, **limits}
        made.append(Shell(tmp_path, child_environment(), cookie, ShellLimits(**values)))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for shell in made:
        await shell.aclose()
    assert left_of(cookie) == []


def left_of(cookie: str) -> list[psutil.Process]:
    return find_processes(f"{COOKIE_VARIABLE}={cookie}")


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        await asyncio.sleep(0.005)


async def test_output_of_both_streams_and_the_exit_code(make_shell: MakeShell) -> None:
    result = await make_shell().run("echo one; echo two >&2; exit 3", timeout_seconds=10)
    assert (result.exit_code, result.output) == (3, "one\ntwo\n")
    assert (result.timed_out, result.truncated, result.background, result.stopped) == (False, False, False, None)
    assert result.output_bytes == 8


async def test_no_terminal_no_input_an_own_session_and_a_clean_environment(
    make_shell: MakeShell, monkeypatch: pytest.MonkeyPatch, cookie: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    result = await make_shell().run(
        "cat; test -t 1 || echo no-tty; ps -o sid= -p $$ | tr -d ' '; echo $$; echo $SWARMQ_BRANCH; env",
        timeout_seconds=10,
    )
    no_tty, session, pid, branch, *environment = result.output.splitlines()
    assert (no_tty, branch) == ("no-tty", cookie)
    assert session == pid
    assert "sk-very-secret" not in "\n".join(environment)


async def test_runs_in_the_directory(make_shell: MakeShell, tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    assert (await make_shell().run("ls", timeout_seconds=10)).output == "here\n"


async def test_bytes_that_are_not_text_are_replaced(make_shell: MakeShell) -> None:
    assert (await make_shell().run(r"printf 'a\377b'", timeout_seconds=10)).output == "a\ufffdb"


async def test_long_output_keeps_head_and_tail_and_goes_to_the_file(make_shell: MakeShell, tmp_path: Path) -> None:
    spill = tmp_path / "outputs" / "1.txt"
    result = await make_shell().run("seq 1 50000", timeout_seconds=30, output_limit_bytes=1000, spill=spill)

    whole = "".join(f"{number}\n" for number in range(1, 50_001))
    assert spill.read_text() == whole
    assert spill.stat().st_mode & 0o777 == 0o600
    assert (result.truncated, result.spilled, result.output_bytes) == (True, True, len(whole))
    assert result.output.startswith("1\n2\n")
    assert result.output.endswith("49999\n50000\n")
    assert len(result.output) < 1100
    head, tail = re.split(r"\[\.\.\. [0-9,]+ bytes left out \.\.\.]\n", result.output)
    assert f"[... {len(whole) - len(head) - len(tail):,} bytes left out ...]" in result.output


async def test_short_output_makes_no_file(make_shell: MakeShell, tmp_path: Path) -> None:
    spill = tmp_path / "1.txt"
    result = await make_shell().run("echo short", timeout_seconds=10, spill=spill)
    assert (result.spilled, spill.exists()) == (False, False)


async def test_endless_output_is_ended_at_the_cap(make_shell: MakeShell, tmp_path: Path) -> None:
    spill = tmp_path / "1.txt"
    result = await make_shell(spill_bytes=5_000_000).run("yes", timeout_seconds=30, spill=spill)
    assert result.exit_code is None
    assert result.stopped == "it printed more than 5,000,000 bytes"
    assert spill.stat().st_size == 5_000_000


async def test_a_full_disk_costs_the_copy_only(make_shell: MakeShell) -> None:
    result = await make_shell().run("seq 1 10000", timeout_seconds=10, output_limit_bytes=100, spill=Path("/dev/full"))
    assert (result.exit_code, result.truncated, result.spilled) == (0, True, False)


async def test_time_out(make_shell: MakeShell, cookie: str) -> None:
    started = time.monotonic()
    result = await make_shell().run("echo begun; sleep 100", timeout_seconds=0.3)
    assert (result.exit_code, result.timed_out, result.output) == (None, True, "begun\n")
    assert time.monotonic() - started < 5
    assert left_of(cookie) == []


async def test_time_out_ends_what_ignores_term(make_shell: MakeShell, cookie: str) -> None:
    result = await make_shell().run("trap '' TERM; echo begun; while :; do sleep 0.1; done", timeout_seconds=0.3)
    assert (result.timed_out, result.output) == (True, "begun\n")
    assert left_of(cookie) == []


async def test_cancelling_ends_children_grandchildren_and_daemons(
    make_shell: MakeShell, cookie: str, tmp_path: Path
) -> None:
    command = """
    (trap '' TERM; sleep 1000) &
    setsid sleep 1000 &
    (setsid sh -c 'sleep 1000 & sleep 1000' >/dev/null 2>&1 &)
    env -i sleep 1000 &
    nohup sleep 1000 >/dev/null 2>&1 &
    touch started; wait
    """
    running = asyncio.create_task(make_shell().run(command, timeout_seconds=60))
    await until(lambda: (tmp_path / "started").exists() and len(left_of(cookie)) >= 8)
    found = left_of(cookie)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert left_of(cookie) == []
    assert [process for process in found if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []


async def test_a_second_cancel_does_not_leave_processes_behind(make_shell: MakeShell, cookie: str) -> None:
    running = asyncio.create_task(make_shell().run("trap '' TERM; while :; do sleep 0.1; done", timeout_seconds=60))
    await until(lambda: len(left_of(cookie)) >= 2)
    running.cancel()
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert left_of(cookie) == []


async def test_a_background_process_does_not_hold_up_and_lives_on(
    make_shell: MakeShell, tmp_path: Path, cookie: str
) -> None:
    shell, spill = make_shell(), tmp_path / "1.txt"
    go = tmp_path / "go"
    result = await shell.run(
        "(while [ ! -e go ]; do sleep 0.01; done; echo late; sleep 1000) & echo begun", timeout_seconds=30, spill=spill
    )
    assert (result.exit_code, result.output, result.background) == (0, "begun\n", True)
    assert result.seconds < 5

    go.touch()
    await until(lambda: spill.exists() and spill.read_text() == "begun\nlate\n")
    assert left_of(cookie) != []
    await shell.aclose()
    assert left_of(cookie) == []


async def test_a_time_out_spares_what_an_earlier_command_left_running(make_shell: MakeShell, cookie: str) -> None:
    shell = make_shell()
    await shell.run("sleep 1000 >/dev/null 2>&1 &", timeout_seconds=10)
    result = await shell.run("sleep 1000", timeout_seconds=0.2)
    assert result.timed_out
    assert len(left_of(cookie)) == 1


async def test_a_background_process_that_prints_without_end_is_ended(
    make_shell: MakeShell, tmp_path: Path, cookie: str
) -> None:
    shell = make_shell(spill_bytes=1_000_000)
    result = await shell.run("(sleep 0.3; yes) & echo begun", timeout_seconds=30, spill=tmp_path / "1.txt")
    assert result.background
    await until(lambda: (tmp_path / "1.txt").stat().st_size == 1_000_000 and left_of(cookie) == [])


async def test_kill_all_reaches_leftovers_of_another_worker(make_shell: MakeShell, cookie: str, tmp_path: Path) -> None:
    await make_shell().run("setsid sleep 1000 >/dev/null 2>&1 & sleep 1000 >/dev/null 2>&1 &", timeout_seconds=10)
    await until(lambda: len(left_of(cookie)) == 2)
    assert await kill_all(cookie, grace_seconds=0.2) == 2
    assert left_of(cookie) == []
    assert await kill_all(cookie) == 0


async def test_other_branches_are_left_alone(make_shell: MakeShell, cookie: str, tmp_path: Path) -> None:
    other = Shell(tmp_path, child_environment(), cookie + "-other", ShellLimits(grace_seconds=0.2))
    await other.run("sleep 1000 >/dev/null 2>&1 &", timeout_seconds=10)
    await make_shell().run("sleep 1000", timeout_seconds=0.1)
    await kill_all(cookie)
    assert len(left_of(cookie + "-other")) == 1
    await other.aclose()


async def test_a_fork_bomb_is_ended(make_shell: MakeShell, cookie: str) -> None:
    command = "for i in $(seq 1 400); do sleep 1000 & done; wait"
    result = await make_shell(processes=100).run(command, timeout_seconds=60)
    assert result.stopped is not None
    assert "processes, 100 is the limit" in result.stopped
    assert left_of(cookie) == []


async def test_a_command_that_fills_the_disk_is_ended(make_shell: MakeShell, monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter([1_000_000, 900_000, 400_000])
    monkeypatch.setattr("swarmq.workspace.shell._free_bytes", lambda _: next(free))
    result = await make_shell().run("sleep 1000", timeout_seconds=60)
    assert result.stopped == "the disk is nearly full, 400,000 bytes are left; remove what is not needed first"


@pytest.mark.parametrize(("command", "reason"), [("echo " + "x" * 200_000, "write a script"), ("a\0b", "NUL")])
async def test_commands_that_cannot_be(make_shell: MakeShell, command: str, reason: str) -> None:
    with pytest.raises(ToolError, match=reason):
        await make_shell().run(command, timeout_seconds=10)


async def test_a_directory_that_is_gone(tmp_path: Path, cookie: str) -> None:
    shell = Shell(tmp_path / "gone", child_environment(), cookie)
    with pytest.raises(ToolError, match="cannot be started: No such file or directory"):
        await shell.run("true", timeout_seconds=10)
    await shell.aclose()


async def test_no_descriptor_is_left_open(make_shell: MakeShell) -> None:
    shell = make_shell()
    await shell.run("true", timeout_seconds=10)
    before = psutil.Process().num_fds()
    for _ in range(5):
        await shell.run("echo x", timeout_seconds=10)
        await shell.run("sleep 10", timeout_seconds=0.01)
    assert psutil.Process().num_fds() <= before


async def test_this_process_is_never_its_own_target(cookie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = next(f"{name}={value}" for name, value in _own_environment().items() if value)
    assert os.getpid() not in {process.pid for process in find_processes(marker)}
    assert os.getppid() not in {process.pid for process in find_processes(marker)}


def _own_environment() -> dict[str, str]:
    return psutil.Process().environ()


async def test_the_portable_search_finds_the_same(
    make_shell: MakeShell, cookie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_shell().run("(sleep 1000 & sleep 1000) >/dev/null 2>&1 &", timeout_seconds=10)
    await until(lambda: len(left_of(cookie)) == 3)
    quick = [process.pid for process in left_of(cookie)]
    monkeypatch.setattr("swarmq.workspace.processes.sys.platform", "darwin")
    assert [process.pid for process in left_of(cookie)] == quick
    assert len(quick) == 3


async def test_output_of_exactly_the_cap_is_fine(make_shell: MakeShell) -> None:
    result = await make_shell(spill_bytes=1000).run("head -c 1000 /dev/zero | tr '\\0' x", timeout_seconds=10)
    assert (result.exit_code, result.output_bytes, result.stopped) == (0, 1000, None)


async def test_many_at_once_keep_their_outputs_apart(make_shell: MakeShell) -> None:
    shell = make_shell()
    results = await asyncio.gather(*(shell.run(f"echo {number}", timeout_seconds=30) for number in range(40)))
    assert [result.output for result in results] == [f"{number}\n" for number in range(40)]
