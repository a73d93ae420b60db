"""The fleet that the faults meet: five processes, their wire to Redis, and one swarm at a time with what it cost."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from celery import Celery
from celery.result import AsyncResult
from chaos_swarm import MATCHES, TASK, script
from fleet_stack import WAIT_SECONDS, FleetStack, running_fleet, stop_workers, until
from processors import ProcessorWaits, Recovery
from wire import Wire

from swarmq import Client
from swarmq.client import AsyncSwarmHandle
from swarmq.fleet.accept import swarm_id_for
from swarmq.models.branch import BranchRecord, BranchState
from swarmq.models.swarm import SwarmResult
from swarmq.store import keys
from swarmq.sync_client import SwarmHandle

PROCESSES = {"control": "control", "integrate": "integrate", "agents-1": "agents", "agents-2": "agents", "beat": ""}
"""By name: the queue that it works for; beat has none."""
LEASE_SECONDS, PATIENCE_SECONDS, VISIBILITY_SECONDS = 3.0, 3.0, 5
END_SECONDS = 120.0
"""What takes longer hangs."""
ENDED = float("inf")
MAX_SUBAGENTS = 7
"""Fewer than stage 0 has branches: one waits for a slot."""
VARIABLES = {
    "SWARMQ_VISIBILITY_TIMEOUT_SECONDS": str(VISIBILITY_SECONDS),
    "SWARMQ_REDIS_RETRY_SECONDS": "6",
    "SWARMQ_SHUTDOWN_SECONDS": "5",
}
RESTORE_LOCK = "unacked_mutex"


@dataclass
class ChaosFleet:
    """The processes by name, the client of this process (which is not behind the wire), and Redis behind the scenes."""

    stack: FleetStack
    wire: Wire
    client: Client
    redis: redis.Redis
    waits: ProcessorWaits
    clocks: Clocks | None = None
    """Those of the processes, where they may be wrong."""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def start(self, *names: str) -> None:
        """Start processes without waiting for them."""
        for name in names:
            clock = self.clocks.variables(name) if self.clocks is not None else {}
            if PROCESSES[name]:
                self.stack.start_worker(PROCESSES[name], name, **clock)
            else:
                self.stack.start(name, "beat", **clock)

    def ready(self, *names: str) -> None:
        for name in names:
            if PROCESSES[name]:
                self.stack.await_worker(name)

    def kill(self, *names: str) -> None:
        """SIGKILL: all of them before the first is waited for."""
        for name in names:
            self.stack.processes[name].kill()
        for name in names:
            self.stack.kill(name)

    def stop(self, *names: str) -> None:
        """SIGTERM once, as a second one ends the waiting for tool calls; the end of each within a container's time."""
        stopping = {name: self.stack.processes.pop(name) for name in names}
        for process in stopping.values():
            process.terminate()
        for name, process in stopping.items():
            assert process.wait(WAIT_SECONDS) in (0, -signal.SIGTERM), self.stack.log(name)[-2000:]

    def restart(self, *names: str) -> None:
        self.kill(*(name for name in names if name in self.stack.processes))
        self.start(*names)
        self.ready(*names)

    def pid(self, name: str) -> int:
        return self.stack.processes[name].pid

    def heal(self) -> None:
        """Whatever a test left: everything runs, nothing is in its way."""
        self.wire.heal()
        self.trap_file.unlink(missing_ok=True)
        if self.clocks is not None:
            self.clocks.set(0, *PROCESSES)
        if self.stack.valkey.poll() is not None:
            self.stack.start_valkey()
        for name, process in list(self.stack.processes.items()):
            process.send_signal(signal.SIGCONT)
            if name not in PROCESSES or process.poll() is not None:
                self.kill(name)
        self.redis.delete(RESTORE_LOCK)
        missing = [name for name in PROCESSES if name not in self.stack.processes]
        self.start(*missing)
        self.ready(*missing)

    @property
    def trap_file(self) -> Path:
        return self.stack.root / "trap"

    def trap(self, trap: str) -> None:
        """Set a trap at a crash point, for whichever process comes by."""
        made = self.trap_file.with_name("trap-in-making")
        made.write_text(trap)
        made.replace(self.trap_file)

    def sprung(self) -> int:
        """Wait until a process has died in the trap, and start it again; the id that it had."""
        gone = self.stack.root.glob
        file = until(lambda: next(iter(gone("trap.*")), None), "a process at its crash point", END_SECONDS)
        pid = int(file.suffix[1:])
        file.unlink()
        name = next(name for name, process in self.stack.processes.items() if process.pid == pid)
        self.kill(name)
        self.start(name)
        return pid

    def keep_unacked(self) -> None:
        """From now on no worker hands back what dead ones have left unacknowledged: kombu's lock for that is held."""
        self.redis.set(RESTORE_LOCK, "the test")

    def outdate_unacked(self) -> None:
        """As if all messages were unacknowledged for so long that they are handed back, whoever's clock dated them."""
        for tag in list[Any](self.redis.zrange("unacked_index", 0, -1)):
            self.redis.zadd("unacked_index", {tag: 0}, xx=True)

    def drained(self) -> None:
        """Until every message has been taken from the queues."""
        queues = ("swarmq.control", "swarmq.integrate", "swarmq.agents")
        until(lambda: not any(self.redis.llen(queue) for queue in queues) or None, "empty queues")

    def recovery(self, since: float, until: float | None = None) -> Recovery:
        """Between two times of ``time.monotonic``; the second is now unless it is given."""
        return self.waits.recovery(since, time.monotonic() if until is None else until, LEASE_SECONDS)

    def begin(self, **options: Any) -> ChaosSwarm:
        """Submit the swarm to a repository of its own. From here on its model calls and tool runs are counted."""
        repo, own = self.workplace()
        handle = self.client.submit(TASK, repo=repo, **(own | options))
        return ChaosSwarm(self, handle, repo, Path(own["env"]["LEDGER"]))

    def send(self, producer: Celery) -> tuple[ChaosSwarm, AsyncResult]:
        """The same as a producer's plain message; its swarm may not be recorded yet."""
        repo, own = self.workplace()
        sent = producer.send_task(
            "swarmq.swarm", kwargs={"task": TASK, "repo": str(repo), **own}, queue="swarmq.control"
        )
        inner = AsyncSwarmHandle(self.client._inner, swarm_id_for(sent.id))
        swarm = ChaosSwarm(self, SwarmHandle(self.client._background, inner), repo, Path(own["env"]["LEDGER"]))
        return swarm, sent

    def workplace(self) -> tuple[Path, dict[str, Any]]:
        """A new repository, and the options of its swarm; the count of model calls starts again."""
        name = f"chaos-{next(self._numbers)}"
        self.stack.server.requests.clear()
        repo = self.stack.repository(name, {"shared.txt": "".join(f"line {n}\n" for n in range(1, 21))})
        ledger = self.stack.root / "ledgers" / name
        ledger.mkdir(parents=True)
        return repo, {"max_subagents": MAX_SUBAGENTS, "env": {"LEDGER": str(ledger)}, "cache": "bypass"}


