"""Which swarm ``merge`` takes, and of which repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cli_fakes import SWARM, Cli, record, result, spec

pytest_plugins = ["cli_fixtures"]


@pytest.mark.parametrize("named", [(), ("last",), ("-",)])
def test_merge_of_a_swarm_that_nobody_named_needs_its_repository(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: tuple[str, ...]
) -> None:
    mine, other = repository(tmp_path / "mine"), repository(tmp_path / "other")
    (mine / "below").mkdir()
    cli.client.swarm = record(spec=spec(repo=str(mine)))
    monkeypatch.chdir(other)
    done = cli.run("merge", *named)
    assert (done.code, done.out, cli.client.calls) == (2, "", [])
    assert f"another repository, {mine}: if you mean it, swarmq merge {SWARM}" in done.err
    assert cli.run("merge", SWARM).out.endswith(f" in {mine}\n")
    for directory in (mine / "below", tmp_path):  # a part of it, and no repository at all
        monkeypatch.chdir(directory)
        assert cli.run("merge", *named).code == 0


def repository(directory: Path) -> Path:
    directory.mkdir()
    identity = ("-c", "user.name=n", "-c", "user.email=e@x")
    for arguments in (("init",), (*identity, "commit", "--allow-empty", "-m", "first")):
        subprocess.run(["git", *arguments], cwd=directory, check=True, capture_output=True)
    return directory


def test_what_a_detached_head_brought_is_taken_over_by_naming_a_branch(cli: Cli) -> None:
    assert f"take it over: swarmq merge {SWARM}\n" in cli.run("result").err
    cli.client.swarm = record(result=result(base_branch=None))
    assert f"take it over: swarmq merge {SWARM} --into BRANCH\n" in cli.run("result").err
