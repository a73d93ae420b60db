"""``swarmq collapse explain``: what the collapse controller saw of each branch, and what it decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarmq.cli.lazy import command_app
from swarmq.cli.render import clock, count, emit_json, note, pairs, table, write
from swarmq.cli.session import AsJson, SomeBranch, SwarmId, connected, find_branch, wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from swarmq.models.branch import BranchRecord
    from swarmq.models.collapse import Evaluation, ScoreEntry
    from swarmq.models.swarm import SwarmRecord

app = command_app()
collapse = command_app(help="Why branches were stopped early, or were not.", no_args_is_help=True)
app.add_typer(collapse, name="collapse")

HEADERS = (
    *("time", "branch", "score", "compile", "tests", "contract", "conflict", "velocity", "resources"),
    *("breaks", "failing", "low", "decision"),
)
LEAST = {"decision": 48}
SPARE = (*("resources", "velocity", "conflict", "contract", "tests", "compile"), *("low", "failing", "breaks", "time"))
"""Where a terminal is narrow: what is cut and how far, and what is left out. The score is made of the first six."""


@collapse.callback()
def group() -> None:
    """Why branches were stopped early, or were not."""


@collapse.command()
def explain(swarm_id: SwarmId, branch: SomeBranch = None, as_json: AsJson = False) -> None:
    """Show each branch's scores over time, the thresholds, and what was decided."""

    async def go() -> None:
        async with connected() as client:
            handle = await client.get(swarm_id)
            name = (await find_branch(handle, branch)).spec.id if branch else None
            entries = of_branch(await handle.scores(), name)
            record = await handle.record()
            branches = [] if entries else [one for one in await handle.branches() if name in (None, one.spec.id)]
        if as_json:
            emit_json(entries)
        elif not entries:
            note(why_nothing(record, branches))
        else:
            _print(entries)

    wait_for(go())


def why_nothing(record: SwarmRecord, branches: Sequence[BranchRecord]) -> str:
    """Why no branch was judged: a race that verify decides may be over before the first look. Pure."""
    from swarmq.models.collapse import CANCELLED_BY_COLLAPSE

    if record.spec.options.collapse == "off":
        return "nothing was judged: collapse is off"
    lost = [
        f"{branch.spec.id} was cancelled, as {(branch.cancel_reason or '').removeprefix(CANCELLED_BY_COLLAPSE)}"
        for branch in branches
        if (branch.cancel_reason or "").startswith(CANCELLED_BY_COLLAPSE)
    ]
    if lost:
        return f"nothing was judged before its race was over: {'; '.join(lost)}"
    return "nothing was judged" if record.state.final else "nothing was judged yet"


def of_branch(entries: Sequence[ScoreEntry], branch_id: str | None) -> list[ScoreEntry]:
    """The looks at one branch, without the others; all where none is named. Pure."""
    if branch_id is None:
        return list(entries)
    kept = ((entry, [one for one in entry.evaluations if one.branch_id == branch_id]) for entry in entries)
    return [entry.model_copy(update={"evaluations": tuple(mine)}) for entry, mine in kept if mine]


def _print(entries: Sequence[ScoreEntry]) -> None:
    last = entries[-1]
    write(f"Scope {last.scope}. Thresholds:")
    thresholds = last.policy.model_dump(mode="json")
    pairs([(f"  {name}", str(value)) for name, value in thresholds.items()])
    write()
    table(HEADERS, [row(entry.at, one) for entry in entries for one in entry.evaluations], least=LEAST, spare=SPARE)
    stopped = sum(one.reason != "" for entry in entries for one in entry.evaluations)
    note(f"{count(len(entries), 'look')} that found something new, {count(stopped, 'decision')} against a branch")


def row(at: float, of: Evaluation) -> tuple[str, ...]:
    """One evaluation, as a line of the table. Pure."""
    vector = of.vector
    parts = (vector.compile, vector.tests, vector.contract, vector.conflict_risk, vector.velocity, vector.resources)
    decision = f"{of.decision}: {of.reason}" if of.reason else of.decision.value
    figures = (f"{part:.2f}" for part in (of.score, *parts))
    return (
        clock(at),
        of.branch_id,
        *figures,
        str(vector.breaks),
        str(of.compile_failures),
        str(of.low_scores),
        decision,
    )
