from __future__ import annotations

import os
from pathlib import Path

import pytest

from swarmq.agent.tools.outputs import Outputs
from swarmq.errors import ToolError


async def test_short_texts_are_left_alone(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "outputs")
    assert await outputs.bounded("short", 10) == "short"
    assert not (tmp_path / "outputs").exists()


async def test_long_texts_are_saved_whole_and_privately(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "outputs")
    text = "begin\n" + "x\n" * 1000 + "end \ud800\n"
    cut = await outputs.bounded(text, 100)
    assert cut.startswith("begin\n")
    assert "characters left out; the whole: read output://1" in cut
    path = outputs.find("output://1")
    assert path.read_text().endswith("end ?\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_numbers_are_never_used_twice(tmp_path: Path) -> None:
    first = Outputs(tmp_path)
    assert (await first.reserve())[0] == "output://1"
    name, path = await first.reserve()
    path.write_text("x")
    assert name == "output://2"
    (tmp_path / "setup.log").write_text("not an output")
    assert (await Outputs(tmp_path).reserve())[0] == "output://3"


async def test_the_oldest_go_when_all_take_too_much(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path, kept_bytes=2500)
    for _ in range(4):
        await outputs.bounded("x" * 1000, 10)
    await outputs.reserve()
    assert sorted(os.listdir(tmp_path)) == ["3.txt", "4.txt"]
    with pytest.raises(ToolError, match="there is no output://1"):
        outputs.find("output://1")


async def test_a_disk_that_is_full_costs_the_copy_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("swarmq.agent.tools.outputs._write", full)
    cut = await Outputs(tmp_path).bounded("x" * 100, 10)
    assert "the whole could not be saved: No space left on device" in cut
