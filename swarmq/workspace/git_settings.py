"""What each git call is given of variables and settings: an allow-list, and settings that win over every file."""

from __future__ import annotations

import os
from collections.abc import Mapping

_PASSED = (
    *("HOME", "PATH", "USER", "LOGNAME", "TMPDIR", "TZ", "XDG_CONFIG_HOME", "LD_LIBRARY_PATH"),
    *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"),  # where the user's own choices are
)
_EMPTY_IS_ABSENT = (
    *("GIT_SSL_", "GIT_SSH", "GIT_HTTP_", "GIT_CURL_", "GIT_TRACE", "GIT_PYTHON_", "GIT_PS1_"),
    *("GIT_PAGER", "GIT_ASKPASS", "GIT_SEQUENCE_EDITOR"),
)
_CONFIGURATION = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.sshCommand": "false",
    "core.askPass": "",
    "core.pager": "cat",
    "core.editor": "false",
    "core.alternateRefsCommand": "true",
    "commit.gpgSign": "false",
    "tag.gpgSign": "false",
    "log.showSignature": "false",
    "credential.helper": "",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "merge.autoStash": "false",
    "merge.verifySignatures": "false",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "fetch.writeCommitGraph": "false",
    "fetch.prune": "false",
    "fetch.pruneTags": "false",
    "i18n.commitEncoding": "utf-8",
    "i18n.logOutputEncoding": "utf-8",
    "protocol.allow": "never",
    "protocol.file.allow": "always",
    "safe.bareRepository": "all",
    "color.ui": "false",
}
_VARIABLES = {
    "LC_ALL": "C",  # messages are matched
    "LANGUAGE": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "file",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",  # looking at the user's checkout must not refresh its index
    "GIT_ADVICE": "0",
    "GIT_EDITOR": "false",
    "GIT_MERGE_AUTOEDIT": "no",
    "GIT_CONFIG_COUNT": str(len(_CONFIGURATION)),
    **{f"GIT_CONFIG_KEY_{number}": key for number, key in enumerate(_CONFIGURATION)},
    **{f"GIT_CONFIG_VALUE_{number}": value for number, value in enumerate(_CONFIGURATION.values())},
}


def setting(key: str, value: str) -> dict[str, str]:
    """The variables that give one call a setting more; it wins over every file, as the others do."""
    number = len(_CONFIGURATION)
    named = {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return {"GIT_CONFIG_COUNT": str(number + 1), **named}


def environment(own: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The variables of a call, and the names of ``GIT_*`` variables of ours that have to be dropped.

    GitPython starts from all of our variables: what is not passed on is emptied, so that it never reaches a child.
    """
    given = {name: value if name in _PASSED else "" for name, value in os.environ.items()}
    given.update(_VARIABLES)
    given.update(own)
    emptied = [name for name in os.environ if name.startswith("GIT_") and given[name] == ""]
    return given, [name for name in emptied if not name.startswith(_EMPTY_IS_ABSENT)]
