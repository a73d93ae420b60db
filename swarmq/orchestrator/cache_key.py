"""Which earlier work counts as equal (S8). Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import orjson

from swarmq.models.branch import BranchSpec
from swarmq.models.messages import ToolSpec
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Kind, Subtask
from swarmq.orchestrator.verifying import branch_commands

_FORMAT = 2
"""Grows when prompts or tools change so that earlier results would not be had again."""
_LIMITS = (
    "max_steps_per_subagent",
    "subagent_timeout_seconds",
    "step_timeout_seconds",
    "model_call_timeout_seconds",
    "max_output_tokens",
    "verify_timeout_seconds",
    "verify_rounds",
)
_SURROUNDINGS = ("temperature", "setup", "copy_globs", "env")
"""Not limits, but work done without them is other work."""


def cache_key(
    model: str,
    subtask: Subtask,
    branch: BranchSpec,
    options: SwarmOptions,
    dependencies: Mapping[str, str],
    base_tree: str | None,
    repo: str | None = None,
    tools: Sequence[ToolSpec] = (),
) -> str:
    """SHA-256 over all that decides a result; ``dependencies`` are results by name, ``base_tree`` the files' hash.

    Names, priorities and declared files are left out: they say nothing to the agent. What a success has passed
    (``verify``) is part of what it is: one that passed less, or something else, is not equal. Two candidates of one
    race are never equal, or the race would be run by one of them. A commit is kept for its repository (``repo``) alone.
    """
    chosen = options.model_dump(mode="json", include={*_LIMITS, *_SURROUNDINGS})
    values = {
        "format": _FORMAT,
        "model": branch.model or model,
        "kind": subtask.kind.value,
        "instruction": subtask.instruction,
        "specialty": subtask.specialty,
        "approach": branch.approach,
        "candidate": branch.candidate,
        "limits": {name: chosen[name] for name in _LIMITS},
        "surroundings": {name: chosen[name] for name in _SURROUNDINGS},
        "verify": branch_commands(options, subtask),
        "tools": [tool.model_dump(mode="json") for tool in tools],
        "dependencies": dict(dependencies),
        "base_tree": base_tree,
        "repo": repo if subtask.kind is Kind.EDIT else None,
    }
    return hashlib.sha256(orjson.dumps(values, option=orjson.OPT_SORT_KEYS)).hexdigest()
