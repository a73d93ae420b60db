from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from swarmq.providers.encoding import arguments_object, dump, tool_name
from swarmq.providers.fragments import BLOCK_BYTES, Fragments


@given(st.lists(st.tuples(st.integers(0, BLOCK_BYTES), st.integers(0, 3)), max_size=12))
def test_whatever_is_folded_the_array_stays_the_same(steps: list[tuple[int, int]]) -> None:
    fragments = Fragments()
    expected = []
    for size, keep in steps:
        fragments.append(dump("x" * size))
        expected.append("x" * size)
        recent = len(fragments.recent)
        assert fragments.fold(keep) == recent - len(fragments.recent)
        assert len(fragments.recent) >= min(keep, recent)
        assert orjson.loads(b"".join(fragments.body(b"[", fragments.recent, b"]"))) == expected


def test_clearing_starts_over() -> None:
    fragments = Fragments()
    fragments.append(dump("x" * BLOCK_BYTES))
    fragments.fold(keep=0)
    fragments.clear()
    assert fragments.body(b"[", fragments.recent, b"]") == [b"[]"]


def test_old_chunks_are_shared_not_copied() -> None:
    fragments = Fragments()
    fragments.append(dump("x" * BLOCK_BYTES))
    fragments.fold(keep=0)
    first = fragments.body(b"[", fragments.recent, b"]")
    fragments.append(b"1")
    assert fragments.body(b"[", fragments.recent, b"]")[1] is first[1]


@given(st.text())
def test_arguments_are_always_an_object(arguments: str) -> None:
    assert isinstance(orjson.loads(arguments_object(arguments)), dict)


@given(st.dictionaries(st.text(), st.integers(-(2**53), 2**53)))
def test_objects_stay_as_written(value: dict[str, int]) -> None:
    written = dump(value).decode()
    assert arguments_object(written).decode() == written


@given(st.text(max_size=100))
def test_tool_names_have_allowed_characters(name: str) -> None:
    allowed = tool_name(name)
    assert 0 < len(allowed) <= 64
    assert all(character.isascii() and (character.isalnum() or character in "_-") for character in allowed)


def test_lone_surrogates_become_question_marks_everywhere() -> None:
    assert orjson.loads(dump({"a\udcff": ["b\udcff", {"c": 1}]})) == {"a?": ["b?", {"c": 1}]}
