"""Every error that swarmq raises on purpose, as one tree.

::

    SwarmqError
    ├── UsageError                 the caller asked for something that cannot be (exit code 2)
    │   ├── OptionError            a field of SwarmOptions or of the settings
    │   ├── PlanError              a plan that is not a valid DAG
    │   └── NotFoundError          an unknown swarm, branch or result
    ├── EnvironmentFault           this machine, Redis, git or a key is not fit for it (exit code 5)
    │   ├── StoreError             Redis does not answer, or refuses
    │   ├── WorkspaceError         git or the file system refuses
    │   │   ├── DiskFullError      no space is left: may pass later, or on another machine
    │   │   ├── GitTimeout         a git command was ended because it took too long
    │   │   ├── SetupError         the swarm's setup command did not succeed in a new worktree
    │   │   └── UncommittableError files that an agent left cannot become a commit
    │   ├── ClusterError           Kubernetes does not answer, or does not let swarmq do what pods need
    │   └── SchemaError            a record written by a version that this one does not know
    ├── ModelError                 a model call failed
    │   ├── TransientModelError    may pass later: 429, 5xx, time-out, connection (retried)
    │   └── PermanentModelError    bad key, refused request, spent quota (never retried)
    ├── PodError                   a pod that cannot be made: too large a payload, a refused spec
    ├── ToolError                  what a tool call answers to the model as an error
    ├── LeaseLost                  another holder owns the record; stop writing at once
    └── SwarmCancelled             what cancelling a swarm raises in the producer's canvas

Every class keeps all its state in ``args`` (strings and numbers), so that Celery's JSON serializer can rebuild it.
"""

from __future__ import annotations


class SwarmqError(Exception):
    """Base of the tree. ``str(error)`` is one line that a user can act on."""


class UsageError(SwarmqError):
    """The request itself is wrong; nothing was started."""


class OptionError(UsageError):
    """A field is unknown or out of range; the message names it."""


class PlanError(UsageError):
    """The plan is not a valid DAG of subtasks; the message names the subtask."""


class NotFoundError(UsageError):
    """No such swarm, branch, stage or shared result."""


class EnvironmentFault(SwarmqError):
    """Something around swarmq (server, file system, program, key) has to be mended first."""


class StoreError(EnvironmentFault):
    """Redis did not answer within the retry window, or refused the command."""


class WorkspaceError(EnvironmentFault):
    """git or the file system refused."""


class DiskFullError(WorkspaceError):
    """No space, or no quota, is left where the files are. Says nothing of the work: it may go on later or elsewhere."""


class GitTimeout(WorkspaceError):
    """A git command did not end in its time and was killed."""


class SetupError(WorkspaceError):
    """The swarm's ``setup`` failed or took too long; the message has the end of its output."""


class UncommittableError(WorkspaceError):
    """An agent left what cannot become its finished commit; the message names the files."""


class ClusterError(EnvironmentFault):
    """The API of Kubernetes is out of reach, or refuses: the message names what is missing."""


class SchemaError(EnvironmentFault):
    """A stored record has a schema version that this version of swarmq does not know."""


class ModelError(SwarmqError):
    """A model call failed. ``status`` is the HTTP status, 0 where there was none."""

    def __init__(self, message: str, status: int = 0, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message, status, retry_after_seconds)
        self.status = status
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return str(self.args[0])


class TransientModelError(ModelError):
    """May pass later. ``retry_after_seconds`` is the server's floor for the wait, 0 where it named none."""


class PermanentModelError(ModelError):
    """Will fail the same way again: bad key, refused request, spent quota."""


class PodError(SwarmqError):
    """This pod cannot be made as it is, however often it is tried."""


class ToolError(SwarmqError):
    """What a tool answers instead of a result; the text goes to the model as an error."""


class LeaseLost(SwarmqError):
    """The fencing token is not the newest one: another worker holds this record."""


class SwarmCancelled(SwarmqError):
    """The swarm was cancelled; the message carries the reason."""
