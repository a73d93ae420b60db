"""What is in a pack is found as git finds it, and a small pack that is large inside is refused before git has it."""

from __future__ import annotations

import random
import subprocess
import zlib
from pathlib import Path

import pytest
from git_samples import git
from hypothesis import given
from hypothesis import strategies as st

from swarmq.errors import WorkspaceError
from swarmq.workspace import pack_sizes
from swarmq.workspace.pack_sizes import check_sizes

BLOB, OFFSET_DELTA, REFERENCE_DELTA = 3, 6, 7
SHA1 = 20


def number(value: int, first_bits: int, kind: int = 0) -> bytes:
    """As git writes it."""
    found = [kind << 4 | value & ((1 << first_bits) - 1)]
    value >>= first_bits
    while value:
        found[-1] |= 0x80
        found.append(value & 0x7F)
        value >>= 7
    return bytes(found)


def pack_with(*objects: bytes) -> bytes:
    return b"PACK" + (2).to_bytes(4, "big") + len(objects).to_bytes(4, "big") + b"".join(objects) + bytes(20)


def blob(content: bytes, claimed: int | None = None) -> bytes:
    return number(len(content) if claimed is None else claimed, 4, BLOB) + zlib.compress(content)


def delta(made: int, kind: int, where: bytes) -> bytes:
    change = number(1, 7) + number(made, 7) + b"\x90\x01"
    return number(len(change), 4, kind) + where + zlib.compress(change)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions of a file that is no small one, which git packs as deltas, and many small ones."""
    path = tmp_path_factory.mktemp("repository")
    git(path, "init", "-q")
    lines = [f"{random.Random(number).random()}\n" for number in range(9_000)]
    for version in range(4):
        lines[version * 7] = "changed\n"
        (path / "large.txt").write_text("".join(lines))
        for number_ in range(40):
            (path / f"small-{number_}.txt").write_text(f"{version} {number_}\n")
        git(path, "add", ".")
        git(path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", f"version {version}")
    return path


@pytest.mark.parametrize("options", [[], ["--delta-base-offset"], ["--thin"], ["--window=0"]])
def test_packs_of_git_are_read_to_their_ends(
    repository: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = "HEAD\n^HEAD~2\n" if options == ["--thin"] else "HEAD\n"
    command = ["git", "-C", str(repository), "pack-objects", "--revs", "--stdout", "-q", *options]
    pack = subprocess.run(command, input=wanted.encode(), capture_output=True, check=True).stdout
    check_sizes(pack, SHA1)
    ends = 12
    for _ in range(int.from_bytes(pack[8:12], "big")):
        _, ends = pack_sizes._object(pack, ends, SHA1)
    assert ends == len(pack) - SHA1, "behind the last object is the sum of all"
    monkeypatch.setattr(pack_sizes, "MAX_FILE_BYTES", 100_000)
    with pytest.raises(WorkspaceError, match="an object of 1"):
        check_sizes(pack, SHA1)


def test_what_is_large_inside_is_refused_though_it_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_sizes, "MAX_FILE_BYTES", 1_000_000)
    monkeypatch.setattr(pack_sizes, "MAX_OBJECTS_BYTES", 3_000_000)
    fits = blob(bytes(1_000_000))
    assert len(fits) < 2_000
    check_sizes(pack_with(*[fits] * 3), SHA1)
    for made in (1_000_001, 1 << 40):
        for large in (
            blob(b"", claimed=made),
            delta(made, OFFSET_DELTA, b"\x81\x01"),
            delta(made, REFERENCE_DELTA, bytes(SHA1)),
        ):
            with pytest.raises(WorkspaceError, match=f"an object of {made:,} bytes"):
                check_sizes(pack_with(large), SHA1)
    with pytest.raises(WorkspaceError, match="objects have more than 3,000,000"):
        check_sizes(pack_with(*[fits] * 4), SHA1)
    with pytest.raises(WorkspaceError, match="objects have more than 3,000,000"):
        check_sizes(pack_with(*[delta(900_000, OFFSET_DELTA, b"\x01")] * 4), SHA1)


@pytest.mark.parametrize(
    "pack",
    [
        pack_with(blob(bytes(900), claimed=10)),
        pack_with(blob(bytes(900_000), claimed=200_000)),
        pack_with(blob(b"content"))[:18],
        pack_with(blob(b"content")).replace(b"\x00\x01", b"\xff\xff", 1)[:-20],
        pack_with(b"\xff" * 1_000_000),
        pack_with(bytes([REFERENCE_DELTA << 4 | 2])),
    ],
    ids=["longer", "much longer", "torn", "fewer", "endless number", "cut"],
)
def test_what_is_no_pack_is_refused(pack: bytes) -> None:
    with pytest.raises(WorkspaceError, match="torn or malformed"):
        check_sizes(pack, SHA1)


@given(st.binary(max_size=300))
def test_nothing_that_is_sent_does_more_than_be_refused(rest: bytes) -> None:
    try:
        check_sizes(b"PACK" + rest, SHA1)
    except WorkspaceError:
        return
