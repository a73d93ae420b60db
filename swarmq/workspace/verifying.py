"""Running the commands of verify in a worktree. What they change in it is told, and put back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from swarmq.models.verify import VerifyReport
from swarmq.workspace.shell import Shell, ShellResult
from swarmq.workspace.swarm_repository import SwarmRepository, Worktree

OUTPUT_BYTES = 12_000
"""Head and tail of what the deciding command printed, in records and in the agent's conversation."""
PASSED_OUTPUT_BYTES = 1_000
"""Of commands that passed: nobody reads it but who wonders whether anything was run."""
KEPT_BYTES = 10_000_000
"""The file with all that a command printed; what is beyond it is gone."""
PRINTED_BYTES = 1_000_000_000
"""A command that prints more is ended: it would keep the worker busy until its time is over."""
CHANGES_NAMED = 50

Reserve = Callable[[], Awaitable[tuple[str, Path]]]
"""A new name and file for an output that is too long to show."""


async def verify_worktree(
    repository: SwarmRepository,
    worktree: Worktree,
    shell: Shell,
    commands: Sequence[str],
    *,
    timeout_seconds: float,
    reserve: Reserve,
) -> VerifyReport:
    """Run the commands in order until one fails; each has ``timeout_seconds``. ``commands`` must not be empty.

    What the commands leave running is ended before their changes are put back, so that the files stay as they are then.
    Where they passed, so is all else that the shell has started: what passed is what is committed.

    Where this is cancelled, the processes are gone but the changes are not: the files then are what the last
    checkpoint holds, and whatever verify did to them.
    """
    before = await repository.snapshot(worktree)
    seconds, results = 0.0, list[ShellResult]()
    for command in commands:
        name, path = await reserve()
        result = await shell.run(
            command,
            timeout_seconds=timeout_seconds,
            output_limit_bytes=OUTPUT_BYTES,
            spill=path,
            kept_bytes=KEPT_BYTES,
            printed_bytes=PRINTED_BYTES,
        )
        results.append(result)
        seconds += result.seconds
        report = _report(command, result, seconds, name)
        if not report.passed:
            break
    if report.passed:
        await shell.aclose()
    else:
        await shell.end_left(results)  # an agent that is sent back finds its own servers as it left them
    changed = await repository.put_back(worktree, before)
    return report.model_copy(update={"changed": changed[:CHANGES_NAMED]})


def _report(command: str, result: ShellResult, seconds: float, name: str) -> VerifyReport:
    passed = result.exit_code == 0
    output = result.output
    if passed and len(output) > PASSED_OUTPUT_BYTES:
        output = f"[...]\n{output[-PASSED_OUTPUT_BYTES:]}"
    return VerifyReport(
        passed=passed,
        command=command,
        exit_code=result.exit_code,
        timed_out=result.timed_out,
        stopped=None if result.timed_out else result.stopped,
        seconds=round(seconds, 3),
        output=output,
        whole=name if result.spilled and result.truncated else None,
    )
