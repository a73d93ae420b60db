"""``bash``: shell commands in the worktree. Not sandboxed; SECURITY.md says what they can reach."""

from __future__ import annotations

import signal

from pydantic import Field, field_validator

from swarmq.agent.tools.context import ToolContext
from swarmq.agent.tools.text import printed
from swarmq.agent.tools.tool import RESULT_CHARACTERS, Arguments, Tool
from swarmq.errors import ToolError
from swarmq.workspace.shell import ShellResult

DEFAULT_TIMEOUT_MS = 120_000
LONGEST_TIMEOUT_MS = 600_000
OUTPUT_BYTES = RESULT_CHARACTERS - 1_000
"""What is left is for the lines that say how it ended."""


class BashArguments(Arguments):
    command: str = Field(min_length=1)
    timeout: int = Field(DEFAULT_TIMEOUT_MS, ge=1, description="Milliseconds, at most 600,000.")
    description: str = Field("", description="What the command is for, in a few words.")

    @field_validator("timeout")
    @classmethod
    def _at_most(cls, value: int) -> int:
        return min(value, LONGEST_TIMEOUT_MS)


async def bash(arguments: BashArguments, context: ToolContext) -> str:
    if context.shell is None or not context.may_run:
        raise ToolError("this branch has no shell")
    name, path = await context.saved.reserve()
    result = await context.shell.run(
        arguments.command,
        timeout_seconds=arguments.timeout / 1000,
        output_limit_bytes=OUTPUT_BYTES,
        spill=path,
    )
    text = printed(result.output).rstrip("\n")
    report = "\n".join([*([text] if text else []), *_ending(result, name, arguments.timeout)])
    if result.stopped is not None:
        raise ToolError(report)
    return report


def _ending(result: ShellResult, name: str, timeout_ms: int) -> list[str]:
    lines = []
    if result.spilled and result.truncated:
        lines.append(f"[{result.output_bytes:,} bytes of output; the whole: read {name}]")
    elif result.truncated:
        lines.append(f"[{result.output_bytes:,} bytes of output; the whole could not be saved]")
    if result.background:
        lines.append(f"[something runs on in the background; what it prints: read {name}]")
    if result.timed_out:
        lines.append(
            f"[ended with all its processes: still running after {timeout_ms / 1000:g} s; "
            f"timeout can be up to {LONGEST_TIMEOUT_MS:,} ms]"
        )
    elif result.stopped is not None:
        lines.append(f"[ended with all its processes: {result.stopped}]")
    else:
        lines.append(f"[exit code {_exit(result.exit_code)}, {result.seconds:.1f} s]")
    return lines


def _exit(code: int | None) -> str:
    if code is None or code >= 0:
        return str(code)
    try:
        return f"{code}, killed by {signal.Signals(-code).name}"
    except ValueError:
        return str(code)


BASH = Tool(
    name="bash",
    description=(
        "Run a shell command in the working directory. No terminal, no input; standard output and error together, the "
        "exit code at the end. Timeout 120 s unless given. Each call is a new shell: directory and variables do not "
        "carry over. Use read, edit, glob and grep for files."
    ),
    arguments=BashArguments,
    run=bash,
    offered=lambda context: context.may_run,
)
