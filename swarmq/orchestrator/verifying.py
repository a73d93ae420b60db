"""Which commands verify work, and where (S7). Pure."""

from __future__ import annotations

from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Kind, Subtask


def branch_commands(options: SwarmOptions, subtask: Subtask) -> tuple[str, ...]:
    """What has to pass in a branch's worktree when its agent says that it is done; empty where nothing has to.

    The subtask's own commands stand in for the swarm's: it knows better what its part of the work can pass while the
    other parts are missing. Only branches that edit are held to the swarm's.
    """
    if subtask.kind is Kind.READ:
        return ()
    return subtask.verify or (options.verify if subtask.kind is Kind.EDIT else ())


def merged_commands(options: SwarmOptions, subtask: Subtask) -> tuple[str, ...]:
    """What has to pass on the tree that merging the subtask's work makes: the swarm's, then the subtask's own."""
    return tuple(dict.fromkeys((*options.verify, *subtask.verify)))
