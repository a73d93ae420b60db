from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarmq.agent.tools.text import head_and_tail, printed, safe


def test_control_characters_become_pictures() -> None:
    assert safe("a\x00b\x07\x1b\x7f\x85\ud800\tc\nd") == "a\u2400b\u2407\u241b\u2421\ufffd\ufffd\tc\nd"


def test_ordinary_text_is_left_alone() -> None:
    text = "grüße 你好 🎉\ttab\nline"
    assert safe(text) is text


@given(st.text(alphabet=st.characters(codec=None, exclude_categories=())))
def test_whatever_comes_out_can_be_encoded_and_is_as_long(text: str) -> None:
    clean = safe(text)
    clean.encode()
    assert len(clean) == len(text)
    assert safe(clean) == clean
    assert not set(clean) & {chr(code) for code in range(32) if chr(code) not in "\t\n"}


def test_printed_output_is_what_a_terminal_leaves() -> None:
    assert printed("\x1b[1;31mred\x1b[0m \x1b]0;title\x07plain") == "red plain"
    assert printed(" 10%\r 50%\r100%\ndone\r\n") == "100%\ndone\n"
    assert printed("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\") == "link"


def test_head_and_tail_are_cut_at_line_ends() -> None:
    text = "".join(f"line {number}\n" for number in range(1000))
    cut = head_and_tail(text, 100, "[... {} left out ...]")
    assert cut.startswith("line 0\nline 1\n")
    assert cut.endswith("line 998\nline 999\n")
    lines = cut.split("\n")
    assert all(line.startswith(("line ", "[... ")) or not line for line in lines)


@given(st.text(max_size=300), st.integers(2, 100))
def test_nothing_is_counted_wrong(text: str, characters: int) -> None:
    cut = head_and_tail(text, characters, "\x00{}\x00")
    if len(text) <= characters:
        assert cut == text
        return
    head, left_out, tail = cut.rsplit("\x00", 2) if cut.count("\x00") == 2 else ("", "", "")
    if left_out:
        tail = tail.removeprefix("\n")
        kept = len(head.removesuffix("\n")) + len(tail)
        assert len(text) - int(left_out.replace(",", "")) in (kept, kept + 1)
        assert text.startswith(head.removesuffix("\n"))
        assert text.endswith(tail)
