"""The flags of SwarmOptions, declared here so that ``--help`` needs no pydantic; a test holds the two together.

None means "not given": the default is the model's own. Each help text is the field's description and default.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from swarmq.models.options import SwarmOptions


def _flag(help: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, show_default=False)


Model = Annotated[
    str | None,
    _flag("Model of the branches, such as openai:NAME; default from the settings.", metavar="PROVIDER:NAME"),
]
PlannerModel = Annotated[
    str | None, _flag("Model that writes the plan and the synthesis; default: model.", metavar="PROVIDER:NAME")
]
Strategy = Annotated[
    str | None,
    _flag("How the task is split. [automatic]", metavar="automatic|by_domain|by_data|by_stage|none"),
]
MaxSubtasks = Annotated[int | None, _flag("Most subtasks a plan may have. [100]")]
MaxSubagents = Annotated[int | None, _flag("Most branches of the swarm that run at once. [100]")]
MaxStepsPerSubagent = Annotated[int | None, _flag("Most steps of one branch. [100]")]
MaxTotalSteps = Annotated[int | None, _flag("Most steps of the whole swarm. [1500]")]
MaxTokens = Annotated[int | None, _flag("Most tokens of the whole swarm, input and output, planning included.")]
MaxCostUsd = Annotated[
    float | None,
    _flag("Most money of the whole swarm, in USD; default: 20 where the model's price is known.", metavar="USD"),
]
SubagentTimeout = Annotated[float | None, _flag("Most time one branch may run. [3600]", metavar="SECONDS")]
StepTimeout = Annotated[float | None, _flag("Most time without a finished step. [600]", metavar="SECONDS")]
ModelCallTimeout = Annotated[float | None, _flag("Most time of one model call. [120]", metavar="SECONDS")]
MaxRetries = Annotated[int | None, _flag("Retries of one model call for what may pass later. [3]")]
MaxDeliveries = Annotated[int | None, _flag("Lease expiries after which a branch is given up. [5]")]
MaxOutputTokens = Annotated[int | None, _flag("Most tokens of one model answer. [8192]")]
Temperature = Annotated[float | None, _flag("Sent only where set: some models refuse it.")]
Schedule = Annotated[
    str | None,
    _flag(
        "Start a stage when the one before is merged, or each subtask when its dependencies are. [stages]",
        metavar="stages|ready",
    ),
]
Verify = Annotated[
    list[str] | None,
    _flag("Commands that must pass before work counts, and after each merge.", metavar="COMMAND"),
]
VerifyTimeout = Annotated[float | None, _flag("Most time of one verify command. [600]", metavar="SECONDS")]
VerifyRounds = Annotated[int | None, _flag("How often an agent may be sent back to pass verify. [3]")]
ResolveConflicts = Annotated[
    bool | None,
    _flag(
        "Have an agent resolve a merge conflict before giving up. [yes]", "--resolve-conflicts/--no-resolve-conflicts"
    ),
]
Candidates = Annotated[int | None, _flag("Branches that race for each subtask that edits files. [1]")]
CandidateModels = Annotated[
    list[str] | None, _flag("Models of the candidates, in turn.", "--candidate-model", metavar="PROVIDER:NAME")
]
RaceDeadline = Annotated[
    float | None,
    _flag("When a race without verify is decided by score; default: when all end.", metavar="SECONDS"),
]
Probe = Annotated[str | None, _flag("Command that tells whether a branch is on a good way.", metavar="COMMAND")]
ProbeTimeout = Annotated[float | None, _flag("Most time of one probe. [60]", metavar="SECONDS")]
Collapse = Annotated[
    str | None,
    _flag("Which branches compete: those of one subtask, all of a stage, or none. [race]", metavar="race|stage|off"),
]
CollapsePolicy = Annotated[list[str] | None, _flag("Thresholds of the collapse controller.", metavar="NAME=VALUE")]
Placement = Annotated[
    str | None,
    _flag("Run branches in the workers, or each in a Kubernetes pod of its own. [fleet]", metavar="fleet|pod"),
]
PodRepositoryUrl = Annotated[
    str | None,
    _flag("URL that pods clone the repository from; default: it is sent along, up to 1 MB.", metavar="URL"),
]
DeclaredOverlaps = Annotated[
    str | None,
    _flag(
        "Subtasks that declare the same files: put in order, told of, or by who made the plan. [auto]",
        metavar="auto|order|flag",
    ),
]
OnFailure = Annotated[str | None, _flag("What a failed subtask does to the rest. [continue]", metavar="continue|stop")]
Synthesize = Annotated[
    bool | None, _flag("Ask the model for one final answer over all results. [no]", "--synthesize/--no-synthesize")
]
AutoMerge = Annotated[
    bool | None,
    _flag("Merge finished branches; false leaves the work branches alone. [yes]", "--auto-merge/--no-auto-merge"),
]
AllowDirty = Annotated[
    bool | None,
    _flag("Accept a checkout with uncommitted changes (they are not seen). [no]", "--allow-dirty/--no-allow-dirty"),
]
Setup = Annotated[str | None, _flag("Command that makes a new worktree ready, such as 'uv sync'.", metavar="COMMAND")]
SetupTimeout = Annotated[float | None, _flag("Most time the setup command may take. [600]", metavar="SECONDS")]
CopyGlobs = Annotated[
    list[str] | None, _flag("Globs of ignored files copied into each worktree.", "--copy", metavar="GLOB")
]
Env = Annotated[list[str] | None, _flag("Variables added to the agents' shells.", "--env", metavar="NAME=VALUE")]
Cache = Annotated[str | None, _flag("Whether results of equal earlier work are used. [use]", metavar="use|bypass")]
Baseline = Annotated[
    str | None, _flag("Swarm to compare with; default: the same task done by one agent, if it was.", metavar="SWARM")
]
KeepFailedHours = Annotated[
    float | None, _flag("How long failed branches' worktrees stay, keep_days at most. [72]", metavar="HOURS")
]
KeepDays = Annotated[float | None, _flag("How long records stay after the end of the swarm. [7]", metavar="DAYS")]
IdempotencyKey = Annotated[str | None, _flag("Same key, same swarm.", metavar="KEY")]

RENAMED = {"copy_globs": "--copy", "candidate_models": "--candidate-model"}
"""Fields whose flag is not the field's name."""


