"""What ``swarmq doctor`` looks at on this machine. A check returns findings and never raises for what it looks for."""

from __future__ import annotations

import platform
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from swarmq.cli.preflight import check_endpoint, check_state_dir
from swarmq.cli.render import count, duration
from swarmq.errors import EnvironmentFault, ModelError, SwarmqError

if TYPE_CHECKING:
    from swarmq.settings import Settings

OLDEST_PYTHON = (3, 11)
FREE_WARN_BYTES = 2_000_000_000
FREE_FAIL_BYTES = 100_000_000
TEST_CALL_SECONDS = 60.0
TEST_CALL_OUTPUT_TOKENS = 256

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor. ``remedy`` is the command that mends it, or says what does.

    ``since`` is a Unix time by the clock of Redis, 0 where it is not known or does not matter.
    """

    check: str
    status: Status
    said: str
    remedy: str = ""
    since: float = 0.0
    swarm: str = ""
    branch: str = ""

    def as_json(self) -> dict[str, str | float]:
        return asdict(self)


def python() -> Finding:
    """The interpreter that runs this."""
    said = f"{platform.python_version()} at {sys.executable}; swarmq {version('swarmq')}"
    if sys.version_info < OLDEST_PYTHON:
        return Finding("python", "fail", said, "install Python 3.11 or newer")
    return Finding("python", "ok", said)


def variables() -> list[Finding]:
    """Variables that look like settings and are none: a misspelt one would go unnoticed."""
    from swarmq.settings import unknown_variables

    return [
        Finding("variables", "warn", f"{name} is no setting", f"export {meant}=…" if meant else f"unset {name}")
        for name, meant in unknown_variables().items()
    ]


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
    return Finding("state dir", space(free), said, "free space there; swarmq gc removes what is past its time")


def space(free: int) -> Status:
    """What to think of that many bytes for worktrees and outputs."""
    return "fail" if free < FREE_FAIL_BYTES else "warn" if free < FREE_WARN_BYTES else "ok"


def free_bytes(path: Path) -> int:
    """Space that this user may still fill there."""
    return shutil.disk_usage(path).free


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
