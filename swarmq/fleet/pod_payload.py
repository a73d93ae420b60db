"""What a branch's pod is given: prompts, transcript, repository, the model's key, and its slice of the budgets."""

from __future__ import annotations

import base64
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from swarmq.errors import UsageError
from swarmq.fleet.continuing import Continuation
from swarmq.fleet.standing import plan_of
from swarmq.kubernetes.podspec import PodRequest
from swarmq.models.branch import BranchSpec
from swarmq.models.money import NANO_PER_USD
from swarmq.models.options import DEFAULT_MAX_COST_USD, SwarmOptions
from swarmq.models.plan import Kind, Subtask
from swarmq.models.swarm import SwarmRecord
from swarmq.models.transcript import Entry
from swarmq.orchestrator.context_text import dependency_context
from swarmq.orchestrator.verifying import branch_commands
from swarmq.pod.payload import MAX_PAYLOAD_BYTES, ModelAccess, Payload, RepositoryAccess, Slice
from swarmq.pod.trimming import encode_fitting
from swarmq.providers.windows import context_window_tokens
from swarmq.settings import Settings
from swarmq.workspace.blocking import run_blocking
from swarmq.workspace.swarm_repository import SwarmRepository

LAST_WORDS_SECONDS = 60.0
"""An agent ends by its own time-outs, with a result; the pod's deadline is for one that does not."""


@dataclass(frozen=True)
class PodTask:
    """A branch that is to run in a pod, as far as its supervisor knows it."""

    swarm: SwarmRecord
    subtask: Subtask
    spec: BranchSpec
    token: int
    model: str
    entries: Sequence[Entry]
    checkpoint: str | None
    continuation: Continuation | None
    counters: Mapping[str, float]


async def pod_request(task: PodTask, settings: Settings, repository: SwarmRepository | None) -> PodRequest:
    """PodError where the payload does not fit, with its size and the way out. UsageError for an unknown endpoint."""
    spec, options = task.spec, task.swarm.spec.options
    access = model_access(task.model, settings)
    window = access.endpoint.context_window_tokens or context_window_tokens(task.model.partition(":")[2])
    continuation = task.continuation
    payload = Payload(
        nonce=secrets.token_hex(16),
        branch=spec,
        token=task.token,
        options=options.model_copy(update={"idempotency_key": None}),
        subtask=task.subtask,
        verify=branch_commands(options, task.subtask) if repository is not None and spec.kind is not Kind.READ else (),
        context=dependency_context(plan_of(task.swarm), task.subtask, task.swarm.results, window, shared=False),
        entries=tuple(task.entries),
        adopted=() if continuation is None else continuation.entries,
        retry_error=None if continuation is None else continuation.error,
        checkpoint=task.checkpoint,
        model=access,
        repository=await _repository(task, settings, repository),
        slice=what_is_left(options, task.counters),
        probe_seconds=settings.heartbeat_seconds,
    )
    return PodRequest(
        swarm_id=spec.swarm_id,
        subtask_id=spec.subtask_id,
        branch_id=spec.id,
        stage=spec.stage,
        token=task.token,
        payload=await run_blocking(encode_fitting, payload),
        deadline_seconds=deadline_seconds(options, task.entries),
        nonce=payload.nonce,
        adopt_ended=task.token > 1,
    )


def model_access(model: str, settings: Settings) -> ModelAccess:
    """The endpoint with its key, where this process has it; else the pod looks for one in its Secrets."""
    endpoint = settings.endpoint(model.partition(":")[0])
    if endpoint is None:
        raise UsageError(f"unknown model endpoint in {model!r}; known are {', '.join(settings.endpoint_names())}")
    key = None if endpoint.api_key_env is None else settings.secret(endpoint.api_key_env)
    return ModelAccess(spec=model, endpoint=endpoint, api_key=key)


def deadline_seconds(options: SwarmOptions, entries: Sequence[Entry]) -> float:
    """Of a pod that is made now, so that the agent's own time-outs come first. Pure.

    What was recorded before is left out. A pod that is adopted did some of that itself, and keeps its own deadline.
    """
    spent_seconds = sum(entry.seconds for entry in entries if entry.adopted_from is None)
    left_seconds = max(1.0, options.subagent_timeout_seconds - spent_seconds)
    setup_seconds = options.setup_timeout_seconds if options.setup is not None else 0.0
    return left_seconds + setup_seconds + LAST_WORDS_SECONDS


def what_is_left(options: SwarmOptions, counters: Mapping[str, float]) -> Slice:
    """Of the swarm's budgets, whatever others have reserved: the supervisor takes each step from them as it is told.

    The slice bounds an agent whose supervisor is away. Money counts where the price is known; the agent finds that out
    by itself. Pure.
    """

    def left(most: float, *names: str) -> int:
        return max(0, math.floor(most - sum(counters.get(name, 0) for name in names)))

    most_usd = options.max_cost_usd or DEFAULT_MAX_COST_USD
    return Slice(
        steps=left(options.max_total_steps, "steps"),
        tokens=None if options.max_tokens is None else left(options.max_tokens, "input_tokens", "output_tokens"),
        nano_usd=left(most_usd * NANO_PER_USD, "cost_nano_usd"),
    )


async def _repository(task: PodTask, settings: Settings, repository: SwarmRepository | None) -> RepositoryAccess | None:
    """From the URL, what the swarm has made since being added; or the base commit's files alone.

    A resolver gets what both sides have made since the swarm's base, and the merge as it was left here: another git,
    or one without the repository's settings, might leave another.
    """
    spec, url = task.spec, task.swarm.spec.options.pod_repository_url
    base, theirs, origin = spec.base_commit, spec.theirs, task.swarm.spec.base_commit
    if repository is None or base is None or origin is None:
        return None
    wanted, merge = [base, *([task.checkpoint] if task.checkpoint is not None else [])], ""
    if theirs is not None:
        left = await repository.merge_left(base, theirs)
        wanted += [theirs, *left.objects]
        merge = base64.b64encode(left.told()).decode()
    if url is not None:
        pack = await repository.pack_of(wanted, [origin], MAX_PAYLOAD_BYTES)
        login = _login(url, settings)
        return RepositoryAccess(base_commit=base, url=url, known=origin, merge=merge, pack=pack, **login)
    shallow = base if theirs is None else origin
    pack = await repository.pack_of(wanted, [], MAX_PAYLOAD_BYTES, shallow)
    return RepositoryAccess(base_commit=base, shallow=shallow, merge=merge, pack=pack)


def _login(url: str, settings: Settings) -> dict[str, Any]:
    """Who the pod clones as; a password that this process does not have is one of the pod's Secrets."""
    host = settings.git_hosts.get(urlsplit(url).hostname or "")
    if host is None:
        return {}
    return {"user": host.user, "password": settings.secret(host.password_env), "password_env": host.password_env}
