"""``swarmq doctor``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarmq.cli import session
from swarmq.cli.exits import ExitCode
from swarmq.cli.lazy import command_app
from swarmq.cli.render import STYLES, console, emit_json, is_terminal, plain, write
from swarmq.cli.session import AsJson, connected, end, wait_for

if TYPE_CHECKING:
    from swarmq.cli.checks import Finding
    from swarmq.settings import Settings
    from swarmq.store.health import FleetLook

BROKER_PREFIX = "swarmq."
BROKER_QUEUES = tuple(f"{BROKER_PREFIX}{queue}" for queue in ("control", "integrate", "agents", "pods"))

app = command_app()


@app.command()
def doctor(
    swarm_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Explain this swarm: what each part does or waits for.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="PROVIDER:NAME", help="Also make one test call, which costs some tokens.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine, Redis, the workers, beat and keys, and find what stands still."""
    findings = wait_for(examine(model, swarm_id))
    if as_json:
        emit_json([finding.as_json() for finding in findings])
    else:
        for finding in findings:
            _print(finding)
    end(ExitCode.ENVIRONMENT if any(finding.status == "fail" for finding in findings) else ExitCode.OK)


async def examine(model: str | None, swarm_id: str | None = None) -> list[Finding]:
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
    findings += checks.variables()
    findings.append(checks.state_dir(settings))
    findings += await servers(settings, swarm_id)
    findings += await checks.models(settings)
    if model is not None:
        findings.append(await checks.test_call(settings, absolute_script(model)))
    return findings


async def servers(settings: Settings, swarm_id: str | None = None) -> list[Finding]:
    """Redis, workers, beat and swarms, or that one. UsageError where there is no such swarm.

    An embedded stack that is down is not started for the sake of a look.
    """
    from swarmq import devstack
    from swarmq.cli import checks
    from swarmq.cli.reports import reported
    from swarmq.errors import SwarmqError, UsageError
    from swarmq.store.address import parse_address

    try:
        url = settings.broker()
        if url is not None:
            parse_address(url)
    except SwarmqError as error:
        return [checks.Finding("redis", "fail", str(error), "swarmq config show --origin tells where it is set")]
    embedded = url is None
    if embedded:
        stack = devstack.status(settings)
        if stack.state == "failed":
            return [checks.Finding("redis", "fail", f"the embedded stack failed: {stack.reason}", "swarmq up")]
        if not stack.running:
            return [checks.Finding("redis", "ok", f"embedded, {stack.state}: any command that needs it starts it")]
    try:
        async with connected(settings) as client:
            only = None if swarm_id is None else (await client.get(swarm_id)).id
            found = await reported(client, settings)
            look = await client.store.health.look(BROKER_QUEUES, only)
            return judge(settings, look, found, embedded, explained=only is not None)
    except UsageError:
        raise
    except SwarmqError as error:
        remedy = "swarmq down; swarmq up" if embedded else "start Redis, or mend SWARMQ_REDIS_URL"
        return [checks.Finding("redis", "fail", str(error), remedy)]


def judge(
    settings: Settings, look: FleetLook, found: list[dict[str, Any]], embedded: bool, *, explained: bool = False
) -> list[Finding]:
    """What to think of the fleet, and of its swarms. Pure but for this machine's clock."""
    from swarmq.cli import fleet_checks, stuck
    from swarmq.cli.explained import explain

    around = stuck.surroundings(
        look,
        fleet_checks.unserved(found, (*fleet_checks.QUEUES, fleet_checks.PODS)),
        settings.queue_patience_seconds,
        settings.reconcile_seconds,
        embedded=embedded,
    )
    if explained:
        swarms = [finding for swarm in look.swarms for finding in explain(swarm, around)] + stuck.unreadable(look)
    else:
        swarms = stuck.swarms(look, around)
    waiting = {queue.removeprefix(BROKER_PREFIX): messages for queue, messages in look.waiting.items()}
    return [
        *fleet_checks.redis(look.server, embedded=embedded),
        fleet_checks.clock(time.time() - look.now),
        *fleet_checks.queues(found, waiting, embedded=embedded),
        *fleet_checks.workers(found),
        fleet_checks.beat(look, found, settings.reconcile_seconds, embedded=embedded),
        fleet_checks.unacked(look, settings.visibility_timeout_seconds),
        *swarms,
    ]


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
