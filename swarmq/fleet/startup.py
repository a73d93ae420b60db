"""What workers and beat look at when they start, and log. They start before or after Redis, in any order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import structlog

from swarmq.errors import SwarmqError
from swarmq.settings import unknown_variables
from swarmq.store.server import check

log = structlog.get_logger()
AGAIN_SECONDS = 2.0


def warn_of_variables() -> None:
    """A misspelt setting would go unnoticed."""
    for name, meant in unknown_variables().items():
        log.warning("variable is no setting", variable=name, meant=meant)


async def warn_of_redis(url: str, again_seconds: float = AGAIN_SECONDS) -> None:
    """One warning for each setting of Redis under which records may be lost; waits until Redis answers.

    What keeps it from answering (a refused login, a certificate that is not trusted) is logged once.
    """
    told = ""
    while True:
        try:
            found = await check(url)
        except SwarmqError as error:
            if str(error) != told:
                told = str(error)
                log.warning("redis is not there yet", error=told)
            await asyncio.sleep(again_seconds)
            continue
        for danger in found.dangers:
            log.warning("redis may lose records", setting=danger.said, remedy=danger.remedy)
        return


def warn_in_background(url: str, answered: Callable[[], None]) -> None:
    """For processes without an event loop. ``answered`` is called when Redis has; the thread ends with the process."""

    def look() -> None:
        asyncio.run(warn_of_redis(url))
        answered()

    threading.Thread(target=look, name="redis-check", daemon=True).start()
