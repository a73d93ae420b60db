"""The outcome of a branch that loses its workers again and again."""

from __future__ import annotations

from contextlib import suppress

from swarmq.errors import SchemaError, UsageError
from swarmq.fleet.journal import StoreJournal
from swarmq.fleet.planning import model_of
from swarmq.fleet.runtime import Runtime
from swarmq.models.branch import BranchRecord, Exit, Outcome
from swarmq.store.branches import Claim


async def given_up(runtime: Runtime, claim: Claim, record: BranchRecord) -> Outcome:
    """It failed, with the figures of what its holders had come to. StoreError."""
    spec, store = record.spec, runtime.store
    journal = StoreJournal(store, spec, claim.token)
    # Neither an unknown endpoint nor an entry that cannot be read may keep the branch from its end.
    with suppress(UsageError):
        journal.price = runtime.models.price(spec.model or model_of(runtime, await store.swarms.load(spec.swarm_id)))
    with suppress(SchemaError):
        journal.resume(await store.transcripts.load(spec.swarm_id, spec.id))
    return Outcome(
        exit=Exit.FAILED,
        fault="infrastructure",
        error=f"given up after {claim.deliveries} workers were lost while they ran it (max_deliveries)",
        checkpoint=record.checkpoint,
        steps=journal.steps,
        tool_calls=journal.tool_calls,
        usage=journal.usage,
        cost_usd=journal.cost_usd,
    )
