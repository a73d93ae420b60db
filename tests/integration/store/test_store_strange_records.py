"""Records that this version cannot read: each is named where it is asked for, and hides no other."""

from __future__ import annotations

import pytest
import structlog
from store_samples import SWARM, branch_spec, opened, swarm_spec

from swarmq.errors import SchemaError
from swarmq.store import keys
from swarmq.store.store import Store

GOOD = "swarm00002"
STRANGE = {
    "a newer version": (keys.SWARM(SWARM), "v", "2"),
    "an older version": (keys.SWARM(SWARM), "v", "0"),
    "no number": (keys.SWARM(SWARM), "v", "one"),
    "a state of another version": (keys.SWARM(SWARM), "state", "reviewing"),
    "half a spec": (keys.SWARM(SWARM), "spec", "{"),
    "no time": (keys.SWARM(SWARM), "recorded_at", "yesterday"),
    "a branch's state": (keys.BRANCH(SWARM, "a"), "state", "reviewing"),
    "a branch's lease": (keys.BRANCH(SWARM, "a"), "lease_until", "soon"),
    "a branch's version": (keys.BRANCH(SWARM, "a"), "v", "2"),
    "a stage's version": (keys.STAGE(SWARM, 0), "v", "2"),
}


@pytest.mark.parametrize("what", STRANGE)
async def test_it_is_named_and_hides_no_other(store: Store, what: str) -> None:
    await opened(store, "a")
    await store.swarms.create(swarm_spec(GOOD))
    await store.stages.open(GOOD, 0, [branch_spec("a", 0, GOOD)], 2)
    await store.gate.call("HSET", *STRANGE[what])
    look = await store.health.look(())
    assert [swarm.record.spec.id for swarm in look.swarms] == [GOOD]
    assert list(look.unreadable) == [SWARM]
    assert f"swarm {SWARM}" in look.unreadable[SWARM]
    assert (await store.health.look((), SWARM)).unreadable == look.unreadable
    assert GOOD in [status.id for status in await store.swarms.list(10)]
    assert {swarm.id for swarm in (await store.scaling.look(())).swarms} >= {GOOD}
    await store.scaling.refresh()


async def test_a_list_says_what_it_leaves_out(store: Store) -> None:
    await opened(store, "a")
    await store.gate.call("HSET", *STRANGE["a state of another version"])
    with structlog.testing.capture_logs() as logs:
        assert await store.swarms.list(10) == []
    assert {entry["swarm"] for entry in logs} == {SWARM}
    with pytest.raises(SchemaError, match="reviewing"):
        await store.swarms.list(10, all_readable=True)
    with pytest.raises(SchemaError, match=f"swarm {SWARM}: 'reviewing' is not"):
        await store.swarms.load(SWARM)


async def test_a_field_that_is_missing_is_named(store: Store) -> None:
    await opened(store, "a")
    await store.gate.call("HDEL", keys.SWARM(SWARM), "spec")
    with pytest.raises(SchemaError, match="it has no spec"):
        await store.swarms.load(SWARM)
