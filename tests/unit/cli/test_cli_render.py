from __future__ import annotations

import io
import sys

import orjson
import pytest
from cli_fakes import PLAN, record
from hypothesis import given
from hypothesis import strategies as st

from swarmq.cli import render
from swarmq.cli.render import ago, count, duration, emit_json, one_line, plain, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@given(st.text())
def test_plain_leaves_nothing_that_a_terminal_obeys(text: str) -> None:
    clean = plain(text)
    assert not any(ord(character) < 32 and character not in "\t\n" for character in clean)
    assert not any(0x7F <= ord(character) < 0xA0 for character in clean)
    assert plain(clean) == clean


def test_plain_keeps_text_and_shows_what_it_took_out() -> None:
    assert plain("a\tb\r\nc ü 漢") == "a\tb\nc ü 漢"
    assert plain("\x1b]52;c;x\x07 \u202eabc") == "�]52;c;x� �abc"


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_one_line_is_one_line(text: str, characters: int) -> None:
    line = one_line(text, characters)
    assert len(line) <= characters
    assert "\n" not in line


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.04, "0.0 s"), (9.4, "9.4 s"), (59, "59 s"), (61, "1 min 01 s"), (7260, "2 h 01 min")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_counts_and_ages() -> None:
    assert [count(1, "branch"), count(2, "branch"), count(1500, "step")] == ["1 branch", "2 branches", "1,500 steps"]
    assert ago(0) == "-"
    assert ago(90, now=100) == "10 s ago"
    assert ago(101, now=100) == "0.0 s ago"


def test_tables_off_a_terminal_are_whole_and_aligned() -> None:
    stream = io.StringIO()
    table(("id", "task"), [("a", "x" * 300), ("bcd", "[red]y\x1b")], to=stream)
    assert stream.getvalue() == f"id   task\na    {'x' * 300}\nbcd  [red]y�\n"


def test_tables_on_a_terminal_fit_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    table(("state", "task"), [("failed", "x" * 300)], to=stream)
    assert "…" in stream.getvalue()
    assert "\x1b[31m" in stream.getvalue()


def test_no_color_means_no_escape_sequence_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    table(("state", "task"), [("failed", "x")], to=stream)
    assert "\x1b" not in stream.getvalue()
    assert "failed" in stream.getvalue()


def test_json_is_one_line_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"swarm": record(), "plan": PLAN})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert orjson.loads(out)["plan"]["subtasks"][0]["name"] == "fix parser"


def test_json_is_indented_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    emit_json({"a": 1})
    emit_json({"a": 1}, line=True)
    assert stream.getvalue() == '{\n  "a": 1\n}\n{"a":1}\n'


def test_prompts_only_where_both_ends_are_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert render.may_ask()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not render.may_ask()
    monkeypatch.setattr(sys, "stdin", None)
    assert not render.may_ask()
