"""The store: all records, behind one gate."""

from __future__ import annotations

import secrets

from swarmq.store import keys
from swarmq.store.audit import Audit
from swarmq.store.baselines import Baselines
from swarmq.store.branches import Branches
from swarmq.store.budgets import Budgets
from swarmq.store.cache import Cache
from swarmq.store.collapse import Collapse
from swarmq.store.connection import Gate
from swarmq.store.control import Control
from swarmq.store.events import Events
from swarmq.store.flights import Flights
from swarmq.store.health import Health
from swarmq.store.jobs import Jobs
from swarmq.store.limiter import FleetLimiter
from swarmq.store.pod_budget import PodBudget
from swarmq.store.races import Races
from swarmq.store.scaling import Scaling
from swarmq.store.shared import Shared
from swarmq.store.stages import Stages
from swarmq.store.swarms import Swarms
from swarmq.store.transcripts import Transcripts
from swarmq.store.verified import Verified
from swarmq.store.workers import Workers


class Store:
    """Opened with a Gate, which the caller closes."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.swarms = Swarms(gate)
        self.stages = Stages(gate)
        self.branches = Branches(gate)
        self.races = Races(gate)
        self.control = Control(gate)
        self.budgets = Budgets(gate)
        self.jobs = Jobs(gate)
        self.transcripts = Transcripts(gate)
        self.events = Events(gate)
        self.shared = Shared(gate)
        self.cache = Cache(gate)
        self.flights = Flights(gate)
        self.baselines = Baselines(gate)
        self.audit = Audit(gate)
        self.collapse = Collapse(gate)
        self.verified = Verified(gate)
        self.workers = Workers(gate)
        self.limiter = FleetLimiter(gate)
        self.pods = PodBudget(gate)
        self.health = Health(gate)
        self.scaling = Scaling(gate)

    async def name(self) -> str:
        """What tells these records from those in another Redis. StoreError, also where it is full and has none yet."""
        if await self.gate.call("EXISTS", keys.NAME()) == 0:
            await self.gate.call("SET", keys.NAME(), secrets.token_hex(8), "NX")
        return bytes(await self.gate.call("GET", keys.NAME())).decode()

    async def now(self) -> float:
        """Unix seconds by the clock of Redis, which all leases go by."""
        return await self.gate.now()
