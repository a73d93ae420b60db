"""Text files as the editing tools see them: content, line ends, byte order mark; and writing them in one move."""

from __future__ import annotations

import codecs
import os
import secrets
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from swarmq.errors import ToolError

EDIT_MAX_BYTES = 10_000_000
_SNIFFED_BYTES = 8_192


@dataclass(frozen=True)
class TextFile:
    """``text`` has plain newlines if all line ends were CRLF. Bytes that are no UTF-8 survive as surrogates."""

    text: str
    crlf: bool = False
    bom: bool = False
    mode: int | None = None
    """Permission bits; None for a file that is new."""

    def encode(self, text: str) -> bytes:
        """``text`` with the line ends and the mark of this file."""
        if self.crlf:
            text = text.replace("\r\n", "\n").replace("\n", "\r\n")
        return (codecs.BOM_UTF8 if self.bom else b"") + text.encode("utf-8", "surrogateescape")

    def like_its_own(self, text: str) -> str:
        """What a model wrote, with the line ends that ``self.text`` has."""
        if self.crlf or "\r\n" not in self.text:
            return text.replace("\r\n", "\n")
        return text


def decode(raw: bytes, mode: int | None) -> TextFile:
    bom = raw.startswith(codecs.BOM_UTF8)
    text = raw.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    # Mixed line ends stay as they are: normalising them would change lines that nobody asked to change.
    crlf = "\r\n" in text and text.count("\r\n") == text.count("\n") == text.count("\r")
    return TextFile(text.replace("\r\n", "\n") if crlf else text, crlf, bom, mode)


def load(path: Path, shown: str) -> tuple[TextFile, os.stat_result]:
    """Raises ToolError for what cannot be edited, FileNotFoundError where nothing is. Blocking."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ToolError(f"{shown} is {'a directory' if stat.S_ISDIR(status.st_mode) else 'not a regular file'}")
    with open(descriptor, "rb", buffering=0) as file:
        if status.st_size > EDIT_MAX_BYTES:
            raise ToolError(
                f"{shown} has {status.st_size:,} bytes; files of up to {EDIT_MAX_BYTES:,} bytes can be edited, "
                "use a program for larger ones"
            )
        raw = file.read(status.st_size + 1)
    if b"\0" in raw[:_SNIFFED_BYTES]:
        raise ToolError(f"{shown} is a binary file; it cannot be edited as text")
    return decode(raw, stat.S_IMODE(status.st_mode)), status


@dataclass(frozen=True)
class Change:
    """The new content of a file; ``content`` None removes it. ``mode`` None leaves a new file to the umask."""

    path: Path
    content: bytes | None
    mode: int | None = None


def apply(changes: Sequence[Change]) -> None:
    """All or nothing: an OSError on the way puts back what was there. Readers never see half a file. Blocking."""
    staged: list[Path | None] = []
    undo: list[Change] = []
    try:
        for change in changes:
            staged.append(_stage(change))
        for change, temporary in zip(changes, staged, strict=True):
            if len(changes) > 1:  # a single rename is atomic by itself
                undo.append(_current(change.path))
            if temporary is None:
                change.path.unlink(missing_ok=True)
            else:
                os.replace(temporary, change.path)
    except OSError:
        for change in reversed(undo):
            _put_back(change)
        raise
    finally:
        for leftover in staged:
            if leftover is not None:
                leftover.unlink(missing_ok=True)


def _stage(change: Change) -> Path | None:
    """The new content beside its place: only within one file system is a rename one move."""
    if change.content is None:
        return None
    change.path.parent.mkdir(parents=True, exist_ok=True)
    temporary = change.path.parent / f".swarmq-{secrets.token_hex(6)}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with open(descriptor, "wb") as file:
            if change.mode is not None:
                os.fchmod(descriptor, change.mode)
            file.write(change.content)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _current(path: Path) -> Change:
    try:
        return Change(path, path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
    except FileNotFoundError:
        return Change(path, None)


def _put_back(change: Change) -> None:
    with suppress(OSError):  # the first failure is the one to report
        temporary = _stage(change)
        if temporary is None:
            change.path.unlink(missing_ok=True)
        else:
            os.replace(temporary, change.path)
