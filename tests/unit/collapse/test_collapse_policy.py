"""The policy's promises, for any branches, signals and thresholds."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmq.collapse.policy import Sample, Standing, judge
from swarmq.collapse.scoring import score, vector
from swarmq.models.branch import Observation
from swarmq.models.collapse import CollapsePolicy, CollapseState, Decision, Vector
from swarmq.models.pods import PodHealth

NOW = 10_000.0
few = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])

observations = st.builds(
    Observation,
    at=st.sampled_from((NOW - 10, NOW - 5, NOW)),
    steps=st.integers(0, 6),
    files=st.lists(st.sampled_from(("a.py", "b.py", "c.py")), unique=True).map(tuple),
    changed_lines=st.integers(0, 50_000),
    changed_at=st.sampled_from((0.0, NOW - 100, NOW - 1)),
    changed_step=st.integers(0, 4),
    checks=st.sampled_from((True, False, None)),
    verified=st.sampled_from((True, False, None)),
    editing=st.booleans(),
)
health = st.one_of(
    st.none(), st.builds(PodHealth, score=st.sampled_from((0.0, 0.1, 0.34, 0.35, 1.0)), signals=st.integers(0, 3))
)
policies = st.builds(
    CollapsePolicy,
    breaks=st.sampled_from(("standing", "every")),
    max_invariant_breaks=st.integers(1, 4),
    max_consecutive_compile_failures=st.integers(1, 4),
    max_consecutive_resource_failures=st.integers(1, 3),
    max_consecutive_low_scores=st.integers(1, 3),
    min_score=st.floats(0, 1),
    min_gap=st.floats(0, 1),
    min_resource_health=st.floats(0, 1),
)


@st.composite
def stages(draw: st.DrawFn) -> list[Sample]:
    """Some races and some branches on their own, as the scope ``race`` sees them."""
    found = []
    for number in range(draw(st.integers(1, 3))):
        racing = draw(st.booleans())
        for candidate in range(draw(st.integers(1, 4)) if racing else 1):
            standing = draw(st.sampled_from((Standing.JUDGED, Standing.JUDGED, Standing.JUDGED, *Standing)))
            found.append(
                Sample(
                    branch_id=f"s{number}" + (f".{candidate + 1}" if candidate else ""),
                    group=f"s{number}",
                    race=f"s{number}",
                    racing=racing,
                    standing=standing,
                    started_at=NOW - draw(st.sampled_from((5.0, 100.0, 1000.0))),
                    observation=draw(observations),
                    health=draw(health),
                )
            )
    return found


def next_observed(samples: list[Sample], draw: st.DataObject, tick: int) -> list[Sample]:
    """The same branches a tick later, with what may have changed of them."""
    later = []
    for sample in samples:
        seen = draw.draw(observations)
        later.append(replace(sample, observation=seen.model_copy(update={"at": NOW + tick}), health=draw.draw(health)))
    return later


@few
@given(stages(), policies, st.data())
def test_never_are_all_stopped_neither_of_a_race_nor_of_a_swarm(
    samples: list[Sample], policy: CollapsePolicy, data: st.DataObject
) -> None:
    state, left = CollapseState(), samples
    for tick in range(4):
        look = judge(state, left, policy, NOW + tick)
        state = look.state
        stopped = {kill.branch_id for kill in look.kills}
        assert all(one.standing is Standing.JUDGED for one in left if one.branch_id in stopped)
        survivors = [one for one in left if one.branch_id not in stopped]
        assert survivors
        for race in {one.race for one in left if one.racing}:
            assert any(one.race == race for one in survivors)
        left = next_observed(survivors, data, tick + 1)


@few
@given(stages(), policies, st.randoms(use_true_random=False))
def test_a_look_is_determined_by_what_it_sees_in_any_order(
    samples: list[Sample], policy: CollapsePolicy, random: st.DataObject
) -> None:
    shuffled = list(samples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert judge(CollapseState(), samples, policy, NOW) == judge(CollapseState(), shuffled, policy, NOW)


@few
@given(stages(), policies, st.data())
def test_a_state_that_went_through_json_decides_the_same(
    samples: list[Sample], policy: CollapsePolicy, data: st.DataObject
) -> None:
    state = judge(CollapseState(), samples, policy, NOW).state
    restored = CollapseState.model_validate_json(state.model_dump_json())
    assert restored == state
    later = next_observed(samples, data, 1)
    assert judge(restored, later, policy, NOW + 5) == judge(state, later, policy, NOW + 5)


@few
@given(stages(), policies)
def test_at_most_one_of_a_group_is_pruned_in_a_look(samples: list[Sample], policy: CollapsePolicy) -> None:
    look = judge(CollapseState(), samples, policy, NOW)
    pruned = [one.group for one in look.evaluations if one.decision is Decision.PRUNED]
    assert len(pruned) == len(set(pruned))


@few
@given(stages(), policies)
def test_the_best_of_each_race_is_promoted_and_not_stopped(samples: list[Sample], policy: CollapsePolicy) -> None:
    look = judge(CollapseState(), samples, policy, NOW)
    stopped = {kill.branch_id for kill in look.kills}
    for group, best in look.state.promoted.items():
        assert best not in stopped
        left = [one for one in look.evaluations if one.group == group and one.branch_id not in stopped]
        assert next(one.score for one in left if one.branch_id == best) == max(one.score for one in left)
    rated = {one.group for one in samples if one.racing and one.rated and one.branch_id not in stopped}
    assert rated <= look.state.promoted.keys()


@few
@given(stages(), policies)
def test_who_is_not_judged_is_neither_rated_nor_stopped(samples: list[Sample], policy: CollapsePolicy) -> None:
    idle = [replace(sample, standing=Standing.OPEN) for sample in samples]
    look = judge(CollapseState(), idle, policy, NOW)
    assert (look.kills, look.evaluations, look.state.tallies) == ((), (), {})


vectors = st.builds(
    Vector,
    compile=st.floats(0, 1),
    tests=st.floats(0, 1),
    contract=st.floats(0, 1),
    conflict_risk=st.floats(0, 1),
    velocity=st.floats(0, 1),
    resources=st.floats(0, 1),
    breaks=st.integers(0, 20),
)


@few
@given(vectors, vectors, st.booleans())
def test_the_score_is_monotone_in_each_signal(one: Vector, other: Vector, racing: bool) -> None:
    assert 0 <= score(one, racing=racing) <= 1
    for name in ("compile", "tests", "contract", "velocity", "resources"):
        low, high = sorted((getattr(one, name), getattr(other, name)))
        less, more = one.model_copy(update={name: low}), one.model_copy(update={name: high})
        assert score(less, racing=racing) <= score(more, racing=racing)
    for name in ("conflict_risk", "breaks"):
        low, high = sorted((getattr(one, name), getattr(other, name)))
        less, more = one.model_copy(update={name: low}), one.model_copy(update={name: high})
        assert score(less, racing=racing) >= score(more, racing=racing)


@few
@given(observations, st.floats(0, 1e6), st.sets(st.sampled_from(("a.py", "b.py"))))
def test_what_is_better_of_an_observation_never_scores_less(
    seen: Observation, elapsed_seconds: float, others: set[str]
) -> None:
    def rated(**better: object) -> float:
        of = vector(seen.model_copy(update=better), elapsed_seconds=elapsed_seconds, others=others)
        return score(of, racing=False)

    assert rated(checks=False) <= rated(checks=None) == rated(checks=True)
    assert rated(verified=False) <= rated(verified=None) <= rated(verified=True)
    assert rated(changed_lines=10) <= rated(changed_lines=1000)
    of = vector(seen, elapsed_seconds=elapsed_seconds)
    assert score(of, racing=False) >= rated()


@few
@given(stages(), policies, st.data())
def test_a_branch_that_does_better_is_not_stopped_for_it(
    samples: list[Sample], policy: CollapsePolicy, data: st.DataObject
) -> None:
    """Of its own health; who is the worst of a race depends on the others too."""
    chosen = data.draw(st.sampled_from(samples))
    seen = chosen.observation or Observation(at=NOW)
    better = replace(chosen, observation=seen.model_copy(update={"checks": True}), health=PodHealth(score=1))
    before = judge(CollapseState(), samples, policy, NOW)
    after = judge(CollapseState(), [better if one is chosen else one for one in samples], policy, NOW)
    killed = {one.branch_id for one in after.evaluations if one.decision is Decision.KILLED}
    assert chosen.branch_id not in killed
    assert after.state.tallies.get(chosen.branch_id) == before.state.tallies.get(chosen.branch_id) or better != chosen
