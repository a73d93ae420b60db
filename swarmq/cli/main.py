"""The entry point: the root command, and every error as one line and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from swarmq.cli.exits import ExitCode, of_error
from swarmq.cli.lazy import LazyGroup
from swarmq.cli.render import note, one_line, write
from swarmq.errors import SwarmqError

ERROR_CHARACTERS = 2000

EPILOG = (
    "ID may be shortened to a unique beginning; 'last' or '-' is the newest swarm. Exit codes: 0 succeeded, 1 failed,"
    " 2 usage, 3 partly succeeded, 4 a limit ended it, 5 environment, 130 interrupted."
)

app = typer.Typer(
    cls=LazyGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        write(f"swarmq {version('swarmq')}")
        raise typer.Exit


@app.callback()
def swarmq(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One large task, many agents, one merged branch."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    for stream in (sys.stdout, sys.stderr):
        # Diffs may hold bytes that are no UTF-8 (they come as surrogates), and terminals may know fewer characters.
        if hasattr(stream, "reconfigure"):
            utf_8 = (stream.encoding or "").lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if utf_8 else "replace")
    try:
        code = _run(arguments)
        if sys.stdout is not None:  # closed before the program started
            sys.stdout.flush()
    except BrokenPipeError:
        _forget_output()
        return ExitCode.PIPE
    return code


def _run(arguments: Sequence[str] | None) -> int:
    """BrokenPipeError where nobody reads the output any more."""
    try:
        ended = typer.main.get_command(app).main(args=arguments, prog_name="swarmq", standalone_mode=False)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # the parser makes 1 of it
            raise end.__context__ from None
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except SwarmqError as error:
        note(f"error: {one_line(str(error), ERROR_CHARACTERS)}")
        return of_error(error)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 the outermost boundary: a bug is one line, not a page
        return _misused(error) if hasattr(error, "format_message") else _unexpected(error)
    return ended if isinstance(ended, int) else ExitCode.OK


def _misused(error: Any) -> int:
    """An error of the parser, whose classes typer does not name; without arguments it is the help itself."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "swarmq"
        note(f"error: {one_line(error.format_message(), ERROR_CHARACTERS)} (see {command} --help)")
    return int(error.exit_code)


def _forget_output() -> None:
    """What is still buffered would fail again when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):  # a stream without a file
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _unexpected(error: Exception) -> ExitCode:
    # Not a setting: it has to work where reading the settings is what failed.
    if os.environ.get("SWARMQ_DEBUG"):
        traceback.print_exception(error)
    else:
        said = one_line(str(error), ERROR_CHARACTERS) or "no message"
        note(f"error: unexpected {type(error).__name__}: {said} (SWARMQ_DEBUG=1 shows where)")
    return ExitCode.FAILED