def given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The options among a command's parameters that were given, as SwarmOptions takes them.

    OptionError for a pair that is none.
    """
    from swarmq.errors import OptionError
    from swarmq.models.options import SwarmOptions

    values = {name: parameters.get(name) for name in SwarmOptions.model_fields}
    values = {name: value for name, value in values.items() if value not in (None, [], ())}
    for name in {"env", "collapse_policy"} & set(values):
        wrong = [pair for pair in values[name] or () if not pair.partition("=")[0] or "=" not in pair]
        if wrong:
            raise OptionError(f"--{name.replace('_', '-')}: NAME=VALUE is expected (got {wrong[0]!r})")
        values[name] = dict(pair.split("=", 1) for pair in values[name] or ())
    return values


def parse(values: Mapping[str, Any]) -> SwarmOptions:
    """The options; OptionError names the flag."""
    from swarmq.models.options import SwarmOptions

    with told_in_flags():
        return SwarmOptions.parse(dict(values))


@contextmanager
def told_in_flags() -> Iterator[None]:
    """An OptionError that leaves this block speaks of flags, where it spoke of fields."""
    from swarmq.errors import OptionError

    try:
        yield
    except OptionError as error:
        raise OptionError(in_flags(str(error))) from None


def in_flags(message: str) -> str:
    """A message about a field, in the words of the command line. Other fields that it advises of are flags as well."""
    from swarmq.models.options import SwarmOptions

    field, _, rest = message.partition(":")
    others = "|".join(name for name in SwarmOptions.model_fields if "_" in name)  # the rest are ordinary words
    name, _, part = field.partition(".")
    flag = f"{_flag_of(name)} {part}" if part and not part.isdigit() else _flag_of(name)  # NAME of NAME=VALUE
    return f"{flag}:" + re.sub(rf"\b({others})\b", lambda name: _flag_of(name[0]), rest)


def _flag_of(field: str) -> str:
    return RENAMED.get(field) or f"--{field.replace('_', '-')}"
