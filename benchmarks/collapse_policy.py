"""How often the collapse policy kills the candidate that would have won, and how much work it saves.

    scripts/uv run python benchmarks/collapse_policy.py                    # never, the seed's, the shipped: 1,000 races
    scripts/uv run python benchmarks/collapse_policy.py --sweep --races 200
    scripts/uv run python benchmarks/collapse_policy.py --sweep --plot docs/design/collapse.svg

Races are simulated from fixed seeds; the policy is the real one. Every candidate's life is drawn before anything is
decided, so that all policies see the same races, and "would have won" has a meaning. docs/design/collapse.md tells the
model of how candidates behave, which is a guess that the figures depend on; its numbers are in ``KINDS`` and below.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from swarmq.collapse.policy import Sample, Standing, judge
from swarmq.models.branch import Observation
from swarmq.models.collapse import CollapsePolicy, CollapseState

TICK_SECONDS = HEARTBEAT_SECONDS = 5.0
MODEL_SECONDS, MODEL_SIGMA = 12.0, 0.8  # a model call: median, and the spread of its logarithm
TOOL_SECONDS = 3.0  # mean of the tools of a step
LONG_TOOL, LONG_TOOL_SECONDS = 0.06, 60.0  # how often a step runs a test suite or a build, and its mean
MOST_STEPS = 100


@dataclass(frozen=True)
class Kind:
    """How a kind of candidate behaves, per step. ``edits``: it edits; else it reads or runs something.

    ``breaks``: an edit leaves files that fail their checks; ``mends``: a step of a broken branch is an edit that mends.
    ``needs``: edits until it says that it is done; ``passes``: that the work is then right (else it goes on).
    """

    share: float
    edits: float
    breaks: float
    mends: float
    needs: int
    passes: float


KINDS = {
    "good": Kind(share=0.45, edits=0.5, breaks=0.15, mends=0.65, needs=8, passes=0.85),
    "weak": Kind(share=0.25, edits=0.5, breaks=0.35, mends=0.35, needs=12, passes=0.45),
    "stuck": Kind(share=0.18, edits=0.4, breaks=0.5, mends=0.02, needs=30, passes=0.1),
    "lost": Kind(share=0.12, edits=0.08, breaks=0.2, mends=0.3, needs=20, passes=0.2),
}


@dataclass
class Candidate:
    """A life, drawn to its end: what it looks like from each moment of ``times`` on. Seconds from the race's start."""

    kind: str
    times: list[float] = field(default_factory=list)
    seen: list[Observation] = field(default_factory=list)
    phase: float = 0.0
    ended_at: float = 0.0
    passed: bool = False
    quality: float = 0.0

    def observed(self, now: float) -> Observation:
        """What its last heartbeat told."""
        beat = now - (now - self.phase) % HEARTBEAT_SECONDS
        index = bisect_right(self.times, beat) - 1
        seen = self.seen[max(index, 0)]
        return seen.model_copy(update={"at": max(beat, 0.01)})

    def steps(self, until: float) -> int:
        return self.seen[max(bisect_right(self.times, until) - 1, 0)].steps


