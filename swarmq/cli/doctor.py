"""``swarmq doctor``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from swarmq.cli import session
from swarmq.cli.exits import ExitCode
from swarmq.cli.lazy import command_app
from swarmq.cli.render import STYLES, console, emit_json, is_terminal, plain, write
from swarmq.cli.session import AsJson, connected, end, wait_for

if TYPE_CHECKING:
    from swarmq.cli.checks import Finding
    from swarmq.settings import Settings

app = command_app()


@app.command()
def doctor(
    model: Annotated[
        str | None, typer.Option(metavar="PROVIDER:NAME", help="Also make one test call, which costs some tokens.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine, Redis, the workers and the model keys."""
    findings = wait_for(examine(model))
    if as_json:
        emit_json([finding.as_json() for finding in findings])
    else:
        for finding in findings:
            _print(finding)
    end(ExitCode.ENVIRONMENT if any(finding.status == "fail" for finding in findings) else ExitCode.OK)


async def examine(model: str | None) -> list[Finding]:
    """All findings. What cannot be looked at because an earlier check failed is left out."""
    from swarmq.cli import checks
    from swarmq.cli.preflight import absolute_script
    from swarmq.errors import SwarmqError
    from swarmq.settings import load_settings

    findings = [checks.python(), checks.git()]
    try:
        settings = load_settings()
    except SwarmqError as error:
        return [*findings, checks.Finding("settings", "fail", str(error), "swarmq config path names the files")]
    session.quiet_logs(settings)
    findings.append(checks.state_dir(settings))
    findings += await servers(settings)
    findings += await checks.models(settings)
    if model is not None:
        findings.append(await checks.test_call(settings, absolute_script(model)))
    return findings


async def servers(settings: Settings) -> list[Finding]:
    """Redis and the workers. An embedded stack that is down is not started for the sake of a look."""
    from swarmq import devstack
    from swarmq.cli import checks
    from swarmq.errors import SwarmqError
    from swarmq.store.server import check

    embedded = settings.broker() is None
    if embedded:
        stack = devstack.status(settings)
        if stack.state == "failed":
            return [checks.Finding("redis", "fail", f"the embedded stack failed: {stack.reason}", "swarmq up")]
        if not stack.running:
            return [checks.Finding("redis", "ok", f"embedded, {stack.state}: any command that needs it starts it")]
    try:
        findings = checks.redis(await check(devstack.ensure(settings).redis_url), embedded=embedded)
        async with connected(settings) as client:
            seconds, microseconds = await client.store.gate.call("TIME")
            findings.append(checks.clock(int(seconds) + int(microseconds) / 1e6))
            return findings + checks.workers(list(await client.workers()), embedded=embedded)
    except SwarmqError as error:
        remedy = "swarmq down; swarmq up" if embedded else "start Redis, or mend SWARMQ_REDIS_URL"
        return [checks.Finding("redis", "fail", str(error), remedy)]


def _print(finding: Finding) -> None:
    lines = [f"{finding.status:<4}  {finding.check:<17}  {plain(finding.said)}"]
    if finding.status != "ok" and finding.remedy:
        lines.append(f"{'':<4}  {'':<17}  → {plain(finding.remedy)}")
    if not is_terminal(sys.stdout):
        write("\n".join(lines))
        return
    from rich.text import Text

    text = Text("\n".join(lines))
    text.stylize(STYLES[finding.status], 0, len(finding.status))
    console(sys.stdout).print(text, soft_wrap=True)
