"""What merging two commits comes to, as ``git merge-tree --write-tree`` tells it, without a checkout."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from swarmq.errors import WorkspaceError
from swarmq.workspace.attributes import with_attributes
from swarmq.workspace.git import GitAt
from swarmq.workspace.private_clone import PrivateClone

_SUBMODULE = "160000"
_STAGE = re.compile(r"(?P<mode>[0-7]{6}) (?P<blob>[0-9a-f]+) (?P<number>[123])\t(?P<name>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Stage:
    """One side of a file that conflicts; 1 is the merge base, 2 ours, 3 theirs."""

    mode: str
    blob: str
    number: int
    name: str

    @property
    def line(self) -> str:
        """As git writes it, and reads it into an index."""
        return f"{self.mode} {self.blob} {self.number}\t{self.name}"


@dataclass(frozen=True, slots=True)
class Message:
    """``kind`` is the same in all versions and languages of git, ``text`` is for people."""

    names: tuple[str, ...]
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class MergedTree:
    """``tree`` holds, where files conflict, both sides between markers, or what git leaves of other kinds."""

    tree: str
    clean: bool
    stages: tuple[Stage, ...] = ()
    messages: tuple[Message, ...] = ()

    @property
    def conflicts(self) -> tuple[str, ...]:
        """Names of the files that conflict, each once."""
        return tuple(dict.fromkeys(stage.name for stage in self.stages))

    @property
    def objects(self) -> tuple[str, ...]:
        """What has to be there for the files and their sides; the commit of a submodule never is."""
        blobs = (stage.blob for stage in self.stages if stage.mode != _SUBMODULE)
        return tuple(dict.fromkeys([self.tree, *blobs]))

    def told(self) -> bytes:
        """As git told it, without its messages: for ``parsed`` elsewhere."""
        return b"\0".join(os.fsencode(field) for field in [self.tree, *(stage.line for stage in self.stages), "", ""])


def merge_tree(
    clone: PrivateClone,
    ours: str,
    theirs: str,
    *,
    git: GitAt | None = None,
    names: tuple[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
) -> MergedTree:
    """Merge two commits. ``names`` are those by which ``git`` knows them: markers and messages have these."""
    with with_attributes(clone, git or clone.git, ours) as place:
        done = place.run(
            "merge-tree", "--write-tree", "-z", *(names or (ours, theirs)), accept=(0, 1), variables=variables
        )
    return parsed(done.stdout, clean=done.status == 0, id_length=len(ours))


def parsed(output: bytes, *, clean: bool, id_length: int) -> MergedTree:
    """Pure. Raises WorkspaceError for output that is not of that form."""
    fields = iter([os.fsdecode(field) for field in output.split(b"\0")])
    # What a merge driver prints comes before git's own output, on the same stream.
    tree = next(fields)[-id_length:]
    try:
        stages, messages = _details(fields) if not clean else ((), ())
    except (StopIteration, ValueError) as error:
        raise WorkspaceError("git merge-tree gave output that swarmq does not understand") from error
    if not re.fullmatch(r"[0-9a-f]+", tree) or any(fields):
        raise WorkspaceError("git merge-tree gave output that swarmq does not understand")
    return MergedTree(tree, clean, stages, messages)


def _details(fields: Iterator[str]) -> tuple[tuple[Stage, ...], tuple[Message, ...]]:
    stages: list[Stage] = []
    for field in fields:
        if not field:
            break
        found = _STAGE.fullmatch(field)
        if found is None:
            raise ValueError(field)
        stages.append(Stage(found["mode"], found["blob"], int(found["number"]), found["name"]))
    messages: list[Message] = []
    for count in fields:
        if not count:
            break
        names = tuple([next(fields) for _ in range(int(count))])
        messages.append(Message(names, next(fields), next(fields).strip()))
    return tuple(stages), tuple(messages)
