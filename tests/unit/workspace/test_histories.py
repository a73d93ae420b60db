"""Random swarms on random repositories: merges are git's own, what lands is verified, and no commit is lost.

``SWARMQ_HISTORIES=200`` tries that many; ``--hypothesis-show-statistics`` tells how often merges came to what.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from git_samples import SWARM, git, make_repository, shell
from histories import Files, History, broken, edited, files_at, histories, imported, merged_by_git, reachable
from hypothesis import HealthCheck, Phase, event, given, settings

from swarmq.models.swarm import MergeReport
from swarmq.workspace.commits import commit
from swarmq.workspace.integration import PreparedMerge, drop, land, prepare_merge
from swarmq.workspace.private_clone import PrivateClone
from swarmq.workspace.publishing import publish, remove
from swarmq.workspace.resolving import open_resolver, unresolved

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")

EXAMPLES = int(os.environ.get("SWARMQ_HISTORIES", "12"))


class Swarm:
    """A swarm's merge queue on a repository, beside an ordinary checkout in which git merges the same."""

    def __init__(self, place: Path, files: Files) -> None:
        self.user, self.checkout = place / "repo", place / "checkout"
        make_repository(self.user, {})
        self.base = imported(self.user, "refs/heads/main", files, None)
        self.clone = PrivateClone(place / "state", SWARM, self.user, self.base)
        self.clone.make()
        git(place, "clone", "--quiet", "--shared", str(self.clone.git_dir), str(self.checkout))
        self.finished: list[str] = []

    @property
    def tip(self) -> str:
        return self.clone.resolve(self.clone.integration_ref) or ""

    def finish(self, branch: str, start: str, files: Files) -> str:
        made = imported(self.clone.git_dir, self.clone.work_ref(branch), files, start)
        self.finished.append(made)
        return made

    def merge(self, branch: str, made: str, resolution: str) -> None:
        tip = self.tip
        merge = prepare_merge(self.clone, made, f"Merge {branch}")
        tree, conflicts = merged_by_git(self.checkout, tip, made)
        if isinstance(merge, PreparedMerge):
            assert conflicts == set()
            assert self.clone.commit(merge.commit).tree == tree
            self.land_verified(merge)
        else:
            event(merge.status)
            assert set(merge.conflicts) == conflicts, merge
            assert merge.status == "conflict" or self.clone.contains(tip, made)
            if merge.status == "conflict" and resolution != "leave":
                self.resolve(branch, made, resolution)
        assert not broken(files_at(self.clone.git_dir, self.tip))

    def land_verified(self, merge: PreparedMerge) -> MergeReport | None:
        if broken(files_at(self.clone.git_dir, merge.commit)):
            drop(self.clone, merge)
            event("rejected")
            return None
        report = land(self.clone, merge)
        assert report == merge.report
        assert self.tip == merge.commit
        event("merged")
        return report

    def resolve(self, branch: str, theirs: str, resolution: str) -> None:
        """Take one side for all that it has, as a careless but tidy resolver does."""
        worktree = open_resolver(self.clone, f"{branch}.r1", 1, self.tip, theirs)
        side = "merged-before" if resolution == "ours" else "this-subtask"
        shell(worktree.path, f"git rm -rqf --ignore-unmatch . && git checkout -q {side} -- .")
        assert unresolved(self.clone, worktree, theirs) == ()
        made = commit(self.clone, worktree, "Resolve", {"Swarmq-Branch": f"{branch}.r1"}, "A <a@b.c>", theirs)
        assert made is not None
        self.finished.append(made.commit)
        assert self.clone.contains(made.commit, theirs)
        merge = prepare_merge(self.clone, made.commit, f"Merge {branch}", theirs)
        assert isinstance(merge, PreparedMerge)
        landed = self.land_verified(merge)
        assert landed is None or self.clone.contains(self.tip, theirs)
        event("resolved")

    def end(self) -> None:
        """Publish and clean up; collections on both sides lose nothing."""
        git(self.clone.git_dir, "gc", "--quiet", "--prune=now")
        tip = self.tip
        published = publish(self.clone)
        assert published == (None if tip == self.base else (f"swarmq/{SWARM}", tip))
        remove(self.clone, ())
        git(self.user, "gc", "--quiet", "--prune=now")
        assert reachable(self.user, self.finished) == self.finished
        assert git(self.user, "fsck", "--full", "--strict", "--no-dangling") == ""
        assert git(self.user, "rev-parse", "HEAD") == self.base


# Without shrinking: it takes minutes, and histories are small.
@pytest.mark.timeout(max(150, 10 * EXAMPLES))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(history=histories)
def test_what_lands_is_what_git_merges_and_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory, history: History
) -> None:
    swarm = Swarm(tmp_path_factory.mktemp("history"), history.files)
    waiting: list[tuple[str, str, str]] = []
    for number, work in enumerate(history.work):
        if not work.later:
            made = swarm.finish(f"b{number}", swarm.base, edited(history.files, work))
            waiting.append((f"b{number}", made, work.resolution))
    for branch, made, resolution in waiting:
        swarm.merge(branch, made, resolution)
    for number, work in enumerate(history.work):
        if work.later:
            files = files_at(swarm.clone.git_dir, swarm.tip)
            swarm.merge(f"b{number}", swarm.finish(f"b{number}", swarm.tip, edited(files, work)), work.resolution)
    swarm.end()
