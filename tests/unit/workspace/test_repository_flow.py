"""From submit to the result branch: the user's repository gets one branch, and nothing else happens to it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from git_samples import (
    SWARM,
    add_commit,
    clone_of,
    file_at,
    finished,
    git,
    head_of,
    integrated,
    make_repository,
    names_at,
    shell,
    write,
)
from repository_snapshot import snapshot

from swarmq.errors import DiskFullError, UsageError, WorkspaceError
from swarmq.workspace.publishing import fast_forward
from swarmq.workspace.swarm_repository import SwarmRepository

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")


async def test_two_branches_become_one_result_branch(user: Path, base: str, swarm: SwarmRepository) -> None:
    before = snapshot(user)
    await swarm.prepare()
    first = await finished(swarm, "add", base, {"src/app.py": "def add(a, b):\n    return a + b\n"})
    second = await finished(swarm, "docs", base, {"docs/use.md": "Use it\n"})
    one = await integrated(swarm, first, "Merge add")
    two = await integrated(swarm, second, "Merge docs")
    assert (one.status, one.files, one.insertions, one.deletions) == ("merged", ("src/app.py",), 1, 1)
    assert (two.status, two.files) == ("merged", ("docs/use.md",))
    assert await swarm.integration_commit() == two.commit

    assert await swarm.publish() == (f"swarmq/{SWARM}", two.commit)
    assert head_of(user, f"refs/heads/swarmq/{SWARM}") == two.commit
    assert file_at(user, f"swarmq/{SWARM}", "src/app.py").endswith("a + b")
    assert snapshot(user) == before
    assert head_of(user, f"refs/swarmq/{SWARM}/base") == base
    git(user, "fsck", "--full", "--strict")


async def test_nothing_merged_nothing_published(user: Path, base: str, swarm: SwarmRepository) -> None:
    assert await swarm.publish() is None
    assert await swarm.integration_commit() == base
    assert git(user, "branch", "--list", "swarmq/*") == ""
    assert base[:7] in await swarm.log_graph()


async def test_the_result_branch_is_only_moved_forward(user: Path, base: str, swarm: SwarmRepository) -> None:
    await integrated(swarm, await finished(swarm, "a", base, {"a": "1"}), "Merge a")
    await swarm.publish()
    await integrated(swarm, await finished(swarm, "b", base, {"b": "1"}), "Merge b")
    published = await swarm.publish()
    assert published is not None
    assert head_of(user, published[0]) == published[1]
    git(user, "branch", "--force", published[0], base)  # the user makes something else of it
    add_commit(user, {"own": "1"}, "Own")
    git(user, "branch", "--force", published[0], "HEAD")
    with pytest.raises(WorkspaceError, match="has another branch named swarmq/"):
        await swarm.publish()
    assert head_of(user, published[0]) == head_of(user)


async def test_hooks_and_signing_of_the_user_do_not_run(
    user: Path, base: str, swarm: SwarmRepository, tmp_path: Path, own_configuration: Path
) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "pre-commit", "post-merge", "reference-transaction", "post-index-change"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran-{name}\n")
        (hooks / name).chmod(0o755)
        (user / ".git" / "hooks").mkdir(exist_ok=True)
        (user / ".git" / "hooks" / name).symlink_to(hooks / name)
    settings = (
        f'[core]\n\thooksPath = {hooks}\n\tfsmonitor = "touch {tmp_path}/ran-fsmonitor; false"\n'
        f"[commit]\n\tgpgSign = true\n[gpg]\n\tprogram = {hooks}/pre-commit\n"
        f'[diff]\n\texternal = "touch {tmp_path}/ran-diff"\n'
    )
    write(own_configuration.parent, {own_configuration.name: settings})
    merged = await integrated(swarm, await finished(swarm, "a", base, {"a": "1"}), "Merge a")
    await swarm.publish()
    assert "+1" in await swarm.diff(base, await swarm.integration_commit())
    await fast_forward(user, "main", merged.commit or "")
    assert [name for name in os.listdir(tmp_path) if name.startswith("ran-")] == []


async def test_variables_of_our_own_process_do_not_leak(
    user: Path, base: str, swarm: SwarmRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a process that a git hook started, with keys of models around; the filter sees what git was given."""
    git(user, "config", "filter.spy.clean", f"env > {tmp_path}/seen; cat")
    other = tmp_path / "other"
    make_repository(other, {"other": "1"})
    for name, value in {
        "GIT_DIR": f"{other}/.git",
        "GIT_WORK_TREE": str(other),
        "GIT_INDEX_FILE": f"{other}/.git/index",
        "GIT_OBJECT_DIRECTORY": f"{other}/.git/objects",
        "GIT_QUARANTINE_PATH": str(other),
        "GIT_NAMESPACE": "elsewhere",
        "GIT_CONFIG_PARAMETERS": "'core.bare'='true'",
        "GIT_EXTERNAL_DIFF": "false",
        "GIT_AUTHOR_NAME": "Somebody",
        "MODEL_API_KEY": "sk-secret",
    }.items():
        monkeypatch.setenv(name, value)
    commit = await finished(swarm, "a", base, {"a": "1", ".gitattributes": "* filter=spy\n"})
    await integrated(swarm, commit, "Merge a")
    published = await swarm.publish()
    assert published is not None
    assert file_at(user, published[0], "a") == "1"
    assert git(user, "log", "-1", "--format=%an", commit) == "swarmq"
    seen = (tmp_path / "seen").read_text()
    assert "sk-secret" not in seen
    assert "Somebody" not in seen
    assert "GIT_NAMESPACE" not in seen
    assert names_at(other, "HEAD") == ["other"]


