"""The collapse policy: what one look at the competing branches decides. Pure.

Nothing is decided on a branch that is not judged. Of those that compete, and of a whole swarm, one is always left: the
best of the last ones is spared. What a branch did before is in its tally; what was seen of it, or of its pod, is
counted once, however often a look finds it. See docs/design/collapse.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from swarmq.collapse.scoring import score, vector
from swarmq.models.branch import Observation
from swarmq.models.collapse import CollapsePolicy, CollapseState, Decision, Evaluation, Kill, Tally
from swarmq.models.pods import PodHealth


class Standing(StrEnum):
    """What a look may do with a branch."""

    JUDGED = "judged"
    OPEN = "open"
    """It may still do the work, but there is nothing to judge: it waits, or is between two holders."""
    COMPLETED = "completed"
    """Its work is there: others are measured against it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a look knows of a branch. ``group``: who competes; ``racing``: with others of the subtask ``race``."""

    branch_id: str
    group: str
    race: str
    racing: bool
    standing: Standing
    started_at: float = 0.0
    ended_at: float = 0.0
    observation: Observation | None = None
    health: PodHealth | None = None

    @property
    def rated(self) -> bool:
        return self.standing is not Standing.OPEN and self.observation is not None


@dataclass(frozen=True)
class Look:
    """What was decided. ``state`` is what the next look wants, its ``promoted`` the best of each group of several."""

    state: CollapseState
    evaluations: tuple[Evaluation, ...]
    kills: tuple[Kill, ...]


def judge(state: CollapseState, samples: Iterable[Sample], policy: CollapsePolicy, now: float) -> Look:
    """One look, the same for the same samples in any order. ``now`` is Unix seconds."""
    ordered = sorted(samples, key=lambda sample: sample.branch_id)
    tallies = {
        sample.branch_id: counted(state.tallies.get(sample.branch_id, Tally()), sample, policy)
        for sample in ordered
        if sample.rated and sample.standing is Standing.JUDGED
    }
    found = [_evaluation(sample, tallies, ordered, now) for sample in ordered if sample.rated]
    groups = [
        _Group([sample for sample in ordered if sample.group == name], found, tallies, state, policy)
        for name in dict.fromkeys(sample.group for sample in ordered)
    ]
    for group in groups:
        tallies |= group.counted_low()
    doomed = {id_: why for group in groups for id_, why in group.doomed().items()}
    spared = _spared(ordered, doomed, found)
    promoted = {group.name: best for group in groups if (best := group.promoted(doomed.keys() - spared)) is not None}
    decided = []
    for one in found:
        decision, reason = doomed.get(one.branch_id, (Decision.KEPT, ""))
        if one.branch_id in spared:
            decision = Decision.SPARED
        elif one.branch_id in promoted.values():
            decision = Decision.PROMOTED
        low = tallies[one.branch_id].low_scores if one.branch_id in tallies else 0
        decided.append(one.model_copy(update={"decision": decision, "reason": reason, "low_scores": low}))
    kills = [
        Kill(branch_id=one.branch_id, reason=one.reason, score=one.score)
        for one in decided
        if one.decision in (Decision.KILLED, Decision.PRUNED)
    ]
    marks = {one.branch_id: one.mark for one in decided}
    after = CollapseState(at=now, tallies=tallies, promoted=promoted, evaluated=marks)
    return Look(after, tuple(decided), tuple(kills))


def counted(before: Tally, sample: Sample, policy: CollapsePolicy) -> Tally:
    """The tally after this sample. What was counted before, of the branch or of its pod, changes nothing.

    Observations are told apart and not put in order: the clock of a new holder may be behind.

    A branch stands on failing checks if it has taken another step since that of its last edit and since the last break,
    and runs no tool that may edit: the agent has seen what it did and moved on. A branch in the middle of an edit,
    however long its model thinks, does not.
    """
    observation = sample.observation or Observation(at=0)
    tally = before.model_copy(update=_pod(before, sample.health, policy))
    if observation.at == before.observed_at:
        return tally
    edited = observation.changed_at != before.changed_at
    stands = not edited and not observation.editing and observation.steps > max(observation.changed_step, before.steps)
    failing = observation.checks is False
    counts = failing and (policy.breaks == "every" or stands)
    failures = before.compile_failures + counts
    if not failing or (edited and policy.breaks == "standing"):
        failures = 0
    return tally.model_copy(
        update={
            "observed_at": observation.at,
            "changed_at": observation.changed_at,
            "steps": observation.steps if counts else before.steps,
            "compile_failures": failures,
        }
    )


def _pod(before: Tally, health: PodHealth | None, policy: CollapsePolicy) -> dict[str, float]:
    """A pod of which nothing is known, or nothing new, leaves its counts as they are."""
    if health is None or health.seen_at == before.pod_seen_at:
        return {}
    bad = health.score < policy.min_resource_health
    return {
        "pod_seen_at": health.seen_at,
        "signals": before.signals + health.signals if health.signals else 0,
        "resource_failures": before.resource_failures + 1 if bad else 0,
    }


def _evaluation(sample: Sample, tallies: Mapping[str, Tally], all_: Sequence[Sample], now: float) -> Evaluation:
    observation = sample.observation or Observation(at=0)
    tally = tallies.get(sample.branch_id, Tally())
    rivals = [other for other in all_ if other.rated and other.group == sample.group and other.race != sample.race]
    files = {file for other in rivals if other.observation is not None for file in other.observation.files}
    found = vector(
        observation,
        elapsed_seconds=(sample.ended_at or now) - sample.started_at,
        others=files,
        health=sample.health,
        breaks=tally.breaks,
    )
    return Evaluation(
        branch_id=sample.branch_id,
        group=sample.group,
        vector=found,
        score=score(found, racing=sample.racing),
        compile_failures=tally.compile_failures,
        resource_failures=tally.resource_failures,
    )


class _Group:
    """Those that compete with each other, in one look."""

    def __init__(
        self,
        members: Sequence[Sample],
        found: Iterable[Evaluation],
        tallies: Mapping[str, Tally],
        state: CollapseState,
        policy: CollapsePolicy,
    ) -> None:
        self.name, self.members, self.policy = members[0].group, members, policy
        self._before, self._standing_best = state.tallies, state.promoted.get(self.name)
        ids = {sample.branch_id for sample in members}
        self.scores = {one.branch_id: one.score for one in found if one.branch_id in ids}
        self.tallies = {id_: tally for id_, tally in tallies.items() if id_ in ids}
        self.judged = [sample for sample in members if sample.branch_id in self.tallies]
        self.sick = {sample.branch_id: why for sample in self.judged if (why := self._sickness(sample))}

    def best(self, without: Collection[str]) -> str | None:
        """The highest score; of equal ones that which was the best before, so that it does not change for nothing."""
        left = [id_ for id_ in self.scores if id_ not in without]
        return max(left, key=lambda id_: (self.scores[id_], id_ == self._standing_best, id_), default=None)

    def promoted(self, stopped: Collection[str]) -> str | None:
        competes = len(self.members) > 1 or any(sample.racing for sample in self.members)
        return self.best(stopped) if competes else None

    def counted_low(self) -> dict[str, Tally]:
        """The tallies with the low scores in a row: one for each observation, or for each step that a branch takes."""
        for sample in self.judged:
            tally, observation = self.tallies[sample.branch_id], sample.observation or Observation(at=0)
            before = self._before.get(sample.branch_id, Tally())
            moved = self.policy.breaks == "every" or observation.steps != before.low_steps
            if not self._is_low(sample.branch_id):
                counts = {"low_scores": 0, "low_steps": -1}
            elif tally.observed_at != before.observed_at and moved:
                counts = {"low_scores": before.low_scores + 1, "low_steps": observation.steps}
            else:
                continue
            self.tallies[sample.branch_id] = tally.model_copy(update=counts)
        return self.tallies

    def doomed(self) -> dict[str, tuple[Decision, str]]:
        """Who is to be stopped, before anybody is spared: all that are sick, and the worst of those that are low."""
        doomed = {id_: (Decision.KILLED, why) for id_, why in self.sick.items()}
        most = self.policy.max_consecutive_low_scores
        low = [
            sample.branch_id
            for sample in self.judged
            if sample.branch_id not in doomed and self.tallies[sample.branch_id].low_scores >= most
        ]
        if low:
            worst = min(low, key=lambda id_: (self.scores[id_], id_))
            doomed[worst] = (Decision.PRUNED, self._why_low(worst))
        return doomed

    def _is_low(self, id_: str) -> bool:
        best = self.best(self.sick)
        if best is None or best == id_:
            return False
        score, gap = self.scores[id_], self.scores[best] - self.scores[id_]
        return score < self.policy.min_score and gap >= self.policy.min_gap

    def _why_low(self, id_: str) -> str:
        best = self.best(self.sick) or ""
        return (
            f"score {self.scores[id_]:.2f} is below {self.policy.min_score:.2f}, "
            f"and {self.scores[best] - self.scores[id_]:.2f} behind {best}"
        )

    def _sickness(self, sample: Sample) -> str | None:
        policy, tally = self.policy, self.tallies[sample.branch_id]
        if tally.resource_failures >= policy.max_consecutive_resource_failures:
            what = sample.health.reason if sample.health is not None and sample.health.reason else "unhealthy"
            return f"its pod was in bad health {tally.resource_failures} times in a row ({what})"
        if tally.compile_failures >= policy.max_consecutive_compile_failures:
            problems = sample.observation.problems if sample.observation is not None else ()
            shown = f": {problems[0]}" if problems else ""
            return f"its files failed their checks {tally.compile_failures} times in a row{shown}"
        if tally.breaks >= policy.max_invariant_breaks:
            of_pod = f", {tally.signals} of them of its pod" if tally.signals else ""
            return f"{tally.breaks} invariant breaks in a row{of_pod}"
        return None


def _spared(
    samples: Sequence[Sample], doomed: Mapping[str, tuple[Decision, str]], found: Iterable[Evaluation]
) -> set[str]:
    """One of each group of several, one of each race, and one of the whole swarm is left."""
    scores = {one.branch_id: one.score for one in found}
    spared: set[str] = set()

    def spare_one(members: Sequence[Sample]) -> None:
        ids = [sample.branch_id for sample in members]
        if ids and all(id_ in doomed and id_ not in spared for id_ in ids):
            spared.add(max(ids, key=lambda id_: (scores[id_], id_)))

    for name in dict.fromkeys(sample.group for sample in samples):
        members = [sample for sample in samples if sample.group == name]
        if len(members) > 1 or members[0].racing:
            spare_one(members)
    spare_one(samples)
    return spared
