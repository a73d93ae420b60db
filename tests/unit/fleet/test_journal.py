from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from swarmq.fleet.journal import FEW_ENTRIES, StoreJournal
from swarmq.models.branch import BranchSpec
from swarmq.models.messages import Usage, user
from swarmq.models.plan import Kind
from swarmq.models.transcript import Entry
from swarmq.store.transcripts import Recorded

SPEC = BranchSpec(
    swarm_id="swarm00001", id="a", subtask_id="a", stage=0, kind=Kind.READ, base_commit=None, celery_task_id="t"
)


@pytest.mark.parametrize("count", [1, FEW_ENTRIES, FEW_ENTRIES + 1])
async def test_entries_are_written_whole_and_in_order_however_many_there_are(count: int) -> None:
    written: list[bytes] = []

    async def record(*arguments: Any, **_: Any) -> Recorded:
        written.extend(arguments[4])
        return Recorded(None, None, None)

    store: Any = SimpleNamespace(transcripts=SimpleNamespace(record=record))
    entries = [Entry(step=0, at=number, message=user(f"message {number}")) for number in range(count)]
    await StoreJournal(store, SPEC, 1).record(entries, (), steps=0, tool_calls=0, usage=Usage(), expected=None)
    assert [Entry.decode(raw, index) for index, raw in enumerate(written)] == entries