async def test_diff_and_log(user: Path, base: str, swarm: SwarmRepository) -> None:
    commit = await finished(swarm, "a", base, {"src/app.py": "x = 1\n"})
    merged = (await integrated(swarm, commit, "Merge a")).commit or ""
    assert "+x = 1" in await swarm.diff(base, merged)
    assert "src/app.py" in await swarm.diff(base, merged, stat=True)
    graph = await swarm.log_graph()
    assert "Merge a" in graph
    assert "Start" in graph
    await swarm.publish()
    await swarm.remove()
    assert "+x = 1" in await swarm.diff(base, merged)  # the user's repository has it
    assert await swarm.integration_commit() == merged


async def test_a_detached_head_and_a_linked_worktree_can_be_submitted(user: Path, base: str, tmp_path: Path) -> None:
    git(user, "worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"))
    swarm = SwarmRepository(tmp_path / "state", SWARM, tmp_path / "linked", base)
    await integrated(swarm, await finished(swarm, "a", base, {"a": "1"}), "Merge a")
    published = await swarm.publish()
    assert published is not None
    assert file_at(user, published[0], "a") == "1"


async def test_paths_of_any_characters(template: Path, tmp_path: Path, own_configuration: Path) -> None:
    odd = 'we"ird: #$(id) \\ é; -x'
    where = Path(shutil.copytree(template, tmp_path / odd / "-repo"))
    swarm = SwarmRepository(tmp_path / (odd + "\nstate"), SWARM, where, head_of(where))
    worktree = await swarm.open_worktree("a", 1, head_of(where))
    shell(worktree.path, "echo 1 > one; git add one; git commit -qm Step; echo 2 > two")
    made = await swarm.commit(worktree, message="Finish", trailers={})
    assert made is not None
    assert git(clone_of(swarm), "rev-list", "--count", f"{head_of(where)}..{made.commit}") == "2"
    await swarm.keep_result("k", made.commit)
    await integrated(swarm, made.commit, "Merge")
    published = await swarm.publish()
    assert published is not None
    assert file_at(where, published[0], "two") == "2"
    await fast_forward(where, "main", published[1])
    await swarm.remove()