@dataclass
class ChaosSwarm:
    """One swarm under way, and what it took to get to its end."""

    fleet: ChaosFleet
    handle: SwarmHandle
    repo: Path
    ledger: Path
    recoveries: list[Recovery] = field(default_factory=list)
    """From each fault to the next progress of all that it hit."""

    def calls(self) -> Counter[str]:
        """Model calls so far by branch (and ``plan``). A request that the script does not know counts as ``None``."""
        requests = list(self.fleet.stack.server.requests)
        return Counter(MATCHES.get(request.match or "", "unknown") for request in requests)

    def steps(self) -> int:
        """Steps that the swarm has recorded so far."""
        return int(self.fleet.redis.hget(keys.COUNTERS(self.handle.id), "steps") or 0)

    def until_steps(self, steps: int) -> None:
        until(lambda: self.steps() >= steps or None, f"{steps} steps", END_SECONDS)

    def until_stage(self, stage: int) -> None:
        until(lambda: self.handle.status().stage >= stage or None, f"stage {stage}", END_SECONDS)

    def held_by(self, pids: Collection[int] | None) -> list[str]:
        """Branches that run in the processes of these ids; None: in any."""
        branches: list[BranchRecord] = list(self.handle.branches())
        return [
            branch.spec.id
            for branch in branches
            if branch.state is BranchState.RUNNING
            and (pids is None or any(f"-{pid}@" in branch.worker for pid in pids))
        ]

    def blow(self, *names: str, pids: Collection[int] | None = None) -> Blow:
        """A fault that is about to hit these processes; without names: all branches that run now."""
        own = [self.fleet.pid(name) for name in names]
        return Blow(self, self.held_by(pids if pids is not None else own or None))

    def note_recovery(self, since: float, until: float | None = None) -> None:
        self.recoveries.append(self.fleet.recovery(since, until))

    def note_pause(self) -> None:
        """The longest time between two events of the swarm: where a message got lost, all may stand still."""
        running = time.monotonic() - time.time()
        times = [event.at + running for event in self.handle.events()]
        self.note_recovery(*max(itertools.pairwise(times), key=lambda pair: pair[1] - pair[0]))

    def result(self) -> SwarmResult:
        return self.handle.result(END_SECONDS)


