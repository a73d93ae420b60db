"""Reading a plan as models write plans: close to what was asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from swarmq.errors import PlanError
from swarmq.models.messages import Completion, FinishReason
from swarmq.models.plan import Kind, Plan, slug
from swarmq.orchestrator.json_text import json_values
from swarmq.orchestrator.planning_prompts import SUBMIT_PLAN

PLANNED = ("name", "instruction", "specialty", "dependencies", "priority", "kind", "files")
"""What of a subtask a model may write. What runs commands, or multiplies the cost, is the producer's to say."""


def plan_of_answer(completion: Completion, max_subtasks: int, *, has_files: bool) -> Plan:
    """The plan in an answer: the submitted one, else the first JSON in its text that looks like one.

    Raises PlanError with what the model should mend.
    """
    submitted = [call.arguments for call in completion.message.tool_calls if call.name == SUBMIT_PLAN]
    if completion.finish is FinishReason.LENGTH:
        raise PlanError("the answer was cut off at the output limit; plan fewer subtasks or write shorter instructions")
    if submitted:
        return read_plan(_loads(submitted[0]), max_subtasks, has_files=has_files)
    found = list(json_values(completion.message.text))
    if not found:
        raise PlanError("the answer holds no plan: neither a call of submit_plan nor a JSON object")
    values = next((value for value in found if _looks_like_a_plan(value)), found[0])
    return read_plan(values, max_subtasks, has_files=has_files)


def read_plan(values: Any, max_subtasks: int, *, has_files: bool) -> Plan:
    """A model's plan. Keys that nobody asked for are ignored; without files every subtask reads."""
    subtasks = values.get("subtasks") if isinstance(values, dict) else values
    if isinstance(subtasks, str):  # some models put the list into a string
        subtasks = _loads(subtasks)
    if not isinstance(subtasks, list) or not all(isinstance(subtask, dict) for subtask in subtasks):
        raise PlanError("a plan is an object with a list 'subtasks' of objects")
    plain = [_subtask(given, has_files=has_files) for given in subtasks]
    names = _names_by_id(plain)
    for subtask in plain:
        subtask["dependencies"] = _dependencies(subtask.get("dependencies"), names)
    return Plan.parse({"subtasks": plain}, max_subtasks)


def _loads(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise PlanError(f"the plan is not valid JSON: {error}") from None


def _looks_like_a_plan(value: Any) -> bool:
    if isinstance(value, dict):
        return "subtasks" in value
    return bool(value) and all(isinstance(item, dict) and "name" in item for item in value)


def _subtask(given: dict[str, Any], *, has_files: bool) -> dict[str, Any]:
    """Known keys that have a value; the rest is left to the defaults or to the plan's own checks."""
    known = {key: given[key] for key in PLANNED if given.get(key) is not None}
    if isinstance(known.get("name"), str):
        known["name"] = known["name"].strip()
    if isinstance(known.get("priority"), int | float):
        known["priority"] = max(-100, min(100, round(known["priority"])))
    known["kind"] = _kind(given) if has_files else Kind.READ
    if isinstance(known.get("files"), str):
        known["files"] = [known["files"]] if known["files"].strip() else []
    if known["kind"] != Kind.EDIT:  # what only looks changes nothing, whatever is said of it
        known.pop("files", None)
    return known


def _kind(given: dict[str, Any]) -> Any:
    """``kind`` where it is there, else what ``edits`` says; a kind that is none is left for the check to name."""
    kind, edits = given.get("kind"), given.get("edits")
    if isinstance(kind, str):
        return kind.strip().lower()
    if kind is not None:
        return kind
    return Kind.READ if edits is False else Kind.EDIT


def _names_by_id(subtasks: Iterable[dict[str, Any]]) -> dict[str, str]:
    return {slug(subtask["name"]): subtask["name"] for subtask in subtasks if isinstance(subtask.get("name"), str)}


def _dependencies(given: Any, names: dict[str, str]) -> Any:
    """Each once, by exact name; a name that differs in case or punctuation only is taken for the one it means."""
    if given is None:
        return []
    if isinstance(given, str):
        given = [given] if given.strip() else []
    if not isinstance(given, list):
        return given
    meant = [names.get(slug(name), name) if isinstance(name, str) else name for name in given]
    return [name for place, name in enumerate(meant) if name not in meant[:place]]