@pytest.mark.parametrize("form", ["sha256", "shallow", "alternates", "subdirectory link"])
async def test_repositories_of_other_forms(form: str, tmp_path: Path, user: Path) -> None:
    add_commit(user, {"b": "2"}, "Second")
    where = tmp_path / "form"
    if form == "sha256":
        make_repository(where, {"src/app.py": "x\n"}, "--object-format=sha256")
    elif form == "shallow":
        git(tmp_path, "clone", "--quiet", "--depth=1", user.as_uri(), str(where))
    elif form == "alternates":
        git(tmp_path, "clone", "--quiet", "--shared", str(user), str(where))
        add_commit(where, {"c": "3"}, "Third")
    else:
        where.symlink_to(user)
    swarm = SwarmRepository(tmp_path / "state", SWARM, where, head_of(where))
    start = head_of(where)
    worktree = await swarm.open_worktree("a", 1, start)
    assert git(worktree.path, "status", "--porcelain") == ""
    assert git(worktree.path, "log", "-1", "--format=%H") == start
    write(worktree.path, {"new": "1"})
    saved = await swarm.checkpoint(worktree, None)
    assert saved is not None
    made = await swarm.commit(worktree, message="New", trailers={})
    assert made is not None
    await integrated(swarm, made.commit, "Merge")
    published = await swarm.publish()
    assert published is not None
    assert file_at(where, published[0], "new") == "1"
    git(where, "fsck", "--full")
    await swarm.keep_result("k", made.commit)
    again = SwarmRepository(tmp_path / "state", "b000000000", where, start)
    hit = await again.apply_result("k", start)
    assert hit is not None
    assert await again.tree_of(hit) == await swarm.tree_of(made.commit)
    await swarm.remove()


async def test_fast_forward(user: Path, base: str, swarm: SwarmRepository) -> None:
    merge = (await integrated(swarm, await finished(swarm, "a", base, {"a": "1"}), "Merge a")).commit or ""
    with pytest.raises(UsageError, match="has not been published"):
        await fast_forward(user, "main", merge)
    await swarm.publish()
    git(user, "branch", "other")
    with pytest.raises(UsageError, match="no branch named 'none'"):
        await fast_forward(user, "none", merge)
    (user / "README.md").write_text("changed\n")
    with pytest.raises(UsageError, match=r"uncommitted changes \(README.md\)"):
        await fast_forward(user, "main", merge)
    git(user, "checkout", "--", "README.md")
    (user / "plan.yaml").write_text("mine\n")
    await fast_forward(user, "main", merge)
    assert (head_of(user), (user / "a").read_text()) == (merge, "1")
    assert git(user, "status", "--porcelain") == "?? plan.yaml"
    await fast_forward(user, "main", merge)
    await fast_forward(user, "other", merge)  # not checked out anywhere
    assert head_of(user, "other") == merge
    add_commit(user, {"own": "1"}, "Own")
    later = (await integrated(swarm, await finished(swarm, "b", base, {"b": "1"}), "Merge b")).commit or ""
    await swarm.publish()
    with pytest.raises(UsageError, match="main has moved on"):
        await fast_forward(user, "main", later)


async def test_an_unwritable_state_directory_is_named(user: Path, base: str, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file\n")
    swarm = SwarmRepository(tmp_path / "state", SWARM, user, base)
    with pytest.raises(WorkspaceError, match="state"):
        await swarm.prepare()


async def test_a_broken_clone_is_reported_in_one_line(base: str, swarm: SwarmRepository) -> None:
    await swarm.prepare()
    (clone_of(swarm) / "HEAD").unlink()
    with pytest.raises(WorkspaceError, match="not a git repository") as caught:
        await swarm.open_worktree("a", 1, base)
    assert "\n" not in str(caught.value)


async def test_a_full_disk_is_told_from_other_faults(base: str, swarm: SwarmRepository, tmp_path: Path) -> None:
    """Two ways to meet it: git says so, or the file system does (/dev/full refuses every write)."""
    worktree = await swarm.open_worktree("a", 1, base)
    write(worktree.path, {"a": "1"})
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\necho 'fatal: unable to write loose object file: No space left on device' >&2\nexit 128\n"
    )
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        with pytest.raises(DiskFullError, match="No space left"):
            await swarm.checkpoint(worktree, None)
    with pytest.raises(DiskFullError, match="No space left"):
        await swarm._run(lambda clone: Path("/dev/full").write_text(clone.swarm_id))
    assert await swarm.checkpoint(worktree, None) is not None