def live(random_: random.Random) -> Candidate:
    """One candidate. Its start waits a little for a worker."""
    name = random_.choices(list(KINDS), [kind.share for kind in KINDS.values()])[0]
    kind, now = KINDS[name], random_.uniform(0, 10)
    candidate = Candidate(name, phase=random_.uniform(0, HEARTBEAT_SECONDS))
    needs, edits, broken, lines, verified = max(2, round(random_.gauss(kind.needs, 2))), 0, False, 0, None
    changed_at, changed_step = 0.0, 0

    def tell(step: int, editing: bool = False) -> None:
        candidate.times.append(now)
        candidate.seen.append(
            Observation(
                at=0,
                steps=step,
                files=("src/a.py",) if edits else (),
                changed_lines=lines,
                changed_at=changed_at,
                changed_step=changed_step,
                checks=None if not edits else not broken,
                verified=verified,
                editing=editing,
            )
        )

    tell(0)
    for step in range(1, MOST_STEPS + 1):
        now += random_.lognormvariate(0, MODEL_SIGMA) * MODEL_SECONDS
        writes = random_.random() < (kind.mends + (1 - kind.mends) * kind.edits * 0.5 if broken else kind.edits)
        tell(step, editing=True)
        long = random_.random() < LONG_TOOL
        now += random_.expovariate(1 / (LONG_TOOL_SECONDS if long else TOOL_SECONDS))
        if writes:
            mends = broken and random_.random() < kind.mends / (kind.mends + (1 - kind.mends) * kind.edits * 0.5)
            edits, changed_at, changed_step = edits + 1, now, step
            lines += round(random_.lognormvariate(2.5, 1))
            broken = not mends if broken else random_.random() < kind.breaks
        tell(step)
        if edits >= needs and not broken and random_.random() < 0.7:
            candidate.passed = verified = random_.random() < kind.passes
            needs = edits + 3
            tell(step)
            if candidate.passed:
                break
    candidate.ended_at = now
    candidate.quality = random_.gauss(1.0 if name == "good" else 0.6, 0.2) if candidate.passed else 0.0
    return candidate


@dataclass(frozen=True)
class Race:
    candidates: Sequence[Candidate]
    verified: bool
    """The first that passes wins; else the best of all that passed, when all have ended."""

    def best(self, without: frozenset[int] = frozenset()) -> int | None:
        passed = [n for n, one in enumerate(self.candidates) if one.passed and n not in without]
        if self.verified:
            return min(passed, key=lambda n: self.candidates[n].ended_at, default=None)
        return max(passed, key=lambda n: self.candidates[n].quality, default=None)

    def end(self, killed: dict[int, float]) -> float:
        """When it is decided."""
        winner = self.best(frozenset(killed)) if self.verified else None
        if winner is not None:
            return self.candidates[winner].ended_at
        return max(killed.get(n, one.ended_at) for n, one in enumerate(self.candidates))

    def work(self, killed: dict[int, float]) -> int:
        """Steps of all candidates."""
        end = self.end(killed)
        return sum(one.steps(min(end, killed.get(n, one.ended_at))) for n, one in enumerate(self.candidates))


def races(count: int, seed: int) -> list[Race]:
    random_ = random.Random(seed)
    return [
        Race([live(random_) for _ in range(random_.choice((2, 3, 4, 4, 4, 6, 8)))], verified=n % 2 == 0)
        for n in range(count)
    ]


def run(race: Race, policy: CollapsePolicy) -> dict[int, float]:
    """Who is killed, and when."""
    state, killed, now = CollapseState(), dict[int, float](), 0.0
    while True:
        now += TICK_SECONDS
        if now >= race.end(killed):
            return killed
        samples = []
        for n, one in enumerate(race.candidates):
            if n in killed or (one.ended_at <= now and not one.passed):
                continue
            standing = Standing.COMPLETED if one.ended_at <= now else Standing.JUDGED
            if now < one.times[0] + HEARTBEAT_SECONDS:
                standing = Standing.OPEN
            ended_at = one.ended_at if standing is Standing.COMPLETED else 0.0
            samples.append(
                Sample(
                    str(n), "race", "race", True, standing, one.times[0], ended_at, one.observed(min(now, one.ended_at))
                )
            )
        look = judge(state, samples, policy, now)
        state = look.state
        killed |= {int(kill.branch_id): now for kill in look.kills}


@dataclass(frozen=True)
class Figures:
    """Of the races that somebody would win: ``survives``, that one was not killed; ``won``, somebody still wins."""

    survives: float
    won: float
    saved: float
    kills: float

    @classmethod
    def of(cls, all_: Sequence[Race], policy: CollapsePolicy) -> Figures:
        winnable = survived = won = work = full = kills = 0
        for race in all_:
            killed = run(race, policy)
            best = race.best()
            if best is not None:
                winnable += 1
                survived += best not in killed
                won += race.best(frozenset(killed)) is not None
            work += race.work(killed)
            full += race.work({})
            kills += len(killed)
        return cls(survived / winnable, won / winnable, 1 - work / full, kills / len(all_))

    def line(self) -> str:
        return (
            f"best survives {self.survives:7.2%}   still won {self.won:7.2%}   "
            f"steps saved {self.saved:6.1%}   kills a race {self.kills:.2f}"
        )


