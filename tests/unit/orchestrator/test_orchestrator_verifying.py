"""Which commands verify work, and which are refused before anything starts."""

from __future__ import annotations

import pytest
from agent_fakes import BRANCH

from swarmq.errors import OptionError, PlanError
from swarmq.fleet.accept import Submission, checked_spec
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Kind, Plan, Subtask
from swarmq.orchestrator.cache_key import cache_key
from swarmq.orchestrator.verifying import branch_commands, merged_commands

SWARMS = SwarmOptions.parse({"verify": ["lint", "test"]})
NONE = SwarmOptions()


def subtask(kind: Kind = Kind.EDIT, *own: str) -> Subtask:
    return Subtask(name="Parser", instruction="Fix it", kind=kind, verify=own)


@pytest.mark.parametrize(
    ("kind", "own", "options", "branch", "merged"),
    [
        (Kind.EDIT, (), SWARMS, ("lint", "test"), ("lint", "test")),
        (Kind.EDIT, ("mine",), SWARMS, ("mine",), ("lint", "test", "mine")),
        (Kind.EDIT, ("test", "mine"), SWARMS, ("test", "mine"), ("lint", "test", "mine")),
        (Kind.EDIT, ("mine",), NONE, ("mine",), ("mine",)),
        (Kind.EDIT, (), NONE, (), ()),
        (Kind.VERIFY, (), SWARMS, (), ("lint", "test")),
        (Kind.VERIFY, ("mine",), SWARMS, ("mine",), ("lint", "test", "mine")),
        (Kind.READ, (), SWARMS, (), ("lint", "test")),
    ],
)
def test_which_commands_hold(
    kind: Kind, own: tuple[str, ...], options: SwarmOptions, branch: tuple[str, ...], merged: tuple[str, ...]
) -> None:
    assert branch_commands(options, subtask(kind, *own)) == branch
    assert merged_commands(options, subtask(kind, *own)) == merged


def test_work_that_was_held_to_other_commands_is_other_work() -> None:
    keys = {
        cache_key("m", subtask(Kind.EDIT, *own), BRANCH, options, {}, "tree")
        for own in ((), ("mine",))
        for options in (SWARMS, NONE)
    }
    assert len(keys) == 3, "the subtask's own commands stand in for the swarm's"


@pytest.mark.parametrize("command", ["", "  ", ["true", ""], "a\0b", "x" * 10_001])
def test_commands_that_cannot_be_run_are_refused(command: object) -> None:
    with pytest.raises(OptionError, match="verify: a command must"):
        SwarmOptions.parse({"verify": command})


def test_readers_have_nothing_to_run_commands_in() -> None:
    with pytest.raises(PlanError, match="'Look': verify: branches of kind read"):
        Plan.parse([{"name": "Look", "instruction": "Look", "kind": "read", "verify": "true"}])


async def test_without_a_repository_there_is_nothing_to_verify() -> None:
    with pytest.raises(OptionError, match="verify: without a repository"):
        await checked_spec(Submission("Think", None, None, None, {"verify": "true"}), "k3x9qm2p4t", "task")
    with pytest.raises(OptionError, match=r"^candidates: without a repository"):
        await checked_spec(Submission("Think", None, None, None, {"candidates": 2}), "k3x9qm2p4t", "task")
