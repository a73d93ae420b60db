"""What ``swarmq doctor`` looks at. Each check returns findings and never raises for what it is there to find."""

from __future__ import annotations

import platform
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from swarmq.cli.preflight import check_endpoint, check_state_dir
from swarmq.cli.render import count, duration
from swarmq.errors import EnvironmentFault, ModelError, SwarmqError

if TYPE_CHECKING:
    from swarmq.settings import Settings
    from swarmq.store.server import ServerInfo

OLDEST_PYTHON = (3, 11)
FREE_WARN_BYTES = 2_000_000_000
FREE_FAIL_BYTES = 100_000_000
SKEW_WARN_SECONDS = 5.0
"""Leases use the clock of Redis alone; a skew only makes the shown times wrong."""
TEST_CALL_SECONDS = 60.0
TEST_CALL_OUTPUT_TOKENS = 256
QUEUES = ("control", "integrate", "agents")

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor. ``remedy`` says what mends it."""

    check: str
    status: Status
    said: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def python() -> Finding:
    """The interpreter that runs this."""
    said = f"{platform.python_version()} at {sys.executable}; swarmq {version('swarmq')}"
    if sys.version_info < OLDEST_PYTHON:
        return Finding("python", "fail", said, "install Python 3.11 or newer")
    return Finding("python", "ok", said)


def git() -> Finding:
    """The git program on PATH."""
    from swarmq.workspace.git import GitAt, require_git

    try:
        require_git()
        return Finding("git", "ok", GitAt().run("version").text)
    except EnvironmentFault as error:
        return Finding("git", "fail", str(error), "install git 2.38 or newer and put it on PATH")


def state_dir(settings: Settings) -> Finding:
    """Whether the state directory can be written, and its free space."""
    place = settings.state_dir
    try:
        check_state_dir(place)
    except EnvironmentFault as error:
        return Finding("state dir", "fail", str(error), "export SWARMQ_STATE_DIR=DIRECTORY")
    free = free_bytes(place)
    said = f"{place} is writable, {free / 1e9:.1f} GB free"
    if free < FREE_FAIL_BYTES:
        return Finding("state dir", "fail", said, "free space there; swarmq gc removes what is past its time")
    if free < FREE_WARN_BYTES:
        return Finding("state dir", "warn", said, "swarmq gc removes what is past its time")
    return Finding("state dir", "ok", said)


def free_bytes(path: Path) -> int:
    """Space that this user may still fill there."""
    return shutil.disk_usage(path).free


def redis(info: ServerInfo, *, embedded: bool) -> list[Finding]:
    """A server that answered, and each of its settings under which records may be lost."""
    said = f"{'embedded ' if embedded else ''}{info.server} {info.version} at {info.address}"
    findings = [Finding("redis", "ok", said)]
    for danger in info.dangers:
        findings.append(Finding("redis settings", "warn", danger.said, danger.remedy))
    if not info.dangers:
        findings.append(Finding("redis settings", "ok", "append-only file, nothing is evicted"))
    return findings


def clock(server_time: float) -> Finding:
    """This machine's clock against that of Redis."""
    skew_seconds = time.time() - server_time
    if abs(skew_seconds) <= SKEW_WARN_SECONDS:
        return Finding("clock", "ok", f"within {SKEW_WARN_SECONDS:g} s of Redis")
    said = f"this clock is {duration(abs(skew_seconds))} {'ahead of' if skew_seconds > 0 else 'behind'} Redis"
    return Finding("clock", "warn", said, "synchronise the clocks (NTP); leases use the one of Redis")


def unserved(found: Sequence[dict[str, Any]]) -> list[str]:
    """The queues that no worker serves."""
    return [queue for queue in QUEUES if not any(queue in (worker.get("queues") or ()) for worker in found)]


def workers(found: Sequence[dict[str, Any]], *, embedded: bool) -> list[Finding]:
    """Whether each queue has a worker, and whether all are of this version."""
    findings = []
    for queue in QUEUES:
        serving = [worker for worker in found if queue in (worker.get("queues") or ())]
        name = f"queue {queue}"
        if serving:
            running = sum(int(worker.get("running") or 0) for worker in serving)
            findings.append(Finding(name, "ok", f"{count(len(serving), 'worker')}, {count(running, 'task')} running"))
        else:
            remedy = "swarmq down; swarmq up" if embedded else f"swarmq worker --queue {queue}"
            findings.append(Finding(name, "fail", "no worker is alive", remedy))
    own = version("swarmq")
    others = sorted({str(worker.get("version")) for worker in found} - {own})
    if others:
        said = f"workers of version {', '.join(others)}, this is {own}"
        findings.append(
            Finding("versions", "warn", said, "install the same version everywhere and restart the workers")
        )
    elif found:
        findings.append(Finding("versions", "ok", f"all workers are {own}"))
    return findings


async def models(settings: Settings) -> list[Finding]:
    """The default model and the keys of the endpoints that this machine knows."""
    from swarmq.providers.registry import Models

    findings = []
    if settings.model is None:
        said = "no default model"
        findings.append(Finding("model", "warn", said, "export SWARMQ_MODEL=openai:NAME, or use --model each time"))
    else:
        registry = Models(settings)
        try:
            registry.check(settings.model)
            await check_endpoint(settings, settings.model)
            findings.append(
                Finding("model", "ok", f"{settings.model}; swarmq doctor --model {settings.model} tries it")
            )
        except SwarmqError as error:
            findings.append(Finding("model", "fail", str(error), "swarmq config show --origin tells where it is set"))
    default = (settings.model or "").partition(":")[0]
    for name in settings.endpoint_names():
        endpoint = settings.endpoint(name)
        if endpoint is None or endpoint.api_key_env is None or name == default:
            continue
        if settings.secret(endpoint.api_key_env):
            findings.append(Finding(f"key {name}", "ok", f"{endpoint.api_key_env} is set"))
        else:
            remedy = f"export {endpoint.api_key_env}=… where this endpoint is to be used"
            findings.append(Finding(f"key {name}", "warn", f"{endpoint.api_key_env} is not set", remedy))
    return findings


async def test_call(settings: Settings, model: str) -> Finding:
    """One real call with a short answer; says what it cost."""
    from swarmq.models.messages import user
    from swarmq.providers.registry import Models

    registry = Models(settings)
    started = time.monotonic()
    try:
        conversation = (await registry.open(model)).conversation(())
        try:
            conversation.append(user("Answer with the single word: ready"))
            completion = await conversation.complete(
                max_output_tokens=TEST_CALL_OUTPUT_TOKENS, temperature=None, timeout_seconds=TEST_CALL_SECONDS
            )
        finally:
            await conversation.aclose()
    except SwarmqError as error:
        remedy = "check the model's name, the key and base_url" if isinstance(error, ModelError) else ""
        return Finding("test call", "fail", f"{model}: {error}", remedy)
    finally:
        await registry.aclose()
    usage = completion.usage
    cost = f"{count(usage.input_tokens, 'token')} in, {usage.output_tokens:,} out"
    return Finding("test call", "ok", f"{model} answered in {duration(time.monotonic() - started)}; it cost {cost}")
