"""SwarmOptions: what a producer may choose for one swarm, with ranges, defaults (S9) and units."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from swarmq.errors import OptionError
from swarmq.models.base import Record
from swarmq.models.collapse import CollapsePolicy
from swarmq.models.verify import Commands


class Strategy(StrEnum):
    """How the model is asked to split the task; ``none`` makes a single subtask of it."""

    AUTOMATIC = "automatic"
    BY_DOMAIN = "by_domain"
    BY_DATA = "by_data"
    BY_STAGE = "by_stage"
    NONE = "none"


DEFAULT_MAX_COST_USD = 20.0
"""Holds for models whose price is known; for others there is nothing to compare with."""


class SwarmOptions(Record):
    """Options of one swarm. Unknown or out-of-range fields are refused with the field's name."""

    model: str | None = Field(
        None, description="Model of the branches, such as openai:NAME; default from the settings."
    )
    planner_model: str | None = Field(None, description="Model that writes the plan and the synthesis; default: model.")
    strategy: Strategy = Field(Strategy.AUTOMATIC, description="How the task is split.")
    max_subtasks: int = Field(100, ge=1, le=1000, description="Most subtasks a plan may have.")
    max_subagents: int = Field(100, ge=1, le=10_000, description="Most branches of the swarm that run at once.")
    max_steps_per_subagent: int = Field(100, ge=1, le=10_000, description="Most steps of one branch.")
    max_total_steps: int = Field(1500, ge=1, le=1_000_000, description="Most steps of the whole swarm.")
    max_tokens: int | None = Field(
        None, ge=1, le=10**13, description="Most tokens of the whole swarm, input and output, planning included."
    )
    max_cost_usd: float | None = Field(
        None,
        gt=0,
        le=1_000_000,
        description="Most money of the whole swarm, in USD; default: 20 where the model's price is known.",
    )
    subagent_timeout_seconds: float = Field(3600, gt=0, le=604_800, description="Most time one branch may run.")
    step_timeout_seconds: float = Field(600, gt=0, le=86_400, description="Most time without a finished step.")
    model_call_timeout_seconds: float = Field(120, gt=0, le=3600, description="Most time of one model call.")
    max_retries: int = Field(3, ge=0, le=20, description="Retries of one model call for what may pass later.")
    max_deliveries: int = Field(5, ge=1, le=100, description="Lease expiries after which a branch is given up.")
    max_output_tokens: int = Field(8192, ge=1, le=1_000_000, description="Most tokens of one model answer.")
    temperature: float | None = Field(None, ge=0, le=2, description="Sent only where set: some models refuse it.")
    schedule: Literal["stages", "ready"] = Field(
        "stages", description="Start a stage when the one before is merged, or each subtask when its dependencies are."
    )
    verify: Commands = Field((), description="Commands that must pass before work counts, and after each merge.")
    verify_timeout_seconds: float = Field(600, gt=0, le=86_400, description="Most time of one verify command.")
    verify_rounds: int = Field(3, ge=1, le=100, description="How often an agent may be sent back to pass verify.")
    resolve_conflicts: bool = Field(True, description="Have an agent resolve a merge conflict before giving up.")
    candidates: int = Field(1, ge=1, le=8, description="Branches that race for each subtask that edits files.")
    candidate_models: tuple[str, ...] = Field((), max_length=8, description="Models of the candidates, in turn.")
    race_deadline_seconds: float | None = Field(
        None, gt=0, le=604_800, description="When a race without verify is decided by score; default: when all end."
    )
    probe: str | None = Field(None, min_length=1, description="Command that tells whether a branch is on a good way.")
    probe_timeout_seconds: float = Field(60, gt=0, le=3600, description="Most time of one probe.")
    collapse: Literal["race", "stage", "off"] = Field(
        "race", description="Which branches compete: those of one subtask, all of a stage, or none."
    )
    collapse_policy: CollapsePolicy = Field(
        default_factory=CollapsePolicy, description="Thresholds of the collapse controller."
    )
    placement: Literal["fleet", "pod"] = Field(
        "fleet", description="Run branches in the workers, or each in a Kubernetes pod of its own."
    )
    pod_repository_url: str | None = Field(
        None,
        pattern=r"^(https?|file)://",
        description="URL that pods clone the repository from; default: it is sent along, up to 1 MB.",
    )
    declared_overlaps: Literal["auto", "order", "flag"] = Field(
        "auto",
        description="Subtasks that declare the same files: put in order, told of, or by who made the plan.",
    )
    on_failure: Literal["continue", "stop"] = Field("continue", description="What a failed subtask does to the rest.")
    synthesize: bool = Field(False, description="Ask the model for one final answer over all results.")
    auto_merge: bool = Field(True, description="Merge finished branches; false leaves the work branches alone.")
    allow_dirty: bool = Field(False, description="Accept a checkout with uncommitted changes (they are not seen).")
    setup: str | None = Field(None, description="Command that makes a new worktree ready, such as 'uv sync'.")
    setup_timeout_seconds: float = Field(600, gt=0, le=86_400, description="Most time the setup command may take.")
    copy_globs: tuple[str, ...] = Field((), description="Globs of ignored files copied into each worktree.")
    env: dict[str, str] = Field(default_factory=dict, description="Variables added to the agents' shells.")
    cache: Literal["use", "bypass"] = Field("use", description="Whether results of equal earlier work are used.")
    baseline: str | None = Field(
        None, min_length=1, description="Swarm to compare with; default: the same task done by one agent, if it was."
    )
    keep_failed_hours: float = Field(
        72, ge=0, le=8760, description="How long failed branches' worktrees stay, keep_days at most."
    )
    keep_days: float = Field(7, gt=0, le=3650, description="How long records stay after the end of the swarm.")
    idempotency_key: str | None = Field(None, min_length=1, max_length=200, description="Same key, same swarm.")

    @field_validator("copy_globs")
    @classmethod
    def _inside(cls, globs: tuple[str, ...]) -> tuple[str, ...]:
        for glob in globs:
            if glob.startswith("/") or ".." in glob.split("/"):
                raise ValueError(f"{glob!r} leads out of the repository")
        return globs

    @property
    def eager(self) -> bool:
        """Whether work is merged as each branch ends, so that what waits for it alone can start."""
        return self.schedule == "ready"

    @classmethod
    def parse(cls, values: dict[str, Any]) -> SwarmOptions:
        """Build options from plain values; raises OptionError that names the first wrong field.

        Only values that are given can contradict each other: who lowers one limit need not lower all that are above.
        """
        try:
            options = cls.model_validate(values)
        except ValidationError as error:
            raise OptionError(describe(error)) from None
        given = {name: getattr(options, name) for name in values}
        _refuse_contradictions({name: value for name, value in given.items() if value is not None})
        return options


