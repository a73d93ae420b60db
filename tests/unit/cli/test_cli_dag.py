from __future__ import annotations

from itertools import pairwise

from cli_fakes import PLAN
from hypothesis import given
from hypothesis import strategies as st

from swarmq.cli.dag import MAX_LANES, draw
from swarmq.models.plan import Plan, Subtask


def plan(**needs: str) -> Plan:
    return Plan(
        subtasks=tuple(
            Subtask(name=name, instruction="x", dependencies=tuple(dependencies.split()))
            for name, dependencies in needs.items()
        )
    )


def lanes(drawn: list[str]) -> list[str]:
    return [line[10:].rpartition(" (")[0] for line in drawn]


def test_two_results_join() -> None:
    assert draw(PLAN) == [
        "stage 0   ●     fix dates (edit)",
        "          │ ●   fix parser (edit)",
        "stage 1   ╰─┴─● run tests (verify)",
    ]


def test_lanes_end_with_their_last_use_and_are_used_again() -> None:
    assert lanes(draw(plan(a="", b="", c="a", d="a b", e="d", f=""))) == [
        "●       a",
        "│ ●     b",
        "│ │ ●   f",
        "├─│─●   c",
        "╰─┴─●   d",
        "    ╰─● e",
    ]


def test_a_lane_that_passes_by_is_crossed() -> None:
    assert lanes(draw(plan(a="", b="", c="", d="a c", e="b d"))) == [
        "●         a",
        "│ ●       b",
        "│ │ ●     c",
        "╰─│─┴─●   d",
        "  ╰───┴─● e",
    ]


def test_one_subtask() -> None:
    assert draw(plan(only="")) == ["stage 0   ● only (edit)"]


def test_too_many_lanes_are_told_in_words() -> None:
    names = [f"s{number}" for number in range(MAX_LANES + 2)]
    wide = plan(**dict.fromkeys(names, ""), end=" ".join(names))
    drawn = draw(wide)
    assert drawn[0] == "stage 0   ● s0 (edit)"
    assert drawn[-1].startswith("stage 1   ● end (edit) ← s0, s1")


@st.composite
def plans(draw_from: st.DrawFn) -> Plan:
    size = draw_from(st.integers(min_value=1, max_value=12))
    subtasks = []
    for number in range(size):
        needs = draw_from(st.lists(st.sampled_from(range(number)), max_size=4)) if number else []
        subtasks.append(Subtask(name=f"s{number}", instruction="x", dependencies=tuple(f"s{need}" for need in needs)))
    return Plan(subtasks=tuple(subtasks))


@given(plans())
def test_any_plan_is_drawn_with_each_subtask_once(any_plan: Plan) -> None:
    drawn = draw(any_plan)
    assert len(drawn) == len(any_plan.subtasks)
    for subtask in any_plan.subtasks:
        assert sum(f" {subtask.name} (" in line for line in drawn) == 1
    # Lanes go straight down: below an open lane there is never an empty place.
    opened = set("●│├┼")
    for above, below in pairwise(drawn):
        for column, glyph in enumerate(above[10:40]):
            if glyph in "│├┼" and column + 10 < len(below):
                assert below[column + 10] in opened | set("╰┴"), (above, below)
