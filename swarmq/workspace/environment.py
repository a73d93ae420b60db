"""The environment of child processes: an allow-list, so that no key or token of a worker reaches an agent's shell."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping

from swarmq.errors import OptionError

COOKIE_VARIABLE = "SWARMQ_BRANCH"
"""Marks every process that a branch started, and by inheritance all their children, as ``<swarm>/<branch>``."""

ALLOWED = ("HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
ALLOWED_PREFIX = "LC_"
FALLBACK_PATH = "/usr/local/bin:/usr/bin:/bin"

PR_SET_DUMPABLE = 4
"""From linux/prctl.h: a process that is not dumpable keeps its /proc/PID from others of its user."""

FIXED = {
    "TERM": "dumb",
    "CI": "1",
    "NO_COLOR": "1",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "GIT_EDITOR": "true",  # nothing may wait for a person
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "swarmq",
    "GIT_AUTHOR_EMAIL": "swarmq@localhost",
    "GIT_COMMITTER_NAME": "swarmq",
    "GIT_COMMITTER_EMAIL": "swarmq@localhost",
}

GIT_CONFIG = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "commit.gpgSign": "false",
    "tag.gpgSign": "false",
    "gc.auto": "0",  # a collection in one worktree would race with its siblings
}


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a child process gets: the allow-list, git made safe and silent, then ``extra`` on top.

    Raises OptionError for a name in ``extra`` that no process can have.
    """
    environment = {
        name: value for name, value in os.environ.items() if name in ALLOWED or name.startswith(ALLOWED_PREFIX)
    }
    environment["PATH"] = child_path()
    environment.update(FIXED)
    environment["GIT_CONFIG_COUNT"] = str(len(GIT_CONFIG))
    for index, (key, value) in enumerate(GIT_CONFIG.items()):
        environment[f"GIT_CONFIG_KEY_{index}"] = key
        environment[f"GIT_CONFIG_VALUE_{index}"] = value
    for name, value in (extra or {}).items():
        if not name or "=" in name or "\0" in name + value:
            raise OptionError(f"env: {name!r} cannot be the name of a variable with that value")
        if name == COOKIE_VARIABLE:
            raise OptionError(f"env: {COOKIE_VARIABLE} is set by swarmq itself")
        environment[name] = value
    return environment


def child_path() -> str:
    """PATH without swarmq's own virtual environment and without entries that depend on the working directory."""
    own = os.path.realpath(sys.prefix) if sys.prefix != sys.base_prefix else None
    kept = []
    for entry in os.environ.get("PATH", FALLBACK_PATH).split(os.pathsep):
        if not os.path.isabs(entry):
            continue
        if own is not None and os.path.realpath(entry).startswith(own + os.sep):
            continue
        kept.append(entry)
    return os.pathsep.join(kept) or FALLBACK_PATH


def hide_environment() -> None:
    """Keep the model keys in this process's environment from the shells of its agents (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
