from __future__ import annotations

from pathlib import Path

import pytest

from swarmq.errors import EnvironmentFault, OptionError
from swarmq.settings import load_directories, load_settings, origins, unknown_variables


@pytest.fixture(autouse=True)
def _empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_precedence_and_origins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = tmp_path / "config" / "swarmq"
    user.mkdir(parents=True)
    (user / "config.toml").write_text("lease_seconds = 41\ngc_seconds = 1\nmodel = 'openai:user'\n")
    (tmp_path / "pyproject.toml").write_text(
        "[tool.swarmq]\nlease_seconds = 42\ngc_seconds = 2\nblocking_threads = 3\n"
    )
    (tmp_path / "swarmq.toml").write_text("lease_seconds = 43\ngc_seconds = 4\n")
    (tmp_path / ".env").write_text("SWARMQ_LEASE_SECONDS=44\nOTHER=1\n")
    monkeypatch.setenv("SWARMQ_LEASE_SECONDS", "45")
    settings = load_settings()
    assert (settings.lease_seconds, settings.gc_seconds, settings.blocking_threads) == (45, 4, 3)
    assert settings.model == "openai:user"
    assert load_settings(lease_seconds=46).lease_seconds == 46
    found = origins()
    assert found["lease_seconds"] == "environment"
    assert found["gc_seconds"] == "swarmq.toml"
    assert found["blocking_threads"] == "pyproject.toml"
    assert found["model"].endswith("config.toml")
    assert found["state_dir"] == "default"


def test_endpoints_of_the_user_come_before_the_built_in_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMQ_ENDPOINTS__OPENAI__BASE_URL", "http://localhost:8000/v1")
    settings = load_settings()
    endpoint = settings.endpoint("openai")
    assert endpoint is not None
    assert endpoint.base_url == "http://localhost:8000/v1"
    assert settings.endpoint("nowhere") is None
    assert settings.endpoint_names() == ["anthropic", "openai"]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SWARMQ_LEASE_SECONDS", "soon", "settings: lease_seconds"),
        ("SWARMQ_LEASE_SECONDS", "3", "heartbeat_seconds must be at most half"),
        ("SWARMQ_ENDPOINTS__X__BASE_URL", "ftp://x", "endpoints.X.base_url|endpoints.x.base_url"),
    ],
)
def test_a_wrong_setting_is_named(variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(OptionError, match=message):
        load_settings()


def test_the_password_of_redis_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWARMQ_REDIS_URL", "redis://:hunter2@example.org/0")
    monkeypatch.setenv("SWARMQ_GC_SECONDS", "0")
    with pytest.raises(OptionError) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)
    monkeypatch.delenv("SWARMQ_GC_SECONDS")
    assert "hunter2" not in repr(load_settings())


def test_the_broker_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "url"
    with pytest.raises(EnvironmentFault, match="redis_url_file"):
        load_settings(redis_url_file=path).broker()
    path.write_text("unix:///tmp/x.sock\n")
    assert load_settings(redis_url_file=path).broker() == "unix:///tmp/x.sock"
    assert load_settings().broker() is None


def test_variables_that_look_like_settings_and_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SWARMQ_DEBUG", "SWARMQ_BRANCH", "SWARMQ_MODEL", "SWARMQ_ENDPOINTS__X__BASE_URL", "swarmq_log_level"):
        monkeypatch.setenv(name, "1")
    assert unknown_variables() == {}
    monkeypatch.setenv("SWARMQ_REDIS_ULR", "redis://h")
    monkeypatch.setenv("SWARMQ_ENDPOINT__X__BASE_URL", "http://h")
    monkeypatch.setenv("SWARMQ_QQQQ", "1")
    assert unknown_variables() == {
        "SWARMQ_ENDPOINT__X__BASE_URL": "SWARMQ_ENDPOINTS__X__BASE_URL",
        "SWARMQ_QQQQ": None,
        "SWARMQ_REDIS_ULR": "SWARMQ_REDIS_URL",
    }


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("swarmq.toml", "model = \n", r"^settings: swarmq\.toml: Invalid value \(at line 1, column 9\)"),
        ("swarmq.toml", "modle = 'x:y'\n", r"^settings: swarmq\.toml: modle: no such field; is model meant\?$"),
        ("swarmq.toml", "zzz = 1\n", r"^settings: swarmq\.toml: zzz: no such field$"),
        ("pyproject.toml", "[tool.swarmq]\ngc_seconds = 'x'\n", r"^settings: pyproject\.toml: gc_seconds: "),
        ("pyproject.toml", "[tool", r"^settings: pyproject\.toml: "),
        (".env", "SWARMQ_GC_SECONDS=x\n", r"^settings: \.env: gc_seconds: "),
    ],
)
def test_a_wrong_setting_names_its_file(tmp_path: Path, file: str, text: str, said: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(OptionError, match=said):
        load_settings()


def test_the_directories_are_known_whatever_else_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_directories() == (load_settings(), None)
    monkeypatch.setenv("SWARMQ_RUNTIME_DIR", "/run/mine")
    (tmp_path / "swarmq.toml").write_text("modle = 'x:y'\nstate_dir = '/state/mine'\nruntime_dir = '/run/other'\n")
    settings, fault = load_directories()
    assert (settings.state_dir, settings.runtime_dir) == (Path("/state/mine"), Path("/run/mine"))
    assert "modle" in (fault or "")
    (tmp_path / "swarmq.toml").write_text("[[[")
    settings, fault = load_directories()
    assert settings.runtime_dir == Path("/run/mine")
    assert (fault or "").startswith("settings: swarmq.toml: ")


def test_a_user_without_a_home_names_the_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a container's that runs under any number: nothing may land in a directory that is called ~."""

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    for load in (load_settings, load_directories):
        with pytest.raises(OptionError, match=r"^settings: this user has no home directory: export HOME, or SWARMQ"):
            load()
    monkeypatch.setenv("SWARMQ_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SWARMQ_RUNTIME_DIR", str(tmp_path / "run"))
    assert load_settings().state_dir == tmp_path / "state"
    assert load_directories() == (load_settings(), None)


def test_a_tilde_is_the_home_directory(tmp_path: Path) -> None:
    """A shell expands it in a variable, but nobody does in a file."""
    (tmp_path / "swarmq.toml").write_text("state_dir = '~/state'\nruntime_dir = '~/run'\nredis_url_file = '~/url'\n")
    settings = load_settings()
    assert (settings.state_dir, settings.runtime_dir) == (tmp_path / "state", tmp_path / "run")
    assert settings.redis_url_file == tmp_path / "url"
    (tmp_path / "swarmq.toml").write_text("state_dir = '~/state'\nmodle = 'x'\n")
    assert load_directories()[0].state_dir == tmp_path / "state"
