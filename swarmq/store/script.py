"""Lua scripts from ``scripts/*.lua``. A first line ``-- uses: a b`` puts the parts ``_a.lua``, ``_b.lua`` before it."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from importlib.resources import files

from swarmq.models.base import SCHEMA_VERSION

_USES = "-- uses:"


@dataclass(frozen=True)
class Script:
    """``sha`` is what EVALSHA wants; Redis knows it once ``text`` was loaded."""

    text: str
    sha: str


@functools.cache
def load_script(name: str) -> Script:
    """The script of that name, read once per process."""
    text = _read(name)
    first = text.partition("\n")[0]
    parts = first.removeprefix(_USES).split() if first.startswith(_USES) else []
    whole = "\n".join([f"local VERSION = '{SCHEMA_VERSION}'", *(_read(f"_{part}") for part in parts), text])
    return Script(whole, hashlib.sha1(whole.encode(), usedforsecurity=False).hexdigest())


def _read(name: str) -> str:
    return files("swarmq.store").joinpath("scripts", f"{name}.lua").read_text()
