"""Critical paths, comparisons and savings: over any plan, and by hand where a figure has a meaning."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from agent_fakes import swarm_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmq.models.branch import Exit
from swarmq.models.messages import Usage
from swarmq.models.plan import Kind, Plan, Subtask
from swarmq.models.spent import Spent, total
from swarmq.models.swarm import (
    Baseline,
    CandidateResult,
    SubtaskResult,
    SubtaskStatus,
    SwarmRecord,
    SwarmResult,
    SwarmState,
    SwarmStats,
)
from swarmq.orchestrator.baseline import as_baseline, baseline_key
from swarmq.orchestrator.decompose import single_subtask
from swarmq.orchestrator.paths import critical_path
from swarmq.orchestrator.report import render_report
from swarmq.orchestrator.savings import saved_by_stopping
from swarmq.orchestrator.stats import swarm_stats


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any DAG of up to eight subtasks, in any order."""
    size = draw(st.integers(1, 8))
    made = []
    for number in range(size):
        needs = draw(st.sets(st.integers(0, number - 1))) if number else set()
        made.append(Subtask(name=f"S{number}", instruction="x", dependencies=tuple(f"S{one}" for one in sorted(needs))))
    return Plan(subtasks=tuple(draw(st.permutations(made))))


def paths_to(plan: Plan, name: str) -> Iterator[tuple[str, ...]]:
    """Every path along dependencies that ends there, by brute force."""
    yield (name,)
    for dependency in plan.subtask(name.lower()).dependencies:
        for path in paths_to(plan, dependency):
            yield (*path, name)


def run(name: str, steps: int, seconds: float, **fields: object) -> SubtaskResult:
    plain = {"subtask_id": name.lower(), "name": name, "stage": 0, "kind": Kind.EDIT, "branch_id": name.lower()}
    figures = {"status": SubtaskStatus.SUCCEEDED, "steps": steps, "duration_seconds": seconds}
    return SubtaskResult.model_validate(plain | figures | fields)


def stats_of(plan: Plan, *results: SubtaskResult, wall_seconds: float = 10.0, **more: object) -> SwarmStats:
    record = SwarmRecord(spec=swarm_spec(), state=SwarmState.RUNNING, plan=plan, started_at=1000.0)
    counters = {"steps": float(sum(one.steps for one in results))}
    return swarm_stats(record, results, (), counters, 1000.0 + wall_seconds, **more)  # type: ignore[arg-type]


@given(plans(), st.data())
def test_the_critical_path_is_the_heaviest_of_all_paths(plan: Plan, data: st.DataObject) -> None:
    weights = {subtask.name: float(data.draw(st.integers(0, 50))) for subtask in plan.subtasks}
    every = [path for subtask in plan.subtasks for path in paths_to(plan, subtask.name)]
    heaviest, names = critical_path(plan, weights)
    assert heaviest == max(sum(weights[name] for name in path) for path in every)
    assert names in every
    assert sum(weights[name] for name in names) == heaviest
    assert max(weights.values()) <= heaviest <= sum(weights.values())


@given(plans(), st.data(), st.floats(1, 1e5))
def test_stats_of_any_results(plan: Plan, data: st.DataObject, wall_seconds: float) -> None:
    results = [
        run(subtask.name, data.draw(st.integers(0, 50)), float(data.draw(st.integers(0, 1000))))
        for subtask in plan.subtasks
    ]
    stats = stats_of(plan, *results, wall_seconds=wall_seconds)
    assert max(one.steps for one in results) <= stats.critical_path_steps <= stats.total_steps
    longest = max(one.duration_seconds for one in results)
    assert longest <= stats.critical_path_seconds <= stats.sequential_seconds
    assert stats.speedup * stats.wall_seconds == pytest.approx(stats.sequential_seconds)


DIAMOND = Plan(
    subtasks=(
        Subtask(name="A", instruction="a"),
        Subtask(name="B", instruction="b", dependencies=("A",)),
        Subtask(name="C", instruction="c", dependencies=("A",)),
        Subtask(name="D", instruction="d", dependencies=("B", "C")),
    )
)


def test_what_came_from_the_cache_weighs_nothing_and_what_failed_what_it_used() -> None:
    original = Spent(steps=9, tokens=900, cost_usd=0.5, seconds=90.0)
    stats = stats_of(
        DIAMOND,
        run("A", 3, 30.0),
        run("B", 0, 0.0, cached=True, spared=original),
        run("C", 2, 20.0, status=SubtaskStatus.FAILED, error="x"),
        run("D", 0, 0.0, status=SubtaskStatus.BLOCKED, branch_id=None),
    )
    assert (stats.critical_path[:2], stats.critical_path_seconds, stats.critical_path_steps) == (("A", "C"), 50.0, 5)
    assert stats.saved_by_cache == original


