"""What the rest of swarmq knows of a model, and what a dialect has to say for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from swarmq.errors import PermanentModelError
from swarmq.models.messages import Completion, Message, ToolSpec, Usage
from swarmq.providers.limiter import NOBODY, Caller


class Conversation(Protocol):
    """One running branch's messages, kept as ready-serialised fragments: a step costs its own size only."""

    def append(self, message: Message) -> None:
        """Add one message; it is encoded now and never again."""

    def replace(self, messages: Sequence[Message]) -> None:
        """Start over with these messages, as after compaction."""

    async def complete(
        self, *, max_output_tokens: int, temperature: float | None, timeout_seconds: float
    ) -> Completion:
        """The model's next message; it is not appended. Cancelling closes the connection at once.

        Never retries what failed. Raises TransientModelError or PermanentModelError.
        """

    async def aclose(self) -> None:
        """Close the connection; the conversation is not used again."""


class ChatModel(Protocol):
    """A model behind an endpoint."""

    @property
    def name(self) -> str:
        """As the user wrote it: ``openai:NAME``."""

    @property
    def context_window_tokens(self) -> int: ...

    def conversation(self, tools: Sequence[ToolSpec], caller: Caller = NOBODY) -> Conversation:
        """``caller`` is told of waits, and its swarm gets its fair part of the endpoint."""


class RequestBody(Protocol):
    """A conversation in a dialect's JSON. Pure: no I/O."""

    def append(self, message: Message) -> None: ...

    def replace(self, messages: Sequence[Message]) -> None: ...

    def render(self, max_output_tokens: int, temperature: float | None) -> Sequence[bytes]:
        """The body of the next request, in chunks that are shared with later ones."""


class Dialect(Protocol):
    """How one family of servers is spoken to, for one model. Pure: bytes in, bytes out."""

    @property
    def path(self) -> str:
        """What follows the endpoint's base URL."""

    def headers(self, api_key: str | None) -> Mapping[str, str]:
        """Lower-case names."""

    def request(self, tools: Sequence[ToolSpec]) -> RequestBody: ...

    def concede(self, refusal: PermanentModelError) -> bool:
        """Whether the refused request may be sent once more, in the form that the server asked for."""

    def counted_tokens(self, usage: Usage) -> int:
        """Those that the server counts against its limit of tokens per minute."""

    def completion(self, answer: bytes) -> Completion:
        """Read the body of a successful answer. TransientModelError where it is not what it should be."""
