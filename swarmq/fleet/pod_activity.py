"""What is known of an agent in a pod between its records: what its pod waits for, then what its probes tell."""

from __future__ import annotations

from dataclasses import dataclass

from swarmq.fleet.journal import StoreJournal
from swarmq.models.branch import Observation
from swarmq.models.verify import VerifyReport


@dataclass
class PodActivity:
    """For the branch's observer. ``seen`` is the agent's last probe; without one ``waits_for`` is all there is."""

    journal: StoreJournal
    waits_for: str = "starting"
    seen: Observation | None = None

    @property
    def steps(self) -> int:
        return self.journal.steps if self.seen is None else self.seen.steps

    @property
    def tokens(self) -> int:
        return self.journal.tokens if self.seen is None else self.seen.tokens

    @property
    def doing(self) -> str:
        return self.waits_for if self.seen is None else self.seen.doing

    @property
    def writing(self) -> bool:
        return self.seen is not None and self.seen.editing

    @property
    def verified(self) -> VerifyReport | None:
        return self.journal.verified
