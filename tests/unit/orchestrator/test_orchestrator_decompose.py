"""From a model's answer to a plan: what is accepted, what is mended, and what the fallback is."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from agent_fakes import FakeModel, FakeTime, says, swarm_spec
from hypothesis import given
from hypothesis import strategies as st

from swarmq.errors import PermanentModelError, PlanError, TransientModelError
from swarmq.models.messages import FinishReason, Role, ToolCall
from swarmq.models.options import Strategy
from swarmq.models.plan import Kind, Plan, Subtask
from swarmq.orchestrator.decompose import Decomposition, decompose, single_subtask
from swarmq.orchestrator.model_plan import PLANNED, plan_of_answer, read_plan
from swarmq.orchestrator.planning_prompts import submit_plan, system_text, task_text

GOOD = {
    "subtasks": [
        {"name": "Look", "instruction": "Look at it.", "specialty": "reading", "dependencies": [], "kind": "read"},
        {"name": "Mend", "instruction": "Mend it.", "specialty": "code", "dependencies": ["Look"], "kind": "edit"},
    ]
}
CYCLE = {
    "subtasks": [
        {"name": "A", "instruction": "a", "dependencies": ["B"]},
        {"name": "B", "instruction": "b", "dependencies": ["A"]},
    ]
}


def submits(values: Any, finish: FinishReason | None = None) -> Any:
    arguments = values if isinstance(values, str) else orjson.dumps(values).decode()
    return says("", ToolCall(id="p1", name="submit_plan", arguments=arguments), finish=finish)


async def plan_with(model: FakeModel, repo: str | None = "/repo", **options: Any) -> Decomposition:
    return await decompose(model, swarm_spec(repo=repo, **options), clock=FakeTime().clock())


async def test_the_submitted_plan_is_the_plan() -> None:
    model = FakeModel(submits(GOOD))
    made = await plan_with(model)
    assert [(subtask.name, subtask.kind) for subtask in made.plan.subtasks] == [
        ("Look", Kind.READ),
        ("Mend", Kind.EDIT),
    ]
    assert [[subtask.name for subtask in stage] for stage in made.plan.stages] == [["Look"], ["Mend"]]
    assert (made.note, made.usage.input_tokens) == (None, 100)
    assert [tool.name for tool in model.tools] == ["submit_plan"]
    assert model.conversations[0].closed
    system, task = model.conversations[0].messages
    assert (system.role, task.role) == (Role.SYSTEM, Role.USER)
    assert "Move to version 2" in task.text


async def test_subtasks_that_declare_the_same_files_are_put_in_order() -> None:
    subtasks = [
        {"name": "A", "instruction": "a", "kind": "edit", "files": ["./src/a.py"]},
        {"name": "B", "instruction": "b", "kind": "edit", "files": "src/"},
        {"name": "C", "instruction": "c", "kind": "edit", "files": ["tests"]},
        {"name": "D", "instruction": "d", "kind": "read", "files": ["src"]},
    ]
    made = await plan_with(FakeModel(submits({"subtasks": subtasks})))
    assert [(one.files, one.dependencies) for one in made.plan.subtasks] == [
        (("src/a.py",), ()), (("src",), ("A",)), (("tests",), ()), ((), ()),
    ]  # fmt: skip
    assert made.note == "Declared files overlap, so some subtasks wait for others: B for A."


async def test_declared_files_that_lead_out_are_sent_back() -> None:
    out = {"subtasks": [{"name": "A", "instruction": "a", "files": ["../x"]}]}
    model = FakeModel(submits(out), submits(GOOD))
    assert (await plan_with(model)).note is None
    assert "leads out of the repository" in str(model.conversations[0].messages[-1])


async def test_a_plan_in_the_text_is_taken_too() -> None:
    text = f"I thought of {{x}} and {{}} first.\n```json\n{orjson.dumps(GOOD).decode()}\n```\nShall I go on?"
    made = await plan_with(FakeModel(says(text)))
    assert [subtask.name for subtask in made.plan.subtasks] == ["Look", "Mend"]
    assert made.note is None


async def test_strategy_none_asks_nobody() -> None:
    model = FakeModel()
    made = await plan_with(model, strategy="none")
    assert [(subtask.name, subtask.instruction) for subtask in made.plan.subtasks] == [("task", "Move to version 2")]
    assert (made.note, model.conversations) == (None, [])


async def test_a_bad_plan_is_shown_with_its_error_once() -> None:
    model = FakeModel(submits(CYCLE), submits(GOOD))
    made = await plan_with(model)
    assert (len(made.plan.subtasks), made.note, made.usage.input_tokens) == (2, None, 200)
    own, reply = model.conversations[0].messages[2:]
    assert own.tool_calls[0].name == "submit_plan"
    assert (reply.role, reply.tool_results[0].call_id) == (Role.TOOL, "p1")
    assert "cycle" in reply.tool_results[0].content


async def test_a_bad_plan_in_text_is_answered_in_text() -> None:
    model = FakeModel(says("No plan here."), submits(GOOD))
    made = await plan_with(model)
    assert len(made.plan.subtasks) == 2
    own, reply = model.conversations[0].messages[2:]
    assert (own.text, reply.role) == ("No plan here.", Role.USER)
    assert "neither a call of submit_plan nor a JSON object" in reply.text


async def test_after_two_bad_plans_the_whole_task_is_one_subtask_and_that_is_said() -> None:
    made = await plan_with(FakeModel(submits(CYCLE), says("")))
    assert [(subtask.instruction, subtask.kind) for subtask in made.plan.subtasks] == [("Move to version 2", Kind.EDIT)]
    assert made.note is not None
    assert "one subtask" in made.note
    assert made.usage.input_tokens == 200


async def test_a_model_that_cannot_be_asked_is_no_reason_for_a_fallback() -> None:
    model = FakeModel(PermanentModelError("HTTP 401", 401))
    with pytest.raises(PermanentModelError):
        await plan_with(model)
    assert model.conversations[0].closed
    with pytest.raises(TransientModelError):
        await plan_with(FakeModel(*[TransientModelError("HTTP 503", 503)] * 3), max_retries=2)


async def test_a_passing_error_is_retried() -> None:
    made = await plan_with(FakeModel(TransientModelError("HTTP 503", 503), submits(GOOD)))
    assert made.note is None


async def test_without_a_repository_everything_reads() -> None:
    model = FakeModel(submits(GOOD))
    made = await plan_with(model, repo=None)
    assert {subtask.kind for subtask in made.plan.subtasks} == {Kind.READ}
    kinds: Any = model.tools[0].parameters["properties"]
    assert kinds["subtasks"]["items"]["properties"]["kind"]["enum"] == ["read"]
    assert single_subtask(swarm_spec(repo=None)).kind is Kind.READ


def test_what_came_before_is_part_of_a_single_subtask() -> None:
    spec = swarm_spec("Sum it up.").model_copy(update={"context": "1, 2, 3"})
    assert single_subtask(spec).instruction == "Sum it up.\n\nWhat came before it:\n\n1, 2, 3"
    assert "1, 2, 3" in task_text(spec)


@pytest.mark.parametrize("strategy", [Strategy.AUTOMATIC, Strategy.BY_DOMAIN, Strategy.BY_DATA, Strategy.BY_STAGE])
def test_each_strategy_asks_for_its_own_split(strategy: Strategy) -> None:
    text = system_text(swarm_spec(strategy=strategy.value, max_subtasks=7), has_files=True)
    others = [system_text(swarm_spec(strategy=other.value), has_files=True) for other in Strategy if other != strategy]
    assert "At most 7 subtasks" in text
    assert text not in others
    assert "submit_plan" in text


def test_what_the_repository_holds_is_told() -> None:
    assert "The repository:\n\nsrc/\ntests/" in task_text(swarm_spec(), "src/\ntests/\n")


def read(values: Any, *, has_files: bool = True, most: int = 100) -> Plan:
    return read_plan(values, most, has_files=has_files)


def test_a_models_plan_is_read_with_goodwill() -> None:
    plan = read(
        [
            {"name": " Set up ", "instruction": "x", "edits": False, "reason": "ignored", "priority": 900.4},
            {"name": "Do it", "instruction": "y", "dependencies": "set-up", "specialty": None, "kind": "EDIT "},
            {"name": "Check", "instruction": "z", "dependencies": ["Do it", "do it", "Set up"], "kind": "verify"},
        ]
    )
    assert plan.subtasks == (
        Subtask(name="Set up", instruction="x", kind=Kind.READ, priority=100),
        Subtask(name="Do it", instruction="y", kind=Kind.EDIT, dependencies=("Set up",)),
        Subtask(name="Check", instruction="z", kind=Kind.VERIFY, dependencies=("Do it", "Set up")),
    )
    assert read({"subtasks": orjson.dumps(GOOD["subtasks"]).decode()}).subtasks[0].name == "Look"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"subtasks": []}, "subtasks"),
        ({"tasks": []}, "a list 'subtasks'"),
        ({"subtasks": ["Look"]}, "of objects"),
        ({"subtasks": "oops"}, "not valid JSON"),
        ("text", "not valid JSON"),
        (7, "a list 'subtasks'"),
        ({"subtasks": [{"name": "A"}]}, "instruction"),
        ({"subtasks": [{"name": "A", "instruction": "a", "kind": "destroy"}]}, "kind"),
        ({"subtasks": [{"name": "A", "instruction": "a", "kind": 3}]}, "kind"),
        ({"subtasks": [{"name": "A", "instruction": "a", "dependencies": ["C"]}]}, "unknown dependency 'C'"),
        ({"subtasks": [{"name": "A", "instruction": "a", "dependencies": 4}]}, "dependencies"),
        ({"subtasks": [{"name": "A", "instruction": "a"}, {"name": "a!", "instruction": "b"}]}, "too close"),
        ({"subtasks": [{"name": "A", "instruction": "a", "priority": "high"}]}, "priority"),
        (CYCLE, "cycle: A -> B -> A"),
    ],
)
def test_what_is_no_plan_is_told_so_that_it_can_be_mended(values: Any, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        read(values)


def test_too_many_subtasks() -> None:
    with pytest.raises(PlanError, match="max_subtasks is 1"):
        read(GOOD, most=1)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (submits('{"subtasks": ['), "not valid JSON"),
        (submits(GOOD, FinishReason.LENGTH), "cut off"),
        (says("I refuse.", finish=FinishReason.REFUSAL), "no plan"),
    ],
)
def test_answers_without_a_plan(answer: Any, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        plan_of_answer(answer, 100, has_files=True)


def test_a_users_plan_is_read_strictly() -> None:
    with pytest.raises(PlanError, match="edits: no such field"):
        Plan.parse({"subtasks": [{"name": "A", "instruction": "a", "edits": True}]})


def test_the_tool_describes_what_is_accepted() -> None:
    schema: Any = submit_plan(has_files=True).parameters
    item = schema["properties"]["subtasks"]["items"]
    assert set(item["properties"]) == set(PLANNED) < set(Subtask.model_fields)
    assert item["properties"]["kind"]["enum"] == [kind.value for kind in Kind]
    without: Any = submit_plan(has_files=False).parameters
    assert "files" not in without["properties"]["subtasks"]["items"]["properties"]
    assert read({"subtasks": [dict.fromkeys(("name", "instruction"), "x")]}).subtasks[0].kind is Kind.EDIT


json_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10)
json_values = st.recursive(
    json_scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
subtask_keys = st.sampled_from(
    ["name", "instruction", "specialty", "dependencies", "priority", "kind", "files", "edits", "extra"]
)


@given(
    json_values | st.fixed_dictionaries({"subtasks": st.lists(st.dictionaries(subtask_keys, json_values), max_size=4)}),
    st.booleans(),
)
def test_any_json_is_a_plan_or_a_plan_error(values: Any, has_files: bool) -> None:
    try:
        plan = read(values, has_files=has_files)
    except PlanError:
        return
    assert has_files or all(subtask.kind is Kind.READ for subtask in plan.subtasks)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any valid plan: dependencies lead to subtasks that come before in some order, then the order is shuffled."""
    names = [f"Task {i}" for i in range(draw(st.integers(1, 8)))]
    subtasks = [
        Subtask(
            name=name,
            instruction=draw(st.text(min_size=1, max_size=20).filter(str.strip)),
            dependencies=tuple(draw(st.lists(st.sampled_from(names[:place]), unique=True)) if place else []),
            priority=draw(st.integers(-100, 100)),
            kind=draw(st.sampled_from(Kind)),
        )
        for place, name in enumerate(names)
    ]
    return Plan(subtasks=tuple(draw(st.permutations(subtasks))))


@given(plans())
def test_a_valid_plan_is_read_back_as_it_is(plan: Plan) -> None:
    assert read(plan.model_dump(mode="json")) == plan
    text = f"Here it is: {orjson.dumps(plan.model_dump(mode='json')).decode()} That is all."
    assert plan_of_answer(says(text), 100, has_files=True) == plan


@given(plans())
def test_stages_are_longest_paths(plan: Plan) -> None:
    stage_of = {subtask.name: number for number, stage in enumerate(plan.stages) for subtask in stage}
    assert len(stage_of) == len(plan.subtasks)
    for subtask in plan.subtasks:
        depths = [stage_of[name] for name in subtask.dependencies]
        assert stage_of[subtask.name] == (max(depths) + 1 if depths else 0)
    for stage in plan.stages:
        assert [subtask.priority for subtask in stage] == sorted((one.priority for one in stage), reverse=True)
