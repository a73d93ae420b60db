"""``swarmq demo``: the whole path on a small repository, with a model that follows a script."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarmq.cli.exits import ExitCode, of_result
from swarmq.cli.lazy import command_app
from swarmq.cli.render import emit_json, note, write
from swarmq.cli.session import AsJson, connected, end, submitted, wait_for

if TYPE_CHECKING:
    from swarmq.demo.repository import SuiteRun
    from swarmq.models.swarm import SwarmResult

app = command_app()

INTRODUCTION = """\
This is a demo: the model is a script that ships with swarmq, answering over real HTTP. Everything else is real:
Valkey, workers and beat as processes, git worktrees, shell commands, merges."""

REAL_MODEL = """\
With a real model, in a repository of yours:
  export ANTHROPIC_API_KEY=…   (or OPENAI_API_KEY, or an endpoint of your own: docs/how-to/models.md)
  swarmq run "Make the failing tests pass" --model anthropic:NAME"""


@app.command()
def demo(
    directory: Annotated[
        Path | None, typer.Option(metavar="DIRECTORY", help="Where to make the sample repository. [a temporary one]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fix a small sample repository with a scripted model."""
    from swarmq.cli.follow import come_back
    from swarmq.cli.preflight import check_places
    from swarmq.demo.repository import prepare, run_suite
    from swarmq.errors import SwarmqError
    from swarmq.settings import load_settings
    from swarmq.workspace.git import require_git

    require_git()
    wait_for(check_places(load_settings()))
    repo = prepare((directory or Path(tempfile.mkdtemp(prefix="swarmq-demo-"))).resolve())
    before = run_suite(repo)
    note(f"{INTRODUCTION}\n\nrepository: {repo}\nits suite before: {before}\n")
    started: list[str] = []
    try:
        result = wait_for(_run(repo, started))
    except (KeyboardInterrupt, SwarmqError) as error:
        if directory is None and not started:
            shutil.rmtree(repo, ignore_errors=True)
        if isinstance(error, SwarmqError):
            raise
        note(come_back(started[0]) if started else "\ninterrupted; no swarm was started")
        end(ExitCode.INTERRUPTED)
        return
    after = _suite_after(repo, result)
    if as_json:
        emit_json(_as_json(repo, result, before, after))
    else:
        _show(repo, result, before, after)
    end(of_result(result) or (ExitCode.OK if after is not None and after.passed else ExitCode.FAILED))


async def _run(repo: Path, started: list[str]) -> SwarmResult:
    """``started`` learns the swarm's id at once. Earlier demos' results are not used: there would be nothing to see."""
    from swarmq.cli.follow import follow
    from swarmq.demo.repository import MODEL, TASK

    async with connected() as client:
        handle = await submitted(client.submit(TASK, repo=repo, model=MODEL, cache="bypass"), started.append)
        return await follow(handle)


def _suite_after(repo: Path, result: SwarmResult) -> SuiteRun | None:
    """The suite on the result branch, in a directory of its own: the demo's checkout stays as it was."""
    from swarmq.demo.repository import checkout, run_suite

    if result.branch is None:
        return None
    with tempfile.TemporaryDirectory(prefix="swarmq-demo-result-") as directory:
        return run_suite(checkout(repo, result.branch, Path(directory) / "tree"))


def _show(repo: Path, result: SwarmResult, before: SuiteRun, after: SuiteRun | None) -> None:
    from swarmq.cli.follow import closing
    from swarmq.demo.repository import diffstat, log_graph

    write(f"{(result.answer or result.report).rstrip()}\n")
    if result.branch is not None:
        write(f"{diffstat(repo, result.branch).rstrip()}\n\n{log_graph(repo, result.branch).rstrip()}\n")
    write(f"the suite before: {before}\nthe suite after:  {after or 'not run, there is no result branch'}\n")
    for line in closing(result):
        note(line)
    look = f"git -C {repo} log --stat {result.branch or ''}".rstrip()
    note(f"\nlook at it: {look}\nthe stack stays up for the next command; stop it with: swarmq down\n\n{REAL_MODEL}")


def _as_json(repo: Path, result: SwarmResult, before: SuiteRun, after: SuiteRun | None) -> dict[str, Any]:
    def suite(run: SuiteRun | None) -> dict[str, Any] | None:
        return None if run is None else {"passed": run.passed, "tests": run.tests, "summary": run.summary}

    return {
        "repository": str(repo),
        "model": "scripted",
        "suite_before": suite(before),
        "suite_after": suite(after),
        "result": result.model_dump(mode="json"),
    }
