"""Which subtasks start when, on any plan and with any luck."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarmq.models.plan import Kind, Plan, Subtask
from swarmq.models.swarm import SubtaskResult, SubtaskStatus
from swarmq.orchestrator.results import unrun
from swarmq.orchestrator.scheduling import Move, Schedule, next_move, opening


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any DAG: each subtask depends on some of those before it."""
    count = draw(st.integers(1, 9))
    subtasks = []
    for number in range(count):
        needs = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        subtasks.append(
            Subtask(
                name=f"s{number}",
                instruction="x",
                dependencies=tuple(f"s{need}" for need in sorted(needs)),
                priority=draw(st.integers(-2, 2)),
            )
        )
    return Plan(subtasks=tuple(subtasks))


def result(subtask: Subtask, success: bool) -> SubtaskResult:
    return SubtaskResult(
        subtask_id=subtask.id,
        name=subtask.name,
        stage=0,
        kind=Kind.EDIT,
        status=SubtaskStatus.SUCCEEDED if success else SubtaskStatus.FAILED,
    )


class Run:
    """A swarm with nothing but its schedule: branches end in the order that is drawn."""

    def __init__(self, plan: Plan, schedule: Schedule, data: st.DataObject) -> None:
        self.plan, self.schedule, self.data = plan, schedule, data
        self.results: dict[str, SubtaskResult] = {}
        self.opened: dict[str, int] = {}
        self.last = -1

    @property
    def running(self) -> list[str]:
        return [id_ for id_ in self.opened if id_ not in self.results]

    def go(self) -> None:
        while True:
            found = opening(self.plan, self.schedule, self.results, self.opened, self.last)
            move = next_move(found, stops=False, any_open=bool(self.running))
            if move is Move.FINISH:
                return
            if move is Move.OPEN:
                self.open(found.stage, [subtask.id for subtask in found.ready], found.blocked)
            else:
                self.end(self.data.draw(st.sampled_from(self.running)))

    def open(self, stage: int, ready: list[str], blocked: object) -> None:
        assert isinstance(blocked, dict)
        for id_, why in blocked.items():
            assert id_ not in self.results
            self.results[id_] = unrun(self.plan.subtask(id_), stage, SubtaskStatus.BLOCKED, why)
        for id_ in ready:
            assert id_ not in self.opened, "started twice"
            needs = [self.results.get(self.plan.ids[name]) for name in self.plan.subtask(id_).dependencies]
            assert all(need is not None and need.success for need in needs), "started before its dependencies"
            self.opened[id_] = stage
        if ready:
            assert stage > self.last
            self.last = stage

    def end(self, subtask_id: str) -> None:
        self.results[subtask_id] = result(self.plan.subtask(subtask_id), self.data.draw(st.booleans()))


@given(plans(), st.sampled_from(["stages", "ready"]), st.data())
def test_every_subtask_gets_one_result_and_none_starts_too_early(
    plan: Plan, schedule: Schedule, data: st.DataObject
) -> None:
    run = Run(plan, schedule, data)
    run.go()
    assert set(run.results) == {subtask.id for subtask in plan.subtasks}
    for subtask in plan.subtasks:
        bad = [name for name in subtask.dependencies if not run.results[plan.ids[name]].success]
        blocked = run.results[subtask.id].status is SubtaskStatus.BLOCKED
        assert blocked == bool(bad), "blocked if and only if a dependency failed"
        if blocked:  # by those that were known to have failed by then
            named = (run.results[subtask.id].error or "").removeprefix("blocked by ").split(", ")
            assert named
            assert set(named) <= set(bad)


@given(plans(), st.data())
def test_stages_are_the_depths_of_the_plan(plan: Plan, data: st.DataObject) -> None:
    run = Run(plan, "stages", data)
    run.go()
    for id_, stage in run.opened.items():
        assert stage == plan.depths[plan.subtask(id_).name]


@given(plans(), st.data())
def test_ready_leaves_nothing_waiting_that_could_run(plan: Plan, data: st.DataObject) -> None:
    run = Run(plan, "ready", data)
    while True:
        found = opening(plan, "ready", run.results, run.opened, run.last)
        for subtask in plan.subtasks:
            needs = [run.results.get(plan.ids[name]) for name in subtask.dependencies]
            could = all(need is not None and need.success for need in needs)
            if could and subtask.id not in run.opened:
                assert subtask in found.ready
        run.open(found.stage, [subtask.id for subtask in found.ready], found.blocked)
        if not run.running:
            break
        run.end(data.draw(st.sampled_from(run.running)))


def test_higher_priorities_come_first_and_one_look_blocks_whole_chains() -> None:
    plan = Plan(
        subtasks=(
            Subtask(name="a", instruction="x"),
            Subtask(name="b", instruction="x", dependencies=("a",)),
            Subtask(name="c", instruction="x", dependencies=("b",)),
            Subtask(name="late", instruction="x", priority=-1),
            Subtask(name="soon", instruction="x", priority=5),
        )
    )
    found = opening(plan, "ready", {"a": result(plan.subtask("a"), False)}, {"a"}, 0)
    assert [subtask.id for subtask in found.ready] == ["soon", "late"]
    assert found.blocked == {"b": "blocked by a", "c": "blocked by b"}
    assert found.stage == 1


def test_what_stops_opens_nothing_and_waits_for_what_runs() -> None:
    plan = Plan(subtasks=(Subtask(name="a", instruction="x"),))
    found = opening(plan, "stages", {}, set(), -1)
    assert next_move(found, stops=False, any_open=False) is Move.OPEN
    assert next_move(found, stops=True, any_open=True) is Move.WAIT
    assert next_move(found, stops=True, any_open=False) is Move.FINISH
