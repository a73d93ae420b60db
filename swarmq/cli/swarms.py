"""``swarmq ls``, ``show`` and ``result``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from swarmq.cli.exits import ExitCode
from swarmq.cli.lazy import command_app
from swarmq.cli.render import ago, emit_json, note, one_line, pairs, plain, table, usd, write
from swarmq.cli.session import AsJson, SomeBranch, SwarmId, connected, end, find_branch, wait_for

if TYPE_CHECKING:
    from swarmq.cli.pod_story import PodStory
    from swarmq.client import AsyncClient, AsyncSwarmHandle
    from swarmq.models.branch import BranchRecord
    from swarmq.models.swarm import SwarmRecord, SwarmStatus

app = command_app()

TASK_CHARACTERS = 80
CLOCKS_APART_SECONDS = 60.0
"""Events carry Redis' time, and records may carry a worker's."""


@app.command("ls")
def list_swarms(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="Most swarms to list.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List swarms, newest first."""

    from swarmq.cli.overview import state_text

    async def go() -> None:
        async with connected() as client:
            swarms = await client.list(limit)
        if as_json:
            emit_json(list(swarms))
            return
        if not swarms:
            note('no swarm yet; start one with swarmq run "TASK"')
            return
        headers = ("id", "state", "stage", "subtasks", "steps", "tokens", "cost", "submitted", "task")
        rows = []
        for swarm in swarms:
            done = swarm.subtasks.get("succeeded", 0)
            stage = "-" if swarm.stage < 0 else f"{swarm.stage + 1}/{swarm.stages}"
            total = sum(swarm.subtasks.values())
            cost = "-" if swarm.cost_usd is None else usd(swarm.cost_usd)
            figures = (f"{done}/{total}", f"{swarm.steps:,}", f"{swarm.tokens:,}", cost)
            rows.append(
                (
                    swarm.id,
                    state_text(swarm),
                    stage,
                    *figures,
                    ago(swarm.created_at),
                    one_line(swarm.task, TASK_CHARACTERS),
                )
            )
        table(headers, rows, spare=("stage", "tokens", "steps", "submitted", "cost", "subtasks"))

    wait_for(go())


@app.command()
def show(swarm_id: SwarmId = "last", branch: SomeBranch = None, as_json: AsJson = False) -> None:
    """Show a swarm, or one branch of it, in detail."""

    async def go() -> None:
        async with connected() as client:
            handle = await client.get(swarm_id)
            record = await handle.record()
            status = await handle.status()
            branches = [await find_branch(handle, branch)] if branch else await handle.branches()
            in_pods = record.spec.options.placement == "pod"
            pod = await _pod_of(client, handle, branches[0]) if branch and in_pods else None
        if as_json and branch:
            known = branches[0].model_dump(mode="json")
            emit_json({**known, "pod": pod} if in_pods else known)
        elif as_json:
            emit_json({"swarm": record, "branches": branches})
        elif branch:
            print_branch(record, branches[0], pod)
        else:
            print_swarm(record, status, branches)

    wait_for(go())


async def _pod_of(client: AsyncClient, handle: AsyncSwarmHandle, branch: BranchRecord) -> PodStory | None:
    from swarmq.cli.events import recorded
    from swarmq.cli.pod_story import pod_story

    since_ms = max(0, int(((branch.queued_at or 0) - CLOCKS_APART_SECONDS) * 1000))
    events = [event async for event in recorded(client, handle, str(since_ms))]
    return pod_story(events, branch.spec.id, ended=branch.outcome is not None)


def print_swarm(record: SwarmRecord, status: SwarmStatus, branches: Sequence[BranchRecord]) -> None:
    """State, figures, a table of the subtasks, and what was kept on disk."""
    from swarmq.cli.overview import HEADERS, LEAST_CHARACTERS, SPARE, subtask_lines, swarm_pairs, used

    now = time.time()
    so_far = [] if record.result else [("used", used(status, record.spec.options))]
    pairs([*swarm_pairs(record, now), *so_far])
    lines = subtask_lines(record, branches, now)
    if lines:
        write()
        table(HEADERS, [line.cells() for line in lines], least=LEAST_CHARACTERS, spare=SPARE)
    kept = [(branch.spec.id, branch.outcome.worktree) for branch in branches if branch.outcome]
    kept = [(branch_id, worktree) for branch_id, worktree in kept if worktree]
    if kept:
        write("\nworktrees kept for looking at:")
        pairs([(f"  {branch_id}", worktree or "") for branch_id, worktree in kept])


def print_branch(record: SwarmRecord, branch: BranchRecord, pod: PodStory | None = None) -> None:
    """One branch: figures, its pod, instruction and final answer."""
    from swarmq.cli.overview import branch_pairs
    from swarmq.cli.pod_story import pod_pairs, pod_rows

    plan = record.plan
    subtask = (
        next((subtask for subtask in plan.subtasks if subtask.id == branch.spec.subtask_id), None) if plan else None
    )
    now = time.time()
    pairs([*branch_pairs(branch, subtask, now), *(pod_pairs(pod) if pod else ())])
    if pod is not None:
        write("\nits pod:")
        pairs([(f"  {when}", told) for when, told in pod_rows(pod.notices, now)])
    if subtask is not None:
        write(f"\ninstruction:\n{plain(subtask.instruction)}")
    if branch.outcome and branch.outcome.text:
        write(f"\nanswer:\n{plain(branch.outcome.text)}")


@app.command()
def result(swarm_id: SwarmId = "last", as_json: AsJson = False) -> None:
    """Print the report of an ended swarm."""
    from swarmq.cli.follow import print_result
    from swarmq.cli.overview import state_text
    from swarmq.errors import UsageError

    async def go() -> ExitCode:
        async with connected() as client:
            record = await (await client.get(swarm_id)).record()
        if record.result is None:
            verb = "let it go on with swarmq resume" if record.paused_at else "wait for it with swarmq watch"
            raise UsageError(f"swarm {record.spec.id} is {state_text(record)}: {verb} {record.spec.id}")
        return print_result(record.result, as_json=as_json)

    end(wait_for(go()))
