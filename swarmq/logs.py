"""Structured logs: one JSON object a line with swarm, subtask and branch, secrets masked."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from swarmq.settings import Settings

_SECRET_NAME = re.compile(r"key|token|secret|password|authorization", re.IGNORECASE)
_NOT_SECRET = re.compile(r"tokens$|_tokens_|^token$|idempotency_key", re.IGNORECASE)  # token counts, fencing tokens
_URL_PASSWORD = re.compile(r"(\w+://[^\s:/@]*:)[^\s@]+@")
MASK = "***"


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask values by their key's name, and passwords in URLs wherever they stand."""
    for key, value in event.items():
        if isinstance(value, str):
            secret = _SECRET_NAME.search(key) and not _NOT_SECRET.search(key)
            event[key] = MASK if secret else _URL_PASSWORD.sub(rf"\1{MASK}@", value)
    return event


def configure_logs(settings: Settings) -> None:
    """Send structlog and the standard library's logging to stderr in one format."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.format_exc_info,
        redact,
    ]
    console = settings.log_format == "console"
    renderer: Any = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if console else _JSON
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for noisy in ("httpx", "httpcore", "celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


_JSON = structlog.processors.JSONRenderer(sort_keys=False)
