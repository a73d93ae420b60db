"""Commits travel as packs: what arrives is what was sent, and what should not arrive is refused."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from git_samples import SWARM, add_commit, clone_of, file_at, finished, git, head_of, names_at, shell, write

from swarmq.errors import UsageError, WorkspaceError
from swarmq.workspace import pack_sizes
from swarmq.workspace.packs import MAX_PACK_BYTES, Remote, receive_repository
from swarmq.workspace.swarm_repository import SwarmRepository, Worktree

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")
LIMIT = 1_000_000
TRAILERS = {"Swarmq-Swarm": SWARM, "Swarmq-Branch": "a"}


@dataclass
class Away:
    """A pod's side: a repository that came as a pack, and the branch's worktree in it."""

    repository: SwarmRepository
    worktree: Worktree
    sent: list[str]

    async def checkpoint(self) -> tuple[str, bytes]:
        saved = await self.repository.checkpoint(self.worktree, self.sent[-1] if len(self.sent) > 1 else None)
        assert saved is not None
        pack = await self.repository.pack_of([saved], self.sent, LIMIT)
        self.sent.append(saved)
        return saved, pack

    async def commit(self, message: str = "Do it", **trailers: str) -> tuple[str, bytes]:
        made = await self.repository.commit(self.worktree, message=message, trailers=TRAILERS | trailers)
        assert made is not None
        return made.commit, await self.repository.pack_of([made.commit], self.sent, LIMIT)


async def sent_away(swarm: SwarmRepository, base: str, where: Path, checkpoint: str | None = None) -> Away:
    sent = [base, *([checkpoint] if checkpoint is not None else [])]
    pack = await swarm.pack_of(sent, [], LIMIT, base)
    receive_repository(where / "repository", base, pack, shallow=base, remote=None)
    away = SwarmRepository(where / "state", SWARM, where / "repository", base, keeps_merges=False)
    return Away(away, await away.open_worktree("a", 1, sent[-1]), sent)


@pytest.fixture
def history(user: Path) -> str:
    """A second commit on top, so that a snapshot leaves something out."""
    return add_commit(user, {"new.txt": "new\n"}, "Second")


@pytest.fixture
def swarm_on(user: Path, history: str, tmp_path: Path) -> SwarmRepository:
    return SwarmRepository(tmp_path / "state", SWARM, user, history)


async def test_work_goes_away_and_comes_back(
    user: Path, history: str, swarm_on: SwarmRepository, tmp_path: Path
) -> None:
    away = await sent_away(swarm_on, history, tmp_path / "pod")
    assert (away.worktree.path / "new.txt").read_text() == "new\n"
    assert git(away.worktree.path, "log", "--format=%s") == "Second"  # a snapshot has no past
    write(away.worktree.path, {"half": "done\n"})
    saved, pack = await away.checkpoint()
    await swarm_on.accept_checkpoint("a", 1, pack, saved, history, None)
    shell(away.worktree.path, "git add -A && git -c user.name=a -c user.email=a@b commit -qm own")
    write(away.worktree.path, {"rest": "done too\n"})
    again, pack = await away.checkpoint()
    await swarm_on.accept_checkpoint("a", 1, pack, again, history, saved)
    made, pack = await away.commit()
    info = await swarm_on.accept_commit("a", 1, pack, made, history, TRAILERS)
    assert info is not None
    assert (info.commit, info.files) == (made, ("half", "rest"))
    clone = clone_of(swarm_on)
    assert git(clone, "log", "--format=%s", made) == "Do it\nown\nSecond\nStart"
    assert head_of(clone, f"refs/heads/swarmq-work/{SWARM}/a") == made
    git(clone, "fsck", "--connectivity-only", made, again)


async def test_a_checkpoint_goes_on_elsewhere(history: str, swarm_on: SwarmRepository, tmp_path: Path) -> None:
    first = await sent_away(swarm_on, history, tmp_path / "one")
    shell(first.worktree.path, "echo own > own && git add -A && git -c user.name=a -c user.email=a@b commit -qm own")
    write(first.worktree.path, {"half": "done\n"})
    saved, pack = await first.checkpoint()
    await swarm_on.accept_checkpoint("a", 1, pack, saved, history, None)
    second = await sent_away(swarm_on, history, tmp_path / "two", saved)
    assert (second.worktree.path / "half").read_text() == "done\n"
    assert (second.worktree.path / "own").read_text() == "own\n"
    assert await second.repository.checkpoint(second.worktree, saved) is None
    made, pack = await second.commit()
    info = await swarm_on.accept_commit("a", 2, pack, made, history, TRAILERS)
    assert info is not None
    assert info.files == ("half", "own")


async def test_a_commit_that_adds_nothing_to_its_checkpoint_has_an_empty_pack(
    history: str, swarm_on: SwarmRepository, tmp_path: Path
) -> None:
    away = await sent_away(swarm_on, history, tmp_path / "pod")
    write(away.worktree.path, {"half": "done\n"})
    saved, pack = await away.checkpoint()
    await swarm_on.accept_checkpoint("a", 1, pack, saved, history, None)
    made, pack = await away.commit()
    assert await swarm_on.accept_commit("a", 1, pack, made, history, TRAILERS) is not None
    assert await swarm_on.accept_commit("a", 1, pack, made, history, TRAILERS) is not None, "asked again"


async def test_many_objects_stay_a_pack(history: str, swarm_on: SwarmRepository, tmp_path: Path) -> None:
    away = await sent_away(swarm_on, history, tmp_path / "pod")
    write(away.worktree.path, {f"many/{number}": f"{number}\n" for number in range(150)})
    made, pack = await away.commit()
    info = await swarm_on.accept_commit("a", 1, pack, made, history, TRAILERS)
    assert info is not None
    assert len(info.files) == 150


async def test_a_repository_is_cloned_where_a_url_is_named(
    user: Path, history: str, swarm_on: SwarmRepository, tmp_path: Path
) -> None:
    remote = Remote(f"file://{user}", password="unused")
    receive_repository(tmp_path / "clone", history, b"", shallow=None, remote=remote)
    assert git(tmp_path / "clone", "log", "--format=%s", "HEAD") == "Second\nStart"
    assert git(tmp_path / "clone", "rev-parse", "--abbrev-ref", "HEAD") == "HEAD"


async def test_a_commit_that_the_url_lacks_comes_with_the_payload(
    user: Path, base: str, history: str, swarm_on: SwarmRepository, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    git(user, "clone", "-q", "--bare", str(user), str(elsewhere))
    git(elsewhere, "update-ref", "refs/heads/main", base)
    pack = await swarm_on.pack_of([history], [base], LIMIT)
    remote = Remote(f"file://{elsewhere}")
    receive_repository(tmp_path / "pod", history, pack, shallow=None, remote=remote, known=base)
    assert file_at(tmp_path / "pod", "HEAD", "new.txt") == "new"


async def test_what_the_payload_builds_on_may_be_on_no_branch_of_the_url(
    user: Path, base: str, history: str, swarm_on: SwarmRepository, tmp_path: Path
) -> None:
    """A branch was moved back, or the work starts from a tag: the first stage finds it, and so do later ones."""
    elsewhere = tmp_path / "elsewhere"
    git(user, "clone", "-q", "--bare", str(user), str(elsewhere))
    git(elsewhere, "update-ref", "refs/heads/main", base)
    remote = Remote(f"file://{elsewhere}")
    later = await finished(swarm_on, "a", history, {"later.txt": "later\n"})
    pack = await swarm_on.pack_of([later], [history], LIMIT)
    receive_repository(tmp_path / "pod", later, pack, shallow=None, remote=remote, known=history)
    assert file_at(tmp_path / "pod", "HEAD", "later.txt") == "later"
    with pytest.raises(WorkspaceError, match=r"the commit a{40} .* is not in file://.*: push it there first"):
        receive_repository(tmp_path / "other", later, pack, shallow=None, remote=remote, known="a" * 40)


@pytest.mark.parametrize("other", ["b", "a.2"])
async def test_a_commit_on_top_of_another_subtasks_work_is_refused(
    other: str, history: str, swarm_on: SwarmRepository, tmp_path: Path
) -> None:
    """git would take that for merged, and merging the commit would take the other's files away."""
    theirs = await finished(swarm_on, other, history, {"theirs.txt": "theirs\n"})
    where = (await sent_away(swarm_on, history, tmp_path / "pod")).worktree.path
    trailers = "\n".join(f"{name}: {value}" for name, value in TRAILERS.items())
    (tmp_path / "commit").write_text(
        f"tree {git(where, 'rev-parse', f'{history}^{{tree}}')}\nparent {theirs}\n"
        f"author a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nMine\n\n{trailers}\n"
    )
    made = git(where, "hash-object", "-t", "commit", "-w", str(tmp_path / "commit"))
    shell(where, f"echo {made} | git pack-objects --stdout -q > {tmp_path / 'pack'}")
    pack = (tmp_path / "pack").read_bytes()
    if other == "b":
        with pytest.raises(WorkspaceError, match="stands on another subtask's work"):
            await swarm_on.accept_commit("a", 1, pack, made, history, TRAILERS)
    else:  # another try at the same: only one of them is merged
        assert await swarm_on.accept_commit("a", 1, pack, made, history, TRAILERS) is None


