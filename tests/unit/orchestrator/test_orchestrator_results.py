"""What is made of results: context for those that depend on them, figures, report, cache key, synthesis."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from agent_fakes import BRANCH, FakeModel, FakeTime, Turn, call, says, swarm_spec
from hypothesis import given
from hypothesis import strategies as st

from swarmq.agent.context import target_tokens, text_tokens
from swarmq.errors import PermanentModelError
from swarmq.models.branch import BranchSpec
from swarmq.models.messages import FinishReason, ToolSpec, Usage
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Kind, Plan, Subtask
from swarmq.models.swarm import (
    DeclaredFiles,
    MergeReport,
    SubtaskResult,
    SubtaskStatus,
    SwarmRecord,
    SwarmResult,
    SwarmState,
)
from swarmq.orchestrator.cache_key import cache_key
from swarmq.orchestrator.context_text import DEPENDENCY_SHARE, dependency_context, fair_shares, results_text
from swarmq.orchestrator.report import render_report
from swarmq.orchestrator.stats import swarm_stats
from swarmq.orchestrator.synthesize import synthesize

OK = SubtaskStatus.SUCCEEDED


def result(name: str, text: str = "", status: SubtaskStatus = OK, **fields: object) -> SubtaskResult:
    plain: dict[str, object] = {
        "subtask_id": name.lower(),
        "name": name,
        "stage": 0,
        "kind": Kind.EDIT,
        "status": status,
        "branch_id": name.lower(),
        "text": text,
    }
    return SubtaskResult.model_validate(plain | fields)


def record(**fields: object) -> SwarmRecord:
    return SwarmRecord(spec=swarm_spec(), state=SwarmState.RUNNING).model_copy(update=fields)


class TestDependencyContext:
    PLAN = Plan(
        subtasks=(
            Subtask(name="A", instruction="a"),
            Subtask(name="B", instruction="b"),
            Subtask(name="C", instruction="c", dependencies=("B", "A")),
        )
    )

    def test_each_result_stands_under_its_name(self) -> None:
        merged = MergeReport(status="merged", files=("x.py", "y.py"))
        results = {"a": result("A", "Did a.", merge=merged), "b": result("B", "Did b.")}
        text = dependency_context(self.PLAN, self.PLAN.subtask("c"), results, 256_000)
        assert text == "## Result of B\nDid b.\n\n## Result of A\nDid a.\n\nFiles changed: x.py, y.py"
        assert dependency_context(self.PLAN, self.PLAN.subtask("a"), results, 256_000) == ""

    def test_a_long_result_is_cut_to_its_share_and_says_where_it_is_whole(self) -> None:
        results = {"a": result("A", "line\n" * 100_000), "b": result("B", "short")}
        text = dependency_context(self.PLAN, self.PLAN.subtask("c"), results, 20_000)
        assert text_tokens(text) <= target_tokens(20_000) * DEPENDENCY_SHARE + 20
        assert "## Result of B\nshort\n" in text
        assert 'swarm_share {"action": "get", "key": "a"}' in text

    def test_a_failed_result_says_so(self) -> None:
        failed = result("A", "half", SubtaskStatus.FAILED, error="no time")
        assert "It did not succeed: no time" in results_text([failed], 1000)


@given(st.lists(st.integers(0, 10_000), max_size=8), st.integers(0, 20_000))
def test_shares_are_fair(sizes: list[int], budget: int) -> None:
    shares = fair_shares(sizes, budget)
    assert sum(shares) <= budget
    assert all(0 <= share <= size for share, size in zip(shares, sizes, strict=True))
    if sum(sizes) <= budget:
        assert shares == sizes
    cut = [share for share, size in zip(shares, sizes, strict=True) if share < size]
    if cut:
        assert max(shares) - min(cut) <= 1 or max(shares) <= min(cut) + 1
        assert sum(shares) >= budget - len(sizes)


@given(st.lists(st.text(max_size=3000), min_size=1, max_size=4), st.integers(400, 2000))
def test_results_stay_within_their_budget(texts: list[str], budget: int) -> None:
    results = [result(f"R{i}", text) for i, text in enumerate(texts)]
    headings = sum(text_tokens(f"## Result of {one.name}\n\n\n") for one in results)
    assert text_tokens(results_text(results, budget)) <= budget + headings + len(results)


@dataclass(frozen=True)
class Stage:
    stage: int
    opened_at: float
    finished_at: float = 0.0


def test_stats_are_those_of_the_specification() -> None:
    results = [
        result("A", steps=3, tool_calls=4, duration_seconds=30.0, retries=1),
        result("B", steps=7, tool_calls=9, duration_seconds=45.0),
        result("C", stage=1, steps=5, duration_seconds=25.0, status=SubtaskStatus.FAILED),
        result("D", stage=1, status=SubtaskStatus.BLOCKED, branch_id=None),
    ]
    counters = {"cache_hits": 1.0, "cache_misses": 2.0, "rate_limit_wait_seconds": 3.5, "lost_leases": 1.0}
    counters |= {"input_tokens": 300.0, "output_tokens": 20.0, "cached_tokens": 80.0, "steps": 17.0, "tool_calls": 15.0}
    plan = Plan(
        subtasks=(
            Subtask(name="A", instruction="a"),
            Subtask(name="B", instruction="b"),
            Subtask(name="C", instruction="c", dependencies=("A",)),
            Subtask(name="D", instruction="d", dependencies=("B",)),
        )
    )
    stats = swarm_stats(
        record(started_at=1000.0, plan=plan), results, [Stage(1, 1052.0), Stage(0, 1001.0, 1051.0)], counters, 1080.0
    )
    assert [(one.stage, one.subagents, one.max_steps, one.total_steps, one.seconds) for one in stats.stages] == [
        (0, 2, 7, 10, 50.0),
        (1, 1, 5, 5, 28.0),
    ]
    # Along dependencies: the longest of each stage together would be 12 steps and 70 s, which nobody waited for.
    # Losers of races and the like count in the whole as their tokens do, and in no subtask.
    assert (stats.critical_path_steps, stats.total_steps, stats.tool_calls) == (8, 17, 15)
    assert (stats.critical_path, stats.critical_path_seconds) == (("A", "C"), 55.0)
    assert (stats.wall_seconds, stats.sequential_seconds, stats.speedup) == (80.0, 100.0, 1.25)
    assert (stats.cache_hits, stats.cache_misses, stats.retries, stats.lost_leases) == (1, 2, 1, 1)
    assert stats.rate_limit_wait_seconds == 3.5
    assert stats.usage == Usage(input_tokens=300, output_tokens=20, cached_tokens=80)


def test_a_swarm_that_did_nothing_has_figures_too() -> None:
    stats = swarm_stats(record(), [], [], {}, 1000.0)
    assert (stats.speedup, stats.critical_path_steps, stats.wall_seconds, stats.usage) == (0.0, 0, 0.0, Usage())


class TestReport:
    def report(self, *results: SubtaskResult, **fields: object) -> str:
        plain: dict[str, object] = {"id": "k3x9qm2p4t", "state": "partial", "report": "", "subtasks": results}
        return render_report(record(), SwarmResult.model_validate(plain | fields))

    def test_every_subtask_in_order(self) -> None:
        merged = MergeReport(status="merged", commit="c", files=("a.py", "b.py"), insertions=5, deletions=2)
        report = self.report(
            result("A", "Did it.", merge=merged),
            result("B", "I tried.", SubtaskStatus.FAILED, error="no time", worktree="/w/b-1"),
            result("C", status=SubtaskStatus.BLOCKED, error="blocked by B", branch_id=None),
            branch="swarmq/k3x9qm2p4t",
            commit="abc",
        )
        assert report == (
            "# Swarm k3x9qm2p4t: partial, 1 of 3 subtasks succeeded\n"
            "Task: Move to version 2\n\n"
            "## 1. A (succeeded)\nDid it.\n\nMerged: 2 files (+5 -2): a.py, b.py\n\n"
            "## 2. B (FAILED)\nError: no time\n\nIts last words:\nI tried.\n\nIts files are kept in /w/b-1\n\n"
            "## 3. C (BLOCKED)\nError: blocked by B\n\n"
            "The merged work is on the branch swarmq/k3x9qm2p4t (commit abc).\n"
        )

    def test_a_conflict_shows_both_sides(self) -> None:
        merge = MergeReport(
            status="conflict", conflicts=("a.py",), diffs={"a.py": ("-old\n+theirs", "-old\n+ours\n" * 900)}
        )
        report = self.report(result("A", "Done.", SubtaskStatus.CONFLICT, error="conflicts in a.py", merge=merge))
        assert (
            "Conflict in a.py\n  merged before:\n    -old\n    +theirs\n  this subtask:\n    -old\n    +ours" in report
        )
        assert "more characters]" in report
        assert len(report) < 8000

    def test_the_fault_of_the_infrastructure_is_named_as_that(self) -> None:
        failed = result("A", status=SubtaskStatus.FAILED, error="HTTP 503", fault="infrastructure")
        assert "Error: HTTP 503 (infrastructure, not the agent's work)" in self.report(failed)

    def test_what_ended_the_swarm_comes_first(self) -> None:
        report = self.report(error="planning failed: HTTP 401", answer=None)
        assert report.splitlines()[2] == "Error: planning failed: HTTP 401"
        cancelled = render_report(
            record(cancel_reason="enough"), SwarmResult(id="k3x9qm2p4t", state=SwarmState.CANCELLED, report="")
        )
        assert "Cancelled: enough" in cancelled

    @pytest.mark.parametrize(
        ("merge", "said"),
        [
            (MergeReport(status="empty"), "nothing was left to merge"),
            (MergeReport(status="unmerged", commit="c1", files=("a.py",)), "Not merged: 1 file in commit c1: a.py"),
        ],
    )
    def test_other_merges(self, merge: MergeReport, said: str) -> None:
        assert said in self.report(result("A", "Done.", merge=merge))

    def test_what_strayed_from_the_plan_is_told(self) -> None:
        declared = DeclaredFiles(undeclared=("b.py",), untouched=("docs",))
        merged = MergeReport(status="merged", files=("a.py", "b.py"))
        report = self.report(result("A", "Done.", merge=merged, declared=declared))
        assert "a.py, b.py\nChanged, but not declared in the plan: b.py\nDeclared in the plan, but not" in report
        assert "declared" not in self.report(result("A", "Done.", merge=merged, declared=DeclaredFiles()))

    def test_an_answer_of_any_length_is_cut(self) -> None:
        report = self.report(result("A", "line of text\n" * 10_000, cached=True))
        assert "## 1. A (succeeded, from the cache)" in report
        assert len(report) < 21_000


class TestCacheKey:
    SUBTASK = Subtask(name="A", instruction="Mend it.")

    def key(self, **changes: object) -> str:
        options = SwarmOptions.parse(
            {name: value for name, value in changes.items() if name in SwarmOptions.model_fields}
        )
        subtask = self.SUBTASK.model_copy(
            update={name: value for name, value in changes.items() if name in Subtask.model_fields}
        )
        dependencies = changes.get("results", {"B": "1"})
        assert isinstance(dependencies, dict)
        tools = [ToolSpec(name="read", description=str(changes.get("tool", "r")), parameters={})]
        branch = BRANCH.model_copy(
            update={name: value for name, value in changes.items() if name in BranchSpec.model_fields}
        )
        model, tree, repo = (str(changes.get(name, name)) for name in ("model_name", "tree", "repo"))
        return cache_key(model, subtask, branch, options, dependencies, tree, repo, tools)

    @pytest.mark.parametrize(
        "change",
        [
            {"model_name": "n"},
            {"kind": Kind.READ},
            {"instruction": "Mend that."},
            {"specialty": "x"},
            {"max_steps_per_subagent": 5},
            {"temperature": 0.5},
            {"env": {"A": "1"}},
            {"tool": "other"},
            {"results": {"B": "2"}},
            {"tree": "u"},
            {"repo": "other"},
            {"verify": ("pytest",)},
            {"verify_rounds": 1},
            {"approach": "smallest change"},
            {"candidate": 2},
            {"model": "openai:other"},
        ],
    )
    def test_whatever_decides_a_result_is_in_it(self, change: dict[str, object]) -> None:
        assert self.key(**change) != self.key()

    @pytest.mark.parametrize(
        "change",
        [
            {"name": "Z"},
            {"priority": 5},
            {"files": ("a.py",)},
            {"max_subagents": 3},
            {"keep_days": 1},
            {"id": "other", "swarm_id": "s2"},
            {"base_commit": "another commit of the same tree"},
        ],
    )
    def test_what_decides_nothing_is_not(self, change: dict[str, object]) -> None:
        assert self.key(**change) == self.key()

    def test_what_only_reads_is_equal_in_every_repository(self) -> None:
        assert self.key(kind=Kind.READ, repo="here") == self.key(kind=Kind.READ, repo="there")

    def test_the_order_of_dependencies_does_not_matter(self) -> None:
        assert self.key(results={"B": "1", "C": "2"}) == self.key(results={"C": "2", "B": "1"})


class TestSynthesis:
    RESULTS = (result("A", "One."), result("B", status=SubtaskStatus.FAILED, error="no time"))

    async def test_one_answer_over_all_results(self) -> None:
        model = FakeModel(says("All in all.", usage=Usage(output_tokens=5)))
        text, usage = await synthesize(model, swarm_spec(), self.RESULTS, FakeTime().clock())
        assert (text, usage.output_tokens, model.conversations[0].closed) == ("All in all.", 5, True)
        prompt = model.conversations[0].messages[1].text
        assert "Move to version 2" in prompt
        assert "## Result of A\nOne." in prompt
        assert "It did not succeed: no time" in prompt

    async def test_a_cut_answer_is_continued(self) -> None:
        model = FakeModel(says("All ", finish=FinishReason.LENGTH), says("in all."))
        text, usage = await synthesize(model, swarm_spec(), self.RESULTS, FakeTime().clock())
        assert (text, usage.input_tokens) == ("All in all.", 200)

    @pytest.mark.parametrize(
        "turns", [[says()] * 3, [says("x", call("read"))], [says("No.", finish=FinishReason.REFUSAL)]]
    )
    async def test_no_answer_is_an_error(self, turns: list[Turn]) -> None:
        model = FakeModel(*turns)
        with pytest.raises(PermanentModelError):
            await synthesize(model, swarm_spec(), self.RESULTS, FakeTime().clock())
        assert model.conversations[0].closed
