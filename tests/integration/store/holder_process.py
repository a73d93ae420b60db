"""A worker as a process of its own: holds branch a of the samples' swarm and writes until it is refused.

usage: holder_process.py URL LEASE_SECONDS; a line per written entry, at the end the name of what refused it.
"""

from __future__ import annotations

import asyncio
import sys

from swarmq.errors import LeaseLost
from swarmq.models.branch import Observation
from swarmq.models.messages import Usage, user
from swarmq.models.transcript import Entry
from swarmq.store.connection import Gate
from swarmq.store.store import Store

SWARM, BRANCH = "swarm00001", "a"


async def hold(store: Store, lease_seconds: float) -> None:
    claim = await store.branches.claim(SWARM, BRANCH, "the process", lease_seconds)
    index = len(await store.transcripts.load(SWARM, BRANCH))
    while True:
        await store.branches.renew(SWARM, BRANCH, claim.token, lease_seconds, Observation(at=1, steps=index))
        entry = Entry(step=index, at=claim.token, message=user("text")).encode()
        await store.transcripts.record(
            SWARM, BRANCH, claim.token, index, [entry], [],
            steps=1, tool_calls=0, usage=Usage(), reserve=None,
        )  # fmt: skip
        index += 1
        sys.stdout.write(f"{index}\n")
        sys.stdout.flush()
        await asyncio.sleep(0.005)


async def main(url: str, lease_seconds: float) -> None:
    gate = Gate.open(url, retry_seconds=5)
    try:
        await hold(Store(gate), lease_seconds)
    except LeaseLost as error:
        sys.stdout.write(f"{type(error).__name__}\n")
    finally:
        await gate.aclose()


asyncio.run(main(sys.argv[1], float(sys.argv[2])))
