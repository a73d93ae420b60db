"""Everything about a request that can be known before anything is started or spent."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from swarmq.cli import options as flags
from swarmq.cli import session
from swarmq.cli.planfile import read_plan
from swarmq.cli.render import note
from swarmq.errors import EnvironmentFault, StoreError, UsageError

if TYPE_CHECKING:
    from swarmq.models.plan import Plan
    from swarmq.models.swarm import SwarmSpec
    from swarmq.settings import Settings

SCRIPTED = "scripted:"
CONNECT_SECONDS = 5.0
PREVIEW_ID = "0" * 10
"""The id of a swarm that is only being checked or planned."""


@dataclass(frozen=True)
class Request:
    """What the command line asks for. ``parameters`` are the command's own, SwarmOptions' flags among them."""

    task: str | None
    repo: Path | None
    no_repo: bool
    plan_file: Path | None
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Checked:
    """A request that can be carried out. ``options`` are those that were given; the rest keep their defaults."""

    settings: Settings
    spec: SwarmSpec
    options: dict[str, Any]
    planner: str
    can_plan_here: bool

    @property
    def plan(self) -> Plan | None:
        return self.spec.plan


def given_task(argument: str | None) -> str | None:
    """The argument, or standard input for ``-``; blocks, so it is not for the event loop."""
    return sys.stdin.read() if argument == "-" else argument


async def check(request: Request, *, runs: bool = True) -> Checked:
    """Check task, options, plan, repository, models, Redis and directories, in this order; starts nothing.

    Without ``runs`` the plan is made here and nothing else: Redis and directories do not matter. Raises UsageError
    or EnvironmentFault: one line with the way out.
    """
    from swarmq.fleet.named_models import named_models
    from swarmq.settings import load_settings

    settings = load_settings()
    session.quiet_logs(settings)
    given = flags.given(request.parameters)
    given = absolute_models(given)
    options = flags.parse(given)
    plan = None if request.plan_file is None else read_plan(request.plan_file, options.max_subtasks)
    spec = await _spec(request, plan, given)
    model = options.model or settings.model
    if plan is not None and not runs:  # it is only shown: no model is called, and no key needed
        refuse_unknown(settings, named_models(options, plan.subtasks))
        return Checked(settings, spec, given, model or "", can_plan_here=True)
    if model is None:
        raise UsageError("no model is named: use --model openai:NAME or --model anthropic:NAME, or set SWARMQ_MODEL")
    if options.model is None:
        given["model"] = absolute_script(model)  # the workers may have another default
    planner = options.planner_model or given["model"]
    named = {given["model"], planner} | named_models(spec.options, plan.subtasks if plan else ())
    can_plan_here = await check_models(settings, named, must=not runs or settings.broker() is None)
    if runs:
        await check_places(settings)
    return Checked(settings, spec, given, planner, can_plan_here)


async def _spec(request: Request, plan: Plan | None, given: dict[str, Any]) -> SwarmSpec:
    """The swarm as the workers would record it, repository and all."""
    from swarmq.fleet.accept import Submission, checked_spec

    if request.no_repo and request.repo is not None:
        raise UsageError("--repo and --no-repo exclude each other")
    repo = None if request.no_repo else request.repo or Path.cwd()
    planned = plan.model_dump(mode="json") if plan else None
    submission = Submission(task_text(request, plan), None, str(repo) if repo else None, planned, given)
    with flags.told_in_flags():
        return await checked_spec(submission, PREVIEW_ID, "")


def absolute_script(model: str) -> str:
    """``scripted:FILE`` with an absolute path: workers run in directories of their own."""
    if not model.startswith(SCRIPTED):
        return model
    return f"{SCRIPTED}{Path(model.removeprefix(SCRIPTED)).expanduser().resolve()}"


def absolute_models(given: dict[str, Any]) -> dict[str, Any]:
    """The given options with ``absolute_script`` for each model among them."""
    models: dict[str, Any] = {
        name: absolute_script(given[name]) for name in ("model", "planner_model") if name in given
    }
    if "candidate_models" in given:
        models["candidate_models"] = [absolute_script(model) for model in given["candidate_models"]]
    return given | models


def task_text(request: Request, plan: Plan | None) -> str:
    """The task that was given, or the names of the plan's subtasks."""
    if request.task is not None and request.task.strip():
        return request.task.strip()
    if request.task is None and plan is not None:
        return "; ".join(subtask.name for subtask in plan.subtasks)
    raise UsageError('the task is empty: say what to do, as in swarmq run "Port the tests to pytest"')


def refuse_unknown(settings: Settings, models: Iterable[str]) -> None:
    """UsageError for the first model that names no endpoint or script of these settings."""
    from swarmq.providers.registry import Models

    registry = Models(settings)
    for model in sorted(models):
        registry.check_name(model)


async def check_models(settings: Settings, models: Iterable[str], *, must: bool) -> bool:
    """Whether this machine can call them; raises where it ``must``. Elsewhere the workers need the keys, not we."""
    from swarmq.providers.registry import Models

    registry = Models(settings)
    for model in sorted(models):
        try:
            registry.check(model)
            await check_endpoint(settings, model)
        except EnvironmentFault as error:
            if must:
                raise
            note(f"note: {error} (this machine need not: the workers call the model)")
            return False
    return True


async def check_endpoint(settings: Settings, model: str) -> None:
    """Whether something listens at the model's endpoint; costs no tokens. A proxy may know more hosts than we do."""
    name = model.partition(":")[0]
    endpoint = settings.endpoint(name)
    if endpoint is None:  # scripted: its server is started by who uses it
        return
    url = urlsplit(endpoint.base_url)
    host = url.hostname or ""
    if url.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        why = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise EnvironmentFault(
            f"model endpoint {name!r} at {endpoint.base_url} cannot be reached ({why}):"
            f" start its server, or mend base_url under [endpoints.{name}]"
        ) from None
    writer.close()


async def check_places(settings: Settings) -> None:
    """Redis where one is named, and the state directory. Last, because the directory is made.

    Tells each setting of that Redis under which the swarm may be lost.
    """
    from swarmq.store.refusals import full_message
    from swarmq.store.server import check as check_redis

    url = settings.broker()
    if url is not None:
        found = await check_redis(url)
        for danger in found.dangers:
            note(f"warning: Redis at {found.address}: {danger}")
        if found.full:
            raise StoreError(full_message(f"Redis at {found.address}"))
    check_state_dir(settings.state_dir)


def check_state_dir(state_dir: Path) -> None:
    """Write and remove a file there; EnvironmentFault where that is refused. Permissions alone do not tell."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=state_dir):
            pass
    except OSError as error:
        raise EnvironmentFault(
            f"state directory {state_dir}: {error.strerror}; choose another with SWARMQ_STATE_DIR"
        ) from None
