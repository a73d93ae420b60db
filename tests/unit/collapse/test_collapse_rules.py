"""The policy rule by rule: the formula's figures, what counts as a break, who is stopped and why."""

from __future__ import annotations

import pytest

from swarmq.collapse.policy import Look, Sample, Standing, judge
from swarmq.collapse.scoring import best_candidate, final_score, score, vector
from swarmq.models.branch import BranchRecord, BranchSpec, BranchState, Exit, Observation, Outcome
from swarmq.models.collapse import CollapsePolicy, CollapseState, Decision, Vector
from swarmq.models.messages import Usage
from swarmq.models.plan import Kind
from swarmq.models.pods import PodHealth
from swarmq.models.verify import VerifyReport

GOOD = Vector(compile=1, tests=0.6, contract=1, conflict_risk=0, velocity=0, resources=1)
STANDING = CollapsePolicy(
    breaks="standing",
    max_invariant_breaks=3,
    max_consecutive_compile_failures=3,
    max_consecutive_resource_failures=2,
    max_consecutive_low_scores=1,
    min_score=0.0,
    min_gap=0.15,
    min_resource_health=0.35,
)


def test_the_formula_is_the_one_of_the_specification() -> None:
    of = Vector(compile=1, tests=1, contract=0.5, conflict_risk=0.5, velocity=0.25, resources=0.8, breaks=2)
    assert score(of, racing=False) == pytest.approx(0.29 + 0.14 + 0.09 + 0.07 + 0.02 + 0.136 - 0.2)
    assert score(of, racing=True) == pytest.approx((0.29 + 0.14 + 0.09 + 0.02 + 0.136) / 0.86 - 0.2)
    everything = Vector(compile=1, tests=1, contract=1, conflict_risk=0, velocity=1, resources=1)
    assert score(everything, racing=False) == score(everything, racing=True) == pytest.approx(1)
    assert score(everything.model_copy(update={"breaks": 50}), racing=False) == pytest.approx(0.4)


def test_the_vector_is_made_as_the_specification_says() -> None:
    seen = Observation(at=0, files=("a", "b", "c", "d"), changed_lines=200, checks=True)
    of = vector(seen, elapsed_seconds=40, others={"a", "x"})
    assert (of.conflict_risk, of.contract, of.velocity, of.tests) == (0.25, 0.75, 0.25, 0.6)
    broken = vector(seen.model_copy(update={"checks": False}), elapsed_seconds=40, others={"a"})
    assert (broken.compile, broken.contract) == (0, 0)
    assert vector(Observation(at=0), elapsed_seconds=0).resources == 1


def sample(name: str, seen: Observation, **more: object) -> Sample:
    given: dict[str, object] = {
        "branch_id": name,
        "group": "race",
        "race": "race",
        "racing": True,
        "standing": Standing.JUDGED,
        "observation": seen,
    }
    return Sample(**(given | more))  # type: ignore[arg-type]


class Ticks:
    """Looks one after the other at a branch under test and a good one beside it."""

    def __init__(self, policy: CollapsePolicy = STANDING) -> None:
        self.policy, self.state, self.now = policy, CollapseState(), 100.0

    def look(self, health: PodHealth | None = None, **seen: object) -> Look:
        self.now += 5
        if health is not None:
            health = health.model_copy(update={"seen_at": health.seen_at or self.now})
        good = Observation(at=self.now, steps=9, files=("a.py",), changed_at=1.0, checks=True)
        under_test = Observation(**({"at": self.now, "files": ("a.py",), "changed_step": 1} | seen))
        look = judge(
            self.state, [sample("bad", under_test, health=health), sample("good", good)], self.policy, self.now
        )
        self.state = look.state
        return look

    def decision(self, look: Look) -> Decision:
        return next(one.decision for one in look.evaluations if one.branch_id == "bad")


def test_a_branch_in_the_middle_of_an_edit_or_a_long_thought_breaks_nothing() -> None:
    ticks = Ticks()
    ticks.look(steps=1, changed_at=1.0, checks=False)
    for _ in range(20):  # the model thinks
        assert ticks.decision(ticks.look(steps=1, changed_at=1.0, checks=False)) is Decision.KEPT
    for step in range(2, 20):  # each step is an edit, none mends it
        look = ticks.look(steps=step, changed_at=float(step), changed_step=step, checks=False)
        assert ticks.decision(look) is Decision.KEPT
    for step in range(20, 40):  # a shell command works on
        assert ticks.decision(ticks.look(steps=step, changed_at=19.0, checks=False, editing=True)) is Decision.KEPT
    assert ticks.state.tallies["bad"].breaks == 0


