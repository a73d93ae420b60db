"""All settings, read in one place.

Precedence: arguments > ``SWARMQ_*`` variables > ``.env`` > ``./swarmq.toml`` > ``[tool.swarmq]`` of
``./pyproject.toml`` > the user's file > defaults. ``origins()`` tells which of these each value came from.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from swarmq.errors import EnvironmentFault, OptionError
from swarmq.models.limits import Rates
from swarmq.models.options import describe
from swarmq.settings_sources import file_of, meant, readers, sources

PREFIX = "SWARMQ_"
NO_SETTINGS = ("SWARMQ_DEBUG", "SWARMQ_BRANCH", "SWARMQ_COMMAND")
"""Variables of that prefix that are no settings: tracebacks of the CLI, and the marks of agents' processes."""
TEST_PREFIX = "SWARMQ_TEST_"
MOST_USD_PER_MTOK = 1_000_000
"""Costs of whole swarms have to fit into the whole numbers that Lua counts in."""
HOMELESS = "this user has no home directory: export HOME, or SWARMQ_STATE_DIR and SWARMQ_RUNTIME_DIR"


class PriceSettings(BaseModel):
    """What a model costs, in USD per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_usd_per_mtok: float = Field(ge=0, le=MOST_USD_PER_MTOK, description="Input tokens that no cache held.")
    output_usd_per_mtok: float = Field(ge=0, le=MOST_USD_PER_MTOK, description="Output tokens, thinking included.")
    cached_usd_per_mtok: float | None = Field(
        None, ge=0, le=MOST_USD_PER_MTOK, description="Input read from the provider's cache."
    )
    cache_write_usd_per_mtok: float | None = Field(
        None, ge=0, le=MOST_USD_PER_MTOK, description="Input written to the provider's cache."
    )


class EndpointSettings(BaseModel):
    """A model server: ``[endpoints.NAME]`` in a file, ``SWARMQ_ENDPOINTS__NAME__BASE_URL`` as a variable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dialect: Literal["openai", "anthropic"] = "openai"
    base_url: str = Field(pattern=r"^https?://", description="Up to, and without, /chat/completions or /v1/messages.")
    api_key_env: str | None = Field(None, description="Name of the variable that holds the key; None: no key is sent.")
    context_window_tokens: int | None = Field(None, gt=1000, description="Window of the endpoint's models.")
    max_tokens_parameter: Literal["max_completion_tokens", "max_tokens"] = "max_tokens"
    headers: dict[str, str] = Field(default_factory=dict, description="Sent with each request; not for secrets.")
    prices: dict[str, PriceSettings] = Field(
        default_factory=dict,
        description="By model, or * for any; they win over the list that swarmq brings along.",
    )
    max_concurrency: int = Field(200, ge=1, le=10_000, description="Most calls in flight, of the whole fleet.")
    initial_concurrency: int = Field(20, ge=1, le=10_000, description="Calls in flight until more proved to be fine.")
    min_spacing_ms: float = Field(0, ge=0, le=600_000, description="Least milliseconds between two starts of calls.")
    requests_per_minute: float | None = Field(None, gt=0, description="Most starts a minute; None: learned.")
    tokens_per_minute: float | None = Field(None, gt=0, description="Most tokens a minute; None: learned.")

    def rates(self) -> Rates:
        """What the fleet's limiter goes by."""
        return Rates(
            max_concurrency=self.max_concurrency,
            initial_concurrency=self.initial_concurrency,
            min_spacing_ms=self.min_spacing_ms,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
        )


