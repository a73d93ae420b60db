"""How long pods and the API are waited for. Tests are less patient."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    retry_seconds: float = 300.0
    """How long a call is repeated while the server is away or says that it has too much to do."""
    quota_seconds: float = 10.0
    """How often a pod that a quota leaves no room for is tried again."""
    start_failure_seconds: float = 60.0
    """How long a start may fail for a reason that may pass: a registry that is busy, a Secret that is about to come."""
    events_seconds: float = 10.0
    """How long a pod may take to start before the cluster's events of it are read; then after twice that, and so on."""
    deletion_seconds: float = 60.0
    """How long after its grace period a pod may take to go before its node counts as lost."""
    quiet_log_seconds: float = 30.0
    """A log that is silent this long may be one that its node has turned over without telling, or a dead connection."""
    last_news_seconds: float = 2.0
    """How long after a log's end its pod's end is waited for before the log is asked for again."""
    quiet_watch_seconds: float = 90.0
    """A watch that is alive brings a bookmark about once a minute."""
    watch_seconds: int = 240
    """The server ends a watch after that time."""
    poll_seconds: float = 5.0
    """How often pods are listed where there is no watching to be had."""


PATIENT = Patience()
