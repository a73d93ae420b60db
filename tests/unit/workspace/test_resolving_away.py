"""A conflict that is resolved elsewhere: the files arrive as the merge left them here, and one merge comes back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from git_samples import SWARM, add_commit, clone_of, finished, git, head_of, integrated, shell, write
from hypothesis import given
from hypothesis import strategies as st

from swarmq.errors import WorkspaceError
from swarmq.models.swarm import MergeReport
from swarmq.workspace.merge_tree import MergedTree, Stage, parsed
from swarmq.workspace.packs import Remote, receive_repository
from swarmq.workspace.swarm_repository import PreparedMerge, SwarmRepository, Worktree

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")
LIMIT = 1_000_000
BRANCH = "b.r1"
TRAILERS = {"Swarmq-Swarm": SWARM, "Swarmq-Branch": BRANCH}


class Conflict:
    """A swarm whose branch ``b`` was resolved once, and conflicts again with what was merged meanwhile.

    So ``theirs`` is a merge itself. ``f.txt`` conflicts as text, ``g.lock`` because its driver says so, which only the
    user's repository has.
    """

    def __init__(self, swarm: SwarmRepository, origin: str, start: str, theirs: str) -> None:
        self.swarm, self.origin, self.start, self.theirs = swarm, origin, start, theirs

    @classmethod
    async def make(cls, user: Path, state: Path) -> Conflict:
        git(user, "config", "merge.never.driver", "false")
        lock = "".join(f"{number}\n" for number in range(9))
        attributes = "*.lock merge=never\n"
        origin = add_commit(user, {".gitattributes": attributes, "f.txt": "1\n2\n3\n", "g.lock": lock}, "Origin")
        swarm = SwarmRepository(state, SWARM, user, origin)
        await integrated(swarm, await finished(swarm, "a", origin, {"f.txt": "a\n2\n3\n"}))
        second = await finished(swarm, "b", origin, {"f.txt": "b\n2\n3\n", "b\udcff": "b\n", "g.lock": f"b\n{lock}"})
        first = await swarm.open_resolver("b.r0", 1, await swarm.integration_commit(), second)
        write(first.path, {"f.txt": "a b\n2\nb\n"})
        made = await swarm.commit(first, message="First resolver", trailers={}, theirs=second)
        assert made is not None
        await integrated(swarm, await finished(swarm, "c", origin, {"f.txt": "1\n2\nc\n", "g.lock": f"{lock}c\n"}))
        start = await swarm.integration_commit()
        report = await swarm.prepare_merge(made.commit, message="Merge b")
        assert isinstance(report, MergeReport)
        assert report.conflicts == ("f.txt", "g.lock")
        return cls(swarm, origin, start, made.commit)

    async def send(self, where: Path, checkpoint: str | None = None, remote: Remote | None = None) -> SwarmRepository:
        """What a resolver elsewhere works with."""
        left = await self.swarm.merge_left(self.start, self.theirs)
        wanted = [self.start, self.theirs, *left.objects, *([checkpoint] if checkpoint is not None else [])]
        known, shallow = ([], self.origin) if remote is None else ([self.origin], None)
        pack = await self.swarm.pack_of(wanted, known, LIMIT, shallow)
        origin = None if remote is None else self.origin
        receive_repository(where / "repository", self.start, pack, shallow=shallow, remote=remote, known=origin)
        away = SwarmRepository(where / "state", SWARM, where / "repository", self.start, keeps_merges=False)
        await away.receive_merge(self.start, self.theirs, left.told())
        return away

    async def commit(self, away: SwarmRepository, worktree: Worktree) -> tuple[str, bytes]:
        made = await away.commit(worktree, message="Resolve", trailers=TRAILERS, theirs=self.theirs)
        assert made is not None
        return made.commit, await away.pack_of([made.commit], [self.start, self.theirs], LIMIT)

    async def accept(self, commit: str, pack: bytes) -> None:
        info = await self.swarm.accept_commit(BRANCH, 1, pack, commit, self.start, TRAILERS, self.theirs)
        assert info is not None
        assert info.commit == commit


@pytest.fixture
async def conflict(user: Path, tmp_path: Path) -> Conflict:
    return await Conflict.make(user, tmp_path / "state")


def files_of(worktree: Worktree) -> dict[bytes, bytes]:
    top = os.fsencode(worktree.path)
    names = [name for name in os.listdir(top) if os.path.isfile(os.path.join(top, name))]
    return {name: Path(os.fsdecode(os.path.join(top, name))).read_bytes() for name in names}


@pytest.mark.parametrize("by_url", [False, True])
async def test_files_and_history_arrive(by_url: bool, conflict: Conflict, user: Path, tmp_path: Path) -> None:
    here = await conflict.swarm.open_resolver(BRANCH, 1, conflict.start, conflict.theirs)
    away = await conflict.send(tmp_path / "pod", remote=Remote(f"file://{user}") if by_url else None)
    there = await away.open_resolver(BRANCH, 1, conflict.start, conflict.theirs)
    assert files_of(there) == files_of(here)
    assert b"<<<<<<< merged-before\n" in files_of(there)[b"f.txt"]
    status = git(there.path, "status", "--porcelain")
    assert status == git(here.path, "status", "--porcelain")
    assert "UU g.lock" in status, "as the driver left it that only the user's repository has"
    for command in (("diff",), ("log", "-p", "--format=%s", "..this-subtask"), ("merge-base", "HEAD", "MERGE_HEAD")):
        assert git(there.path, *command) == git(here.path, *command)
    assert (head_of(there.path), head_of(there.path, "MERGE_HEAD")) == (conflict.start, conflict.theirs)
    assert ("Start" in git(there.path, "log", "--format=%s")) == by_url, "a pack ends at the swarm's base"


async def test_a_resolution_comes_back_as_a_merge_of_both(conflict: Conflict, tmp_path: Path) -> None:
    """By way of a checkpoint and another place, where the agent makes a merge of its own."""
    swarm, start, theirs = conflict.swarm, conflict.start, conflict.theirs
    first = await conflict.send(tmp_path / "one")
    worktree = await first.open_resolver(BRANCH, 1, start, theirs)
    assert await first.unresolved(worktree, theirs) == ("f.txt",)
    write(worktree.path, {"half": "done\n"})
    saved = await first.checkpoint(worktree, None)
    assert saved is not None
    pack = await first.pack_of([saved], [start, theirs], LIMIT)
    await swarm.accept_checkpoint(BRANCH, 1, pack, saved, start, None)
    second = await conflict.send(tmp_path / "two", saved)
    later = await second.open_worktree(BRANCH, 2, saved)
    assert (later.path / "half").exists()
    assert await second.unresolved(later, theirs) == ("f.txt",), "untouched since the merge"
    shell(later.path, f"git reset -q --hard; git merge -q --no-edit -s ours {theirs}")
    write(later.path, {"f.txt": "a b\n2\nc b\n", "half": "done\n"})
    assert await second.unresolved(later, theirs) == ()
    made, pack = await conflict.commit(second, later)
    assert len(pack) < 1_000, "neither side is sent back"
    await conflict.accept(made, pack)
    assert git(clone_of(swarm), "log", "-1", "--format=%P|%s", made) == f"{start} {theirs}|Resolve"
    assert await swarm.unresolved_in(made, start, theirs) == ()
    merge = await swarm.prepare_merge(made, message="Merge b", theirs=theirs)
    assert isinstance(merge, PreparedMerge)
    await swarm.land(merge)
    assert git(clone_of(swarm), "show", f"{merge.commit}:f.txt") == "a b\n2\nc b"


async def test_taking_nothing_of_the_other_side_is_a_resolution(conflict: Conflict, tmp_path: Path) -> None:
    away = await conflict.send(tmp_path / "pod")
    worktree = await away.open_resolver(BRANCH, 1, conflict.start, conflict.theirs)
    shell(worktree.path, "git rm -rqf . && git checkout -q merged-before -- .")
    await conflict.accept(*await conflict.commit(away, worktree))


async def test_markers_are_found_in_what_came_back(conflict: Conflict, tmp_path: Path) -> None:
    away = await conflict.send(tmp_path / "pod")
    worktree = await away.open_resolver(BRANCH, 1, conflict.start, conflict.theirs)
    shell(worktree.path, "cp f.txt moved.txt")
    made, pack = await conflict.commit(away, worktree)
    await conflict.accept(made, pack)
    left = await conflict.swarm.unresolved_in(made, conflict.start, conflict.theirs)
    assert set(left) == {"f.txt", "moved.txt"}


async def test_a_commit_of_another_form_is_refused(conflict: Conflict, tmp_path: Path) -> None:
    start, theirs = conflict.start, conflict.theirs
    away = await conflict.send(tmp_path / "pod")
    where = (await away.open_resolver(BRANCH, 1, start, theirs)).path
    other = crafted(where, conflict.origin)
    for parents, refusal in (
        ([start], "is not a merge with"),
        ([theirs], "is not a merge with"),
        ([start, other], "is not a merge with"),
        ([start, theirs, other], "is not a merge with"),
        ([theirs, start], "is not a merge with"),
        ([other, theirs], "does not stand on"),
        ([crafted(where, start, other), theirs], "brings in other history"),
    ):
        made = crafted(where, *parents)
        with pytest.raises(WorkspaceError, match=refusal):
            await conflict.accept(made, objects_of(where, made, conflict))
    assert git(clone_of(conflict.swarm), "for-each-ref", f"refs/heads/swarmq-work/{SWARM}/{BRANCH}") == ""
    made = crafted(where, start, theirs)
    await conflict.accept(made, objects_of(where, made, conflict))


def crafted(where: Path, *parents: str) -> str:
    """A commit with these parents, the files of ``this-subtask``, and the trailers that it should have."""
    text = "\n".join(f"{name}: {value}" for name, value in TRAILERS.items())
    named = [word for parent in parents for word in ("-p", parent)]
    return git(where, "commit-tree", "this-subtask^{tree}", *named, "-m", "Crafted", "-m", text)


def objects_of(where: Path, made: str, conflict: Conflict) -> bytes:
    """What the commit adds, as a pack."""
    file = where / "sent"
    script = f"printf '%s\\n' {made} ^{conflict.start} ^{conflict.theirs} | git pack-objects --revs --stdout -q"
    shell(where, f"{script} > {file}")
    return file.read_bytes()


async def test_a_branch_that_resolves_nothing_sends_no_merge(conflict: Conflict, tmp_path: Path) -> None:
    """One that its agent made in the fleet, before the branch went on in a pod, is in the files alone."""
    swarm, start = conflict.swarm, conflict.start
    worktree = await swarm.open_worktree(BRANCH, 1, start)
    shell(worktree.path, "git checkout -qb side; echo 1 > one; git add one; git commit -qm one")
    shell(worktree.path, f"git checkout -q {start}; git merge -q --no-ff --no-edit side")
    saved = await swarm.checkpoint(worktree, None)
    assert saved is not None
    with pytest.raises(WorkspaceError, match="brings in other history"):
        await swarm.accept_checkpoint(BRANCH, 1, b"", saved, start, None)
    away = await conflict.send(tmp_path / "pod", saved)
    later = await away.open_worktree(BRANCH, 2, saved)
    assert head_of(later.path) == head_of(worktree.path)
    made = await away.commit(later, message="Work", trailers=TRAILERS)
    assert made is not None
    pack = await away.pack_of([made.commit], [saved], LIMIT)
    info = await swarm.accept_commit(BRANCH, 2, pack, made.commit, start, TRAILERS)
    assert info is not None
    assert info.files == ("one",)
    assert git(clone_of(swarm), "log", "-1", "--format=%P", made.commit) == start


IDS = st.text("0123456789abcdef", min_size=40, max_size=40)
STAGES = st.builds(
    Stage,
    mode=st.sampled_from(["100644", "100755", "120000", "160000"]),
    blob=IDS,
    number=st.integers(1, 3),
    name=st.binary(min_size=1, max_size=8).filter(lambda name: b"\0" not in name).map(os.fsdecode),
)


@given(st.builds(MergedTree, tree=IDS, clean=st.just(False), stages=st.lists(STAGES, max_size=4).map(tuple)))
def test_a_merge_is_told_and_read_again(merged: MergedTree) -> None:
    assert parsed(merged.told(), clean=False, id_length=40) == merged