def test_the_longest_path_by_time_need_not_have_the_most_steps() -> None:
    stats = stats_of(DIAMOND, run("A", 1, 1.0), run("B", 50, 1.0), run("C", 1, 50.0), run("D", 1, 1.0))
    assert (stats.critical_path, stats.critical_path_seconds) == (("A", "C", "D"), 52.0)
    assert stats.critical_path_steps == 52


class TestSavedByStopping:
    """Stated in swarmq.orchestrator.savings: missing steps, each at what a step had cost the candidate so far."""

    def candidate(self, exit_: Exit, steps: int, **fields: object) -> CandidateResult:
        plain: dict[str, object] = {
            "branch_id": "a", "promoted": exit_ is Exit.COMPLETED, "exit": exit_, "steps": steps,
            "usage": Usage(input_tokens=90 * steps, output_tokens=10 * steps), "cost_usd": 0.01 * steps,
            "duration_seconds": 2.0 * steps,
        }  # fmt: skip
        return CandidateResult.model_validate(plain | fields)

    def test_the_steps_that_a_stopped_candidate_was_short(self) -> None:
        winner, loser = self.candidate(Exit.COMPLETED, 10), self.candidate(Exit.CANCELLED, 4)
        saved = saved_by_stopping([winner, loser])
        assert (saved.steps, saved.tokens, saved.seconds) == (6, 600, 12.0)
        assert saved.cost_usd == pytest.approx(0.06)

    def test_one_that_never_began_would_have_been_like_the_others(self) -> None:
        winner = self.candidate(Exit.COMPLETED, 10, duration_seconds=50.0)
        assert saved_by_stopping([winner, self.candidate(Exit.CANCELLED, 0)]).seconds == 50.0

    def test_one_that_still_cleans_up_is_short_of_what_it_was_last_seen_at(self) -> None:
        winner = self.candidate(Exit.COMPLETED, 10)
        cleaning = self.candidate(Exit.CANCELLED, 4, usage=Usage(), cost_usd=None, duration_seconds=0.0)
        saved = saved_by_stopping([winner, cleaning])
        assert (saved.steps, saved.tokens, saved.seconds) == (6, 600, 12.0)

    def test_several_that_ended_are_averaged(self) -> None:
        ended = [self.candidate(Exit.COMPLETED, 10), self.candidate(Exit.COMPLETED, 20, promoted=False)]
        assert saved_by_stopping([*ended, self.candidate(Exit.CANCELLED, 5)]).steps == 10

    def test_nothing_is_claimed_that_cannot_be_known(self) -> None:
        winner = self.candidate(Exit.COMPLETED, 10)
        for others in (
            [],
            [self.candidate(Exit.CANCELLED, 4)],  # nobody came to an end
            [winner, self.candidate(Exit.CANCELLED, 12)],  # longer than the winner already
            [winner, self.candidate(Exit.FAILED, 4)],  # it was not stopped
            [self.candidate(Exit.COMPLETED, 0), self.candidate(Exit.CANCELLED, 4)],  # from the cache
        ):
            assert saved_by_stopping(others) == Spent()

    def test_an_unknown_price_stays_unknown(self) -> None:
        race = [self.candidate(Exit.COMPLETED, 9, cost_usd=None), self.candidate(Exit.CANCELLED, 4, cost_usd=None)]
        saved = saved_by_stopping(race)
        assert (saved.steps, saved.cost_usd) == (5, None)
        assert stats_of(DIAMOND, run("A", 9, 1.0, candidates=tuple(race))).saved_by_collapse == saved

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(list(Exit)), st.integers(0, 40), st.booleans()), max_size=8))
    def test_for_any_race(self, ran: list[tuple[Exit, int, bool]]) -> None:
        race = [self.candidate(exit_, steps, promoted=promoted) for exit_, steps, promoted in ran]
        saved = saved_by_stopping(race)
        stopped = sum(exit_ is Exit.CANCELLED and not promoted for exit_, _, promoted in ran)
        most = max((steps for exit_, steps, _ in ran if exit_ is Exit.COMPLETED), default=0)
        assert 0 <= saved.steps <= stopped * most
        assert saved.tokens == 100 * saved.steps
        assert saved.seconds == pytest.approx(2.0 * saved.steps)


