from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmq.errors import PlanError
from swarmq.models.plan import Plan, Subtask, slug


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Valid plans: each subtask depends on some of those before it."""
    count = draw(st.integers(1, 12))
    subtasks: list[Subtask] = []
    for number in range(count):
        earlier = [subtask.name for subtask in subtasks]
        needs = draw(st.lists(st.sampled_from(earlier), unique=True)) if earlier else []
        priority = draw(st.integers(-100, 100))
        subtasks.append(
            Subtask(name=f"task {number}", instruction="do it", dependencies=tuple(needs), priority=priority)
        )
    return Plan(subtasks=tuple(draw(st.permutations(subtasks))))


@given(plans())
def test_every_subtask_is_in_one_stage_right_after_its_deepest_dependency(plan: Plan) -> None:
    depth = {subtask.name: number for number, stage in enumerate(plan.stages) for subtask in stage}
    assert sorted(depth) == sorted(subtask.name for subtask in plan.subtasks)
    for subtask in plan.subtasks:
        deepest = max((depth[name] for name in subtask.dependencies), default=-1)
        assert depth[subtask.name] == deepest + 1


@given(plans())
def test_a_stage_is_in_priority_order(plan: Plan) -> None:
    for stage in plan.stages:
        priorities = [subtask.priority for subtask in stage]
        assert priorities == sorted(priorities, reverse=True)


@given(plans())
def test_a_plan_survives_json(plan: Plan) -> None:
    assert Plan.parse(plan.model_dump(mode="json")) == plan


@given(plans(), st.data())
def test_a_back_edge_is_a_cycle_and_names_it(plan: Plan, data: st.DataObject) -> None:
    last = data.draw(st.sampled_from(plan.stages[-1]))
    chain = last
    while chain.dependencies:
        chain = next(subtask for subtask in plan.subtasks if subtask.name == chain.dependencies[0])
    values = plan.model_dump(mode="json")
    for subtask in values["subtasks"]:
        if subtask["name"] == chain.name:
            subtask["dependencies"] = [last.name]
    with pytest.raises(PlanError, match="cycle") as caught:
        Plan.parse(values)
    assert last.name in str(caught.value)


@pytest.mark.parametrize(
    ("subtasks", "message"),
    [
        ([], "subtasks"),
        ([{"name": "a"}], "instruction"),
        ([{"name": "a", "instruction": "x", "color": "red"}], "subtask 'a': color: no such field"),
        ([{"name": "a", "instruction": "x", "dependencies": ["b"]}], "unknown dependency 'b'"),
        ([{"name": "Fix it", "instruction": "x"}, {"name": "fix-it", "instruction": "y"}], "too close"),
        ([{"name": "!!!", "instruction": "x"}], "letter"),
        ([{"name": "a", "instruction": "x", "kind": "destroy"}], "kind"),
    ],
)
def test_what_is_wrong_is_named(subtasks: list[dict[str, object]], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Plan.parse({"subtasks": subtasks})


def test_a_list_is_a_plan_too_and_the_limit_is_kept() -> None:
    values = [{"name": f"t{number}", "instruction": "x"} for number in range(3)]
    assert len(Plan.parse(values).subtasks) == 3
    with pytest.raises(PlanError, match="max_subtasks is 2"):
        Plan.parse(values, max_subtasks=2)
    with pytest.raises(PlanError, match="object"):
        Plan.parse("do it")


@given(st.text(max_size=100))
def test_slugs_are_safe_in_refs_and_paths(name: str) -> None:
    assert set(slug(name)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not slug(name).startswith("-")
    assert not slug(name).endswith("-")
    assert len(slug(name)) <= 48
