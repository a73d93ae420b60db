"""The report of a finished swarm: plain text with Markdown headings, made to be read in a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from swarmq.agent.context import line_end
from swarmq.models.spent import Spent
from swarmq.models.swarm import (
    Baseline,
    DeclaredFiles,
    MergeReport,
    SubtaskResult,
    SubtaskStatus,
    SwarmRecord,
    SwarmResult,
    SwarmStats,
)

TEXT_CHARACTERS = 20_000
LAST_WORDS_CHARACTERS = 2000
"""Of an agent that failed: its last text often says why."""
DIFF_CHARACTERS = 4000
VERIFY_CHARACTERS = 2000
"""The end of an output: test runners sum up there."""
FILES_LISTED = 20
CONFLICTS_SHOWN = 5
TASK_CHARACTERS = 200


def render_report(record: SwarmRecord, result: SwarmResult) -> str:
    """Every subtask in the order of the plan: its answer and what was merged, or its error and where to look."""
    parts = [_head(record, result)]
    parts += [_section(place, one) for place, one in enumerate(result.subtasks, 1)]
    parts += _figures(result.stats)
    if result.branch is not None:
        parts.append(f"The merged work is on the branch {result.branch} (commit {result.commit}).")
    return "\n\n".join(parts) + "\n"


def _figures(stats: SwarmStats) -> Iterator[str]:
    """One paragraph, where there is something to tell."""
    if not stats.critical_path:
        return
    lines = [
        f"{_steps(stats.total_steps)} in {stats.wall_seconds:,.1f} s; one after the other"
        f" {stats.sequential_seconds:,.1f} s (speed-up {stats.speedup:.1f}).",
        f"Critical path: {_steps(stats.critical_path_steps)}, {stats.critical_path_seconds:,.1f} s:"
        f" {' > '.join(stats.critical_path)}",
    ]
    if stats.baseline is not None and stats.speedup_over_baseline is not None:
        alone = f"Compared with swarm {stats.baseline.swarm}: {stats.baseline.wall_seconds:,.1f} s"
        lines.append(f"{alone}, {stats.speedup_over_baseline:.1f} times as long, {_spent(stats.baseline)}")
    if stats.saved_by_cache != Spent():
        lines.append(f"Saved by the cache: {_saved(stats.saved_by_cache)}")
    if stats.saved_by_collapse != Spent():
        lines.append(f"Saved by stopping candidates (estimated): {_saved(stats.saved_by_collapse)}")
    yield "\n".join(["## Figures", *lines])


def _saved(spent: Spent) -> str:
    return f"{_spent(spent)}, {spent.seconds:,.1f} s of work"


def _spent(spent: Spent | Baseline) -> str:
    cost = "" if spent.cost_usd is None else f", ${spent.cost_usd:,.4f}"
    return f"{_steps(spent.steps)}, {spent.tokens:,} tokens{cost}"


def _head(record: SwarmRecord, result: SwarmResult) -> str:
    succeeded = sum(one.success for one in result.subtasks)
    lines = [f"# Swarm {result.id}: {result.state.value}, {succeeded} of {len(result.subtasks)} subtasks succeeded"]
    first_line = record.spec.task.strip().partition("\n")[0]
    lines.append(f"Task: {cut(first_line, TASK_CHARACTERS)}")
    if result.error:
        lines.append(f"Error: {result.error}")
    if record.cancel_reason is not None:
        lines.append(f"Cancelled: {record.cancel_reason}")
    if result.answer:
        lines.append(f"\n{result.answer.strip()}")
    return "\n".join(lines)


def _section(place: int, result: SubtaskResult) -> str:
    cached = ", from the cache" if result.cached else ""
    word = result.status.value if result.success else result.status.value.upper()
    heading = f"## {place}. {result.name} ({word}{cached})"
    body = _success(result) if result.success else _failure(result)
    return "\n".join([heading, *body])


def _success(result: SubtaskResult) -> Iterator[str]:
    yield cut(result.text.strip() or "(no text)", TEXT_CHARACTERS)
    if result.merge is not None:
        yield ""
        resolved = f" Its conflict was resolved by {result.resolved_by}." if result.resolved_by else ""
        yield f"{_merged(result.merge)}{resolved}"
    yield from _beyond_its_plan(result.declared)
    yield from _race(result)


def _beyond_its_plan(declared: DeclaredFiles | None) -> Iterator[str]:
    if declared is not None and declared.undeclared:
        yield f"Changed, but not declared in the plan: {_names(declared.undeclared)}"
    if declared is not None and declared.untouched:
        yield f"Declared in the plan, but not changed: {_names(declared.untouched)}"


def _failure(result: SubtaskResult) -> Iterator[str]:
    where = " (infrastructure, not the agent's work)" if result.fault == "infrastructure" else ""
    yield f"Error: {result.error or 'no reason was recorded'}{where}"
    if result.text.strip():
        heading = "What the agent says" if result.status is SubtaskStatus.CONFLICT else "Its last words"
        yield f"\n{heading}:\n{cut(result.text.strip(), LAST_WORDS_CHARACTERS)}"
    yield from _verified(result)
    if result.merge is not None and result.merge.status == "conflict":
        yield from _conflict(result.merge)
    if result.merge is not None and result.merge.status in ("unmerged", "rejected"):
        yield ""
        yield _merged(result.merge)
    yield from _beyond_its_plan(result.declared)
    yield from _race(result)
    if result.worktree is not None:
        yield f"\nIts files are kept in {result.worktree}"


def _race(result: SubtaskResult) -> Iterator[str]:
    """What became of each candidate."""
    if result.candidates:
        yield f"\nRace of {len(result.candidates)}:"
    for one in result.candidates:
        how = "won" if one.promoted and result.success else one.exit.value
        score = "" if one.score is None else f", score {one.score:.2f}"
        why = f": {one.error}" if one.error and not one.promoted else ""
        model = f", {one.model}" if one.model else ""
        yield f"- {one.branch_id}{model}: {how} after {_steps(one.steps)}{score}{why}"


def _steps(steps: int) -> str:
    return "1 step" if steps == 1 else f"{steps:,} steps"


def _verified(result: SubtaskResult) -> Iterator[str]:
    """What the command printed that did not pass: on the merged tree, else in the branch's worktree."""
    rejected = result.merge.verify if result.merge is not None and result.merge.status == "rejected" else None
    report = rejected or result.verify
    if report is None or report.passed:
        return
    where = " on the merged tree" if report is rejected else ""
    yield f"\nVerify{where}: {report.command} {report.ending}"
    if report.output.strip():
        yield _indented(report.output[-VERIFY_CHARACTERS:])
    if report.whole is not None:
        yield f"    [the whole of what it printed: {report.whole}]"


