"""One holder at a time, a new worktree for each, and nothing lost when one dies anywhere."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from git_samples import SWARM, clone_of, file_at, git, head_of, integrated, names_at, shell, write

from swarmq.errors import UsageError, WorkspaceError
from swarmq.workspace.private_clone import PrivateClone
from swarmq.workspace.swarm_repository import SwarmRepository
from swarmq.workspace.worktrees import fence

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")
SCRIPT = Path(__file__).with_name("crash_points.py")


async def test_an_older_token_can_neither_save_nor_commit(base: str, swarm: SwarmRepository) -> None:
    old = await swarm.open_worktree("a", 1, base)
    write(old.path, {"old": "1"})
    saved = await swarm.checkpoint(old, None)
    assert saved is not None
    new = await swarm.open_worktree("a", 2, saved)
    assert new.path != old.path
    assert (new.path / "old").read_text() == "1"
    write(old.path, {"old": "2"})  # its shells outlive it
    with pytest.raises(WorkspaceError, match="branch a was taken over: token 1 is older than 2"):
        await swarm.checkpoint(old, saved)
    with pytest.raises(WorkspaceError, match="taken over"):
        await swarm.commit(old, message="Old", trailers={})
    with pytest.raises(WorkspaceError, match="taken over"):
        await swarm.open_worktree("a", 1, base)
    assert head_of(clone_of(swarm), f"refs/swarmq/{SWARM}/a") == saved
    assert git(clone_of(swarm), "for-each-ref", "refs/heads/swarmq-work/") == ""
    assert (new.path / "old").read_text() == "1"


async def test_the_newest_token_goes_on_where_the_ref_is_ahead_of_the_record(base: str, swarm: SwarmRepository) -> None:
    """A holder died after it moved the ref and before it recorded the commit."""
    old = await swarm.open_worktree("a", 1, base)
    write(old.path, {"one": "1"})
    recorded = await swarm.checkpoint(old, None)
    write(old.path, {"two": "2"})
    assert await swarm.checkpoint(old, recorded) is not None
    assert recorded is not None
    new = await swarm.open_worktree("a", 2, recorded)
    assert await swarm.checkpoint(new, recorded) is None
    write(new.path, {"three": "3"})
    saved = await swarm.checkpoint(new, recorded)
    assert saved is not None
    assert head_of(clone_of(swarm), f"refs/swarmq/{SWARM}/a") == saved
    assert {"one", "three"} <= set(names_at(clone_of(swarm), saved))
    assert "two" not in names_at(clone_of(swarm), saved)


async def test_a_resumed_agent_finds_its_changes_and_its_commits(
    user: Path, base: str, swarm: SwarmRepository, tmp_path: Path
) -> None:
    old = await swarm.open_worktree("a", 1, base)
    shell(old.path, "echo 1 > one; git add one; git commit -qm 'Step one'; echo 2 > two; echo x >> README.md")
    saved = await swarm.checkpoint(old, None)
    assert saved is not None
    shutil.rmtree(old.path)  # another machine, or the worktree is gone
    again = SwarmRepository(tmp_path / "state", SWARM, user, base)
    new = await again.open_worktree("a", 2, saved)
    assert git(new.path, "log", "--format=%s").splitlines() == ["Step one", "Start"]
    assert git(new.path, "status", "--porcelain").splitlines() == [" M README.md", "?? two"]
    assert await again.changed_files(new) == ("README.md", "one", "two")
    assert await again.checkpoint(new, saved) is None
    shell(new.path, "git add two; git commit -qm 'Step two'; echo 3 > three")
    later = await again.checkpoint(new, saved)
    assert later is not None
    third = await again.open_worktree("a", 3, later)
    made = await again.commit(third, message="Finish", trailers={})
    assert made is not None
    assert set(made.files) == {"README.md", "one", "two", "three"}
    steps = git(clone_of(again), "log", "--format=%s", f"{base}..{made.commit}").splitlines()
    assert steps == ["Finish", "Step two", "Step one"]


async def test_a_commit_of_the_agent_alone_is_saved(base: str, swarm: SwarmRepository) -> None:
    worktree = await swarm.open_worktree("a", 1, base)
    write(worktree.path, {"one": "1"})
    first = await swarm.checkpoint(worktree, None)
    shell(worktree.path, "git add one; git commit -qm Step")
    second = await swarm.checkpoint(worktree, first)
    assert second is not None  # the same files, but on another history
    assert await swarm.checkpoint(worktree, second) is None


async def test_every_call_can_be_repeated(user: Path, base: str, swarm: SwarmRepository) -> None:
    for _ in range(2):
        await swarm.prepare()
    one, two = [await swarm.open_worktree("a", 1, base) for _ in range(2)]
    assert one == two
    write(one.path, {"a": "1"})
    assert (await swarm.open_worktree("a", 1, base)).path.joinpath("a").read_text() == "1"
    saved = await swarm.checkpoint(one, None)
    assert await swarm.checkpoint(one, saved) is None
    assert await swarm.checkpoint(one, None) is not None  # a repeat that does not know of the first
    made = [await swarm.commit(one, message="Finish", trailers={}) for _ in range(2)]
    assert made[0] is not None
    assert made[0] == made[1]
    for _ in range(2):
        await swarm.keep_result("key", made[0].commit)
        await swarm.remove_worktree(one)
        await integrated(swarm, made[0].commit, "Merge")
        await swarm.publish()
    hits = {await swarm.apply_result("key", base) for _ in range(2)}
    assert len(hits) == 1
    for _ in range(2):
        await swarm.remove_worktrees()
        await swarm.remove()
    assert git(user, "for-each-ref", "refs/swarmq/") == ""


async def test_half_made_things_are_made_again(base: str, swarm: SwarmRepository, tmp_path: Path) -> None:
    directory = clone_of(swarm).parent
    (directory / ".making-1234").mkdir(parents=True)
    (directory / ".making-1234" / "config").write_text("[core]\n")
    await swarm.prepare()
    for name in ("a-1", ".making-5678"):
        (directory / "worktrees" / name / "src").mkdir(parents=True)
        (directory / "worktrees" / name / "src" / "app.py").write_text("half\n")
    worktree = await swarm.open_worktree("a", 1, base)
    assert "return a - b" in (worktree.path / "src" / "app.py").read_text()
    assert await swarm.changed_files(worktree) == ()
    (directory / "indexes" / "b-1").write_text("half an index")
    other = await swarm.open_worktree("b", 1, base)
    assert await swarm.checkpoint(other, None) is None
    await swarm.remove()
    assert not directory.exists()


async def test_a_stale_lock_is_broken_and_a_held_one_waited_for(base: str, swarm: SwarmRepository) -> None:
    worktree = await swarm.open_worktree("a", 1, base)
    write(worktree.path, {"a": "1"})
    index = clone_of(swarm).parent / "indexes" / "a-1.lock"
    ref = clone_of(swarm) / "refs" / "swarmq" / SWARM / "a.lock"
    ref.parent.mkdir(parents=True)
    for lock in (index, ref):
        lock.touch()
        os.utime(lock, (1, 1))
    saved = await swarm.checkpoint(worktree, None)
    assert saved is not None
    write(worktree.path, {"a": "2"})
    index.touch()
    saving = asyncio.create_task(swarm.checkpoint(worktree, saved))
    done, _ = await asyncio.wait([saving], timeout=0.3)
    assert not done
    index.unlink()
    assert await saving is not None


async def test_readers_share_a_checkout_until_it_is_written_to(base: str, swarm: SwarmRepository) -> None:
    one, two = await asyncio.gather(swarm.open_reader(0, base), swarm.open_reader(0, base))
    assert one == two
    assert (one.path / "src" / "app.py").exists()
    assert await swarm.changed_files(one) == ()
    write(one.path, {"note": "1"})
    assert await swarm.changed_files(one) == ("note",)
    three = await swarm.open_reader(0, base)
    assert three.path != one.path
    assert await swarm.open_reader(0, base) == three
    assert (await swarm.open_reader(1, base)).path != three.path
    worktree = await swarm.open_worktree("read-0", 1, base)
    await swarm.remove_worktrees([str(worktree.path)])
    assert worktree.path.is_dir()
    assert not one.path.exists()
    assert not three.path.exists()


async def test_worktrees_that_resist_are_removed(base: str, swarm: SwarmRepository, tmp_path: Path) -> None:
    worktree = await swarm.open_worktree("a", 1, base)
    shell(worktree.path, "mkdir -p mod/cache; echo 1 > mod/cache/x; chmod 500 mod/cache mod; ln -s /etc etc")
    await swarm.remove_worktree(worktree)
    assert not worktree.path.exists()
    assert os.listdir("/etc")
    with pytest.raises(WorkspaceError, match="is not a worktree of swarm"):
        await swarm.remove_worktree(type(worktree)(tmp_path, "a", base, 1, base, base))


async def test_ids_that_are_none(base: str, swarm: SwarmRepository, user: Path, tmp_path: Path) -> None:
    for branch in ("", "../x", "a/b", "A", "a.lock", "a..b", "-a", "a\n"):
        with pytest.raises(UsageError, match="is not the id of a branch"):
            await swarm.open_worktree(branch, 1, base)
    assert (await swarm.open_worktree("fix-it.2", 1, base)).path.is_dir()
    with pytest.raises(UsageError, match="is not the id of a swarm"):
        SwarmRepository(tmp_path, "../x", user, base)


def run_script(user: Path, tmp_path: Path, *arguments: str) -> int:
    command = [sys.executable, str(SCRIPT), str(user), str(tmp_path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_work_killed_at_any_point_ends_the_same(user: Path, tmp_path: Path) -> None:
    """Every fifth of some 65 points; ``crash_points.py REPO DIRECTORY 1`` tries them all in 20 s."""
    assert run_script(user, tmp_path, "5") >= 12


def test_processes_at_the_same_time(user: Path, tmp_path: Path) -> None:
    assert run_script(user, tmp_path) == 20
    assert file_at(tmp_path / "state" / "swarms" / SWARM / "repo.git", f"swarmq/{SWARM}", "file3-4") == "x"


async def test_a_holder_that_is_stopped_in_its_fence_keeps_nobody_waiting(
    user: Path, base: str, swarm: SwarmRepository, tmp_path: Path
) -> None:
    """As SIGSTOP does it: the lock stays held, and what the stopped holder was about to do comes later."""
    clone = PrivateClone(tmp_path / "state", SWARM, user, base)
    old = await swarm.open_worktree("a", 1, base)
    write(old.path, {"by": "old"})
    with fence(clone, "a", 1) as check:
        async with asyncio.timeout(10):
            new = await swarm.open_worktree("a", 2, base)
            write(new.path, {"by": "new"})
            saved = await swarm.checkpoint(new, None)
        with pytest.raises(WorkspaceError, match="token 1 is older than 2"):
            check()
    with pytest.raises(WorkspaceError, match="token 1 is older than 2"):
        await swarm.checkpoint(old, None)
    assert clone.resolve(clone.checkpoint_ref("a")) == saved