def test_a_branch_that_moves_on_from_failing_checks_is_stopped_at_the_threshold() -> None:
    ticks = Ticks()
    for step in (1, 2, 3):
        assert ticks.decision(ticks.look(steps=step, changed_at=1.0, checks=False)) is Decision.KEPT
    problem = ("a.py: line 3: invalid syntax",)
    look = ticks.look(steps=4, changed_at=1.0, checks=False, problems=problem)
    assert ticks.decision(look) is Decision.KILLED
    assert look.kills[0].reason == "its files failed their checks 3 times in a row: a.py: line 3: invalid syntax"


def test_passing_or_editing_begins_the_row_anew() -> None:
    for changed_at, checks in ((1.0, True), (2.0, False)):
        ticks = Ticks()
        for step in (1, 2, 3):
            ticks.look(steps=step, changed_at=1.0, checks=False)
        ticks.look(steps=4, changed_at=changed_at, checks=checks)
        assert ticks.state.tallies["bad"].compile_failures == 0


def test_an_observation_is_counted_once_however_often_it_is_found() -> None:
    ticks = Ticks(CollapsePolicy.seed().model_copy(update={"max_consecutive_compile_failures": 3, "min_score": 0.0}))
    for _ in range(10):
        look = ticks.look(at=1.0, steps=1, checks=False)
    assert ticks.decision(look) is Decision.KEPT
    assert ticks.state.tallies["bad"].compile_failures == 1


def test_the_seed_stops_a_branch_at_its_first_failing_sample() -> None:
    look = Ticks(CollapsePolicy.seed()).look(steps=1, changed_at=1.0, checks=False)
    assert [kill.branch_id for kill in look.kills] == ["bad"]


def test_a_pod_in_bad_health_is_counted_each_look_and_an_unknown_one_changes_nothing() -> None:
    ticks = Ticks()
    bad = PodHealth(score=0.1, signals=2, reason="CrashLoopBackOff")
    assert ticks.decision(ticks.look(health=bad)) is Decision.KEPT
    assert ticks.decision(ticks.look(health=None)) is Decision.KEPT
    tally = ticks.state.tallies["bad"]
    assert (tally.resource_failures, tally.signals) == (1, 2)
    ticks.look(health=PodHealth(score=1))
    assert ticks.state.tallies["bad"].resource_failures == 0
    ticks.look(health=bad)
    look = ticks.look(health=bad)
    assert look.kills[0].reason == "its pod was in bad health 2 times in a row (CrashLoopBackOff)"


def test_a_pod_that_was_not_asked_for_again_is_not_counted_again() -> None:
    """One list of pods serves several looks where these are quick."""
    ticks = Ticks()
    for _ in range(9):
        look = ticks.look(health=PodHealth(score=0.1, signals=1, seen_at=50))
        assert ticks.decision(look) is Decision.KEPT
    assert (ticks.state.tallies["bad"].resource_failures, ticks.state.tallies["bad"].signals) == (1, 1)


def test_signals_of_a_pod_are_invariant_breaks() -> None:
    policy = STANDING.model_copy(update={"max_consecutive_resource_failures": 100})
    ticks = Ticks(policy)
    ticks.look(health=PodHealth(score=0.7, signals=2))
    look = ticks.look(health=PodHealth(score=0.7, signals=2))
    assert look.kills[0].reason == "4 invariant breaks in a row, 4 of them of its pod"


def test_pruned_is_the_worst_that_is_low_for_enough_steps_and_far_enough_behind() -> None:
    policy = STANDING.model_copy(update={"min_score": 0.5, "max_consecutive_low_scores": 2, "min_gap": 0.3})
    ticks = Ticks(policy)
    for _ in range(5):  # a step counts once, and a model that thinks does not count
        look = ticks.look(steps=1, changed_at=1.0, checks=False)
        assert ticks.decision(look) is Decision.KEPT
    look = ticks.look(steps=2, changed_at=2.0, changed_step=2, checks=False)  # an edit that mended nothing does count
    assert ticks.decision(look) is Decision.PRUNED
    assert look.kills[0].reason == "score 0.30 is below 0.50, and 0.55 behind good"


