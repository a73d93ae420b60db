"""A swarm and a branch in detail, as names and values. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from swarmq.cli.figures import saved_by, saved_text, spent_text
from swarmq.cli.render import ago, count, duration, one_line, usd
from swarmq.models.branch import BranchRecord, BranchState
from swarmq.models.options import DEFAULT_MAX_COST_USD
from swarmq.models.spent import Spent
from swarmq.models.swarm import MergeReport, SubtaskStatus, SwarmRecord, SwarmStatus

if TYPE_CHECKING:
    from swarmq.models.messages import Usage
    from swarmq.models.options import SwarmOptions
    from swarmq.models.plan import Subtask
    from swarmq.models.swarm import SubtaskResult, SwarmResult
    from swarmq.models.verify import VerifyReport

HEADERS = ("stage", "subtask", "kind", "status", "steps", "tokens", "time", "merge", "note")
LEAST_CHARACTERS = {"subtask": 40, "merge": 20, "note": 24}
"""Where a terminal is narrow: to what these are cut, a name only where it is very long."""
SPARE = ("kind", "stage", "tokens", "time", "merge", "steps")
"""And what is left out then, the least important first."""


@dataclass(frozen=True)
class SubtaskLine:
    """What a table says of one subtask."""

    stage: int
    subtask: Subtask
    status: str
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    merge: str = ""
    note: str = ""

    def cells(self) -> tuple[str, ...]:
        return (
            str(self.stage),
            self.subtask.name,
            self.subtask.kind.value,
            self.status,
            str(self.steps) if self.steps else "-",
            f"{self.tokens:,}" if self.tokens else "-",
            duration(self.seconds) if self.seconds else "-",
            self.merge or "-",
            self.note,
        )


def subtask_lines(record: SwarmRecord, branches: Sequence[BranchRecord], now: float) -> list[SubtaskLine]:
    """Each subtask of the plan by stage: its result where there is one, else how its branches do."""
    if record.plan is None:
        return []
    of_subtask: dict[str, list[BranchRecord]] = {}
    for branch in branches:
        of_subtask.setdefault(branch.spec.subtask_id, []).append(branch)
    results = {
        **record.results,
        **{item.subtask_id: item for item in (record.result.subtasks if record.result else ())},
    }
    lines = []
    for stage, subtasks in enumerate(record.plan.stages):
        for subtask in subtasks:
            result = results.get(subtask.id)
            if result is not None:
                lines.append(_ended(stage, subtask, result))
            else:
                lines.append(_open(stage, subtask, of_subtask.get(subtask.id, []), now))
    return lines


def _ended(stage: int, subtask: Subtask, result: SubtaskResult) -> SubtaskLine:
    undeclared = result.declared.undeclared if result.declared is not None else ()
    strayed = f"{count(len(undeclared), 'file')} changed that the plan does not declare" if undeclared else ""
    origin = f"continued from {result.continued_from}" if result.continued_from else ""
    notes = (
        result.error,
        "from the cache" if result.cached else origin,
        f"{result.branch_id} won a race of {len(result.candidates)}" if result.candidates and result.success else "",
        f"its conflict was resolved by {result.resolved_by}" if result.resolved_by else "",
        strayed,
    )
    note = one_line("; ".join(one for one in notes if one))
    return SubtaskLine(
        stage,
        subtask,
        result.status.value,
        result.steps,
        _total(result.usage),
        result.duration_seconds,
        merge_text(result.merge),
        note,
    )


def _open(stage: int, subtask: Subtask, branches: Sequence[BranchRecord], now: float) -> SubtaskLine:
    """A subtask without a result: as its only branch, or its newest resolver; a race as a whole."""
    resolvers = [branch for branch in branches if branch.spec.resolves is not None]
    if resolvers:
        line = _under_way(stage, subtask, resolvers[-1], now)
        return replace(line, status=f"resolving, {line.status}")
    if len(branches) < 2:
        return _under_way(stage, subtask, branches[0] if branches else None, now)
    each = [_under_way(stage, subtask, branch, now) for branch in branches]
    states = Counter(line.status for line in each)
    return SubtaskLine(
        stage,
        subtask,
        "racing",
        sum(line.steps for line in each),
        sum(line.tokens for line in each),
        max(line.seconds for line in each),
        note=", ".join(f"{number} {state}" for state, number in states.items()),
    )


def _under_way(stage: int, subtask: Subtask, branch: BranchRecord | None, now: float) -> SubtaskLine:
    if branch is None:
        return SubtaskLine(stage, subtask, SubtaskStatus.PENDING.value)
    if branch.outcome is not None:  # ended, but its stage is not: nothing is merged yet
        outcome = branch.outcome
        return SubtaskLine(
            stage, subtask, outcome.exit.value, outcome.steps, _total(outcome.usage), outcome.duration_seconds
        )
    seen = branch.observation
    return SubtaskLine(
        stage,
        subtask,
        branch.state.value,
        seen.steps if seen else 0,
        seen.tokens if seen else 0,
        now - branch.started_at if branch.started_at and branch.state is BranchState.RUNNING else 0.0,
        note=one_line(seen.doing) if seen else "",
    )


def merge_text(merge: MergeReport | None) -> str:
    """What merging did, in a few words."""
    if merge is None:
        return ""
    match merge.status:
        case "merged":
            return f"{count(len(merge.files), 'file')} +{merge.insertions} -{merge.deletions}"
        case "conflict":
            return f"conflict: {', '.join(merge.conflicts)}"
    return merge.status


def verify_text(report: VerifyReport | None) -> str:
    """What verify came to, in a line."""
    if report is None:
        return ""
    put_back = f"; files that it changed were put back: {', '.join(report.changed)}" if report.changed else ""
    if report.passed:
        return f"passed in {duration(report.seconds)}{put_back}"
    return f"failed: {one_line(report.command, 80)} {report.ending}{put_back}"


def _total(usage: Usage) -> int:
    return usage.input_tokens + usage.output_tokens


def state_text(swarm: SwarmRecord | SwarmStatus) -> str:
    """The state; "paused" where that is what it is waiting for."""
    paused = swarm.paused if isinstance(swarm, SwarmStatus) else bool(swarm.paused_at)
    return "paused" if paused and not swarm.state.final else swarm.state.value


def swarm_pairs(record: SwarmRecord, now: float) -> list[tuple[str, str]]:
    """What a swarm is and how it stands."""
    spec, result = record.spec, record.result
    values = [("swarm", spec.id), ("state", state_text(record)), ("task", one_line(spec.task, 200))]
    if spec.retry_of is not None:
        values.append(("retry of", spec.retry_of))
    if spec.repo is not None:
        where = f" ({spec.base_branch})" if spec.base_branch else ""
        values.append(("repository", f"{spec.repo} at {(spec.base_commit or '')[:10]}{where}"))
    values.append(("model", spec.options.model or "the workers' default"))
    values.append(("submitted", ago(spec.created_at, now)))
    if record.finished_at:
        values.append(("took", duration(record.finished_at - (record.started_at or spec.created_at))))
    elif record.plan is not None and record.stage >= 0:
        values.append(("stage", f"{record.stage + 1} of {len(record.plan.stages)}"))
    if record.paused_at and result is None:
        why = f" ({one_line(record.pause_reason, 200)})" if record.pause_reason else ""
        values.append(("paused", f"{ago(record.paused_at, now)}{why}; let it go on: swarmq resume {spec.id}"))
    if record.cancel_reason:
        values.append(("cancelled", record.cancel_reason))
    error = (result.error if result else None) or record.error
    if error:
        values.append(("error", one_line(error, 500)))
    if result is not None:
        values += result_pairs(result)
    return values


def used(status: SwarmStatus, options: SwarmOptions) -> str:
    """What a swarm has used of its budgets so far."""
    tokens = "" if options.max_tokens is None else f" of {options.max_tokens:,}"
    most_usd = DEFAULT_MAX_COST_USD if options.max_cost_usd is None else options.max_cost_usd
    cost = "cost unknown" if status.cost_usd is None else f"{usd(status.cost_usd)} of {usd(most_usd)}"
    return f"{status.steps:,} of {options.max_total_steps:,} steps, {status.tokens:,}{tokens} tokens, {cost}"


def result_pairs(result: SwarmResult) -> list[tuple[str, str]]:
    """Branch, limit and figures of an ended swarm."""
    stats, usage = result.stats, result.stats.usage
    values = []
    if result.branch:
        values.append(("branch", f"{result.branch} ({(result.commit or '')[:10]})"))
    if result.limit:
        values.append(("limit", f"{result.limit} ended it"))
    values.append(
        (
            "steps",
            f"{stats.total_steps:,}, critical path {stats.critical_path_steps:,};"
            f" {count(stats.tool_calls, 'tool call')}",
        )
    )
    if stats.critical_path:
        path = one_line(" > ".join(stats.critical_path), 200)
        values.append(("critical path", f"{duration(stats.critical_path_seconds)}: {path}"))
    values.append(
        (
            "time",
            f"{duration(stats.wall_seconds)}; one after the other {duration(stats.sequential_seconds)},"
            f" speed-up {stats.speedup:.1f}",
        )
    )
    if stats.baseline is not None and stats.speedup_over_baseline is not None:
        alone = f"{stats.baseline.swarm} took {duration(stats.baseline.wall_seconds)}, {spent_text(stats.baseline)}"
        values.append(("compared with", f"{alone}: {stats.speedup_over_baseline:.1f} times as long"))
    values.append(
        ("tokens", f"{usage.input_tokens:,} in ({usage.cached_tokens:,} cached), {usage.output_tokens:,} out")
    )
    values.append(("cost", usd(stats.cost_usd)))
    waits = f", {count(stats.cache_waits, 'wait')} for equal work" if stats.cache_waits else ""
    values.append(("cache", f"{count(stats.cache_hits, 'hit')}, {stats.cache_misses:,} misses{waits}"))
    values += [(name, saved_text(saved)) for name, saved in saved_by(stats) if saved != Spent()]
    values.append(("trouble", f"{stats.retries:,} retries of model calls, {stats.lost_leases:,} lost leases"))
    return values


def branch_pairs(branch: BranchRecord, subtask: Subtask | None, now: float) -> list[tuple[str, str]]:
    """Everything a person may want to know of one branch."""
    spec, outcome = branch.spec, branch.outcome
    values = [("branch", spec.id), ("subtask", subtask.name if subtask else spec.subtask_id)]
    if subtask is not None:
        values.append(("specialty", subtask.specialty))
    values += [
        ("kind", spec.kind.value),
        ("stage", str(spec.stage)),
        ("state", outcome.exit.value if outcome else branch.state.value),
        ("base", (spec.base_commit or "-")[:10]),
        ("queued", ago(branch.queued_at, now)),
        ("started", ago(branch.started_at, now)),
        ("worker", branch.worker or "-"),
        ("deliveries", f"{branch.deliveries} after a lost lease, fencing token {branch.token}"),
        ("celery task", spec.celery_task_id),
    ]
    if spec.candidate:
        values += [("candidate", str(spec.candidate)), ("approach", one_line(spec.approach, 200))]
    optional_spec = (("model", spec.model), ("resolves", spec.resolves), ("other side", spec.theirs))
    values += [(name, value) for name, value in optional_spec if value]
    if branch.cancel_reason:
        values.append(("cancelled", branch.cancel_reason))
    if branch.observation is not None and outcome is None:
        seen = branch.observation
        doing = f"{count(seen.steps, 'step')}, {count(seen.tokens, 'token')}; {one_line(seen.doing)}"
        values.append((f"seen {ago(seen.at, now)}", doing))
    if outcome is not None:
        values += [
            ("took", duration(outcome.duration_seconds)),
            ("steps", f"{outcome.steps}, {count(outcome.tool_calls, 'tool call')}, {outcome.retries} retries"),
            ("tokens", f"{outcome.usage.input_tokens:,} in, {outcome.usage.output_tokens:,} out"),
            ("cost", "-" if outcome.cached_from else usd(outcome.cost_usd)),
            ("commit", outcome.commit or outcome.checkpoint or "-"),
            ("files", ", ".join(outcome.files) or "-"),
        ]
        optional = (
            ("verify", verify_text(outcome.verify)),
            ("worktree", outcome.worktree),
            ("from cache", outcome.cached_from),
            ("limit", outcome.limit),
            ("error", outcome.error),
        )
        values += [(name, value) for name, value in optional if value]
    return values
