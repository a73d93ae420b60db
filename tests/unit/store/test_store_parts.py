"""What of the store needs no server."""

from __future__ import annotations

import ssl
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from swarmq.errors import LeaseLost, NotFoundError, SchemaError, StoreError, UsageError
from swarmq.models.branch import Exit, Outcome
from swarmq.models.events import Event, EventType
from swarmq.store import keys
from swarmq.store.address import parse_address
from swarmq.store.codec import check_version, dump, dump_value, load
from swarmq.store.events import encode
from swarmq.store.refusals import can_be_mended, passes_soon, refusal
from swarmq.store.schema import MAX_FIELDS, infer_schema, json_type
from swarmq.store.script import load_script
from swarmq.store.server import ask

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (None, {"type": "null"}),
        (True, {"type": "boolean"}),
        (3, {"type": "integer"}),
        (0.5, {"type": "number"}),
        ("x", {"type": "string"}),
        ([], {"type": "array", "items": []}),
        ([1, "x", 2, None], {"type": "array", "items": ["integer", "null", "string"]}),
        ({"a": 1, "b": [1], "c": {}}, {"type": "object", "fields": {"a": "integer", "b": "array", "c": "object"}}),
    ],
)
def test_the_schema_of_a_value(value: Any, schema: dict[str, Any]) -> None:
    assert infer_schema(value) == schema


@given(JSON)
def test_every_json_value_has_a_schema(value: Any) -> None:
    assert infer_schema(value)["type"] == json_type(value)


def test_a_schema_stays_small_and_knows_json_only() -> None:
    assert len(infer_schema({f"k{n}": n for n in range(1000)})["fields"]) == MAX_FIELDS
    with pytest.raises(TypeError, match="set is no JSON value"):
        infer_schema({"a": {1}})


@given(JSON)
def test_values_survive_being_stored(value: Any) -> None:
    assert orjson.loads(dump_value(value)) == orjson.loads(orjson.dumps(value))


@given(st.text(st.characters(categories=("Cs", "L"))))
def test_lone_surrogates_are_stored_as_question_marks(text: str) -> None:
    kept = text.encode("utf-8", "replace").decode()
    assert orjson.loads(dump_value({text: [text]})) == {kept: [kept]}
    outcome = Outcome(exit=Exit.FAILED, text=text)
    assert load(Outcome, dump(outcome), "outcome").text == kept
    event = Event(id="1-1", type=EventType.BRANCH_MESSAGE, at=1, swarm="s", data={"text": text})
    assert orjson.loads(encode(event))["data"] == {"text": kept}
    assert "id" not in orjson.loads(encode(event))


def test_what_cannot_be_read_names_the_record() -> None:
    with pytest.raises(SchemaError, match=r"outcome of b: exit: .*another version"):
        load(Outcome, b'{"exit":"vanished"}', "outcome of b")
    with pytest.raises(SchemaError, match="outcome of b"):
        load(Outcome, b"not json", "outcome of b")
    check_version(b"1", "swarm x")
    for version in (b"2", 2, None):
        with pytest.raises(SchemaError, match=r"swarm x: schema version (2|none), this swarmq knows 1; update swarmq"):
            check_version(version, "swarm x")


@pytest.mark.parametrize(
    ("error", "expected", "text"),
    [
        (ResponseError("LEASELOST branch a has another holder"), LeaseLost, "branch a has another holder"),
        (ResponseError("NOTFOUND there is no swarm x"), NotFoundError, "there is no swarm x"),
        (ResponseError("SCHEMA swarm x: version 2"), SchemaError, "swarm x: version 2"),
        (ResponseError("USAGE value: too large"), UsageError, "value: too large"),
        (OutOfMemoryError("OOM command not allowed"), StoreError, "redis://h is full"),
        (ReadOnlyError("READONLY You can't write"), StoreError, "read-only replica; name the primary"),
        (AuthenticationError("WRONGPASS invalid"), StoreError, "refuses the login (WRONGPASS invalid)"),
        (ResponseError("MISCONF Errors writing to the AOF file: No space"), StoreError, "cannot save to its disk"),
        (ResponseError("NOPERM no permissions\nto run"), StoreError, "redis://h refuses: NOPERM no permissions"),
    ],
)
def test_refusals_are_one_line_with_the_way_out(error: Exception, expected: type[Exception], text: str) -> None:
    found = refusal(error, "redis://h")
    assert type(found) is expected
    assert text in str(found)
    assert "\n" not in str(found)


