"""What a saved state changed, and a probe in the worktree."""

from __future__ import annotations

from pathlib import Path

import pytest
from git_samples import git, write

from swarmq.collapse.probing import Probe
from swarmq.workspace.shell import Shell
from swarmq.workspace.swarm_repository import SwarmRepository, Worktree

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")


async def saved(swarm: SwarmRepository, worktree: Worktree) -> str:
    commit = await swarm.checkpoint(worktree, None)
    assert commit is not None
    return commit


async def test_a_survey_tells_files_lines_and_markers(swarm: SwarmRepository, base: str, user: Path) -> None:
    worktree = await swarm.open_worktree("fix", 1, base)
    kept = next(name for name in git(user, "ls-files").splitlines() if (user / name).stat().st_size)
    lines = len((user / kept).read_text().splitlines())
    conflict = "<<<<<<< a\n1\n=======\n2\n>>>>>>> b\n"
    write(
        worktree.path,
        {
            kept: "only line\n",
            "new: odd\nname.py": "x = 1   \n",
            "merge.txt": conflict,
            "binary.bin": b"\0\1\2" * 50,
        },
    )
    (worktree.path / "link.py").symlink_to("/etc/passwd")
    commit = await saved(swarm, worktree)
    survey = await swarm.survey(worktree.base, commit)
    by_name = {file.name: file for file in survey.files}
    assert set(by_name) == {kept, "new: odd\nname.py", "merge.txt", "binary.bin", "link.py"}
    assert survey.changed_lines == (1 + lines) + 1 + 5 + 1  # the link's target is its one line
    assert by_name["link.py"].blob is None
    assert by_name[kept].before is not None
    assert by_name["binary.bin"].blob is None
    assert await swarm.marked_files(worktree.base, commit) == {"merge.txt"}
    merge, odd = by_name["merge.txt"].blob, by_name["new: odd\nname.py"].blob
    assert merge is not None
    assert odd is not None
    assert await swarm.blob_contents([merge, odd], 1000) == {merge: conflict.encode(), odd: b"x = 1   \n"}
    assert await swarm.blob_contents([odd, merge], 60) == {odd: b"x = 1   \n"}
    assert await swarm.blob_contents(["0" * 40, odd], 1000) == {odd: b"x = 1   \n"}
    assert await swarm.blob_contents([], 10) == {}


async def test_a_survey_of_nothing(swarm: SwarmRepository, base: str) -> None:
    await swarm.prepare()
    survey = await swarm.survey(base, base)
    assert (survey.files, survey.changed_lines) == ((), 0)


@pytest.mark.parametrize(
    ("command", "passed", "said"),
    [
        ("true", True, ""),
        ("echo 2 failed; exit 3", False, "probe: exit 3: 2 failed"),
        ("no-such-program", None, "it is not found (exit 127)"),
        ("./notes.txt", None, "it cannot be executed (exit 126)"),
        ("sleep 1000", None, "the probe did not end by itself: time-out"),
    ],
)
async def test_a_probe_that_cannot_be_run_is_no_failing_branch(
    tmp_path: Path, command: str, passed: bool | None, said: str
) -> None:
    (tmp_path / "notes.txt").write_text("plain\n")
    shell = Shell(tmp_path, {"PATH": "/usr/bin:/bin"}, "swarm/branch")
    try:
        found, text = await Probe(shell, command, 0.5 if "sleep" in command else 20.0)()
    finally:
        await shell.aclose()
    assert found is passed
    assert said in text
