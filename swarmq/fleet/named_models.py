"""What a producer can know of the models that a swarm names, before it is submitted."""

from __future__ import annotations

from collections.abc import Iterable

from swarmq.errors import OptionError
from swarmq.fleet.spending import require_price
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Subtask
from swarmq.models.swarm import SwarmSpec
from swarmq.providers.registry import Models
from swarmq.settings import Settings


def named_models(options: SwarmOptions, subtasks: Iterable[Subtask] = ()) -> set[str]:
    """Every model that the options or the plan name; without those that are left to a default."""
    named = {options.model, options.planner_model, *options.candidate_models}
    named.update(model for subtask in subtasks for model in subtask.models)
    return {model for model in named if model is not None}


def with_sound_models(
    settings: Settings, spec: SwarmSpec, known: SwarmOptions | None = None, *, embedded: bool
) -> SwarmSpec:
    """The swarm as it can be submitted. UsageError for a model that cannot be right, OptionError for a cost limit.

    Workers of the embedded stack know the same endpoints as this process, which brings them, and the swarm gets this
    process' default model. Workers elsewhere may have a default, endpoints and script files of their own: there only
    the form is looked at, and the rest is theirs to check. Keys are the workers' in both cases. A swarm that is
    retried ran with the models of its options (``known``) and its plan: only others are looked at.
    """
    options = spec.options
    if embedded:
        options = options.model_copy(update={"model": options.model or settings.model})
        if options.model is None:
            raise OptionError("model: none is named; use --model openai:NAME or anthropic:NAME, or set SWARMQ_MODEL")
    models = Models(settings)
    check = models.check_name if embedded else models.check_form
    named = named_models(options, spec.plan.subtasks if spec.plan and known is None else ())
    for model in sorted(named - (named_models(known) if known else set())):
        check(model)
    default_or_named = {options.model or settings.model, options.planner_model} - {None}
    priced = [name for name in default_or_named if name and settings.endpoint(name.partition(":")[0]) is not None]
    require_price(models, options, sorted(priced))
    return spec.model_copy(update={"options": options})
