"""``swarmq worker`` and ``swarmq beat``: Celery's own programs, with the pool and the signals that swarmq needs.

Celery reads the pool's name and the remapped signal from the environment when it is imported, so nothing of it may be
imported before ``prepare_environment`` has run: the imports below it are inside the functions for that reason.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from secrets import token_hex
from typing import Any

from swarmq.crash_points import CrashPoint, arm, armed, reached
from swarmq.errors import UsageError
from swarmq.fleet.liveness import Probes
from swarmq.kubernetes.worker_pods import host_of
from swarmq.logs import configure_logs
from swarmq.settings import Settings, load_settings
from swarmq.workspace.blocking import configure as configure_blocking
from swarmq.workspace.environment import hide_environment

GC_THRESHOLDS = (20_000, 20, 50)
SWITCH_SECONDS = 0.0005
"""Celery's own threads take messages and ack them in many short turns; with the default of 5 ms each of these turns
waits that long behind a busy event loop (benchmarks/agents.py shows it in the wall time)."""
GOODBYE_SECONDS = 5.0
"""What Celery gets for its goodbye besides the time that the branches have."""


def prepare_environment(pool: str) -> None:
    """SIGTERM means hand over and go: a cold shutdown, which stops the pool and requeues (docs/design/celery.md)."""
    os.environ["REMAP_SIGTERM"] = "SIGQUIT"
    if pool == "agents":
        os.environ["CELERY_CUSTOM_WORKER_POOL"] = "swarmq.fleet.pool:AgentPool"
    if "celery" in sys.modules:
        raise RuntimeError("celery was imported before its environment was prepared")


def run_worker(queues: Sequence[str], *, concurrency: int | None = None, pool: str = "agents") -> None:
    """Run one worker in this process until it is told to stop. ``queues`` are short names: control, agents, …"""
    prepare_environment(pool)
    settings, started_at = load_settings(), time.time()
    probes = Probes.of(settings)
    probes.starting()
    configure_logs(settings)
    configure_blocking(settings.blocking_threads)
    hide_environment()
    arm(settings.crash_file)
    from celery.concurrency import get_implementation
    from celery.signals import before_task_publish, heartbeat_sent, worker_ready, worker_shutting_down
    from celery.utils.nodenames import default_nodename, host_format

    from swarmq.fleet.app import QUEUES, require_url
    from swarmq.fleet.build import build_app
    from swarmq.fleet.pool import AgentPool
    from swarmq.fleet.presence import forget_earlier
    from swarmq.fleet.revokes import hear_revokes
    from swarmq.fleet.shown import hide_logins
    from swarmq.fleet.startup import warn_in_background, warn_of_variables
    from swarmq.fleet.transport import use_patient_transport

    unknown = [queue for queue in queues if queue not in QUEUES]
    if unknown:
        raise UsageError(f"--queue {unknown[0]}: there is no such queue; choose from {', '.join(QUEUES)}")
    AgentPool.handover_seconds, AgentPool.shutdown_seconds = settings.handover_seconds, settings.shutdown_seconds
    use_patient_transport()
    url = require_url(settings)
    app = build_app(settings, url)
    hear_revokes(app)
    hide_logins()
    warn_of_variables()
    warn_in_background(url, probes.answered)
    forget_earlier(settings)
    heartbeat_sent.connect(probes.heard, weak=False)

    def ready(sender: Any, **_: Any) -> None:
        probes.started()
        settle_memory()
        sys.setswitchinterval(SWITCH_SECONDS)
        start_presence(app, settings, sender, list(queues), started_at, probes)

    logging.getLogger("celery.backends.redis").addFilter(_is_news)

    def leaving(how: str, **_: Any) -> None:
        """Celery tells of SIGTERM when the pool has stopped; before that, of Ctrl-C ("Warm") and of a second signal."""
        if isinstance(worker.pool, AgentPool):
            worker.pool.hurry(stops=how == "Cold")
        branches_seconds = settings.handover_seconds + settings.shutdown_seconds if worker.pool.active else 0.0
        end_within(branches_seconds + GOODBYE_SECONDS)

    worker_ready.connect(ready, weak=False)
    worker_shutting_down.connect(leaving, weak=False)
    if armed():  # Celery publishes the members of a chord in a loop of its own
        before_task_publish.connect(_publishing, "swarmq.run_branch", weak=False)
    width = concurrency or max(getattr(settings, f"{queue}_concurrency") for queue in queues)
    # Not worker_main: Celery's command line imports Flower and a shell first, 0.3 s of every start.
    worker = app.Worker(
        hostname=host_format(default_nodename(own_name(settings, queues))),
        queues=[QUEUES[queue] for queue in queues],
        concurrency=width,
        pool_cls=get_implementation("custom" if pool == "agents" else pool),
        loglevel=settings.log_level,
        without_mingle=True,  # these two cost 0.9 s of start-up; records do their work
        without_gossip=True,
        quiet=True,  # no banner: the log is one JSON object a line
    )
    worker.start()
    sys.exit(worker.exitcode or 0)


def _publishing(**_: Any) -> None:
    reached(CrashPoint.MEMBER_PUBLISHED)


def own_name(settings: Settings, queues: Sequence[str]) -> str:
    """The name of this process among all workers: its queues, what tells it apart, and where it runs.

    On a machine its pid tells it apart, and Celery fills in %h. In a container whose processes are its own, that is
    always the same, also of the worker that takes the place of one that died: its branches would seem to be held still.
    """
    queue = "-".join(queues)
    if settings.pod():
        return f"{queue}-{token_hex(3)}@{host_of(settings.pod_name, settings.pod_namespace)}"
    return f"{queue}-{os.getpid()}@%h"


def end_within(seconds: float) -> None:
    """End this process by then, come what may.

    Where Redis is frozen, Celery's events and acknowledgements wait for it one after the other, for minutes. By now the
    branches' processes are ended, and what could be recorded is; the rest is taken over as from a worker that died.
    """
    timer = threading.Timer(seconds, os._exit, (os.EX_TEMPFAIL,))
    timer.daemon = True
    timer.start()


def settle_memory() -> None:
    """What is loaded by now stays for good: full collections leave it out, and come less often.

    Hundreds of waiting agents are hundreds of thousands of live objects, which the defaults walk again and again:
    a quarter of the worker's CPU in benchmarks/agents.py.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _is_news(record: logging.LogRecord) -> bool:
    """Celery logs a chord with a revoked member as an error with a traceback; here that is how branches stop."""
    return "TaskRevokedError" not in record.getMessage()