_WITHIN = (
    ("model_call_timeout_seconds", "step_timeout_seconds", "no model call could take that long"),
    ("step_timeout_seconds", "subagent_timeout_seconds", "no step could take that long"),
    ("max_output_tokens", "max_tokens", "no answer could be that long"),
)
"""A limit, the one that it has to fit into, and why."""


def _refuse_contradictions(given: dict[str, Any]) -> None:
    for inner, outer, why in _WITHIN:
        if inner in given and outer in given and given[inner] > given[outer]:
            numbers = f"{given[inner]:.10g} is more than {outer} ({given[outer]:.10g})"
            raise OptionError(f"{inner}: {numbers}, and {why}: lower it, or raise {outer}")
    if given.get("placement") == "pod":
        _refuse_in_pods(given)


def _refuse_in_pods(given: dict[str, Any]) -> None:
    """What has no meaning far from this machine's files."""
    if given.get("copy_globs"):
        raise OptionError("copy_globs: pods have no checkout with ignored files: make them with setup instead")
    for name in ("model", "candidate_models"):
        models = given.get(name) or ()
        if any(model.startswith("scripted:") for model in ([models] if isinstance(models, str) else models)):
            raise OptionError(f"{name}: a scripted model is a file of this machine, which pods do not have")


def changed_options(options: SwarmOptions, changes: dict[str, Any]) -> SwarmOptions:
    """The options of a swarm with some of them changed, for another swarm; raises OptionError.

    An idempotency key belongs to one swarm and is not taken along.
    """
    kept = options.model_dump(exclude_defaults=True, exclude={"idempotency_key"})
    return SwarmOptions.parse(kept | changes)


def describe(error: ValidationError) -> str:
    """The first problem of a validation error as ``field: what is wrong``; whole records are never shown."""
    first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    what = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"{field}: no such field"
    if not field:
        return what
    if first["type"] == "tuple_type":
        return f"{field}: must be a list"
    if first["type"] == "too_short" and not first["input"]:
        return f"{field}: must not be empty"  # pydantic speaks of tuples
    shown = f" (got {first['input']!r:.80})" if isinstance(first["input"], str | int | float | bool | None) else ""
    return f"{field}: {what}{shown}"
