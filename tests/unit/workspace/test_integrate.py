"""Merging finished commits: the same as ``git merge`` gives, without a checkout, once for each commit."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from git_samples import SWARM, add_commit, clone_of, file_at, finished, git, head_of, integrated, names_at, shell, write

from swarmq.errors import UsageError
from swarmq.workspace.integration import DIFF_CHARACTERS
from swarmq.workspace.swarm_repository import SwarmRepository

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")

LINES = [f"line {number}\n" for number in range(40)]


def changed(number: int, text: str) -> str:
    return "".join([*LINES[:number], text + "\n", *LINES[number + 1 :]])


async def test_both_sides_of_a_file_are_merged(base: str, swarm: SwarmRepository) -> None:
    first = await finished(swarm, "a", base, {"src/text.py": changed(3, "three")})
    second = await finished(swarm, "b", base, {"src/text.py": changed(30, "thirty")})
    await integrated(swarm, first, "Merge a")
    report = await integrated(swarm, second, "Merge b\n\nSwarmq-Branch: b")
    assert (report.status, report.files, report.insertions, report.deletions) == ("merged", ("src/text.py",), 1, 1)
    assert report.commit is not None
    text = file_at(clone_of(swarm), report.commit, "src/text.py")
    assert "three\n" in text
    assert "thirty\n" in text
    parents = git(clone_of(swarm), "log", "-1", "--format=%P|%an|%s", report.commit)
    assert parents.endswith(f"{second}|swarmq|Merge b")


async def test_a_repeated_merge_is_the_same_merge(
    base: str, swarm: SwarmRepository, user: Path, tmp_path: Path
) -> None:
    first = await finished(swarm, "a", base, {"a": "1"})
    second = await finished(swarm, "b", base, {"b": "1"})
    one = await integrated(swarm, first, "Merge a")
    two = await integrated(swarm, second, "Merge b")
    assert await integrated(swarm, first, "Merge a again") == one
    again = SwarmRepository(tmp_path / "state", SWARM, user, base)
    assert await integrated(again, second, "Merge b again") == two
    assert await again.integration_commit() == two.commit


async def test_what_the_branch_holds_already_is_empty(base: str, swarm: SwarmRepository) -> None:
    assert (await integrated(swarm, base, "Base")).status == "empty"
    worktree = await swarm.open_worktree("a", 1, base)
    shell(worktree.path, "echo 1 > one; git add one; git commit -qm Step; git tag step")
    write(worktree.path, {"two": "2"})
    made = await swarm.commit(worktree, message="Finish", trailers={})
    assert made is not None
    merged = await integrated(swarm, made.commit, "Merge")
    assert merged.commit is not None
    step = git(worktree.path, "rev-parse", "step")
    report = await integrated(swarm, step, "Its first step")
    assert (report.status, report.commit) == ("empty", merged.commit)
    assert (await integrated(swarm, merged.commit, "Tip")).status == "empty"
    same = await finished(swarm, "b", base, {"one": "1\n", "two": "2"})  # the same change, made twice
    report = await integrated(swarm, same, "Merge b")
    assert (report.status, report.files) == ("merged", ())


async def test_a_conflict_is_reported_with_both_sides(base: str, swarm: SwarmRepository) -> None:
    first = await finished(swarm, "a", base, {"src/text.py": changed(3, "ours"), "new.txt": "one\n"})
    second = await finished(swarm, "b", base, {"src/text.py": changed(3, "theirs"), "new.txt": "two\n", "b": "1"})
    merged = await integrated(swarm, first, "Merge a")
    report = await integrated(swarm, second, "Merge b")
    assert (report.status, report.commit, report.conflicts) == ("conflict", None, ("new.txt", "src/text.py"))
    ours, theirs = report.diffs["src/text.py"]
    assert "+ours" in ours
    assert "+theirs" not in ours
    assert "+theirs" in theirs
    assert "-line 3" in ours
    assert "-line 3" in theirs
    assert "+two" in report.diffs["new.txt"][1]
    assert await swarm.integration_commit() == merged.commit
    assert head_of(clone_of(swarm), f"refs/heads/swarmq-work/{SWARM}/b") == second
    assert await integrated(swarm, second, "Merge b") == report


@pytest.mark.parametrize(
    ("ours", "theirs", "file"),
    [
        ("rm src/text.py", "echo x >> src/text.py", "src/text.py"),
        ("echo x >> src/text.py", "rm src/text.py", "src/text.py"),
        ("printf '\\0\\1' > bin", "printf '\\0\\2' > bin", "bin"),
        ("git mv src/text.py one.py", "git mv src/text.py two.py", "src/text.py"),
        ("rm README.md; mkdir README.md; echo 1 > README.md/x", "echo x >> README.md", "README.md"),
        ("ln -s a link", "ln -s b link", "link"),
    ],
)
async def test_conflicts_of_other_kinds(ours: str, theirs: str, file: str, base: str, swarm: SwarmRepository) -> None:
    commits = []
    for branch, script in (("a", ours), ("b", theirs)):
        worktree = await swarm.open_worktree(branch, 1, base)
        shell(worktree.path, script)
        made = await swarm.commit(worktree, message="x", trailers={})
        assert made is not None
        commits.append(made.commit)
    await integrated(swarm, commits[0], "Merge a")
    report = await integrated(swarm, commits[1], "Merge b")
    assert report.status == "conflict"
    assert any(name.startswith(file) for name in report.conflicts), report.conflicts
    assert report.model_dump_json()


async def test_long_diffs_are_cut_and_many_are_left_out(base: str, swarm: SwarmRepository) -> None:
    many: dict[str, str | bytes] = {f"many/{number:03}": "ours\n" for number in range(30)}
    ours = many | {"big": "ours é\n" * 20_000}
    theirs: dict[str, str | bytes] = dict.fromkeys(ours, "theirs\n")
    await integrated(swarm, await finished(swarm, "a", base, ours), "Merge a")
    report = await integrated(swarm, await finished(swarm, "b", base, theirs), "Merge b")
    assert len(report.conflicts) == 31
    assert len(report.diffs) == 20
    assert len(report.diffs["big"][0]) == DIFF_CHARACTERS + len("\n[cut]\n")


@pytest.mark.parametrize("where", ["", "docs/"])
async def test_merging_follows_the_attributes(where: str, user: Path, tmp_path: Path) -> None:
    attributes = f"{where}.gitattributes"
    files: dict[str, str | bytes] = {attributes: "*.log merge=union\n*.lock -merge\n", f"{where}a.log": "0\n"}
    base = add_commit(user, files | {f"{where}x.lock": "".join(LINES)}, "Attributes")
    git(user, "rm", "--quiet", "--cached", ".gitignore")
    base = add_commit(user, {".gitignore": ""}, "Nothing ignored")
    swarm = SwarmRepository(tmp_path / "state", SWARM, user, base)
    first = await finished(swarm, "a", base, {f"{where}a.log": "0\n1\n"})
    second = await finished(swarm, "b", base, {f"{where}a.log": "0\n2\n"})
    await integrated(swarm, first, "Merge a")
    report = await integrated(swarm, second, "Merge b")
    assert report.status == "merged"
    assert file_at(clone_of(swarm), report.commit or "", f"{where}a.log") == "0\n1\n2"
    third = await finished(swarm, "c", base, {f"{where}x.lock": changed(1, "one")})
    fourth = await finished(swarm, "d", base, {f"{where}x.lock": changed(30, "two")})
    await integrated(swarm, third, "Merge c")
    assert (await integrated(swarm, fourth, "Merge d")).conflicts == (f"{where}x.lock",)


async def test_branches_merged_at_the_same_time_are_all_there(base: str, swarm: SwarmRepository) -> None:
    commits = [await finished(swarm, f"b{number}", base, {f"f{number}": "x\n"}) for number in range(6)]
    reports = await asyncio.gather(*(integrated(swarm, commit, "Merge") for commit in commits))
    assert {report.status for report in reports} == {"merged"}
    names = names_at(clone_of(swarm), await swarm.integration_commit())
    assert {f"f{number}" for number in range(6)} <= set(names)


async def test_a_commit_that_is_none(base: str, swarm: SwarmRepository) -> None:
    for text in ("--help", base[:10], "main"):
        with pytest.raises(UsageError, match="is not a full commit id"):
            await integrated(swarm, text, "x")