def start_presence(
    app: Any, settings: Settings, consumer: Any, queues: list[str], started_at: float, probes: Probes
) -> None:
    """Announce this worker from the pool's own loop, so that a hanging loop shows; else from a loop of its own."""
    from celery.worker import state

    from swarmq.background import BackgroundLoop
    from swarmq.fleet.presence import announce, describe_worker

    background = getattr(consumer.pool, "background", None) or BackgroundLoop("presence")
    app.runtimes.close_with(background)

    pod = settings.pod()

    def describe() -> dict[str, Any]:
        about = describe_worker(
            consumer.hostname, queues, started_at, len(state.active_requests), background.longest_stall_seconds
        )
        return about if pod is None else about | {"pod": pod}

    async def go() -> None:
        runtime = await app.runtimes.get(consumer.hostname)
        await announce(runtime.store, settings, describe, probes)

    if not background.loop.is_closed():  # told to stop at the moment of being ready
        asyncio.run_coroutine_threadsafe(go(), background.loop)


def run_beat() -> None:
    """Run beat in this process. Its ticks are idempotent, so that a second beat, or none for a while, does no harm."""
    settings = load_settings()
    probes = Probes.of(settings)
    probes.starting()
    configure_logs(settings)
    arm(settings.crash_file)
    from swarmq.fleet.app import PUBLISH_RETRIES, make_app, require_url
    from swarmq.fleet.beat import TouchingScheduler
    from swarmq.fleet.startup import warn_in_background, warn_of_variables

    TouchingScheduler.probes = probes
    url = require_url(settings)
    app = make_app(settings, url)  # without the tasks, which it only names: half of its start and of its memory
    app.conf.task_publish_retry_policy = PUBLISH_RETRIES | {"errback": TouchingScheduler.turns}
    warn_of_variables()
    warn_in_background(url, probes.answered)
    beat = app.Beat(
        loglevel=settings.log_level,
        scheduler="swarmq.fleet.beat:TouchingScheduler",
        max_interval=settings.reconcile_seconds,
    )
    beat.install_sync_handler = lambda _: _stop_on_signals()
    beat.run()


def _stop_on_signals() -> None:
    """Beat has nothing to save. Where the exception gets lost, as in a finalizer, the process ends all the same."""

    def stop(*_: Any) -> None:
        end_within(GOODBYE_SECONDS)
        raise SystemExit

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
