"""Merging finished commits into the swarm's integration branch, without a checkout.

The branch stands at the base from the beginning and moves by compare-and-swap, always by a merge commit, whose second
parent tells a repeated merge from a new one.
"""

from __future__ import annotations

import secrets
from pathlib import Path, PurePosixPath

from swarmq.errors import WorkspaceError
from swarmq.models.swarm import MergeReport
from swarmq.workspace.commits import identity
from swarmq.workspace.git import GitAt, shown
from swarmq.workspace.private_clone import PrivateClone, valid_commit
from swarmq.workspace.staging import numstat
from swarmq.workspace.worktrees import remove_tree

DIFF_CHARACTERS = 20_000
DIFFED_FILES = 20
"""Conflicts in more files are listed by name only: a report has to fit into a record."""
_SWAP_ROUNDS = 20
_ATTRIBUTES = ".gitattributes"


def integrate(clone: PrivateClone, commit: str, message: str) -> MergeReport:
    """Merge a commit into the integration branch.

    "merged" again, with the same merge commit, if that was done before; "empty" for a commit that the branch holds
    already without a merge of its own; "conflict" leaves the branch as it is.
    """
    valid_commit(commit)
    for _ in range(_SWAP_ROUNDS):
        tip, merges = _standing(clone)
        if commit in merges:
            merge, before = merges[commit]
            return _merged(merge, numstat(clone.git, before, merge))
        if commit in (tip, clone.base_commit):
            return MergeReport(status="empty", commit=tip)
        merged, conflicts = _merge_tree(clone, tip, commit)
        if conflicts is not None:
            return _conflict(clone, tip, commit, conflicts)
        change = numstat(clone.git, tip, merged)
        if not change[0] and clone.contains(tip, commit):
            return MergeReport(status="empty", commit=tip)
        parents = ("-p", tip, "-p", commit)
        text = message.replace("\0", "").encode("utf-8", "surrogateescape")
        made = clone.git.run("commit-tree", merged, *parents, "-F", "-", stdin=text, variables=identity()).text
        if clone.swap(clone.integration_ref, made, tip):
            if not any(name.endswith(_ATTRIBUTES) for name in change[0]):
                clone.attributes[made] = clone.attributes[tip]
            return _merged(made, change)
    raise WorkspaceError(f"{clone.integration_ref} does not stand still: other processes keep merging into it")


def _standing(clone: PrivateClone) -> tuple[str, dict[str, tuple[str, str]]]:
    """The tip of the integration branch, and by commit the merge that brought it in and what that one stands on."""
    history = ("rev-list", "--first-parent", "--parents", clone.integration_ref, f"^{clone.base_commit}")
    lines = [line.split() for line in clone.git.run(*history).text.splitlines()]
    merges = {parents[1]: (merge, parents[0]) for merge, *parents in lines if len(parents) == 2}
    return (lines[0][0] if lines else clone.base_commit), merges


def _merge_tree(clone: PrivateClone, ours: str, theirs: str) -> tuple[str, list[str] | None]:
    """The merged tree, and None or the names of the files that conflict."""
    attributes = _attributes(clone, ours)
    git = clone.git
    place: Path | None = None
    if attributes:
        # A bare repository has no files, so git would not see how .gitattributes wants things merged: give it those.
        place = clone.directory / f".merging-{secrets.token_hex(6)}"
        for name, blob in attributes.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(clone.git.run("cat-file", "blob", blob).stdout)
        git = GitAt(git_dir=clone.git_dir, work_tree=place, private=True)
    try:
        command = ("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", ours, theirs)
        result = git.run(*command, accept=(0, 1))
    finally:
        if place is not None:
            remove_tree(place)
    tree, *conflicts = result.names
    return tree, conflicts if result.status == 1 else None


def _attributes(clone: PrivateClone, commit: str) -> dict[str, str]:
    """The attribute files of a commit: path -> blob. Looked up once."""
    known = clone.attributes.get(commit)
    if known is None:
        known = clone.attributes[commit] = {}
        for entry in clone.git.run("ls-tree", "-r", "-z", "--full-tree", commit).names:
            if not entry.endswith(_ATTRIBUTES):
                continue
            kind, _, name = entry.partition("\t")
            mode, _, blob = kind.split(" ")
            path = PurePosixPath(name)
            if path.name == _ATTRIBUTES and mode.startswith("100") and ".." not in path.parts:
                known[name] = blob
    return known


def _merged(merge: str, change: tuple[tuple[str, ...], int, int]) -> MergeReport:
    files, insertions, deletions = change
    return MergeReport(status="merged", commit=merge, files=files, insertions=insertions, deletions=deletions)


def _conflict(clone: PrivateClone, tip: str, commit: str, conflicts: list[str]) -> MergeReport:
    base = clone.git.run("merge-base", tip, commit).text
    diffs = {
        shown(name): (_diff(clone, base, tip, name), _diff(clone, base, commit, name))
        for name in conflicts[:DIFFED_FILES]
    }
    return MergeReport(status="conflict", conflicts=tuple(shown(name) for name in conflicts), diffs=diffs)


def _diff(clone: PrivateClone, old: str, new: str, name: str) -> str:
    command = ("diff-tree", "-p", "--no-renames", "--no-ext-diff", "--no-textconv", old, new, "--", name)
    literal = {"GIT_LITERAL_PATHSPECS": "1"}
    output = clone.git.run(*command, variables=literal, limit_bytes=DIFF_CHARACTERS * 4)
    text = output.stdout.decode("utf-8", "replace")
    return text if len(text) <= DIFF_CHARACTERS else text[:DIFF_CHARACTERS] + "\n[cut]\n"
