"""Whatever an agent does with git in its worktree, its files become a commit, and nothing of it runs in our calls."""

from __future__ import annotations

from pathlib import Path

import pytest
from git_samples import (
    SWARM,
    add_commit,
    clone_of,
    file_at,
    git,
    head_of,
    integrated,
    make_repository,
    names_at,
    shell,
    traces,
    write,
)
from repository_snapshot import snapshot

from swarmq.errors import UncommittableError, WorkspaceError
from swarmq.workspace import adoption
from swarmq.workspace.swarm_repository import SwarmRepository

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")

OWN_COMMITS = {
    "commits": "git commit -qam 'My step'",
    "makes a branch": "git checkout -qb fix; git add -A; git commit -qm 'My step'",
    "packs its refs": "git checkout -qb fix; git add -A; git commit -qm 'My step'; git pack-refs --all; git gc -q",
    "commits twice": "git commit -qam 'My step'; echo more >> src/app.py; git commit -qam 'My second step'",
}
NO_COMMITS = {
    "only edits": ":",
    "stages": "git add -A",
    "stashes and pops": "git stash -q; git stash pop -q",
    "deletes .git": "rm -rf .git",
    "makes .git a link": "mv .git ../elsewhere; ln -s ../elsewhere .git",
    "makes .git a file": "rm -rf .git; echo 'gitdir: /nowhere' > .git",
    "breaks HEAD": "echo nonsense > .git/HEAD",
    "makes HEAD a pipe": "rm .git/HEAD; mkfifo .git/HEAD",
    "names a commit that is not there": "echo 1234567890123456789012345678901234567890 > .git/HEAD",
    "leads HEAD out": "echo 'ref: refs/../../../../etc/passwd' > .git/HEAD",
    "breaks its configuration": "echo '[nonsense' > .git/config",
    "breaks its index": "echo nonsense > .git/index",
    "locks its index": "touch .git/index.lock",
    "goes back in history": "cp src/app.py kept; git reset -q --hard HEAD~1; mv kept src/app.py",
    "starts a new history": "git checkout -q --orphan other; git commit -qam Other",
}


@pytest.fixture
async def two_commits(user: Path, tmp_path: Path) -> SwarmRepository:
    add_commit(user, {"later.txt": "later\n"}, "Second")
    return SwarmRepository(tmp_path / "state", SWARM, user, head_of(user))


@pytest.mark.parametrize("name", [*OWN_COMMITS, *NO_COMMITS])
async def test_the_files_become_the_commit(name: str, user: Path, two_commits: SwarmRepository) -> None:
    swarm, base, before = two_commits, head_of(user), snapshot(user)
    worktree = await swarm.open_worktree("a", 1, base)
    write(worktree.path, {"src/app.py": "def add(a, b):\n    return a + b\n"})
    shell(worktree.path, {**OWN_COMMITS, **NO_COMMITS}[name])
    write(worktree.path, {"new.txt": "new\n"})
    saved = await swarm.checkpoint(worktree, None)
    assert saved is not None
    made = await swarm.commit(worktree, message="Finish", trailers={"Swarmq-Subtask": "a"})
    assert made is not None
    clone = clone_of(swarm)
    for commit in (saved, made.commit):
        assert "a + b" in file_at(clone, commit, "src/app.py")
        assert file_at(clone, commit, "new.txt") == "new"
    expected = {"src/app.py", "new.txt"} | ({"later.txt"} if name == "goes back in history" else set())
    assert set(made.files) == expected
    steps = git(clone, "log", "--format=%s", f"{base}..{made.commit}").splitlines()
    assert steps[0] == "Finish"
    assert ("My step" in steps) == (name in OWN_COMMITS)
    assert len(steps) == 1 + OWN_COMMITS.get(name, "").count("git commit")
    assert snapshot(user) == before
    merged = await integrated(swarm, made.commit, "Merge")
    assert merged.status == "merged"
    await swarm.publish()
    git(user, "fsck", "--full", "--strict")


