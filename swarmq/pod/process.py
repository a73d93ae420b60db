"""The process around one run: the payload's file, keys of named Secrets, signals, and where to work."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from swarmq.errors import EnvironmentFault, UsageError
from swarmq.models.branch import Outcome
from swarmq.pod.payload import Payload, decode

SECRETS = "secrets"
"""Beside the payload: a directory for each named Secret, with a file for each of its keys."""


def read_payload(path: Path) -> Payload:
    """Read the payload and the model's key, and remove the files that they came from.

    UsageError for what is no payload; EnvironmentFault where the file cannot be removed: the agent's shell could read
    it.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"--payload-file {path}: {error.strerror}") from None
    _remove(path)
    secrets = path.parent / SECRETS
    return with_password(with_key(decode(raw), secrets), secrets)


def with_key(payload: Payload, secrets: Path) -> Payload:
    """The payload with the model's key: its own, else that of a named Secret, else of this process's environment."""
    variable = payload.model.endpoint.api_key_env
    if variable is None:
        return payload
    found = _secret(variable, secrets)  # also where the payload has the key: the agent's commands could read the file
    key = payload.model.api_key or found
    if key is None:
        raise EnvironmentFault(
            f"no key for the model: {variable} is neither in the payload nor in a named Secret nor in the environment"
        )
    return payload.model_copy(update={"model": payload.model.model_copy(update={"api_key": key})})


def with_password(payload: Payload, secrets: Path) -> Payload:
    """The payload with the password for the repository's URL, found likewise; a repository may need none."""
    repository = payload.repository
    if repository is None or repository.password_env is None:
        return payload
    found = _secret(repository.password_env, secrets)
    known = {"password": repository.password or found}
    return payload.model_copy(update={"repository": repository.model_copy(update=known)})


def _secret(variable: str, secrets: Path) -> str | None:
    """The files are removed; other keys of named Secrets are for the agent's commands, and stay."""
    value = os.environ.get(variable, "")
    for file in sorted(secrets.glob(f"*/{variable}")):
        value = file.read_text()
        _remove(file)
    return value.strip() or None


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise EnvironmentFault(
            f"{path} cannot be removed ({error.strerror}), so that the agent's commands could read it: copy it to a "
            "directory that may be written to"
        ) from None


async def work_on(payload: Payload, directory: Path | None) -> Outcome | None:
    """Run it here, its log on standard output. None where SIGTERM has ended it and its processes: no result then."""
    from swarmq.logs import configure_logs
    from swarmq.pod.agent import run_payload, settings_for

    place = Path(tempfile.mkdtemp(prefix="swarmq-agent-", dir=Path.cwd())) if directory is None else directory
    place = place.absolute()
    configure_logs(settings_for(payload, place))
    running = asyncio.create_task(run_payload(payload, place, _write))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, running.cancel)  # the first process of a container ends by nothing else
    try:
        await asyncio.wait({running})
        return None if running.cancelled() else running.result()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        loop.remove_signal_handler(signal.SIGTERM)
        if directory is None:
            shutil.rmtree(place, ignore_errors=True)


def _write(lines: str) -> None:
    sys.stdout.write(lines)
    sys.stdout.flush()