class Blow:
    """From a fault to the next progress of everything that it hit; where it hit no branch, to that of the swarm."""

    def __init__(self, swarm: ChaosSwarm, hit: list[str]) -> None:
        self._swarm, self._hit = swarm, hit
        self._since, self._before = 0.0, dict[str, float]()

    def struck(self) -> Blow:
        """The fault has just happened, or is just over."""
        self._since, self._before = time.monotonic(), self._progress()
        return self

    def recovered(self) -> None:
        """Wait until all is further than it was when the fault had happened, and note the time."""
        names = self._hit or ["events"]

        def all_moved() -> bool | None:
            with contextlib.suppress(redis.RedisError):
                now = self._progress()
                return (
                    all(now.get(name, 0) > self._before.get(name, 0) or now.get(name) == ENDED for name in names)
                    or None
                )
            return None

        until(all_moved, f"progress of {names}", END_SECONDS)
        self._swarm.note_recovery(self._since)

    def _progress(self) -> dict[str, float]:
        """The lengths of the transcripts and of the event stream; beyond all of them for what has ended."""
        handle, client = self._swarm.handle, self._swarm.fleet.redis
        ended = handle.status().state.final
        lengths: dict[str, float] = {"events": ENDED if ended else client.xlen(keys.EVENTS(handle.id))}
        for branch in handle.branches():
            key = keys.TRANSCRIPT(handle.id, branch.spec.id)
            lengths[branch.spec.id] = ENDED if branch.state is BranchState.DONE else client.llen(key)
        return lengths


class Clocks:
    """The processes' wall clocks, each off by what ``set`` says, from that moment on."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.set(0, *PROCESSES)
        source = Path(__file__).with_name("clock.c")
        command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(directory / "clock.so"), str(source), "-ldl"]
        subprocess.run(command, check=True)

    def variables(self, name: str) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._directory / "clock.so"), "CLOCK_OFFSET_FILE": str(self._offset(name))}

    def set(self, seconds: int, *names: str) -> None:
        for name in names:
            with self._offset(name).open("r+b" if self._offset(name).exists() else "wb") as file:
                file.write(struct.pack("q", seconds))

    def _offset(self, name: str) -> Path:
        return self._directory / f"offset-{name}"


@contextlib.contextmanager
def chaos_fleet(*, clocks: bool = False) -> Iterator[ChaosFleet]:
    with contextlib.ExitStack() as stack:
        fleet = stack.enter_context(running_fleet(start=False, script=script()))
        wire = Wire(fleet.root / "valkey.sock")
        stack.callback(wire.close)
        stack.callback(stop_workers, fleet)  # with Redis in reach: without it each waits as long as it may
        password = fleet.url.split(":")[2].split("@")[0]
        fleet.variables |= VARIABLES | {"SWARMQ_REDIS_URL": f"redis://:{password}@127.0.0.1:{wire.port}/0"}
        fleet.variables["SWARMQ_CRASH_FILE"] = str(fleet.root / "trap")
        client = stack.enter_context(Client(fleet.url, settings=fleet.settings()))
        behind = stack.enter_context(redis.Redis(unix_socket_path=str(fleet.root / "valkey.sock"), password=password))
        client.list(1)  # connects: the swarms of plain messages are looked at without a call that would
        waits = ProcessorWaits(lambda: [os.getpid(), fleet.valkey.pid, *(p.pid for p in fleet.processes.values())])
        stack.callback(waits.close)
        chaos = ChaosFleet(fleet, wire, client, behind, waits, Clocks(fleet.root) if clocks else None)
        chaos.heal()
        yield chaos


class Fleets:
    """One fleet for many faults; a failure gets the next one a new fleet, so that it is its own."""

    def __init__(self, *, clocks: bool = False) -> None:
        self._clocks = clocks
        self._entered: Any = None
        self._fleet: ChaosFleet | None = None

    def get(self) -> ChaosFleet:
        if self._fleet is None:
            self._entered = chaos_fleet(clocks=self._clocks)
            self._fleet = self._entered.__enter__()
        self._fleet.heal()
        return self._fleet

    def close(self) -> None:
        if self._fleet is not None:
            self._fleet.heal()
            self._fleet = None
            self._entered.__exit__(None, None, None)

    def check(self, check: Callable[[ChaosFleet], None]) -> None:
        """Of the fleet as it is, healed; where that fails it is not used again."""
        if self._fleet is None:
            return
        self._fleet.heal()
        try:
            check(self._fleet)
        except BaseException:
            self.close()
            raise