async def test_a_last_commit_of_the_agent_gets_the_trailers(user: Path, base: str, swarm: SwarmRepository) -> None:
    worktree = await swarm.open_worktree("a", 1, base)
    shell(worktree.path, "echo 1 > one; git add one; git commit -qm 'One step' -m 'Why: because'")
    made = await swarm.commit(worktree, message="Finish", trailers={"Swarmq-Swarm": SWARM, "Swarmq-Subtask": "a\nb"})
    assert made is not None
    body = git(clone_of(swarm), "log", "-1", "--format=%B%n%(trailers:key=Swarmq-Subtask)", made.commit)
    assert body.splitlines()[:2] == ["One step", ""]
    assert "Swarmq-Subtask: a b" in body.splitlines()[-2:]
    assert git(clone_of(swarm), "rev-list", "--count", f"{base}..{made.commit}") == "1"
    assert await swarm.commit(worktree, message="Finish", trailers={"x": "y"}) == made


async def test_agents_do_not_share_stash_branches_or_settings(user: Path, base: str, swarm: SwarmRepository) -> None:
    one = await swarm.open_worktree("one", 1, base)
    two = await swarm.open_worktree("two", 1, base)
    for worktree, text in ((one, "1"), (two, "2")):
        shell(worktree.path, f"echo {text} > README.md; git stash -q; git checkout -qb fix")
    shell(one.path, "git config alias.x '!false'; git stash pop -q")
    shell(
        two.path, 'test -z "$(git config alias.x || true)"; git stash pop -q; git push -q 2>/dev/null && exit 1 || true'
    )
    assert ((one.path / "README.md").read_text(), (two.path / "README.md").read_text()) == ("1\n", "2\n")
    assert git(user, "stash", "list") == ""


async def test_an_agent_sees_the_history_branches_and_tags(user: Path, base: str, swarm: SwarmRepository) -> None:
    git(user, "tag", "-a", "v1", "-m", "First")
    worktree = await swarm.open_worktree("a", 1, base)
    assert git(worktree.path, "describe") == "v1"
    assert git(worktree.path, "diff", "main...HEAD") == ""
    assert git(worktree.path, "status", "--porcelain") == ""


ATTACKS = {
    "fsmonitor": "git config core.fsmonitor 'touch MARK; false'",
    "hooks": "mkdir -p .git/hooks; for hook in pre-commit post-index-change reference-transaction post-checkout; do "
    'printf "#!/bin/sh\\ntouch MARK\\n" > .git/hooks/$hook; chmod +x .git/hooks/$hook; done',
    "hooks path": 'mkdir h; printf "#!/bin/sh\\ntouch MARK\\n" > h/post-index-change; chmod +x h/*; '
    "git config core.hooksPath $PWD/h",
    "filter": "git config filter.x.clean 'touch MARK; cat'; git config filter.x.smudge 'touch MARK; cat'; "
    "echo '* filter=x' > .gitattributes",
    "included settings": "printf '[filter \"x\"]\\nclean = touch MARK\\n' > evil; git config include.path $PWD/evil; "
    "echo '* filter=x' > .gitattributes",
    "merge driver": "git config merge.x.driver 'touch MARK'; echo '* merge=x' > .gitattributes",
    "diff driver": "git config diff.external 'touch MARK'; git config diff.x.textconv 'touch MARK; cat'; "
    "echo '* diff=x' > .gitattributes",
    "alias": "git config alias.ls-files '!touch MARK'; git config alias.read-tree '!touch MARK'",
    "ssh and pager": "git config core.sshCommand 'touch MARK'; git config core.pager 'touch MARK'; "
    "git config core.editor 'touch MARK'; git config gpg.program 'touch MARK'; git config commit.gpgSign true",
    "lazy fetch": "git config extensions.partialClone o; git config core.repositoryformatversion 1; "
    "git config remote.o.url ext::'touch MARK'; git config remote.o.promisor true; "
    "git config remote.o.uploadpack 'touch MARK'; echo 1234567890123456789012345678901234567890 > .git/HEAD",
    "another repository": "rm -rf .git; git init -q .; "
    "git config filter.x.clean 'touch MARK; cat'; echo '* filter=x' > .gitattributes",
    "object store": "echo /nowhere/objects > .git/objects/info/alternates; mkdir -p .git/objects/12; "
    "mkfifo .git/objects/12/34567890123456789012345678901234567890; "
    "echo 1111111111111111111111111111111111111111 > .git/HEAD",
}