async def test_a_base_that_nobody_has_is_named(user: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"the commit a{40} .* is not in file://.*: push it there first"):
        receive_repository(tmp_path / "pod", "a" * 40, b"", shallow=None, remote=Remote(f"file://{user}"))


@pytest.mark.parametrize("url", ["ext::sh -c id", "--upload-pack=id", "ssh://host/repo", "/plain/path"])
def test_other_transports_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be cloned from"):
        receive_repository(tmp_path / "pod", "a" * 40, b"", shallow=None, remote=Remote(url))


def test_a_password_is_for_the_host_of_its_url_alone() -> None:
    variables = Remote("https://git.example/team/repo", "u", "p").variables()
    assert variables["GIT_CONFIG_PARAMETERS"] == "'http.https://git.example/.extraheader'='Authorization: Basic dTpw'"
    assert "GIT_CONFIG_PARAMETERS" not in Remote("https://git.example/team/repo").variables()


async def test_the_result_of_another_branch_is_refused(history: str, swarm_on: SwarmRepository, tmp_path: Path) -> None:
    away = await sent_away(swarm_on, history, tmp_path / "pod")
    write(away.worktree.path, {"half": "done\n"})
    made, pack = await away.commit(**{"Swarmq-Branch": "b"})
    with pytest.raises(WorkspaceError, match="no commit of branch a"):
        await swarm_on.accept_commit("a", 1, pack, made, history, TRAILERS)
    with pytest.raises(WorkspaceError, match="no checkpoint of branch a"):
        await swarm_on.accept_checkpoint("a", 1, pack, made, history, None)
    assert git(clone_of(swarm_on), "for-each-ref", f"refs/heads/swarmq-work/{SWARM}") == ""


