"""What an agent needs that runs away from the fleet, as the bytes of one file.

The file holds keys and prompts: whoever reads it removes it before any tool runs. Its form: a line that names the
version, a line with the length of what follows, the compressed JSON, and behind it the repository's objects as git
packed them.
"""

from __future__ import annotations

import re
import zlib
from typing import Final, Literal

import orjson
from pydantic import Field, ValidationError

from swarmq.errors import PodError, SchemaError, UsageError
from swarmq.models.base import Record
from swarmq.models.branch import BranchSpec
from swarmq.models.options import SwarmOptions, describe
from swarmq.models.plan import Subtask
from swarmq.models.transcript import Entry, printable
from swarmq.settings import EndpointSettings

PAYLOAD_VERSION: Final = 1
MAX_PAYLOAD_BYTES = 1024 * 1024 - 1024
"""A Secret's values may have 1 MiB together; a little is left for what else is in it."""
MAX_JSON_BYTES = 256 * 1024 * 1024
"""Of what compressed JSON may become: transcripts are far below."""
_HEAD = re.compile(rb"swarmq payload (\d{1,9})\n(\d{1,12})\n")


class ModelAccess(Record):
    """The endpoint that the agent calls by itself. No limiter of the fleet stands before it."""

    spec: str = Field(description="As the user wrote it, ENDPOINT:NAME.")
    endpoint: EndpointSettings
    api_key: str | None = Field(None, repr=False)


class RepositoryAccess(Record):
    """How the repository comes: from a URL, or with the payload; in either case with the objects that are missing."""

    base_commit: str = Field(description="What the branch's work is measured against.")
    url: str | None = None
    known: str | None = Field(None, description="The commit of the URL that the pack builds on.")
    user: str = "git"
    password: str | None = Field(None, repr=False, description="For the URL's host alone, and HTTP.")
    password_env: str | None = Field(None, description="Its name in a named Secret, where it is not here.")
    shallow: str | None = Field(None, description="The pack holds this commit without what came before it.")
    merge: str = Field("", repr=False, description="For a resolver: the merge as it was left, in git's words, base64.")
    pack: bytes = Field(b"", exclude=True, repr=False)


class Slice(Record):
    """What the agent may use of the swarm's budgets before it has to end; None: no limit."""

    steps: int | None = None
    tokens: int | None = None
    nano_usd: int | None = None


class Payload(Record):
    """One run of one branch. ``token`` is the fencing token of who started it; ``nonce`` marks its lines in the log."""

    v: Literal[1] = PAYLOAD_VERSION
    nonce: str = Field(pattern=r"^[0-9a-f]{32}$", repr=False)
    branch: BranchSpec
    token: int = Field(ge=1)
    options: SwarmOptions
    subtask: Subtask
    verify: tuple[str, ...] = Field((), description="Commands that the work has to pass.")
    context: str = Field("", description="The results of the subtasks that this one builds on.")
    entries: tuple[Entry, ...] = Field((), description="What was recorded before; the run goes on behind it.")
    adopted: tuple[Entry, ...] = Field((), description="Of an earlier swarm's branch that this one goes on with.")
    retry_error: str | None = Field(None, description="What ended that one.")
    checkpoint: str | None = Field(None, description="The commit with the files to go on with.")
    model: ModelAccess
    repository: RepositoryAccess | None = None
    slice: Slice = Slice()
    probe_seconds: float = Field(5.0, gt=0)


def encode(payload: Payload) -> bytes:
    """The file's bytes; PodError where they are too many, with what to do about it."""
    packed = zlib.compress(orjson.dumps(printable(payload.model_dump(mode="json"))), 9)
    pack = payload.repository.pack if payload.repository is not None else b""
    raw = b"swarmq payload %d\n%d\n" % (payload.v, len(packed)) + packed + pack
    if len(raw) > MAX_PAYLOAD_BYTES:
        by_url = payload.repository is not None and payload.repository.url is not None
        raise PodError(_too_large(len(raw), len(packed), len(pack), by_url=by_url))
    return raw


def _too_large(total_bytes: int, words_bytes: int, pack_bytes: int, *, by_url: bool) -> str:
    if pack_bytes <= words_bytes:
        way_out = "shorten the instruction or the results that it builds on"
    elif by_url:  # then it is what the swarm itself has made
        way_out = "run the swarm on workers (placement fleet), or have it write less"
    else:
        way_out = "name a URL that pods can clone the repository from (pod_repository_url)"
    return (
        f"the payload of the pod has {total_bytes:,} bytes ({pack_bytes:,} of them the repository, {words_bytes:,} "
        f"prompts and transcript, compressed), and a Secret takes {MAX_PAYLOAD_BYTES:,}: {way_out}"
    )


def decode(raw: bytes) -> Payload:
    """Read the file's bytes. UsageError for what is no payload, SchemaError for one of another version."""
    head = _HEAD.match(raw)
    if head is None:
        raise UsageError("the file is no payload of swarmq")
    if int(head[1]) != PAYLOAD_VERSION:
        raise SchemaError(
            f"payload version {int(head[1])}, this swarmq knows {PAYLOAD_VERSION}: use an image of the worker's version"
        )
    end = head.end() + int(head[2])
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(raw[head.end() : end], MAX_JSON_BYTES)
    except zlib.error:
        raise UsageError("the payload is damaged") from None
    if end > len(raw) or not unpacker.eof:
        raise UsageError("the payload is cut off")
    try:
        payload = Payload.model_validate_json(text)
    except ValidationError as error:
        raise SchemaError(f"payload: {describe(error)}; use an image of the worker's version") from None
    if payload.repository is None:
        return payload
    repository = payload.repository.model_copy(update={"pack": raw[end:]})
    return payload.model_copy(update={"repository": repository})
