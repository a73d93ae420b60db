"""Subtasks that declare the same files: put in order or told of; and what was declared against what was changed."""

from __future__ import annotations

from itertools import combinations

import pytest
from agent_fakes import swarm_spec
from hypothesis import given
from hypothesis import strategies as st

from swarmq.models.branch import Exit, Outcome
from swarmq.models.file_globs import may_meet
from swarmq.models.plan import Kind, Plan, Subtask
from swarmq.models.swarm import DeclaredFiles
from swarmq.orchestrator.declared_files import declared_against_actual, in_turn, overlaps, settle
from swarmq.orchestrator.decompose import given_plan
from swarmq.orchestrator.paths import ancestors, in_order


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any DAG, in any order, with or without declared files."""
    size = draw(st.integers(1, 8))
    globs = st.lists(st.sampled_from(["a.py", "b.py", "src", "src/a.py", "src/*.py", "**/b.py"]), max_size=2)
    made = []
    for number in range(size):
        needs = draw(st.sets(st.integers(0, number - 1), max_size=2)) if number else set()
        made.append(
            Subtask(
                name=f"S{number}",
                instruction="x",
                kind=draw(st.sampled_from([Kind.EDIT, Kind.EDIT, Kind.EDIT, Kind.READ])),
                dependencies=tuple(f"S{one}" for one in sorted(needs)),
                files=tuple(draw(globs)),
            )
        )
    return Plan(subtasks=tuple(draw(st.permutations(made))))


def added_to(plan: Plan, ordered: Plan) -> list[tuple[str, str]]:
    return [
        (name, after.name)
        for before, after in zip(plan.subtasks, ordered.subtasks, strict=True)
        for name in after.dependencies[len(before.dependencies) :]
    ]


@given(plans())
def test_order_for_any_plan(plan: Plan) -> None:
    ordered = in_turn(plan, overlaps(plan))  # which validates that it is a DAG
    assert overlaps(ordered) == ()
    place = {subtask.name: number for number, subtask in enumerate(plan.subtasks)}
    for before, after in zip(plan.subtasks, ordered.subtasks, strict=True):
        assert after.dependencies[: len(before.dependencies)] == before.dependencies, "nothing is taken away"
        assert after == before.model_copy(update={"dependencies": after.dependencies})
    for name, waits in added_to(plan, ordered):
        assert place[name] < place[waits], "the order is that of the plan"
        without = Plan(
            subtasks=tuple(
                one.model_copy(update={"dependencies": tuple(d for d in one.dependencies if d != name)})
                if one.name == waits
                else one
                for one in ordered.subtasks
            )
        )
        assert name not in ancestors(in_order(without))[waits], "it follows from no other path"
    assert in_turn(plan, overlaps(plan)) == ordered
    assert in_turn(ordered, overlaps(ordered)) == ordered


@given(plans())
def test_overlaps_are_those_that_no_path_keeps_apart(plan: Plan) -> None:
    before = ancestors(in_order(plan))
    expected = [
        (one.name, other.name)
        for one, other in combinations(plan.subtasks, 2)
        if one.kind is Kind.EDIT and other.kind is Kind.EDIT
        if one.name not in before[other.name] and other.name not in before[one.name]
        if any(may_meet(mine, theirs) for mine in one.files for theirs in other.files)
    ]
    assert [(one.first, one.second) for one in overlaps(plan)] == expected


def plan_of(**files: tuple[str, ...]) -> Plan:
    return Plan(subtasks=tuple(Subtask(name=name, instruction="x", files=globs) for name, globs in files.items()))


TWO = plan_of(A=("src/a.py", "docs"), B=("src/*.py",), C=("tests",))


@pytest.mark.parametrize(
    ("how", "by_model", "ordered"),
    [("auto", True, True), ("auto", False, False), ("order", False, True), ("flag", True, False)],
)
def test_who_made_the_plan_decides_unless_told(how: str, by_model: bool, ordered: bool) -> None:
    settled = settle(TWO, how, by_model=by_model)  # type: ignore[arg-type]
    assert settled.note is not None
    if ordered:
        assert [subtask.dependencies for subtask in settled.plan.subtasks] == [(), ("A",), ()]
        assert settled.note == "Declared files overlap, so some subtasks wait for others: B for A."
    else:
        assert settled.plan == TWO
        assert settled.note == ("Declared files overlap, which may end in conflicts: A and B (src/a.py, src/*.py).")


def test_declarations_that_all_meet_do_not_make_a_queue() -> None:
    everywhere = plan_of(A=("**",), B=("**",), C=("**",))
    settled = settle(everywhere, "auto", by_model=True)
    assert settled.plan == everywhere
    assert settled.note is not None
    assert settled.note.endswith("; most subtasks would have to wait, so they are left as they are.")
    told = settle(everywhere, "order", by_model=True).plan
    assert [subtask.dependencies for subtask in told.subtasks] == [(), ("A",), ("B",)]


def test_nothing_is_said_of_a_plan_without_overlaps() -> None:
    apart = plan_of(A=("a",), B=("b",), C=())
    for how in ("auto", "order", "flag"):
        settled = settle(apart, how, by_model=True)
        assert (settled.plan, settled.note) == (apart, None)


def test_a_plan_of_the_producers_own_is_told_of_and_left_alone() -> None:
    assert given_plan(TWO, swarm_spec()).plan == TWO
    assert "A and B" in (given_plan(TWO, swarm_spec()).note or "")
    assert given_plan(TWO, swarm_spec(declared_overlaps="order")).plan != TWO


def test_more_files_than_can_be_compared_are_told_of() -> None:
    many = plan_of(**{f"S{n}": tuple(f"f{k}" for k in range(50)) for n in range(21)})
    settled = settle(many, "order", by_model=True)
    assert (settled.plan, settled.note) == (many, "1,050 declared files are too many to be compared (at most 1,000).")


def test_many_overlaps_are_told_in_one_line() -> None:
    note = settle(plan_of(**{f"S{n}": ("x",) for n in range(6)}), "flag", by_model=True).note
    assert note is not None
    assert note.endswith("(x) and 10 more.")
    assert "\n" not in note


@pytest.mark.parametrize(
    ("files", "changed", "expected"),
    [
        (("a.py", "docs"), ("a.py", "docs/x.md"), DeclaredFiles()),
        (("a.py", "docs"), ("a.py", "b.py"), DeclaredFiles(undeclared=("b.py",), untouched=("docs",))),
        ((), ("a.py",), None),
        (("a.py",), (), None),
    ],
)
def test_declared_against_actual(
    files: tuple[str, ...], changed: tuple[str, ...], expected: DeclaredFiles | None
) -> None:
    subtask = Subtask(name="A", instruction="a", files=files)
    assert declared_against_actual(subtask, Outcome(exit=Exit.COMPLETED, files=changed)) == expected