def test_what_passes_soon_is_tried_again() -> None:
    for error in (BusyLoadingError("LOADING"), ConnectionError("reset"), OSError(111, "refused"), TimeoutError()):
        assert passes_soon(error)
    for text in ("TRYAGAIN x", "MASTERDOWN x", "BUSY Redis is busy", "CLUSTERDOWN x"):
        assert passes_soon(ResponseError(text))
    for refused in (AuthenticationError("x"), OutOfMemoryError("x"), ResponseError("ERR x"), NoScriptError("x")):
        assert not passes_soon(refused)
    assert isinstance(refusal(NoScriptError("NOSCRIPT"), "redis://h"), NoScriptError)


def test_what_has_to_be_mended_refuses_every_write_and_is_no_outage() -> None:
    for error in (
        OutOfMemoryError("OOM command not allowed"),
        ReadOnlyError("READONLY You can't write"),
        ResponseError("MISCONF Errors writing to the AOF file"),
        ResponseError("NOREPLICAS Not enough good replicas to write."),
    ):
        assert can_be_mended(error)
        assert not passes_soon(error)
    for other in (ResponseError("LEASELOST x"), ResponseError("NOPERM x"), ConnectionError("reset"), TimeoutError()):
        assert not can_be_mended(other)


def test_a_certificate_that_is_not_trusted_is_told_and_not_tried_again() -> None:
    cause = ssl.SSLCertVerificationError(1, "certificate verify failed")
    cause.verify_code, cause.verify_message = 20, "unable to get local issuer certificate"
    wrapped = ConnectionError("Error 1 connecting")
    wrapped.__context__ = cause
    assert not passes_soon(wrapped)
    assert "is not trusted (unable to get local issuer certificate); name the file of its CA" in str(
        refusal(wrapped, "rediss://h")
    )


def test_scripts_are_read_with_their_shared_parts() -> None:
    script = load_script("branch_claim")
    assert script.text.startswith("local VERSION = '1'\n")
    assert script.text.index("local function load_swarm") < script.text.index("local function load_branch")
    assert len(script.sha) == 40
    assert load_script("branch_claim") is script
    assert "load_swarm" not in load_script("record").text


def test_every_key_of_a_swarm_has_its_hash_tag_and_is_swept_at_the_end() -> None:
    swarm, stage, branch = keys.names_to_expire()
    families = [key for key in keys.REGISTRY if key.scope != "fleet" and key.ttl == keys.KEPT]
    assert len(families) == len(swarm) + len(stage) + len(branch)
    assert all(key.name.startswith("swarmq:{%s}:") for key in keys.REGISTRY if key.scope != "fleet")
    assert (len(stage), len(branch)) == (3, 2)
    assert "events" in swarm
    assert keys.STAGE_DONE("abc", 3) == "swarmq:{abc}:stage:3:done"
    assert len({key.name for key in keys.REGISTRY}) == len(keys.REGISTRY)
    assert keys.transcript_keys("s", "b") == (
        keys.SWARM("s"), keys.BRANCH("s", "b"), keys.TRANSCRIPT("s", "b"), keys.EVENTS("s"), keys.COUNTERS("s"),
    )  # fmt: skip


class Answering:
    """A gate to a server that says this of itself."""

    address = parse_address("redis://:s3cret@h:1/0")

    def __init__(self, info: bytes) -> None:
        self.info = info

    async def call(self, *command: str) -> bytes:
        assert command == ("INFO",)
        return self.info


async def test_a_server_that_loads_its_data_is_told_of_and_not_its_settings() -> None:
    """It says that it has no append-only file until it has read it."""
    loading = Answering(b"role:master\r\naof_enabled:0\r\nloading:1\r\nloading_eta_seconds:12\r\n")
    with pytest.raises(StoreError, match=r"^Redis at redis://h:1/0 starts .* loading its data, for about 12 s more"):
        await ask(loading)  # type: ignore[arg-type]
    done = await ask(Answering(b"role:master\r\nredis_version:7.2.4\r\naof_enabled:1\r\nloading:0\r\n"))  # type: ignore[arg-type]
    assert done.dangers == ()
