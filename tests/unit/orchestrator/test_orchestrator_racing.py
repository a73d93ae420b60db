"""Who races, and whose work is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmq.models.branch import BranchRecord, BranchSpec, BranchState, Exit, Outcome
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Kind, Subtask
from swarmq.orchestrator.approaches import APPROACHES
from swarmq.orchestrator.racing import candidate_results, candidates, models_of, promoted


def branch(number: int, exit_: Exit | None, *, steps: int = 1, finished_at: float = 0.0) -> BranchRecord:
    id_ = "s" if number == 1 else f"s.{number}"
    spec = BranchSpec(
        swarm_id="x", id=id_, subtask_id="s", stage=0, kind=Kind.EDIT, celery_task_id=id_, candidate=number
    )
    if exit_ is None:
        return BranchRecord(spec=spec, state=BranchState.RUNNING)
    outcome = Outcome(exit=exit_, steps=steps)
    return BranchRecord(spec=spec, state=BranchState.DONE, outcome=outcome, finished_at=finished_at)


def no_score(_: BranchRecord) -> float | None:
    return None


def test_one_branch_without_a_race() -> None:
    (only,) = candidates(Subtask(name="s", instruction="x"), SwarmOptions())
    assert (only.branch_id, only.number, only.approach, only.model) == ("s", 0, "", None)


def test_candidates_have_ids_approaches_and_models_of_their_own() -> None:
    options = SwarmOptions(candidates=4, candidate_models=("openai:a", "openai:b"))
    found = candidates(Subtask(name="s", instruction="x", approaches=("Use a table.",)), options)
    assert [one.branch_id for one in found] == ["s", "s.2", "s.3", "s.4"]
    assert [one.number for one in found] == [1, 2, 3, 4]
    assert [one.approach for one in found] == ["Use a table.", *APPROACHES[:3]]
    assert [one.model for one in found] == ["openai:a", "openai:b", "openai:a", "openai:b"]
    assert len({one.approach for one in found}) == 4


def test_the_swarms_number_is_for_edits_and_a_subtasks_own_goes_before_it() -> None:
    options = SwarmOptions(candidates=3)
    assert len(candidates(Subtask(name="s", instruction="x", kind=Kind.READ), options)) == 1
    assert len(candidates(Subtask(name="s", instruction="x", kind=Kind.VERIFY), options)) == 1
    assert len(candidates(Subtask(name="s", instruction="x", candidates=1), options)) == 1
    assert len(candidates(Subtask(name="s", instruction="x", candidates=8), options)) == 8


def test_readers_do_not_race() -> None:
    with pytest.raises(ValueError, match=r"subtask 's': candidates: .*kind read"):
        Subtask(name="s", instruction="x", kind=Kind.READ, candidates=2)


def test_a_single_branch_may_have_a_model_of_its_own() -> None:
    subtask = Subtask(name="s", instruction="x", models=("openai:big",))
    assert models_of([subtask], SwarmOptions()) == {"openai:big"}
    assert candidates(subtask, SwarmOptions())[0].model == "openai:big"


def test_a_decided_race_waits_for_its_winner_alone() -> None:
    branches = [branch(1, None), branch(2, Exit.COMPLETED)]
    assert promoted(branches, None, no_score) is None
    assert promoted(branches, "s.2", no_score) is branches[1]
    assert promoted(branches, "s", no_score) is None


def test_the_best_score_wins_then_the_first() -> None:
    branches = [
        branch(1, Exit.COMPLETED, finished_at=3),
        branch(2, Exit.COMPLETED, finished_at=2),
        branch(3, Exit.FAILED, finished_at=1),
    ]
    assert promoted(branches, None, no_score) is branches[1]
    assert promoted(branches, None, lambda one: 1.0 if one.spec.candidate in (1, 3) else 0.5) is branches[0]


def test_of_losers_the_one_that_came_furthest_speaks() -> None:
    branches = [branch(1, Exit.CANCELLED, steps=9), branch(2, Exit.FAILED, steps=2), branch(3, Exit.FAILED, steps=4)]
    assert promoted(branches, None, no_score) is branches[2]
    results = candidate_results(branches, "s.3", no_score)
    assert [(one.branch_id, one.promoted, one.exit) for one in results] == [
        ("s", False, Exit.CANCELLED),
        ("s.2", False, Exit.FAILED),
        ("s.3", True, Exit.FAILED),
    ]


@given(
    st.lists(
        st.tuples(st.sampled_from(list(Exit)), st.integers(0, 9), st.sampled_from([None, 0.0, 0.4, 1.0])),
        min_size=1,
        max_size=8,
    ),
    st.randoms(use_true_random=False),
)
def test_the_choice_does_not_depend_on_the_order(ends: list[tuple[Exit, int, float | None]], random: object) -> None:
    branches = [branch(number, end, steps=steps) for number, (end, steps, _) in enumerate(ends, 1)]
    scores = {one.spec.id: score for one, (_, _, score) in zip(branches, ends, strict=True)}
    chosen = promoted(branches, None, lambda one: scores[one.spec.id])
    shuffled = list(branches)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert promoted(shuffled, None, lambda one: scores[one.spec.id]) is chosen
    assert chosen is not None
    completed = [one for one in branches if one.outcome is not None and one.outcome.success]
    if completed:
        assert chosen in completed