@pytest.mark.parametrize("name", list(ATTACKS))
async def test_nothing_an_agent_configures_runs_in_our_calls(
    name: str, user: Path, base: str, swarm: SwarmRepository, tmp_path: Path
) -> None:
    worktree = await swarm.open_worktree("a", 1, base)
    shell(worktree.path, ATTACKS[name].replace("MARK", f"{tmp_path}/ran-it"))
    for leftover in traces(tmp_path):  # what the attack's own git commands set off does not count
        (tmp_path / leftover).unlink()
    write(worktree.path, {"src/app.py": "changed\n", "README.md": "changed\n"})
    saved = await swarm.checkpoint(worktree, None)
    made = await swarm.commit(worktree, message="Finish", trailers={})
    assert saved is not None
    assert made is not None
    await swarm.changed_files(worktree)
    await integrated(swarm, made.commit, "Merge")
    other = await swarm.open_worktree("b", 1, await swarm.integration_commit())
    write(other.path, {"src/app.py": "again\n"})
    second = await swarm.commit(other, message="Again", trailers={})
    assert second is not None
    await integrated(swarm, second.commit, "Merge again")
    await swarm.diff(base, second.commit)
    await swarm.publish()
    await swarm.remove()
    assert traces(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["fsmonitor", "hooks", "hooks path", "filter", "included settings", "another repository"]
)
async def test_the_attacks_are_real(name: str, base: str, swarm: SwarmRepository, tmp_path: Path) -> None:
    """The control: git that reads the worktree's own git directory does run them."""
    worktree = await swarm.open_worktree("a", 1, base)
    shell(worktree.path, ATTACKS[name].replace("MARK", f"{tmp_path}/ran-it"))
    shell(worktree.path, f"rm -f {tmp_path}/ran-it; echo x > README.md; git add -A; git status")
    assert traces(tmp_path) == ["ran-it"]


async def test_an_object_that_never_ends_costs_only_the_steps(
    user: Path, base: str, swarm: SwarmRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoption, "READING_SECONDS", 0.2)
    worktree = await swarm.open_worktree("a", 1, base)
    shell(
        worktree.path,
        "echo 1 > one; git add one; git commit -qm Step; id=$(git rev-parse HEAD); "
        "file=.git/objects/$(echo $id | cut -c1-2)/$(echo $id | cut -c3-); rm -f $file; mkfifo $file",
    )
    made = await swarm.commit(worktree, message="Finish", trailers={})
    assert made is not None
    assert made.files == ("one",)
    assert git(clone_of(swarm), "log", "--format=%s", f"{base}..{made.commit}") == "Finish"


async def test_nested_repositories_are_left_out_and_named(user: Path, base: str, swarm: SwarmRepository) -> None:
    worktree = await swarm.open_worktree("a", 1, base)
    shell(
        worktree.path,
        f"git init -q empty; echo 1 > empty/x; git clone -q {user} vendor/full; mkdir deep; git init -q deep/er; "
        "echo 2 > deep/file; git init -q src; echo 3 > src/new.py",
    )
    saved = await swarm.checkpoint(worktree, None)
    assert saved is not None
    assert set(names_at(clone_of(swarm), saved)) - set(names_at(user, base)) == {"deep/file", "src/new.py"}
    assert await swarm.checkpoint(worktree, saved) is None
    assert await swarm.changed_files(worktree) == ("deep/file", "src/new.py")
    assert await swarm.refused_files(worktree) == tuple(
        f"{name}/ is a git repository of its own: remove {name}/.git, or the directory"
        for name in ("deep/er", "empty", "vendor/full")
    )
    with pytest.raises(UncommittableError, match="deep/er/ is a git repository of its own"):
        await swarm.commit(worktree, message="New", trailers={})
    write(worktree.path, {".gitignore": "empty/\nfull\n"})
    shell(worktree.path, "rm -rf deep/er/.git; echo 4 > deep/er/code.py")
    assert await swarm.refused_files(worktree) == ()
    made = await swarm.commit(worktree, message="New", trailers={})
    assert made is not None
    assert made.files == (".gitignore", "deep/er/code.py", "deep/file", "src/new.py")


