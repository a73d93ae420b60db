"""A commit as git stores it, and the trailers of its message. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

_TRAILER = re.compile(r"[A-Za-z0-9-]+: \S.*")
_SIGNATURES = (b"gpgsig", b"gpgsig-sha256")
CHECKPOINT_SUBJECT = "swarmq checkpoint"
_BASE = "Swarmq-Base"
_TOKEN = "Swarmq-Token"


@dataclass(frozen=True, slots=True)
class CommitObject:
    """``headers`` are the lines between the parents and the message (author, committer, encoding, ...)."""

    tree: str
    parents: tuple[str, ...]
    headers: tuple[bytes, ...]
    message: bytes

    @classmethod
    def parse(cls, raw: bytes) -> CommitObject:
        """From the output of ``git cat-file commit``."""
        head, _, message = raw.partition(b"\n\n")
        # A line that starts with a space goes on with the header above it.
        lines = head.replace(b"\n ", b"\0").split(b"\n")
        named = [line.partition(b" ") for line in lines]
        tree = next((value.decode() for name, _, value in named if name == b"tree"), "")
        parents = tuple(value.decode() for name, _, value in named if name == b"parent")
        rest = tuple(line.replace(b"\0", b"\n ") for line in lines if not line.startswith((b"tree ", b"parent ")))
        return cls(tree, parents, rest, message)

    def raw(self) -> bytes:
        """What ``git hash-object -t commit`` takes."""
        lines = [b"tree " + self.tree.encode(), *(b"parent " + parent.encode() for parent in self.parents)]
        return b"\n".join([*lines, *self.headers]) + b"\n\n" + self.message

    def rewritten(self, parents: Sequence[str], trailers: Mapping[str, str] | None = None) -> CommitObject:
        """The same change on other parents; a signature would not hold any more and is dropped."""
        headers = tuple(line for line in self.headers if line.partition(b" ")[0] not in _SIGNATURES)
        message = with_trailers(self.message.decode("utf-8", "surrogateescape"), trailers or {})
        return replace(
            self, parents=tuple(parents), headers=headers, message=message.encode("utf-8", "surrogateescape")
        )

    @property
    def checkpoint_base(self) -> str | None:
        """What a checkpoint's branch started from; None for a commit that is no checkpoint of ours."""
        lines = self.message.decode("utf-8", "replace").splitlines()
        if lines[:1] != [CHECKPOINT_SUBJECT]:
            return None
        return next((line.removeprefix(f"{_BASE}: ") for line in lines if line.startswith(f"{_BASE}: ")), None)


def checkpoint_message(base: str, token: int) -> str:
    return with_trailers(CHECKPOINT_SUBJECT, {_BASE: base, _TOKEN: str(token)})


def with_trailers(message: str, trailers: Mapping[str, str]) -> str:
    """Append trailers as git reads them: one block at the end. Line breaks in values become spaces."""
    body = message.rstrip()
    block = [f"{name}: {' '.join(value.split())}" for name, value in trailers.items()]
    last = body.partition("\n")[2].strip("\n").split("\n\n")[-1].splitlines()
    if block and body and not (last and all(_TRAILER.fullmatch(line) for line in last)):
        block.insert(0, "")
    return "\n".join([body, *block] if body else block) + "\n"
