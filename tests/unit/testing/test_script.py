from __future__ import annotations

from pathlib import Path

import pytest

from swarmq.errors import UsageError
from swarmq.testing.script import Playback, Script, Turn

FULL = """
dialect: anthropic
latency_ms: 20
conversations:
  - match: parser
    turns:
      - error: {status: 429, retry_after: 2}
        times: 2
      - thinking: Look first.
        tool_calls:
          - {name: read, arguments: {file_path: parser.py, limit: 5}}
          - {name: bash, arguments: '{"command": '}
          - {name: list}
        usage: {input: 1200, output: 30, cached: 1000}
      - drop: middle
      - malformed: true
      - {text: Fixed., finish: length, latency_ms: 0, times: 3}
      - drop: before
  - match: ""
    turns: [{text: whatever}]
"""


def play(script: str = FULL) -> Playback:
    return Playback(Script.parse(script))


def test_the_documented_format_parses() -> None:
    script = Script.parse(FULL)
    turns = script.conversations[0].turns
    assert script.dialect == "anthropic"
    assert turns[1].tool_calls[0].arguments == {"file_path": "parser.py", "limit": 5}
    assert turns[1].tool_calls[1].arguments == '{"command": '
    assert turns[1].tool_calls[2].arguments == {}
    assert [turn.is_fault for turn in turns] == [True, False, True, True, False, True]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("conversations: [", "while parsing"),
        ("- a", "valid dictionary"),
        ("{}", "conversations: Field required"),
        ("conversations: []", "conversations: "),
        ("conversations: [{match: a, turns: []}]", "conversations.0.turns: "),
        ("conversations: [{match: a, turns: [{txet: b}]}]", "conversations.0.turns.0.txet: no such field"),
        ("conversations: [{match: a, turns: [{error: {status: 200}}]}]", "turns.0.error.status"),
        ("conversations: [{match: a, turns: [{drop: after}]}]", "turns.0.drop"),
        ("conversations: [{match: a, turns: [{drop: before, malformed: true}]}]", "one of error, drop, malformed"),
        ("conversations: [{match: a, turns: [{drop: before, text: x}]}]", "one of error, drop, malformed"),
        ("dialect: other\nconversations: [{match: a, turns: [{text: b}]}]", "dialect"),
        ("conversations: !!python/object:os.system [x]", "could not determine a constructor"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=r"^here\.yaml: ") as caught:
        Script.parse(text, "here.yaml")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml: No such file"):
        Script.load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"conversations: \xe9")
    with pytest.raises(UsageError, match=r"latin\.yaml: 'utf-8'"):
        Script.load(tmp_path / "latin.yaml")


def test_the_turn_goes_by_the_answers_so_far_and_faults_come_first() -> None:
    playback = play()
    firsts = [playback.turn("s", "fix the parser", 0)[1] for _ in range(4)]
    assert [turn.is_fault for turn in firsts] == [True, True, False, False]
    seconds = [playback.turn("s", "fix the parser", 1)[1] for _ in range(3)]
    assert [(turn.drop, turn.malformed, turn.text) for turn in seconds] == [
        ("middle", False, ""),
        (None, True, ""),
        (None, False, "Fixed."),
    ]


def test_an_answer_with_times_stands_for_that_many_steps() -> None:
    playback = play()
    for _ in range(2):
        playback.turn("s", "fix the parser", 1)
    assert [playback.turn("s", "fix the parser", answers)[1].text for answers in (1, 2, 3)] == ["Fixed."] * 3


def test_faults_behind_the_last_answer_come_before_the_end() -> None:
    playback = play()
    assert playback.turn("s", "fix the parser", 4)[1].drop == "before"
    with pytest.raises(LookupError, match="'parser' are used up after 4 answers"):
        playback.turn("s", "fix the parser", 4)
    with pytest.raises(LookupError, match="used up after 9 answers"):
        playback.turn("s", "fix the parser", 9)


def test_each_conversation_has_its_faults_for_itself() -> None:
    playback = play()
    for opening in ("parser one", "parser two"):
        assert [playback.turn("s", opening, 0)[1].is_fault for _ in range(3)] == [True, True, False]
    assert playback.turn("another branch", "parser one", 0)[1].is_fault


def test_the_first_match_wins_in_system_or_user_text() -> None:
    playback = play()
    assert playback.turn("the parser agent", "go", 0)[0] == "parser"
    assert playback.turn("s", "something else", 0) == ("", Turn(text="whatever"))


def test_no_match_tells_what_there_is() -> None:
    with pytest.raises(LookupError, match=r"no conversation of the script matches 'write docs'; it has 'a', 'b'"):
        play("conversations: [{match: a, turns: [{text: x}]}, {match: b, turns: [{text: x}]}]").turn(
            "", "write docs", 0
        )


def test_memory_of_faults_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Playback, "MAX_REMEMBERED", 2)
    playback = play("conversations: [{match: a, turns: [{drop: before}, {text: x}]}]")
    for opening in ("a1", "a2", "a3"):
        assert playback.turn("", opening, 0)[1].is_fault
    assert not playback.turn("", "a3", 0)[1].is_fault
    assert playback.turn("", "a1", 0)[1].is_fault
