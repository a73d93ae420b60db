"""Where settings come from: variables and files, strongest first, and in which of them a wrong one stands."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    PyprojectTomlConfigSettingsSource,
    TomlConfigSettingsSource,
)


def user_file() -> Path | None:
    """The user's settings file, which need not exist; None for a user without a home directory."""
    try:
        return platformdirs.user_config_path("swarmq") / "config.toml"
    except RuntimeError:
        return None


def sources(settings_cls: type[BaseSettings]) -> list[tuple[str, PydanticBaseSettingsSource]]:
    """All sources behind the arguments, strongest first, each with the name that ``config show`` prints."""
    return [(name, read(settings_cls)) for name, read in readers()]


def readers() -> list[tuple[str, Callable[[type[BaseSettings]], PydanticBaseSettingsSource]]]:
    """The same before anything is read, which for a file that is none raises ValueError or OSError."""
    own = user_file()
    users = [] if own is None else [(str(own), lambda settings_cls: _TomlFile(settings_cls, own))]
    return [
        ("environment", EnvSettingsSource),
        (".env", DotEnvSettingsSource),
        ("swarmq.toml", lambda settings_cls: _TomlFile(settings_cls, Path("swarmq.toml"))),
        ("pyproject.toml", lambda settings_cls: _ToolTable(settings_cls, Path("pyproject.toml"))),
        *users,
    ]


class _TomlFile(TomlConfigSettingsSource):
    """A file whose faults name it."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        try:
            return super()._read_file(file_path)
        except ValueError as error:  # not TOML, or not UTF-8
            raise ValueError(f"{file_path}: {error}") from None


class _ToolTable(PyprojectTomlConfigSettingsSource, _TomlFile):
    """``[tool.swarmq]`` of the pyproject.toml in this directory, never of one further up."""

    def __init__(self, settings_cls: type[BaseSettings], path: Path) -> None:
        self.toml_table_header = ("tool", "swarmq")
        self.toml_file_path = path
        self.toml_data = self._read_files(path)
        for key in self.toml_table_header:
            self.toml_data = self.toml_data.get(key, {})
        super(TomlConfigSettingsSource, self).__init__(settings_cls, self.toml_data)


def file_of(settings_cls: type[BaseSettings], error: ValidationError, overrides: dict[str, Any]) -> str:
    """The file of the first wrong field; none for arguments, variables, and what fields are together."""
    where = [str(part) for part in error.errors(include_url=False)[0]["loc"][:1]]
    if not where or where[0] in overrides:
        return ""
    name = next((name for name, source in sources(settings_cls) if where[0] in source()), "environment")
    return "" if name == "environment" else f"{name}: "


def meant(settings_cls: type[BaseSettings], error: ValidationError) -> str:
    """What to add to a message of an unknown field: the known one that is close to it."""
    first = error.errors(include_url=False)[0]
    if first["type"] != "extra_forbidden" or len(first["loc"]) != 1:
        return ""
    close = difflib.get_close_matches(str(first["loc"][0]), list(settings_cls.model_fields), 1)
    return f"; is {close[0]} meant?" if close else ""
