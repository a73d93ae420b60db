"""A plan: the validated DAG of subtasks, and what follows from its shape. Pure."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cached_property
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from swarmq.errors import PlanError
from swarmq.models.base import Record
from swarmq.models.file_globs import FileGlobs
from swarmq.models.options import describe
from swarmq.models.verify import Commands


class Kind(StrEnum):
    """What a subtask does to files."""

    EDIT = "edit"
    """Must leave file changes; they are merged."""
    VERIFY = "verify"
    """Runs checks, may write scratch files; nothing is merged."""
    READ = "read"
    """Read-only tools in a checkout shared by the stage's readers."""


def slug(name: str) -> str:
    """A subtask's name as part of ids, git refs and directories: ``[a-z0-9-]``, at most 48 characters."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:48].strip("-")


class Subtask(Record):
    """One node of the plan."""

    name: str = Field(min_length=1, max_length=200)
    instruction: str = Field(min_length=1)
    specialty: str = Field("software engineering", max_length=200)
    dependencies: tuple[str, ...] = ()
    priority: int = Field(0, ge=-100, le=100, description="Higher starts first within its stage.")
    kind: Kind = Kind.EDIT
    files: FileGlobs = Field((), description="Files (paths or globs) that it will change, as far as they are known.")
    verify: Commands = Field((), description="Commands that must pass; default: the swarm's.")
    candidates: int | None = Field(None, ge=1, le=8, description="Branches that race for it; default: the swarm's.")
    approaches: tuple[str, ...] = Field((), max_length=8, description="What each candidate is told to try, in order.")
    models: tuple[str, ...] = Field((), max_length=8, description="Models of the candidates, in turn.")
    race_deadline_seconds: float | None = Field(None, gt=0, le=604_800, description="Default: the swarm's.")

    @field_validator("instruction")
    @classmethod
    def _says_something(cls, instruction: str) -> str:
        if not instruction.strip():
            raise ValueError("must not be empty")
        return instruction

    @model_validator(mode="after")
    def _isolated(self) -> Subtask:
        if self.kind is Kind.READ and self.candidates is not None and self.candidates > 1:
            raise ValueError(
                f"subtask {self.name!r}: candidates: branches of kind read share one checkout and leave no work to "
                "compare: let one read, or make it kind edit"
            )
        return self

    @model_validator(mode="after")
    def _verifiable(self) -> Subtask:
        if self.kind is Kind.READ and self.verify:
            raise ValueError(
                f"subtask {self.name!r}: verify: branches of kind read have no worktree of their own to run it in"
            )
        return self

    @property
    def id(self) -> str:
        return slug(self.name)


class Plan(Record):
    """At least one subtask; unique names; every dependency known; no cycle."""

    subtasks: tuple[Subtask, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_a_dag(self) -> Plan:
        names = [subtask.name for subtask in self.subtasks]
        ids: dict[str, str] = {}
        for subtask in self.subtasks:
            if not subtask.id:
                raise ValueError(f"subtask {subtask.name!r}: the name needs a letter a-z or a digit")
            if subtask.id in ids:
                raise ValueError(f"subtask {subtask.name!r}: the name is too close to that of {ids[subtask.id]!r}")
            ids[subtask.id] = subtask.name
            for dependency in subtask.dependencies:
                if dependency not in names:
                    raise ValueError(f"subtask {subtask.name!r}: unknown dependency {dependency!r}")
        self._depths()
        return self

    def _depths(self) -> dict[str, int]:
        waiting = {subtask.name: set(subtask.dependencies) for subtask in self.subtasks}
        depths: dict[str, int] = {}
        depth = 0
        while waiting:
            ready = [name for name, needs in waiting.items() if not needs]
            if not ready:
                raise ValueError(f"the dependencies form a cycle: {' -> '.join(_cycle(waiting))}")
            for name in ready:
                depths[name] = depth
                del waiting[name]
            for needs in waiting.values():
                needs.difference_update(ready)
            depth += 1
        return depths

    @cached_property
    def depths(self) -> dict[str, int]:
        """By name: the longest path from a root."""
        return self._depths()

    @cached_property
    def ids(self) -> dict[str, str]:
        """Name -> id."""
        return {subtask.name: subtask.id for subtask in self.subtasks}

    @cached_property
    def stages(self) -> tuple[tuple[Subtask, ...], ...]:
        """Subtasks by their longest path from a root, each stage in priority order, then plan order."""
        depths = self.depths
        stages: list[list[Subtask]] = [[] for _ in range(max(depths.values()) + 1)]
        for subtask in self.subtasks:
            stages[depths[subtask.name]].append(subtask)
        return tuple(tuple(sorted(stage, key=lambda subtask: -subtask.priority)) for stage in stages)

    def subtask(self, subtask_id: str) -> Subtask:
        """The subtask of that id; KeyError if there is none."""
        for subtask in self.subtasks:
            if subtask.id == subtask_id:
                return subtask
        raise KeyError(subtask_id)

    @classmethod
    def parse(cls, values: Any, max_subtasks: int | None = None) -> Plan:
        """Build a plan from plain values; raises PlanError that says what is wrong and where."""
        if isinstance(values, list):
            values = {"subtasks": values}
        if not isinstance(values, dict):
            raise PlanError("a plan is an object with a list 'subtasks'")
        try:
            plan = cls.model_validate(values)
        except ValidationError as error:
            raise PlanError(_with_names(describe(error), values)) from None
        if max_subtasks is not None and len(plan.subtasks) > max_subtasks:
            raise PlanError(f"the plan has {len(plan.subtasks)} subtasks, max_subtasks is {max_subtasks}")
        return plan


def _with_names(message: str, values: dict[str, Any]) -> str:
    """A message about a field of a subtask, with the subtask's name in place of its number where it has one."""
    found = re.match(r"subtasks\.(\d+)\.(.+)", message, re.DOTALL)
    if found is None:
        return message
    subtask = values["subtasks"][int(found[1])]
    name = subtask.get("name") if isinstance(subtask, dict) else None
    return f"subtask {name!r}: {found[2]}" if isinstance(name, str) and name.strip() else message


def _cycle(waiting: dict[str, set[str]]) -> list[str]:
    """One cycle among subtasks of which none is ready."""
    path = [next(iter(waiting))]
    while True:
        following = min(name for name in waiting[path[-1]] if name in waiting)
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)