NEVER = CollapsePolicy.seed().model_copy(
    update={
        "max_invariant_breaks": 1000,
        "max_consecutive_compile_failures": 1000,
        "max_consecutive_low_scores": 1000,
        "min_score": 0.0,
    }
)


def grid() -> Iterator[CollapsePolicy]:
    """The thresholds that are tried: how many breaks, and how low a score for how long."""
    pruning = ((0.0, 1), *((0.35, low) for low in (1, 3, 6, 8, 10, 14)))
    for failures, (min_score, low) in itertools.product((2, 4, 8, 12), pruning):
        yield CollapsePolicy(
            max_invariant_breaks=failures,
            max_consecutive_compile_failures=failures,
            min_score=min_score,
            max_consecutive_low_scores=low,
        )
    for failures in (3, 6, 12, 24, 48):
        yield CollapsePolicy.seed().model_copy(
            update={
                "max_consecutive_compile_failures": failures,
                "max_invariant_breaks": failures,
                "max_consecutive_low_scores": failures,
            }
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--races", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--sweep", action="store_true", help="try the thresholds of the grid as well")
    parser.add_argument("--plot", type=Path, help="write the figures as an SVG")
    given = parser.parse_args()
    started = time.monotonic()
    all_ = races(given.races, given.seed)
    named = {"never": NEVER, "seed": CollapsePolicy.seed(), "shipped": CollapsePolicy()}
    found = {name: Figures.of(all_, policy) for name, policy in named.items()}
    for name, figures in found.items():
        print(f"{name:8} {figures.line()}")
    tried: list[tuple[CollapsePolicy, Figures]] = []
    for policy in grid() if given.sweep else ():
        figures = Figures.of(all_, policy)
        tried.append((policy, figures))
        changed = policy.model_dump(exclude={"max_invariant_breaks", "max_consecutive_resource_failures"})
        print(f"{json.dumps(changed)}\n         {figures.line()}", flush=True)
    if given.plot is not None:
        given.plot.write_text(svg(found, tried))
    print(f"{given.races} races, {time.monotonic() - started:.0f} s")


def svg(found: dict[str, Figures], tried: Sequence[tuple[CollapsePolicy, Figures]]) -> str:
    """Steps saved against how often the best survives."""
    width, height, left, top = 720, 420, 70, 30
    right, bottom, low = width - 120, height - 60, 0.3

    def at(figures: Figures) -> tuple[float, float]:
        x = left + (right - left) * min(max(figures.saved, 0.0), 0.7) / 0.7
        return x, bottom - (bottom - top) * (max(figures.survives, low) - low) / (1 - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#444"/>',
        f'<text x="{(left + right) / 2}" y="{height - 18}" text-anchor="middle">steps saved</text>',
        f'<text x="20" y="{(top + bottom) / 2}" text-anchor="middle" transform="rotate(-90 20 {(top + bottom) / 2})">'
        "the best candidate survives</text>",
    ]
    for share in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7):
        x = left + (right - left) * share / 0.7
        parts.append(f'<text x="{x:.0f}" y="{bottom + 18}" text-anchor="middle">{share:.0%}</text>')
    for share in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        y = bottom - (bottom - top) * (share - low) / (1 - low)
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    for policy, figures in tried:
        x, y = at(figures)
        color = "#4477aa" if policy.breaks == "standing" else "#ccbb44"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}" fill-opacity="0.6"/>')
    for name, figures in found.items():
        x, y = at(figures)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="#ee6677"/>')
        parts.append(f'<text x="{x + 10:.1f}" y="{y + 5:.1f}" font-weight="bold">{name}</text>')
    parts.append(f'<text x="{right + 5}" y="{top + 10}" fill="#4477aa">breaks: standing</text>')
    parts.append(f'<text x="{right + 5}" y="{top + 28}" fill="#998800">breaks: every</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    main()