async def test_history_that_does_not_stand_on_the_base_is_refused(
    user: Path, base: str, history: str, swarm_on: SwarmRepository, tmp_path: Path
) -> None:
    await swarm_on.prepare()
    with pytest.raises(WorkspaceError, match="does not stand on"):
        await swarm_on.accept_commit("a", 1, b"", base, history, TRAILERS)


@pytest.mark.parametrize("damage", ["nothing", "garbage", "cut", "too long", "without its objects", "no id"])
async def test_packs_that_are_not_what_they_should_be_are_refused(
    damage: str, history: str, swarm_on: SwarmRepository, tmp_path: Path
) -> None:
    away = await sent_away(swarm_on, history, tmp_path / "pod")
    write(away.worktree.path, {"half": "done\n"})
    made, pack = await away.commit()
    commit = made
    match damage:
        case "nothing":
            pack = b""
        case "garbage":
            pack = b"PACK" + b"\xff" * 100
        case "cut":
            pack = pack[:-30]
        case "too long":
            pack += bytes(MAX_PACK_BYTES)
        case "no id":
            commit = "../../HEAD"
        case _:  # the commit and its tree, without the new file's content
            tree = git(clone_of(away.repository), "rev-parse", f"{made}^{{tree}}")
            pack = git_pack(clone_of(away.repository), made, tree)
    with pytest.raises(WorkspaceError):
        await swarm_on.accept_commit("a", 1, pack, commit, history, TRAILERS)


async def test_a_pack_that_is_large_inside_is_not_taken_apart(
    history: str, swarm_on: SwarmRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = await sent_away(swarm_on, history, tmp_path / "pod")
    write(away.worktree.path, {"zeros": "0" * 90_000})
    made, pack = await away.commit()
    assert len(pack) < 2_000
    monkeypatch.setattr(pack_sizes, "MAX_FILE_BYTES", 80_000)
    with pytest.raises(WorkspaceError, match="an object of 90,000 bytes"):
        await swarm_on.accept_commit("a", 1, pack, made, history, TRAILERS)
    objects = git(clone_of(swarm_on), "cat-file", "--batch-check=%(objectname)", "--batch-all-objects")
    assert made not in objects.split()


async def test_an_older_holder_takes_nothing_in(history: str, swarm_on: SwarmRepository, tmp_path: Path) -> None:
    away = await sent_away(swarm_on, history, tmp_path / "pod")
    write(away.worktree.path, {"half": "done\n"})
    saved, pack = await away.checkpoint()
    await swarm_on.take_over("a", 2)
    with pytest.raises(WorkspaceError, match="taken over"):
        await swarm_on.accept_checkpoint("a", 1, pack, saved, history, None)
    await swarm_on.accept_checkpoint("a", 2, pack, saved, history, None)


async def test_a_commit_without_changes_is_none(history: str, swarm_on: SwarmRepository, tmp_path: Path) -> None:
    away = await sent_away(swarm_on, history, tmp_path / "pod")
    text = "\n".join(f"{name}: {value}" for name, value in TRAILERS.items())
    git(away.worktree.path, "commit", "--allow-empty", "-qm", f"empty\n\n{text}")
    empty = head_of(away.worktree.path)
    pack = git_pack(away.worktree.path, empty)
    assert await swarm_on.accept_commit("a", 1, pack, empty, history, TRAILERS) is None


def git_pack(where: Path, *objects: str) -> bytes:
    command = ["git", "-C", str(where), "pack-objects", "--stdout", "-q"]
    return subprocess.run(command, input="\n".join(objects).encode() + b"\n", capture_output=True, check=True).stdout


async def test_a_snapshot_is_as_large_as_it_is(history: str, swarm_on: SwarmRepository) -> None:
    assert len(await swarm_on.pack_of([history], [], 50, history)) == 51
    assert names_at(clone_of(swarm_on), history)


@pytest.mark.parametrize(("url", "sent"), [("https://git.example/team/repo", True), ("https://evil.example/x", False)])
def test_git_reads_the_password_as_it_is_meant(url: str, sent: bool, tmp_path: Path) -> None:
    variables = Remote("https://git.example/team/repo", "u", "p").variables()
    command = ["git", "config", "--get-urlmatch", "http.extraheader", url]
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": str(tmp_path), **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == ("Authorization: Basic dTpw" if sent else "")
