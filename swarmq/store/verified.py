"""Merged trees that passed verify, so that a crash does not have them verified again; and who verifies one now."""

from __future__ import annotations

from swarmq.models.verify import VerifyReport
from swarmq.store import keys
from swarmq.store.codec import dump, load
from swarmq.store.connection import Gate


class Verified:
    """By the digest of a tree and the commands. Only what passed is kept: a failure may have been the machine's."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def begin(self, swarm_id: str, digest: str, run: str) -> tuple[VerifyReport | None, str | None]:
        """The report of a run that passed, or None, and the id of an earlier run that did not end as far as is known.

        NotFoundError, SchemaError.
        """
        report, before = await self._gate.script("verify_begin", (keys.SWARM(swarm_id),), (digest, run))
        known = load(VerifyReport, report, f"verified tree of swarm {swarm_id}") if report else None
        return known, before.decode() or None

    async def end(self, swarm_id: str, digest: str, run: str, report: VerifyReport) -> bool:
        """False where another run has begun since: a failure of this one says nothing then."""
        kept = dump(report) if report.passed else ""
        return bool(await self._gate.script("verify_end", (keys.SWARM(swarm_id),), (digest, run, kept)))
