"""Merging finished commits into the swarm's integration branch, without a checkout.

The branch stands at the base from the beginning and moves by compare-and-swap, always by a merge commit, whose second
parent tells a repeated merge from a new one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from swarmq.models.swarm import MergeReport
from swarmq.workspace.attributes import carry_attributes
from swarmq.workspace.commits import write_commit
from swarmq.workspace.git import shown
from swarmq.workspace.merge_tree import MergedTree, merge_tree
from swarmq.workspace.private_clone import PrivateClone, valid_commit
from swarmq.workspace.staging import numstat

DIFF_CHARACTERS = 20_000
DIFFED_FILES = 20
"""Conflicts in more files are listed by name only: a report has to fit into a record."""
PREPARED = "refs/swarmq-prepared"


@dataclass(frozen=True, slots=True)
class PreparedMerge:
    """A merge commit on which no branch stands yet. ``report`` is what landing it will have done."""

    tip: str
    commit: str
    report: MergeReport


def prepare_merge(
    clone: PrivateClone, commit: str, message: str, theirs: str | None = None
) -> PreparedMerge | MergeReport:
    """Merge a commit with the integration branch, which stays where it is until the merge lands.

    A report where there is nothing to land: "merged", with the same merge commit, if that was done before; "empty" for
    a commit that the branch holds already without a merge of its own; "conflict". ``theirs`` is the commit whose
    conflict ``commit`` resolves: it counts as merged as well, also where ``commit`` does not stand on it.
    """
    valid_commit(commit)
    tip, merges = _standing(clone)
    if commit in merges:
        merge, before = merges[commit]
        return _merged(merge, numstat(clone.git, before, merge))
    if commit in (tip, clone.base_commit):
        return MergeReport(status="empty", commit=tip)
    merged = merge_tree(clone, tip, commit)
    if not merged.clean:
        return _conflict(clone, tip, commit, merged)
    change = numstat(clone.git, tip, merged.tree)
    if not change[0] and clone.contains(tip, commit):
        return MergeReport(status="empty", commit=tip)
    parents = [tip, commit]
    if theirs is not None and not clone.contains(commit, valid_commit(theirs)):
        parents.append(theirs)
    made = write_commit(clone, merged.tree, parents, message.replace("\0", "").encode("utf-8", "surrogateescape"))
    clone.git.run("update-ref", _prepared_ref(made), made)
    carry_attributes(clone, tip, made, change[0])
    return PreparedMerge(tip, made, _merged(made, change))


def land(clone: PrivateClone, prepared: PreparedMerge) -> MergeReport | None:
    """Move the integration branch to a prepared merge; None, and it is dropped, where the branch has moved meanwhile.

    Called again, it says the same.
    """
    ref = clone.integration_ref
    moves = f"update {ref} {prepared.commit} {prepared.tip}\ndelete {_prepared_ref(prepared.commit)}\n".encode()
    if clone.git.run("update-ref", "--stdin", stdin=moves, accept=(0, 128)).status == 0:
        return prepared.report
    standing = clone.resolve(ref)
    if standing == prepared.tip:  # another reason than the value: say it
        clone.git.run("update-ref", "--stdin", stdin=moves)
        return prepared.report
    drop(clone, prepared)
    landed = standing is not None and clone.contains(standing, prepared.commit)
    return prepared.report if landed else None


def drop(clone: PrivateClone, prepared: PreparedMerge) -> None:
    """Give up a merge that is not to land; git may collect it then."""
    clone.git.run("update-ref", "-d", _prepared_ref(prepared.commit))


def _standing(clone: PrivateClone) -> tuple[str, dict[str, tuple[str, str]]]:
    """The tip of the integration branch, and by commit the merge that brought it in and what that one stands on."""
    history = ("rev-list", "--first-parent", "--parents", clone.integration_ref, f"^{clone.base_commit}")
    lines = [line.split() for line in clone.git.run(*history).text.splitlines()]
    merges = {commit: (merge, before) for merge, before, *others in lines for commit in others}
    return (lines[0][0] if lines else clone.base_commit), merges


def _prepared_ref(merge: str) -> str:
    """Keeps a merge commit that no branch holds yet."""
    return f"{PREPARED}/{merge}"


def _merged(merge: str, change: tuple[tuple[str, ...], int, int]) -> MergeReport:
    files, insertions, deletions = change
    return MergeReport(status="merged", commit=merge, files=files, insertions=insertions, deletions=deletions)


def _conflict(clone: PrivateClone, tip: str, commit: str, merged: MergedTree) -> MergeReport:
    base = clone.git.run("merge-base", tip, commit).text
    # git gives a side that has no room under its own name one with the id of its commit behind it.
    moved = re.compile(rf"~(?:{tip}|{commit})(?:_\d+)?(?=/|$)")
    conflicts = tuple(dict.fromkeys(moved.sub("", name) for name in merged.conflicts))
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