def test_spent_adds_up_and_an_unknown_price_makes_the_sum_unknown() -> None:
    one = Spent(steps=1, tokens=10, cost_usd=0.5, seconds=2.0)
    assert total([one, one]) == Spent(steps=2, tokens=20, cost_usd=1.0, seconds=4.0)
    assert total([one, Spent(cost_usd=None)]).cost_usd is None
    assert total([]) == Spent()


class TestBaseline:
    def solo(self, **changes: object) -> tuple[SwarmRecord, SwarmResult]:
        spec = swarm_spec(strategy="none")
        plan = Plan(subtasks=(single_subtask(spec),))
        record = SwarmRecord(spec=spec, state=SwarmState.RUNNING, plan=plan)
        stats = SwarmStats(
            total_steps=7, usage=Usage(input_tokens=5, output_tokens=2), wall_seconds=50.0, cost_usd=None
        )
        done = run("task", 7, 40.0, **changes)
        state = SwarmState.SUCCEEDED if done.success else SwarmState.FAILED
        return record, SwarmResult(id="solo", state=state, report="", subtasks=(done,), stats=stats)

    def test_one_agent_that_did_it_all_is_one(self) -> None:
        expected = Baseline(swarm="solo", steps=7, tokens=7, cost_usd=None, wall_seconds=50.0)
        assert as_baseline(*self.solo()) == expected

    def test_one_that_failed_or_did_nothing_is_none(self) -> None:
        for changes in ({"status": SubtaskStatus.FAILED}, {"cached": True}):
            assert as_baseline(*self.solo(**changes)) is None

    def test_others_are_none(self) -> None:
        record, result = self.solo()
        for changed in (
            record.model_copy(update={"spec": swarm_spec()}),  # the model was to split it
            record.model_copy(update={"plan": DIAMOND}),
            record.model_copy(update={"spec": record.spec.model_copy(update={"retry_of": "earlier"})}),
        ):
            assert as_baseline(changed, result) is None

    def test_it_is_found_by_what_makes_it_comparable(self) -> None:
        record = self.solo()[0]
        split = record.model_copy(update={"spec": swarm_spec(max_subagents=3)})
        assert baseline_key(split, "m", "tree") == baseline_key(record, "m", "tree")
        other = record.model_copy(update={"spec": record.spec.model_copy(update={"task": "another"})})
        assert len({baseline_key(*values) for values in (
            (record, "m", "tree"), (record, "m", "other"), (record, "n", "tree"), (other, "m", "tree"),
        )}) == 4  # fmt: skip

    def test_a_swarm_is_compared_with_it(self) -> None:
        baseline = Baseline(swarm="solo", steps=7, tokens=7, cost_usd=0.25, wall_seconds=50.0)
        stats = stats_of(DIAMOND, run("A", 1, 5.0), wall_seconds=20.0, baseline=baseline)
        assert (stats.baseline, stats.speedup_over_baseline) == (baseline, 2.5)
        assert stats_of(DIAMOND).speedup_over_baseline is None


def test_the_report_tells_the_figures() -> None:
    saved = Spent(steps=3, tokens=1200, cost_usd=0.5, seconds=9.0)
    baseline = Baseline(swarm="solo", steps=7, tokens=7, cost_usd=0.25, wall_seconds=50.0)
    stats = stats_of(DIAMOND, run("A", 4, 5.0), run("D", 2, 15.0, spared=saved), baseline=baseline).model_copy(
        update={"saved_by_collapse": saved.model_copy(update={"cost_usd": None})}
    )
    record = SwarmRecord(spec=swarm_spec(), state=SwarmState.RUNNING)
    report = render_report(record, SwarmResult(id="s", state=SwarmState.PARTIAL, report="", stats=stats))
    assert report.endswith(
        "## Figures\n"
        "6 steps in 10.0 s; one after the other 20.0 s (speed-up 2.0).\n"
        "Critical path: 6 steps, 20.0 s: A > B > D\n"
        "Compared with swarm solo: 50.0 s, 5.0 times as long, 7 steps, 7 tokens, $0.2500\n"
        "Saved by the cache: 3 steps, 1,200 tokens, $0.5000, 9.0 s of work\n"
        "Saved by stopping candidates (estimated): 3 steps, 1,200 tokens, 9.0 s of work\n"
    )
