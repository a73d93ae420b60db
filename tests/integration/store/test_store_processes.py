"""Holders that are real processes: paused in the middle of their work, or killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_samples import DONE, SWARM, lease_over, opened, record
from valkey_server import Valkey

from swarmq.models.branch import BranchState
from swarmq.store.store import Store

LEASE_SECONDS = 0.2
PROGRAM = Path(__file__).with_name("holder_process.py")


@pytest.fixture
async def branch(store: Store) -> None:
    await opened(store, "a")


@pytest.fixture
def holder(valkey: Valkey, branch: None) -> Iterator[subprocess.Popen[str]]:
    """Started when the branch is there; ended by its pid, also when it is stopped."""
    command = [sys.executable, str(PROGRAM), valkey.url, str(LEASE_SECONDS)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])
    yield process
    process.kill()
    process.communicate()


def written(holder: subprocess.Popen[str], entries: int) -> None:
    """Wait until it has written that many."""
    assert holder.stdout is not None
    for line in holder.stdout:
        if int(line) >= entries:
            return
    raise AssertionError("the holder ended early")


async def test_a_holder_that_was_paused_is_refused_when_it_wakes_up(
    store: Store, holder: subprocess.Popen[str]
) -> None:
    written(holder, 3)
    holder.send_signal(signal.SIGSTOP)
    await lease_over(store, "a")
    claim = await store.branches.claim(SWARM, "a", "the next one", 60)
    assert (claim.status, claim.token, claim.lost_worker) == ("claimed", 2, "the process")
    so_far = len(await store.transcripts.load(SWARM, "a"))
    await record(store, "a", claim.token, so_far, "by the next holder")
    holder.send_signal(signal.SIGCONT)
    rest = holder.communicate(timeout=20)[0].split()
    assert rest[-1] == "LeaseLost"
    entries = await store.transcripts.load(SWARM, "a")
    assert len(entries) == so_far + 1
    assert entries[-1].message.text == "by the next holder"
    found = await store.branches.load(SWARM, "a")
    assert (found.state, found.token, found.worker) == (BranchState.RUNNING, 2, "the next one")


async def test_a_holder_that_was_killed_is_replaced_behind_its_last_entry(
    store: Store, holder: subprocess.Popen[str]
) -> None:
    written(holder, 5)
    assert (await store.branches.claim(SWARM, "a", "too early", 60)).status == "held"
    holder.kill()
    await lease_over(store, "a")
    claim = await store.branches.claim(SWARM, "a", "the next one", 60)
    entries = await store.transcripts.load(SWARM, "a")
    assert len(entries) >= 5
    await record(store, "a", claim.token, len(entries), "goes on")
    assert [entry.step for entry in entries] == list(range(len(entries)))
    assert (await store.branches.finish(SWARM, "a", claim.token, DONE)).advance
