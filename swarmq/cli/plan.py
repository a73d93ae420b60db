"""``swarmq plan``: one planning call in this process; neither Redis nor workers are needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swarmq.cli import options as flags
from swarmq.cli.lazy import command_app
from swarmq.cli.render import count, emit_json, note, write
from swarmq.cli.session import AsJson, wait_for

app = command_app()


@app.command()
def plan(
    ctx: typer.Context,
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="What to do; '-' reads standard input.")] = None,
    repo: Annotated[Path | None, typer.Option(help="Repository to work on. [that of this directory]")] = None,
    no_repo: Annotated[bool, typer.Option("--no-repo", help="A task without files: research only.")] = False,
    plan: Annotated[Path | None, typer.Option(metavar="FILE", help="Check and show this plan instead.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Save as YAML, to edit and run --plan.")
    ] = None,
    as_json: AsJson = False,
    model: flags.Model = None,
    planner_model: flags.PlannerModel = None,
    strategy: flags.Strategy = None,
    max_subtasks: flags.MaxSubtasks = None,
    model_call_timeout_seconds: flags.ModelCallTimeout = None,
    max_retries: flags.MaxRetries = None,
    max_output_tokens: flags.MaxOutputTokens = None,
    temperature: flags.Temperature = None,
    declared_overlaps: flags.DeclaredOverlaps = None,
    allow_dirty: flags.AllowDirty = None,
) -> None:
    """Show the plan of a task without running it."""
    from swarmq.cli.planfile import plan_as_yaml
    from swarmq.cli.plans import make_plan, print_plan
    from swarmq.cli.preflight import Request, check, given_task

    if output is not None:
        refuse_output(output)
    checked = wait_for(check(Request(given_task(task), repo, no_repo, plan, ctx.params), runs=False))
    found = wait_for(make_plan(checked))
    made, tokens = found.plan, found.usage.tokens
    if found.note:
        note(f"note: {found.note}")
    if output is not None:
        save(output, plan_as_yaml(made, checked.spec.task))
    if as_json:
        emit_json(made)
    else:
        print_plan(made)
    if tokens:
        note(f"The plan cost {count(tokens, 'token')}.")
    if output is not None:
        note(f"run it: swarmq run --plan {output}")


def refuse_output(path: Path) -> None:
    """UsageError where a plan cannot be saved there, or would take the place of something. Before the plan is paid for.

    Tried and taken back: permissions alone do not tell.
    """
    from swarmq.errors import UsageError

    try:
        path.open("x").close()
        path.unlink()
    except FileExistsError:
        said = f"--output {path} exists, and is not overwritten: name another file, or remove it first"
        raise UsageError(said) from None
    except OSError as error:
        raise UsageError(f"--output {path}: {error.strerror}") from None


def save(path: Path, text: str) -> None:
    """Write a new file. A plan that cannot be saved after all is paid for: it goes to stdout, then UsageError."""
    from swarmq.errors import UsageError

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        write(text)
        raise UsageError(f"--output {path}: {error.strerror}; the plan is on standard output instead") from None
