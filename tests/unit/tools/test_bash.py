from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from toolbench import Bench

from swarmq.workspace.environment import COOKIE_VARIABLE
from swarmq.workspace.processes import find_processes
from swarmq.workspace.shell import Shell, ShellLimits, child_environment


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.shell.aclose()
    assert find_processes(f"{COOKIE_VARIABLE}={bench.cookie}") == []


async def test_output_and_exit_code(bench: Bench) -> None:
    assert (await bench.ok("bash", command="echo out; echo err >&2")).startswith("out\nerr\n[exit code 0, ")
    assert (await bench.ok("bash", command="exit 3", description="fails")).startswith("[exit code 3, ")
    assert "[exit code -9, killed by SIGKILL, " in await bench.ok("bash", command="kill -9 $$")
    assert bench.outputs.exists() is False


async def test_runs_in_the_worktree_and_remembers_nothing(bench: Bench) -> None:
    bench.file("sub/a")
    assert (await bench.ok("bash", command="cd sub && X=1 && ls")).startswith("a\n")
    assert (await bench.ok("bash", command="ls; echo X=$X")).startswith("sub\nX=\n")


async def test_output_is_shown_as_a_terminal_leaves_it(bench: Bench) -> None:
    text = await bench.ok("bash", command=r"printf '\033[31mred\033[0m 10%%\r 99%%\n\0\377'")
    assert text.startswith(" 99%\n\u2400\ufffd\n[exit code 0")


async def test_a_hundred_megabytes(bench: Bench) -> None:
    started = time.monotonic()
    text = await bench.error("bash", command="yes 'a line of output' | head -c 200000000")
    assert "[ended with all its processes: it printed more than 100,000,000 bytes]" in text
    assert "[100,000,000 bytes of output; the whole: read output://1]" in text
    assert len(text) < 30_000
    assert text.startswith("a line of output\n")
    assert (bench.outputs / "1.txt").stat().st_size == 100_000_000
    assert time.monotonic() - started < 30


async def test_long_output_can_be_read_on(bench: Bench) -> None:
    text = await bench.ok("bash", command="seq 1 100000")
    assert len(text) < 30_000
    assert "\n100000\n[588,895 bytes of output; the whole: read output://1]\n[exit code 0, " in text
    assert "bytes left out ...]" in text
    assert " 50000\t50000" in await bench.ok("read", file_path="output://1", offset=50_000, limit=1)
    text = await bench.ok("bash", command="seq 1 100000")
    assert "read output://2]" in text


async def test_time_outs_are_errors_that_keep_the_output(bench: Bench) -> None:
    text = await bench.error("bash", command="echo begun; sleep 100", timeout=300)
    assert text == ("begun\n[ended with all its processes: still running after 0.3 s; timeout can be up to 600,000 ms]")


async def test_a_time_out_is_never_longer_than_ten_minutes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    run = bench.shell.run

    async def spy(command: str, *, timeout_seconds: float, output_limit_bytes: int, spill: Path) -> object:
        given.append(timeout_seconds)
        return await run(command, timeout_seconds=timeout_seconds, output_limit_bytes=output_limit_bytes, spill=spill)

    monkeypatch.setattr(bench.shell, "run", spy)
    await bench.ok("bash", command="true", timeout=99_000_000)
    await bench.ok("bash", command="true")
    assert given == [600, 120]
    assert "timeout" in await bench.error("bash", command="true", timeout=0)


async def test_background_processes_live_until_the_branch_ends(bench: Bench) -> None:
    text = await bench.ok("bash", command="(echo started; sleep 1000) & sleep 0.05; echo done")
    assert "started\ndone\n[something runs on in the background; what it prints: read output://1]" in text
    assert len(find_processes(f"{COOKIE_VARIABLE}={bench.cookie}")) >= 1
    assert "     1\tstarted" in await bench.ok("read", file_path="output://1")


async def test_cancelling_the_call_ends_its_processes(bench: Bench) -> None:
    calling = asyncio.create_task(bench.call("bash", command="setsid sleep 1000 & sleep 1000"))
    while len(find_processes(f"{COOKIE_VARIABLE}={bench.cookie}")) < 3:
        await asyncio.sleep(0.01)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert find_processes(f"{COOKIE_VARIABLE}={bench.cookie}") == []


async def test_a_full_disk_is_an_answer(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    limits = ShellLimits(grace_seconds=0.2, watch_seconds=0.01)
    shell = Shell(bench.root, child_environment(), bench.cookie, limits)
    object.__setattr__(bench.context, "shell", shell)
    with pytest.MonkeyPatch.context() as patch:
        free = iter([10_000_000_000])
        patch.setattr("swarmq.workspace.shell._free_bytes", lambda _: next(free, 5))
        text = await bench.error("bash", command="sleep 1000")
    assert "the disk is nearly full, 5 bytes are left" in text
    await shell.aclose()


async def test_commands_that_cannot_be(bench: Bench) -> None:
    assert "write a script" in await bench.error("bash", command="echo " + "x" * 200_000)
    assert "command: string should have at least 1 character" in await bench.error("bash", command="")
    bench.root.rmdir()
    assert "cannot be started: No such file or directory" in await bench.error("bash", command="true")