def _merged(merge: MergeReport) -> str:
    match merge.status:
        case "merged":
            lines = f"+{merge.insertions} -{merge.deletions}"
            return f"Merged: {_count(len(merge.files))} ({lines}): {_names(merge.files)}"
        case "rejected":
            return f"Not merged: with it the merged tree does not pass verify ({_names(merge.files)})"
        case "empty":
            return "Merged: nothing was left to merge, the changes were there already."
        case "unmerged":
            return f"Not merged: {_count(len(merge.files))} in commit {merge.commit}: {_names(merge.files)}"
        case "conflict":
            return f"Not merged: it conflicts in {_names(merge.conflicts)}"


def _conflict(merge: MergeReport) -> Iterator[str]:
    """Both sides of every file in conflict, as diffs against what they both started from."""
    shown = list(merge.diffs.items())[:CONFLICTS_SHOWN]
    for file, (integrated, branch) in shown:
        yield f"\nConflict in {file}\n  merged before:\n{_indented(integrated)}\n  this subtask:\n{_indented(branch)}"
    if len(merge.diffs) > len(shown):
        yield f"\n(and conflicts in {len(merge.diffs) - len(shown)} more files)"


def _indented(diff: str) -> str:
    lines = cut(diff.rstrip() or "(no diff)", DIFF_CHARACTERS).splitlines()
    return "\n".join(f"    {line}".rstrip() for line in lines)


def _count(files: int) -> str:
    return "1 file" if files == 1 else f"{files} files"


def _names(files: tuple[str, ...]) -> str:
    more = f" and {len(files) - FILES_LISTED} more" if len(files) > FILES_LISTED else ""
    return ", ".join(files[:FILES_LISTED]) + more


def cut(text: str, limit_characters: int) -> str:
    """The start of a text, ended at a line end where that loses little; says how much is not shown."""
    if len(text) <= limit_characters:
        return text
    end = line_end(text, limit_characters)
    return f"{text[:end]}\n[… {len(text) - end:,} more characters]"
