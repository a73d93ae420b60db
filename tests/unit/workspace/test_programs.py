from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psutil
import pytest

from swarmq.workspace import programs
from swarmq.workspace.programs import ProgramResult, run_program


async def sh(script: str, cwd: Path, *, timeout_seconds: float = 10, limit_bytes: int = 1000) -> ProgramResult:
    return await run_program(
        ["/bin/sh", "-c", script], cwd=cwd, timeout_seconds=timeout_seconds, limit_bytes=limit_bytes
    )


async def test_output_errors_and_exit_code(tmp_path: Path) -> None:
    result = await sh("echo out; echo err >&2; exit 2", tmp_path)
    assert result == ProgramResult(2, b"out\n", b"err\n", False)


async def test_a_clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert b"sk-secret" not in (await sh("env", tmp_path, limit_bytes=100_000)).output


async def test_killed_at_the_time_out_with_what_it_printed(tmp_path: Path) -> None:
    started = time.monotonic()
    result = await sh("echo begun; sleep 100", tmp_path, timeout_seconds=0.2)
    assert result == ProgramResult(None, b"begun\n", b"", True)
    assert time.monotonic() - started < 5


async def test_killed_at_the_limit_of_output(tmp_path: Path) -> None:
    result = await sh("yes; echo never", tmp_path, limit_bytes=10)
    assert result == ProgramResult(None, b"y\ny\ny\ny\ny\n", b"", False)


async def test_endless_errors_do_not_stop_it_for_ever(tmp_path: Path) -> None:
    result = await sh("yes >&2", tmp_path, timeout_seconds=0.2)
    assert (result.timed_out, len(result.errors)) == (True, programs.ERROR_BYTES)


async def test_killed_when_cancelled(tmp_path: Path) -> None:
    running = asyncio.create_task(sh("exec sleep 1000", tmp_path, timeout_seconds=60))
    while not (sleeping := [child for child in psutil.Process().children() if child.name() == "sleep"]):
        await asyncio.sleep(0.005)
    child = sleeping[0]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not child.is_running()


async def test_a_program_that_is_not_there_leaves_nothing_open(tmp_path: Path) -> None:
    await sh("true", tmp_path)
    before = psutil.Process().num_fds()
    with pytest.raises(FileNotFoundError):
        await run_program([str(tmp_path / "missing")], cwd=tmp_path, timeout_seconds=1, limit_bytes=1)
    assert psutil.Process().num_fds() == before


async def test_no_more_at_once_than_allowed(tmp_path: Path) -> None:
    script = "mkdir running.$$; ls -d running.* | wc -l; sleep 0.05; rmdir running.$$"
    results = await asyncio.gather(*(sh(script, tmp_path) for _ in range(12)))
    assert max(int(result.output) for result in results) <= programs.AT_ONCE
