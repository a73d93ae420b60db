"""``patch``: a unified diff over any number of files, applied whole or not at all."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field
from unidiff.patch import PatchedFile

from swarmq.agent.tools.context import ToolContext
from swarmq.agent.tools.missing import no_such_file
from swarmq.agent.tools.text_file import Change, TextFile, apply, load
from swarmq.agent.tools.tool import Arguments, Tool
from swarmq.agent.tools.unified import DEV_NULL, apply_hunks, parse
from swarmq.errors import ToolError
from swarmq.workspace.blocking import run_blocking

MOST_FILES = 500


class PatchArguments(Arguments):
    patch: str = Field(min_length=1, description="A unified diff, as 'git diff' prints it.")


async def patch(arguments: PatchArguments, context: ToolContext) -> str:
    return await run_blocking(_patch, arguments.patch, context)


def _patch(text: str, context: ToolContext) -> str:
    files = parse(text)
    if len(files) > MOST_FILES:
        raise ToolError(f"the patch has {len(files)} files, {MOST_FILES} is the limit")
    plan = _Plan(context)
    for file in files:
        plan.add(file)
    changes = plan.changes()
    apply(changes)
    for change in changes:
        if change.content is None:
            context.stamps.forget(change.path)
        else:
            context.stamps.saw(change.path, os.stat(change.path))
    return "\n".join(plan.report)


@dataclass
class _Plan:
    """The state of all touched files after the entries so far, in memory: nothing is written before all fit."""

    context: ToolContext
    after: dict[Path, TextFile | None] = field(default_factory=dict)
    report: list[str] = field(default_factory=list)

    def add(self, file: PatchedFile) -> None:
        source, target = _names(file)
        _refuse_special(file, target or source or "?")
        try:
            self._add(file, source, target)
        except ToolError as error:
            raise ToolError(f"{target or source}: {error}; nothing was changed") from None

    def _add(self, file: PatchedFile, source: str | None, target: str | None) -> None:
        if source is None and target is not None:
            self._create(file, target)
        elif source is not None and target is None:
            self._remove(file, source)
        elif source is not None and target is not None:
            self._modify(file, source, target)

    def _create(self, file: PatchedFile, target: str) -> None:
        path = self.context.writable(target)
        if self._now(path, target) is not None:
            raise ToolError("the patch creates it, and it exists already")
        self.after[path] = TextFile(apply_hunks("", file).text, mode=_mode(None, file))
        self.report.append(f"created {target} (+{file.added})")

    def _remove(self, file: PatchedFile, source: str) -> None:
        path = self._not_a_link(source)
        before = self._existing(path, source)
        left = apply_hunks(before.text, file).text
        if file and left:
            raise ToolError(f"the patch removes it, but {left.count(chr(10)) + 1} lines of it are not in the patch")
        self.after[path] = None
        self.report.append(f"removed {source} (-{file.removed})")

    def _modify(self, file: PatchedFile, source: str, target: str) -> None:
        old_path, new_path = self.context.writable(source), self.context.writable(target)
        if old_path == new_path and file.is_added_file and self._now(old_path, source) is None:
            return self._create(file, target)
        before = self._existing(old_path, source)
        if old_path != new_path and self._now(new_path, target) is not None:
            raise ToolError(f"the patch renames {source} to it, and it exists already")
        applied = apply_hunks(before.text, file)
        self.after[new_path] = TextFile(applied.text, before.crlf, before.bom, _mode(before.mode, file))
        word = "patched"
        if old_path != new_path:
            copied = any(line.startswith("copy from ") for line in file.patch_info or ())
            word = "copied" if copied else "renamed"
            if not copied:
                self.after[self._not_a_link(source)] = None
        name = target if old_path == new_path else f"{source} to {target}"
        shifts = [f"hunk {number} by {lines:+d}" for number, lines in enumerate(applied.moved, 1) if lines]
        note = f"; found at other lines than named: {', '.join(shifts)}" if shifts else ""
        self.report.append(f"{word} {name} (+{file.added} -{file.removed}){note}")
        return None

    def _not_a_link(self, name: str) -> Path:
        """What is removed must be the file itself, not what a symbolic link leads to."""
        if (self.context.working_directory() / name).is_symlink():
            raise ToolError(f"{name} is a symbolic link; patch removes and renames files only")
        return self.context.writable(name)

    def _existing(self, path: Path, name: str) -> TextFile:
        file = self._now(path, name)
        if file is None:
            raise no_such_file(name, self.context)
        return file

    def _now(self, path: Path, name: str) -> TextFile | None:
        if path in self.after:
            return self.after[path]
        try:
            file, status = load(path, name)
        except FileNotFoundError:
            return None
        self.context.stamps.check(path, status, name)
        return file

    def changes(self) -> list[Change]:
        # Removals last: a rename that changes only the case of a name would else remove the new file.
        ordered = sorted(self.after.items(), key=lambda item: item[1] is None)
        return [
            Change(path, None if file is None else file.encode(file.text), file.mode if file is not None else None)
            for path, file in ordered
        ]


def _mode(before: int | None, file: PatchedFile) -> int | None:
    """git knows two modes. None leaves a plain new file to the umask."""
    if file.target_mode == "100755":
        return 0o755 if before is None else before | 0o111
    return before & ~0o111 if before is not None and file.target_mode == "100644" else before


def _names(file: PatchedFile) -> tuple[str | None, str | None]:
    """Source and target; None for /dev/null. The prefixes a/ and b/ are dropped where both names have theirs."""
    source, target = file.source_file, file.target_file
    for name in (source, target):
        if name.startswith('"'):
            raise ToolError(f"the name {name[:100]} is quoted; write it as it is")
    if source == target == DEV_NULL:
        raise ToolError("a part of the patch names no file")
    if (source == DEV_NULL or source.startswith("a/")) and (target == DEV_NULL or target.startswith("b/")):
        source, target = source.removeprefix("a/"), target.removeprefix("b/")
    return (None if source == DEV_NULL else source), (None if target == DEV_NULL else target)


def _refuse_special(file: PatchedFile, name: str) -> None:
    if file.is_symlink or file.is_submodule:
        kind = "a symbolic link" if file.is_symlink else "a submodule"
        raise ToolError(f"{name}: the patch makes {kind}; only files can be patched")
    if file.is_binary_file:
        raise ToolError(f"{name}: the patch changes a binary file; only text can be patched")


PATCH = Tool(
    name="patch",
    description=(
        "Apply a unified diff ('--- a/FILE', '+++ b/FILE', '@@ -LINE,COUNT +LINE,COUNT @@') that may change, create, "
        "remove and rename several files; all of it or nothing."
    ),
    arguments=PatchArguments,
    run=patch,
    offered=lambda context: context.may_write,
)