class GitHostSettings(BaseModel):
    """Who clones from a host: ``[git_hosts."github.com"]`` in a file. Sent to that host alone, and only by pods."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str = Field("git", description="GitHub: x-access-token; GitLab: oauth2, or the token's name.")
    password_env: str = Field(description="Name of the variable, or of a key in a Secret of pods, with the token.")


BUILT_IN_ENDPOINTS = {
    "openai": EndpointSettings(
        base_url="https://api.openai.com/v1",
        api_key_env="OPENAI_API_KEY",
        max_tokens_parameter="max_completion_tokens",
    ),
    "anthropic": EndpointSettings(
        dialect="anthropic", base_url="https://api.anthropic.com", api_key_env="ANTHROPIC_API_KEY"
    ),
}


def _default_runtime_dir() -> Path:
    """A short private directory for sockets (a socket's path must stay under 104 bytes)."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and len(base) < 60 and Path(base).is_dir():
        return Path(base) / "swarmq"
    home = hashlib.sha256(str(Path.home()).encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"swarmq-{os.getuid()}-{home}"


class Settings(BaseSettings):
    """What an installation may choose. Times are seconds, sizes are in the field's unit."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=".env",
        frozen=True,
        extra="forbid",
        dotenv_filtering="match_prefix",
    )

    redis_url: SecretStr | None = Field(None, description="Redis for broker, results and records; unset: embedded.")
    redis_url_file: Path | None = Field(None, description="File that holds redis_url, so that no variable has to.")
    state_dir: Path = Field(
        default_factory=lambda: platformdirs.user_state_path("swarmq"), description="Clones, worktrees, outputs, logs."
    )
    runtime_dir: Path = Field(default_factory=_default_runtime_dir, description="Sockets and pid files; private.")
    model: str | None = Field(None, description="Model where a swarm names none, such as anthropic:NAME.")
    endpoints: dict[str, EndpointSettings] = Field(default_factory=dict, description="Model servers by name.")
    git_hosts: dict[str, GitHostSettings] = Field(default_factory=dict, description="Who pods clone as, by host.")

    lease_seconds: float = Field(30, gt=0, description="A branch whose holder is silent this long is given away.")
    heartbeat_seconds: float = Field(5, gt=0, description="How often a holder renews its lease and reports.")
    reconcile_seconds: float = Field(10, gt=0, description="How often beat looks for what stands still.")
    collapse_seconds: float = Field(5, gt=0, description="How often beat has the collapse controller look at branches.")
    queue_patience_seconds: float = Field(30, gt=0, description="A message unclaimed this long is sent again.")
    gc_seconds: float = Field(3600, gt=0, description="How often beat removes what is past its time.")
    visibility_timeout_seconds: int = Field(300, ge=1, description="Redis transport: unacked messages come back.")
    redis_retry_seconds: float = Field(60, ge=0, description="How long a command is retried through an outage.")
    redis_max_connections: int = Field(32, ge=2, le=10_000, description="Connections to Redis per process.")

    agents_concurrency: int = Field(200, ge=1, le=10_000, description="Branches that one agents worker runs at once.")
    control_concurrency: int = Field(16, ge=1, le=1000, description="Tasks of one control worker at once.")
    pods_concurrency: int = Field(200, ge=1, le=10_000, description="Branches in pods that one pods worker follows.")
    integrate_concurrency: int = Field(4, ge=1, le=100, description="Merging tasks of one integrate worker at once.")
    calls_per_worker: int = Field(200, ge=1, le=10_000, description="Model calls of one worker and endpoint.")
    verify_concurrency: int = Field(
        0, ge=0, le=1000, description="Runs of verify in one worker at once; 0: as many as it has processors."
    )
    blocking_threads: int = Field(8, ge=1, le=256, description="Threads for git, file scans and large outputs.")
    handover_seconds: float = Field(
        20, ge=0, description="Most time a stopping worker gives steps to end; 0: none. In the embedded stack: 3."
    )
    shutdown_seconds: float = Field(20, gt=0, description="Most time it takes, after that, to give its branches back.")

    exporter_address: str = Field("127.0.0.1:9540", description="Where swarmq exporter listens: HOST:PORT.")
    probe_dir: Path | None = Field(None, description="Directory for files that say a worker is alive and ready.")
    pod_name: str = Field("", description="The pod that this process runs in (downward API).")
    pod_namespace: str = Field("", description="The namespace of that pod.")
    pod_uid: str = Field("", description="The uid of that pod.")
    kubernetes_namespace: str | None = Field(
        None, description="Where pods are made; unset: the worker's own, or that of the kubeconfig's context."
    )
    kubeconfig: Path | None = Field(None, description="How to reach the cluster; unset: as kubectl does, or as a pod.")
    kubernetes_context: str | None = Field(None, description="Context of the kubeconfig; unset: the current one.")
    pod_image: str | None = Field(None, description="Image of the pods that branches run in; it needs swarmq and git.")
    pod_template: Path | None = Field(None, description="YAML of a pod that is merged over what swarmq makes.")
    pod_secrets: tuple[str, ...] = Field((), description="Secrets whose keys an agent's pod gets as files; no others.")
    pod_budget: int = Field(8, ge=1, le=10_000, description="Pods that run at once, of the whole fleet.")
    pod_start_seconds: float = Field(600, gt=0, description="Most time between a pod's making and its agent's start.")

    stack_idle_seconds: float = Field(900, gt=0, description="The embedded stack stops after this long without work.")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"

    crash_file: Path | None = Field(None, description="For tests: may hold POINT[:kill|stop[:NTH]], to die at.")

    @field_validator("redis_url_file", "state_dir", "runtime_dir", "probe_dir", "kubeconfig", "pod_template")
    @classmethod
    def _home(cls, path: Path | None) -> Path | None:
        """A shell has expanded ``~`` in a variable, but nobody in a file."""
        return None if path is None else path.expanduser()

    @model_validator(mode="after")
    def _lease_outlives_heartbeats(self) -> Settings:
        if self.heartbeat_seconds * 2 > self.lease_seconds:
            raise ValueError("heartbeat_seconds must be at most half of lease_seconds")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, *(source for _, source in sources(settings_cls)))

    def endpoint(self, name: str) -> EndpointSettings | None:
        """The endpoint of that name: the user's own first, then the built-in ones."""
        return self.endpoints.get(name) or BUILT_IN_ENDPOINTS.get(name)

    def endpoint_names(self) -> list[str]:
        return sorted({*self.endpoints, *BUILT_IN_ENDPOINTS})

    def secret(self, variable: str) -> str | None:
        """The value of a key variable of this process; None where it is unset or empty."""
        return os.environ.get(variable) or None

    def pod(self) -> dict[str, str] | None:
        """The pod of this process as workers tell of it; None where it runs in none."""
        if not self.pod_name or not self.pod_namespace:
            return None
        return {"name": self.pod_name, "namespace": self.pod_namespace, "uid": self.pod_uid}

    def broker(self) -> str | None:
        """The Redis URL, from ``redis_url`` or the file that holds it; None means the embedded stack."""
        if self.redis_url is not None:
            return self.redis_url.get_secret_value()
        if self.redis_url_file is None:
            return None
        try:
            return self.redis_url_file.read_text().strip()
        except OSError as error:
            raise EnvironmentFault(f"redis_url_file {self.redis_url_file}: {error.strerror}") from None


def load_settings(**overrides: Any) -> Settings:
    """Read all sources; raises OptionError that names the wrong field, and the file that it stands in."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        place = file_of(Settings, error, overrides)
        raise OptionError(f"settings: {place}{describe(error)}{meant(Settings, error)}") from None
    except (OSError, ValueError) as error:
        raise OptionError(f"settings: {error}") from None
    except RuntimeError:
        raise OptionError(f"settings: {HOMELESS}") from None


def load_directories() -> tuple[Settings, str | None]:
    """For who needs no more than ``state_dir`` and ``runtime_dir``: where the settings are wrong, these two alone.

    All else has its default then. With what is wrong; a file that cannot be read at all is passed over.
    """
    try:
        return load_settings(), None
    except OptionError as error:
        fault = str(error)
    found: dict[str, Path] = {}
    try:
        for _, read in reversed(readers()):
            with contextlib.suppress(OSError, ValueError):
                values = read(Settings)()
                named = {name: values[name] for name in ("state_dir", "runtime_dir") if name in values}
                found |= {name: Path(path).expanduser() for name, path in named.items() if isinstance(path, str)}
        return Settings.model_construct(**found), fault  # type: ignore[arg-type]
    except RuntimeError:
        raise OptionError(f"settings: {HOMELESS}") from None


def unknown_variables() -> dict[str, str | None]:
    """Variables of this process that look like settings and are none, each with the one that may be meant."""
    names = [name.upper() for name in Settings.model_fields]
    found: dict[str, str | None] = {}
    for variable in sorted(os.environ):
        name, nested, rest = variable.upper().removeprefix(PREFIX).partition("__")
        if not variable.upper().startswith(PREFIX) or name in names or variable in NO_SETTINGS:
            continue
        if not variable.startswith(TEST_PREFIX):
            close = difflib.get_close_matches(name, names, 1)
            found[variable] = f"{PREFIX}{close[0]}{nested}{rest}" if close else None
    return found


def origins() -> dict[str, str]:
    """For each field the name of the source that its value came from."""
    found = dict.fromkeys(Settings.model_fields, "default")
    for name, source in reversed(sources(Settings)):
        for field in source():
            if field in found:
                found[field] = name
    return found
