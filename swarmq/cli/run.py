"""``swarmq run``: check, plan, ask, submit, follow, report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarmq.cli import options as flags
from swarmq.cli.exits import ExitCode
from swarmq.cli.lazy import command_app
from swarmq.cli.render import count, emit_json, may_ask, note, write
from swarmq.cli.session import AsJson, connected, end, submitted, wait_for

if TYPE_CHECKING:
    from swarmq.cli.preflight import Checked
    from swarmq.orchestrator.decompose import Decomposition

app = command_app()


@dataclass
class Run:
    """How a swarm is run and shown. ``swarm_id`` is empty until it is submitted."""

    merge: bool
    detach: bool
    as_json: bool
    events: bool
    swarm_id: str = ""

    def learn(self, swarm_id: str) -> None:
        self.swarm_id = swarm_id


@app.command(epilog="Times are in seconds. In square brackets: the default.")
def run(
    ctx: typer.Context,
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="What to do; '-' reads standard input.")] = None,
    repo: Annotated[Path | None, typer.Option(help="Repository to work on. [that of this directory]")] = None,
    no_repo: Annotated[bool, typer.Option("--no-repo", help="A task without files: research only.")] = False,
    plan: Annotated[Path | None, typer.Option(metavar="FILE", help="Plan to carry out (YAML or JSON).")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not show the plan and ask first.")] = False,
    merge: Annotated[bool, typer.Option("--merge", help="On success fast-forward your branch to the result.")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the swarm's id and leave it running.")] = False,
    as_json: AsJson = False,
    events: Annotated[bool, typer.Option("--events", help="Print events as NDJSON.")] = False,
    model: flags.Model = None,
    planner_model: flags.PlannerModel = None,
    strategy: flags.Strategy = None,
    max_subtasks: flags.MaxSubtasks = None,
    max_subagents: flags.MaxSubagents = None,
    max_steps_per_subagent: flags.MaxStepsPerSubagent = None,
    max_total_steps: flags.MaxTotalSteps = None,
    max_tokens: flags.MaxTokens = None,
    max_cost_usd: flags.MaxCostUsd = None,
    subagent_timeout_seconds: flags.SubagentTimeout = None,
    step_timeout_seconds: flags.StepTimeout = None,
    model_call_timeout_seconds: flags.ModelCallTimeout = None,
    max_retries: flags.MaxRetries = None,
    max_deliveries: flags.MaxDeliveries = None,
    max_output_tokens: flags.MaxOutputTokens = None,
    temperature: flags.Temperature = None,
    schedule: flags.Schedule = None,
    verify: flags.Verify = None,
    verify_timeout_seconds: flags.VerifyTimeout = None,
    verify_rounds: flags.VerifyRounds = None,
    resolve_conflicts: flags.ResolveConflicts = None,
    candidates: flags.Candidates = None,
    candidate_models: flags.CandidateModels = None,
    race_deadline_seconds: flags.RaceDeadline = None,
    probe: flags.Probe = None,
    probe_timeout_seconds: flags.ProbeTimeout = None,
    collapse: flags.Collapse = None,
    collapse_policy: flags.CollapsePolicy = None,
    placement: flags.Placement = None,
    pod_repository_url: flags.PodRepositoryUrl = None,
    declared_overlaps: flags.DeclaredOverlaps = None,
    on_failure: flags.OnFailure = None,
    synthesize: flags.Synthesize = None,
    auto_merge: flags.AutoMerge = None,
    allow_dirty: flags.AllowDirty = None,
    setup: flags.Setup = None,
    setup_timeout_seconds: flags.SetupTimeout = None,
    copy_globs: flags.CopyGlobs = None,
    env: flags.Env = None,
    cache: flags.Cache = None,
    baseline: flags.Baseline = None,
    keep_failed_hours: flags.KeepFailedHours = None,
    keep_days: flags.KeepDays = None,
    idempotency_key: flags.IdempotencyKey = None,
) -> None:
    """Split a task into subtasks, run an agent for each, bring back one branch."""
    from swarmq.cli.preflight import Request, given_task

    asked = Run(merge, detach, as_json, events)
    request = Request(given_task(task), repo, no_repo, plan, ctx.params)
    end(carry_out(request, asked, ask=not yes and may_ask()))


def carry_out(request: Any, asked: Run, *, ask: bool) -> ExitCode:
    """The whole of ``run``. Each wait has an event loop of its own: a prompt inside one would not feel Ctrl-C."""
    from swarmq.cli.follow import come_back
    from swarmq.cli.preflight import check
    from swarmq.errors import EnvironmentFault, UsageError

    if asked.as_json and asked.events:
        raise UsageError("--json and --events exclude each other")
    if asked.detach and (asked.merge or asked.events):
        raise UsageError("--detach does not wait, which --merge and --events need")
    try:
        checked = wait_for(check(request))
        made = None
        if ask and checked.can_plan_here and not wait_for(joins(checked)):
            made = plan_and_ask(checked)
            if made is None:
                note("nothing was started")
                return ExitCode.INTERRUPTED
        return wait_for(submit_and_follow(checked, made, asked))
    except EnvironmentFault:
        if asked.swarm_id:
            note(f"swarm {asked.swarm_id} is recorded and goes on when it can: swarmq watch {asked.swarm_id}")
        raise
    except (KeyboardInterrupt, typer.Abort):
        note(come_back(asked.swarm_id) if asked.swarm_id else "\ninterrupted; no swarm was started")
        return ExitCode.INTERRUPTED


async def joins(checked: Checked) -> bool:
    """Whether the idempotency key has a swarm already: there is nothing to plan then, nor to ask about."""
    key = checked.options.get("idempotency_key")
    if key is None:
        return False
    async with connected(checked.settings) as client:
        return await client.store.swarms.by_key(key) is not None


def plan_and_ask(checked: Checked) -> Decomposition | None:
    """Plan in this process, show the plan on stderr and ask; None where the answer is no."""
    import sys

    from swarmq.cli.plans import make_plan, print_plan

    if checked.plan is None:
        note(f"planning with {checked.planner} …")
    made = wait_for(make_plan(checked))
    plan = made.plan
    if made.note:
        note(f"note: {made.note}")
    print_plan(plan, sys.stderr)
    if made.usage.tokens:
        note(f"The plan cost {count(made.usage.tokens, 'token')}.")
    options = checked.spec.options
    question = f"Run {count(len(plan.subtasks), 'subtask')} with {options.model or checked.options['model']}?"
    return made if typer.confirm(question, default=False, err=True) else None


async def submit_and_follow(checked: Checked, made: Decomposition | None, asked: Run) -> ExitCode:
    """Submit, and unless detached follow to the end. ``asked`` learns the swarm's id at once.

    What ``made`` has cost here counts as the swarm's.
    """
    from swarmq.cli.fleet_checks import PODS, QUEUES, unserved
    from swarmq.cli.follow import follow, print_result

    async with connected(checked.settings) as client:
        spec = checked.spec
        plan, used = (checked.plan, None) if made is None else (made.plan, made.usage if made.usage.tokens else None)
        submission = client.submit(spec.task, repo=spec.repo, plan=plan, plan_usage=used, **checked.options)
        with flags.told_in_flags():
            handle = await submitted(submission, asked.learn)
        queues = (*QUEUES, PODS) if spec.options.placement == "pod" else QUEUES
        for queue in unserved(await client.workers(), queues) if checked.settings.broker() else ():
            note(f"note: no worker serves queue {queue}: the swarm waits for swarmq worker --queue {queue}")
        if asked.detach:
            note(f"follow it: swarmq watch {handle.id}")
            emit_json({"id": handle.id, "joined": handle.joined}) if asked.as_json else write(handle.id)
            return ExitCode.OK
        note(f"swarm {handle.id}; Ctrl-C leaves it running")
        result = await follow(handle, events=asked.events)
        code = print_result(result, as_json=asked.as_json, events=asked.events)
        if asked.merge and result.success and result.commit:
            note(f"merged into {await handle.merge()}")
        elif asked.merge:
            note(f"not merged: the swarm did not succeed; to merge all the same: swarmq merge {handle.id}")
    return code
