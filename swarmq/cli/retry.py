"""``swarmq retry``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from swarmq.cli import options as flags
from swarmq.cli.exits import ExitCode
from swarmq.cli.lazy import command_app
from swarmq.cli.render import emit_json, note, write
from swarmq.cli.session import AsJson, SwarmId, connected, end, submitted, wait_for

if TYPE_CHECKING:
    from swarmq.models.retry import Prospect

app = command_app()


@app.command(epilog="Flags of options change those of the earlier swarm. Times are in seconds.")
def retry(
    ctx: typer.Context,
    swarm_id: SwarmId = "last",
    failed: Annotated[bool, typer.Option("--failed", help="What succeeded is taken from the result cache.")] = False,
    anew: Annotated[bool, typer.Option("--anew", help="What failed starts from nothing.")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the new swarm's id, do not wait.")] = False,
    as_json: AsJson = False,
    model: flags.Model = None,
    planner_model: flags.PlannerModel = None,
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
    on_failure: flags.OnFailure = None,
    synthesize: flags.Synthesize = None,
    auto_merge: flags.AutoMerge = None,
    setup: flags.Setup = None,
    setup_timeout_seconds: flags.SetupTimeout = None,
    copy_globs: flags.CopyGlobs = None,
    env: flags.Env = None,
    cache: flags.Cache = None,
    keep_failed_hours: flags.KeepFailedHours = None,
    keep_days: flags.KeepDays = None,
    idempotency_key: flags.IdempotencyKey = None,
) -> None:
    """Run an ended swarm's plan again; what failed goes on where it was."""
    from swarmq.cli.follow import come_back, follow, print_result
    from swarmq.cli.preflight import absolute_models, check_models
    from swarmq.errors import UsageError
    from swarmq.fleet.named_models import named_models
    from swarmq.settings import load_settings

    if not failed:
        raise UsageError(f"say what to retry: swarmq retry {swarm_id} --failed")
    changes = absolute_models(flags.given(ctx.params))
    new_id = ""

    def learn(its_id: str) -> None:
        nonlocal new_id
        new_id = its_id

    async def go() -> ExitCode:
        settings = load_settings()
        changed = named_models(flags.parse(changes))  # those of the earlier swarm are known to its workers
        await check_models(settings, changed, must=settings.broker() is None)
        async with connected(settings) as client:
            old = await client.get(swarm_id)
            with flags.told_in_flags():
                expected = await old.prospects(anew=anew, **changes)
                handle = await submitted(old.retry_failed(anew=anew, **changes), learn)
            if handle.joined:  # it goes its own way, whatever was tried again here
                expected = []
            for line in prospect_lines(expected):
                note(line)
            if detach:
                told = {"id": new_id, "joined": handle.joined, "subtasks": expected}
                emit_json(told) if as_json else write(new_id)
                return ExitCode.OK
            note(f"swarm {new_id}; Ctrl-C leaves it running")
            result = await follow(handle)
        return print_result(result, as_json=as_json)

    try:
        end(wait_for(go()))
    except KeyboardInterrupt:
        note(come_back(new_id) if new_id else "\ninterrupted; no swarm was started")
        end(ExitCode.INTERRUPTED)


def prospect_lines(prospects: Sequence[Prospect]) -> list[str]:
    """A line for each subtask: where it comes from, and why."""
    return [f"  {prospect.subtask_id:<24}  {_what_comes(prospect)}: {prospect.reason}" for prospect in prospects]


def _what_comes(prospect: Prospect) -> str:
    match prospect.how:
        case "cached":
            return "from the cache"
        case "continued":
            return f"continues at step {prospect.step}"
        case "anew":
            return "starts anew"
