"""The payload's file: there and back, small enough, and honest about why it is not."""

from __future__ import annotations

import random

import pytest

from swarmq.errors import PodError, SchemaError, UsageError
from swarmq.models.branch import BranchSpec
from swarmq.models.messages import Message, Role, Text, Thinking, ToolCall, ToolResult, Usage, system, user
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Kind, Subtask
from swarmq.models.transcript import Entry
from swarmq.pod.payload import MAX_PAYLOAD_BYTES, ModelAccess, Payload, RepositoryAccess, decode, encode
from swarmq.pod.trimming import encode_fitting
from swarmq.settings import EndpointSettings

SPEC = BranchSpec(
    swarm_id="k3x9qm2p4t", id="parse", subtask_id="parse", stage=0, kind=Kind.EDIT, celery_task_id="k3x9qm2p4t.parse"
)
ENDPOINT = EndpointSettings(base_url="https://models.example/v1", api_key_env="SOME_KEY")


def payload(**fields: object) -> Payload:
    known: dict[str, object] = {
        "nonce": "0" * 32,
        "branch": SPEC,
        "token": 1,
        "options": SwarmOptions(env={"A": "b"}),
        "subtask": Subtask(name="Parse", instruction="Fix the parser"),
        "model": ModelAccess(spec="test:model", endpoint=ENDPOINT, api_key="sk-secret"),
    }
    return Payload.model_validate({**known, **fields})


def noise(size: int, seed: int = 0) -> str:
    """Text that does not compress well."""
    return random.Random(seed).randbytes(size // 2).hex()


def transcript(steps: int, result_characters: int) -> tuple[Entry, ...]:
    entries = [Entry(step=0, at=0.0, message=system("s")), Entry(step=0, at=0.0, message=user("u"))]
    for number in range(1, steps + 1):
        parts = (
            Thinking(text=noise(500, number), dialect="anthropic", opaque="{}"),
            ToolCall(id=f"c{number}", name="read", arguments="{}"),
        )
        usage = Usage(input_tokens=10, output_tokens=1)
        entries.append(Entry(step=number, at=0.0, message=Message(role=Role.ASSISTANT, parts=parts), usage=usage))
        result = ToolResult(call_id=f"c{number}", name="read", content=noise(result_characters, number))
        entries.append(Entry(step=number, at=0.0, message=Message(role=Role.TOOL, parts=(result,))))
    return tuple(entries)


def test_there_and_back() -> None:
    sent = payload(
        entries=transcript(2, 100),
        repository=RepositoryAccess(
            base_commit="a" * 40, password="p4ss", shallow="b" * 40, merge="bWVyZ2U=", pack=b"PACK\x00\n\xff"
        ),
        context="earlier \u2028 results",
    )
    raw = encode(sent)
    assert decode(raw) == sent
    assert b"sk-secret" not in raw  # compressed: nothing finds it by accident


def test_secrets_are_in_no_representation() -> None:
    shown = repr(payload(repository=RepositoryAccess(base_commit="a" * 40, password="p4ss", pack=b"PACK")))
    assert "sk-secret" not in shown
    assert "p4ss" not in shown
    assert "0" * 32 not in shown


@pytest.mark.parametrize(
    "raw", [b"", b"{}", b"swarmq payload x\n", b"swarmq payload 1\n9\nabc", encode(payload())[:-1]]
)
def test_what_is_no_payload_is_refused(raw: bytes) -> None:
    with pytest.raises(UsageError):
        decode(raw)


def test_another_version_names_the_image() -> None:
    with pytest.raises(SchemaError, match=r"payload version 2, .* use an image of the worker's version"):
        decode(encode(payload()).replace(b"swarmq payload 1", b"swarmq payload 2"))


def test_a_repository_that_does_not_fit_names_its_size_and_the_way_out() -> None:
    pack = random.Random(1).randbytes(MAX_PAYLOAD_BYTES)
    with pytest.raises(PodError, match=r"1,04\d,\d{3} of them the repository.*pod_repository_url"):
        encode_fitting(payload(repository=RepositoryAccess(base_commit="a" * 40, pack=pack)))
    by_url = RepositoryAccess(base_commit="a" * 40, url="https://git.example/team/repo", pack=pack)
    with pytest.raises(PodError, match="placement fleet"):
        encode_fitting(payload(repository=by_url))


def test_an_instruction_that_does_not_fit_says_so() -> None:
    with pytest.raises(PodError, match="shorten the instruction"):
        encode_fitting(payload(context=noise(3_000_000)))


@pytest.mark.parametrize("result_characters", [20_000, 60_000])
def test_a_long_transcript_is_cut_as_far_as_need_be(result_characters: int) -> None:
    sent = payload(entries=transcript(100, result_characters))
    raw = encode_fitting(sent)
    assert len(raw) <= MAX_PAYLOAD_BYTES
    read = decode(raw)
    assert [entry.step for entry in read.entries] == [entry.step for entry in sent.entries]
    assert [entry.usage for entry in read.entries] == [entry.usage for entry in sent.entries]
    assert [entry.message.tool_calls for entry in read.entries] == [entry.message.tool_calls for entry in sent.entries]
    assert read.entries[-1] == sent.entries[-1]
    assert "characters left out" in read.entries[3].message.tool_results[0].content


def test_a_transcript_that_fits_is_left_alone() -> None:
    sent = payload(entries=transcript(3, 30_000))
    assert decode(encode_fitting(sent)) == sent


def test_an_answer_of_thoughts_alone_keeps_them() -> None:
    thoughts = Message(role=Role.ASSISTANT, parts=(Thinking(text="hm", dialect="anthropic", opaque="{}"),))
    entries = (Entry(step=1, at=0.0, message=thoughts), *transcript(60, 60_000))
    assert decode(encode_fitting(payload(entries=entries))).entries[0].message == thoughts


def test_words_cut_from_a_message_stay_words() -> None:
    entries = (Entry(step=0, at=0.0, message=Message(role=Role.USER, parts=(Text(text=noise(4_000_000)),))),)
    cut = decode(encode_fitting(payload(entries=entries + transcript(8, 10)))).entries[0].message.text
    assert 1_000 < len(cut) < 10_000