async def test_submodules_stay_as_they_are_and_their_settings_do_not_run(user: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    make_repository(library, {"a": "a\n"})
    git(user, "-c", "protocol.file.allow=always", "submodule", "add", "--quiet", str(library), "sub")
    base = add_commit(user, {}, "With a submodule")
    swarm = SwarmRepository(tmp_path / "state", SWARM, user, base)
    worktree = await swarm.open_worktree("a", 1, base)
    assert await swarm.checkpoint(worktree, None) is None
    shell(
        worktree.path,
        f"rmdir sub; git clone -q {library} sub; cd sub; git config filter.x.clean 'touch {tmp_path}/ran-filter; cat'; "
        f"git config core.fsmonitor 'touch {tmp_path}/ran-fsmonitor'; echo '* filter=x' > .git/info/attributes; "
        "printf 'b\\n' > a",
    )
    for leftover in traces(tmp_path):
        (tmp_path / leftover).unlink()
    assert await swarm.checkpoint(worktree, None) is None
    shell(worktree.path, "cd sub; git -c core.fsmonitor=false -c filter.x.clean=cat commit -qam Own; rm -f ../../ran-*")
    for leftover in traces(tmp_path):
        (tmp_path / leftover).unlink()
    assert await swarm.checkpoint(worktree, None) is None
    write(worktree.path, {"new": "1"})
    with pytest.raises(UncommittableError, match="cannot be committed: sub is a submodule, and a swarm cannot move it"):
        await swarm.commit(worktree, message="New", trailers={})
    shell(
        worktree.path,
        "cd sub; git -c core.fsmonitor=false -c filter.x.clean=cat reset -q --hard HEAD^; rm -f ../../ran-*",
    )
    for leftover in traces(tmp_path):
        (tmp_path / leftover).unlink()
    made = await swarm.commit(worktree, message="New", trailers={})
    assert made is not None
    assert made.files == ("new",)
    assert traces(tmp_path) == []
    shell(worktree.path, "rm -rf sub")  # a submodule that is taken away is taken away
    assert await swarm.changed_files(worktree) == ("new", "sub")


async def test_a_new_submodule_is_refused(user: Path, base: str, swarm: SwarmRepository) -> None:
    worktree = await swarm.open_worktree("a", 1, base)
    shell(worktree.path, f"git -c protocol.file.allow=always submodule --quiet add {user} lib; git commit -qm Library")
    assert await swarm.checkpoint(worktree, None) is not None
    with pytest.raises(
        UncommittableError, match="cannot be committed: lib is a new submodule, and a swarm cannot add one"
    ):
        await swarm.commit(worktree, message="x", trailers={})


async def test_a_worktree_that_is_gone_is_not_a_deletion_of_all_files(
    user: Path, base: str, swarm: SwarmRepository, tmp_path: Path
) -> None:
    worktree = await swarm.open_worktree("a", 1, base)
    shell(tmp_path, f"mv {worktree.path} elsewhere")
    with pytest.raises(WorkspaceError, match="has been removed"):
        await swarm.checkpoint(worktree, None)
    shell(tmp_path, f"mkdir home; echo secret > home/key; ln -s $PWD/home {worktree.path}")
    with pytest.raises(WorkspaceError, match="has been removed"):
        await swarm.commit(worktree, message="x", trailers={})
    await swarm.remove_worktree(worktree)
    assert (tmp_path / "home" / "key").exists()
    with pytest.raises(WorkspaceError, match="has been removed"):
        await swarm.checkpoint(worktree, None)


async def test_a_crafted_commit_is_not_copied(user: Path, base: str, swarm: SwarmRepository) -> None:
    """A tree with a ``.git`` entry would write into the user's own git directory when it is checked out."""
    worktree = await swarm.open_worktree("a", 1, base)
    shell(
        worktree.path,
        "blob=$(echo '[core]' | git hash-object -w --stdin); "
        'inner=$(printf "100644 blob $blob\\tconfig\\n" | git mktree); '
        'tree=$( (git ls-tree HEAD; printf "040000 tree $inner\\t.git\\n") | git mktree); '
        "commit=$(git commit-tree -p HEAD -m Evil $tree); git update-ref HEAD $commit; echo 1 > one",
    )
    made = await swarm.commit(worktree, message="Finish", trailers={})
    assert made is not None
    assert git(clone_of(swarm), "log", "--format=%s", f"{base}..{made.commit}") == "Finish"
    assert not [name for name in names_at(clone_of(swarm), made.commit) if name.startswith(".git/")]
