"""What a tool is: a name, arguments that are validated once-built, and a coroutine that answers with text."""

from __future__ import annotations

import difflib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from swarmq.errors import ToolError
from swarmq.models.messages import ToolSpec

if TYPE_CHECKING:
    from swarmq.agent.tools.context import ToolContext

MAX_ARGUMENT_CHARACTERS = 2_000_000
RESULT_CHARACTERS = 30_000
_EXCERPT_CHARACTERS = 60
_PROBLEMS_SHOWN = 5
_POSITION = re.compile(r"line (\d+) column (\d+)")


class Arguments(BaseModel):
    """Base of all arguments. Nulls count as left out: some models send them for what they do not use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        if isinstance(values, dict) and None in values.values():
            return {name: value for name, value in values.items() if value is not None}
        return values


A = TypeVar("A", bound=Arguments)


@dataclass(frozen=True)
class Tool(Generic[A]):
    """``run`` raises ToolError for what the model is to be told as an error. ``offered`` says who gets the tool."""

    name: str
    description: str
    arguments: type[A]
    run: Callable[[A, ToolContext], Awaitable[str]]
    offered: Callable[[ToolContext], bool]
    read_only: bool = False
    result_characters: int = RESULT_CHARACTERS

    @cached_property
    def spec(self) -> ToolSpec:
        parameters = _plain_schema(self.arguments.model_json_schema())
        return ToolSpec(name=self.name, description=self.description, parameters=parameters, read_only=self.read_only)

    async def call(self, raw: str, context: ToolContext) -> str:
        """Validate the JSON text of the arguments, then run."""
        return await self.run(self.parse(raw), context)

    def parse(self, raw: str) -> A:
        """Raises ToolError that says what is wrong and how the tool is called; long arguments are not repeated."""
        if len(raw) > MAX_ARGUMENT_CHARACTERS:
            raise ToolError(
                f"the arguments have {len(raw):,} characters, {MAX_ARGUMENT_CHARACTERS:,} is the limit; work in parts"
            )
        try:
            return self.arguments.model_validate_json(raw.strip() or "{}")
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False)
            raise ToolError(f"{self._what_is_wrong(raw, problems)}\n{self.usage}") from None
        except UnicodeEncodeError:
            raise ToolError(f"the arguments are not valid Unicode\n{self.usage}") from None

    def _what_is_wrong(self, raw: str, problems: list[Any]) -> str:
        if problems[0]["type"] == "json_invalid":
            message = problems[0]["msg"].removeprefix("Invalid JSON: ")
            return f"the arguments are not valid JSON: {message}{_near(raw, message)}"
        lines = [_problem(problem) for problem in problems[:_PROBLEMS_SHOWN]]
        if len(problems) > _PROBLEMS_SHOWN:
            lines.append(f"and {len(problems) - _PROBLEMS_SHOWN} more")
        return f"the arguments do not fit {self.name}: " + "; ".join(lines)

    @cached_property
    def usage(self) -> str:
        """One line: the arguments with their types; the ones that may be left out in brackets."""
        properties: Any = self.spec.parameters["properties"]
        required: Any = self.spec.parameters.get("required", ())
        shown = [
            f"{name}: {schema.get('type', 'any')}" if name in required else f"[{name}: {schema.get('type', 'any')}]"
            for name, schema in properties.items()
        ]
        return f"{self.name} takes {{{', '.join(shown)}}}"


def _problem(problem: Any) -> str:
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{field} is missing"
    if problem["type"] == "extra_forbidden":
        return f"there is no argument {field[:_EXCERPT_CHARACTERS]!r}"
    given = repr(problem["input"])
    given = given if len(given) <= _EXCERPT_CHARACTERS else given[:_EXCERPT_CHARACTERS] + "…"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{field or 'arguments'}: {message[0].lower()}{message[1:]}, not {given}"


def _near(raw: str, message: str) -> str:
    """The text around the place that the JSON parser complains about."""
    position = _POSITION.search(message)
    if position is None:
        return ""
    lines = raw.strip().split("\n")
    line, column = int(position[1]), int(position[2])
    if not 0 < line <= len(lines):
        return ""
    half = _EXCERPT_CHARACTERS // 2
    excerpt = lines[line - 1][max(column - half, 0) : column + half]
    return f", near {excerpt!r}" if excerpt else ""


def _plain_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as simple as every provider takes it: no titles, no references."""
    definitions = schema.pop("$defs", {})

    def plain(node: Any) -> Any:
        if isinstance(node, list):
            return [plain(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return plain(definitions[node["$ref"].rpartition("/")[2]])
        return {
            key: {name: plain(value) for name, value in item.items()} if key == "properties" else plain(item)
            for key, item in node.items()
            if key != "title" or not isinstance(item, str)
        }

    simple: dict[str, Any] = plain(schema)
    simple.pop("description", None)  # the class's docstring, which is for us
    return simple


def suggestion(name: str, known: list[str]) -> str:
    """`` (did you mean 'x'?)`` where something known is near, else nothing."""
    near = difflib.get_close_matches(name[:_EXCERPT_CHARACTERS].lower(), known, n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""
