"""Which earlier work counts as equal (S8). Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import orjson

from swarmq.models.messages import ToolSpec
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Subtask
from swarmq.orchestrator.verifying import branch_commands

_FORMAT = 1
"""Grows when prompts or tools change so that earlier results would not be had again."""
_LIMITS = (
    "max_steps_per_subagent",
    "subagent_timeout_seconds",
    "step_timeout_seconds",
    "model_call_timeout_seconds",
    "max_output_tokens",
)
_SURROUNDINGS = ("temperature", "setup", "copy_globs", "env")
"""Not limits, but work done without them is other work."""


def cache_key(
    model: str,
    subtask: Subtask,
    options: SwarmOptions,
    dependencies: Mapping[str, str],
    base_tree: str | None,
    tools: Sequence[ToolSpec] = (),
) -> str:
    """SHA-256 over all that decides a result; ``dependencies`` are results by name, ``base_tree`` the files' hash.

    Names and priorities are left out: they say nothing to the agent.
    """
    chosen = options.model_dump(mode="json", include={*_LIMITS, *_SURROUNDINGS})
    values = {
        "format": _FORMAT,
        "model": model,
        "kind": subtask.kind.value,
        "instruction": subtask.instruction,
        "specialty": subtask.specialty,
        "limits": {name: chosen[name] for name in _LIMITS},
        "surroundings": {name: chosen[name] for name in _SURROUNDINGS},
        "verify": branch_commands(options, subtask),
        "tools": [tool.model_dump(mode="json") for tool in tools],
        "dependencies": dict(dependencies),
        "base_tree": base_tree,
    }
    return hashlib.sha256(orjson.dumps(values, option=orjson.OPT_SORT_KEYS)).hexdigest()
