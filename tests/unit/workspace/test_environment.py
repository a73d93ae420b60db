from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from swarmq.errors import OptionError
from swarmq.workspace.environment import child_environment, child_path


def test_nothing_that_is_not_on_the_list_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GITHUB_TOKEN", "SWARMQ_REDIS_URL", "BASH_ENV", "LD_PRELOAD"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("LC_TIME", "C")
    monkeypatch.setenv("HOME", "/home/someone")

    environment = child_environment()

    assert "secret" not in environment.values()
    assert environment["HOME"] == "/home/someone"
    assert environment["LC_TIME"] == "C"
    assert environment["TERM"] == "dumb"
    assert environment["CI"] == environment["NO_COLOR"] == "1"


def test_extra_variables_win() -> None:
    assert child_environment({"CI": "0", "MODE": "test"}).items() >= {"CI": "0", "MODE": "test"}.items()


@pytest.mark.parametrize("extra", [{"": "x"}, {"A=B": "x"}, {"A": "x\0y"}, {"SWARMQ_BRANCH": "other/branch"}])
def test_impossible_variables_are_refused(extra: dict[str, str]) -> None:
    with pytest.raises(OptionError, match="env"):
        child_environment(extra)


def test_the_path_leads_neither_to_our_own_environment_nor_into_the_repository(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "venv"
    (own / "bin").mkdir(parents=True)
    (tmp_path / "link").symlink_to(own)
    monkeypatch.setattr(sys, "prefix", str(own))
    monkeypatch.setenv("PATH", f"{own}/bin:{tmp_path}/link/bin:node_modules/.bin::/usr/bin:/bin")
    assert child_path() == "/usr/bin:/bin"
    monkeypatch.setenv("PATH", f"{own}/bin")
    assert child_path() == "/usr/local/bin:/usr/bin:/bin"


def test_git_runs_no_hook_and_asks_nobody(tmp_path: Path) -> None:
    environment = child_environment({"HOME": str(tmp_path)})
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], env=environment, check=True)
    hook = tmp_path / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    (tmp_path / ".gitconfig").write_text("[commit]\n\tgpgSign = true\n")
    (tmp_path / "a").write_text("a")

    subprocess.run([*git, "add", "a"], env=environment, check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], env=environment, check=True)

    author = subprocess.run([*git, "log", "-1", "--format=%an"], env=environment, check=True, capture_output=True)
    assert author.stdout == b"swarmq\n"
    assert os.environ.get("GIT_AUTHOR_NAME") != "swarmq"