def test_a_better_score_begins_the_row_anew() -> None:
    policy = STANDING.model_copy(update={"min_score": 0.5, "max_consecutive_low_scores": 2})
    ticks = Ticks(policy)
    for step in range(1, 10):
        look = ticks.look(steps=step, changed_at=float(step), changed_step=step, checks=step % 2 == 0)
        assert ticks.decision(look) is not Decision.PRUNED


def test_the_last_of_a_race_is_spared_and_a_lone_branch_is_not() -> None:
    broken = Observation(at=1, steps=1, checks=False)
    policy = CollapsePolicy.seed()
    race = judge(CollapseState(), [sample("a", broken), sample("b", broken)], policy, 100.0)
    assert sorted(one.decision for one in race.evaluations) == [Decision.KILLED, Decision.SPARED]
    alone = {"group": "x", "race": "x", "racing": False}
    fine = Observation(at=1, steps=1, checks=True)
    two = judge(CollapseState(), [sample("x", broken, **alone), sample("a", fine)], policy, 100.0)
    assert [kill.branch_id for kill in two.kills] == ["x"]
    one = judge(CollapseState(), [sample("x", broken, **alone)], policy, 100.0)
    assert (one.kills, one.evaluations[0].decision) == ((), Decision.SPARED)


def test_a_completed_or_a_waiting_candidate_lets_the_others_be_stopped() -> None:
    broken = Observation(at=1, steps=1, checks=False)
    for standing in (Standing.COMPLETED, Standing.OPEN):
        seen = Observation(at=1, steps=1, checks=True)
        look = judge(
            CollapseState(), [sample("a", broken), sample("b", seen, standing=standing)], CollapsePolicy.seed(), 100.0
        )
        assert [kill.branch_id for kill in look.kills] == ["a"]


def test_the_risk_of_conflict_is_with_other_subtasks_only() -> None:
    seen = Observation(at=1, steps=1, files=("a.py",), checks=True)
    stage = {"group": "stage 0", "racing": False}
    look = judge(
        CollapseState(),
        [sample("a", seen, race="a", **stage), sample("a.2", seen, race="a", **stage)],
        STANDING,
        100.0,
    )
    assert [one.vector.conflict_risk for one in look.evaluations] == [0, 0]
    look = judge(
        CollapseState(), [sample("a", seen, race="a", **stage), sample("b", seen, race="b", **stage)], STANDING, 100.0
    )
    assert [one.vector.conflict_risk for one in look.evaluations] == [1, 1]


def branch(number: int, seen: Observation | None, exit_: Exit = Exit.COMPLETED, **outcome: object) -> BranchRecord:
    id_ = "fix" if number == 1 else f"fix.{number}"
    spec = BranchSpec(
        swarm_id="s", id=id_, subtask_id="fix", stage=0, kind=Kind.EDIT, celery_task_id="t", candidate=number
    )
    return BranchRecord(
        spec=spec,
        state=BranchState.DONE,
        started_at=100,
        finished_at=200,
        observation=seen,
        outcome=Outcome(exit=exit_, **outcome),
    )


def test_the_best_candidate_completed_scores_most_and_used_least() -> None:
    passes, fails = Observation(at=1, checks=True), Observation(at=1, checks=False)
    assert best_candidate([branch(1, fails), branch(2, passes)]) == "fix.2"
    assert best_candidate([branch(1, fails), branch(2, passes, Exit.MAX_STEPS)]) == "fix"
    assert best_candidate([branch(1, None), branch(2, fails)]) == "fix.2"
    dear, cheap = Usage(input_tokens=9), Usage(input_tokens=1)
    assert best_candidate([branch(1, passes, usage=dear), branch(2, passes, usage=cheap)]) == "fix.2"
    assert best_candidate([branch(2, passes), branch(1, passes)]) == "fix"
    with pytest.raises(ValueError, match="empty"):
        best_candidate([])


def test_the_outcomes_own_verifying_counts_before_that_of_the_last_observation() -> None:
    seen = Observation(at=1, checks=True, verified=False)
    passed = final_score(branch(1, seen, verify=VerifyReport(passed=True, command="true")))
    not_run = final_score(branch(1, seen))
    assert passed is not None
    assert not_run is not None
    assert passed - not_run == pytest.approx(0.14 / 0.86)
    assert final_score(branch(1, None)) is None
