"""The Celery application: one set of settings, each with its reason (docs/design/celery.md has the measurements)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from celery import Celery
from celery.app.amqp import AMQP
from kombu.connection import Connection

from swarmq.errors import EnvironmentFault
from swarmq.settings import Settings, load_settings
from swarmq.store.address import Address, Login, parse_address
from swarmq.store.connecting import sentinel_options

CONTROL, INTEGRATE, AGENTS, PODS = "swarmq.control", "swarmq.integrate", "swarmq.agents", "swarmq.pods"
QUEUES = {"control": CONTROL, "integrate": INTEGRATE, "agents": AGENTS, "pods": PODS}

CHORD_EXPIRES_SECONDS = 30 * 24 * 3600
RESULT_EXPIRES_SECONDS = 24 * 3600
SOCKET_SECONDS = 10
"""Half-open connections are noticed after this long (the default never does within minutes)."""

REFUSALS = ("redis.exceptions.OutOfMemoryError", "redis.exceptions.ReadOnlyError")
"""A full Redis, and a primary that a fail-over made a replica: storing a result is repeated through both."""

RESTORE_SECONDS = 10
"""How often a worker looks for messages that are unacknowledged for too long: one ZRANGE."""

PUBLISH_RETRIES = {"max_retries": 40, "interval_start": 0.05, "interval_step": 0.2, "interval_max": 2.0}
"""About a minute, as for records; what is lost after that is sent again by reconcile."""

RECONNECT_SECONDS, MAX_RECONNECT_SECONDS = 1, 5
"""Between the tries to reach a broker that is away: 1, 2 … 5. kombu's 2, 4 … 30 are no settings, and half a minute."""

_ROUTES = {
    "swarmq.swarm": CONTROL,
    "swarmq.deliver": CONTROL,
    "swarmq.revoked": CONTROL,
    "swarmq.start_stage": CONTROL,
    "swarmq.reconcile": CONTROL,
    "swarmq.collapse": CONTROL,
    "swarmq.gc": CONTROL,
    "swarmq.finish_stage": INTEGRATE,
    "swarmq.finish_swarm": INTEGRATE,
    "swarmq.plan": AGENTS,
    "swarmq.run_branch": AGENTS,
    "swarmq.remove_pods": PODS,
    "swarmq.sweep_pods": PODS,
}


class _PromptConnection(Connection):
    """Is back soon after its broker, where the caller has no intervals of its own."""

    def _ensure_connection(
        self,
        errback: Any = None,
        max_retries: int | None = None,
        interval_start: float = RECONNECT_SECONDS,
        interval_step: float = RECONNECT_SECONDS,
        interval_max: float = MAX_RECONNECT_SECONDS,
        *more: Any,
        **named: Any,
    ) -> Any:
        given = (errback, max_retries, interval_start, interval_step, interval_max, *more)
        return super()._ensure_connection(*given, **named)  # type: ignore[no-untyped-call]


class _Messaging(AMQP):  # type: ignore[misc]
    Connection = _PromptConnection


def celery_url(url: str) -> str:
    """A Redis URL in kombu's words, without its TLS options. UsageError for a URL that is not one of Redis."""
    return _kombu_url(parse_address(url))


def _kombu_url(address: Address) -> str:
    """The address in kombu's words. TLS options are settings of their own: of those in a URL each reads others."""
    login = _quoted(address.login)
    if address.socket is not None:
        return f"redis+socket://{login}{quote(address.socket)}?virtual_host={address.database}"
    scheme = "sentinel" if address.master else "rediss" if address.tls else "redis"
    hosts = (f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name, port in address.hosts)
    return ";".join(f"{scheme}://{login}{host}/{address.database}" for host in hosts)


def _quoted(login: Login) -> str:
    user, password = quote(login.user or "", safe=""), quote(login.password or "", safe="")
    return f"{user}:{password}@" if user or password else ""


def make_app(settings: Settings, url: str) -> Celery:
    """An application on that Redis. Queues of its own; Celery's default queue stays the producer's.

    UsageError for a URL that is not one of Redis: nothing else is supported as a broker.
    """
    address = parse_address(url)
    broker = _kombu_url(address)
    app = Celery("swarmq", broker=broker, backend=broker, amqp=_Messaging, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        task_routes={name: {"queue": queue} for name, queue in _ROUTES.items()},
        **_connection(settings, address),
        result_chord_expires=CHORD_EXPIRES_SECONDS,  # a stage may run for longer than its members' results are kept
        result_expires=RESULT_EXPIRES_SECONDS,
        task_publish_retry_policy=PUBLISH_RETRIES,
        task_acks_late=True,
        task_acks_on_failure_or_timeout=True,
        task_reject_on_worker_lost=False,  # would run a task that kills its worker for ever; reconcile counts instead
        task_track_started=True,
        worker_prefetch_multiplier=1,
        worker_soft_shutdown_timeout=0,  # a positive value is slept out in full before anything is cancelled
        worker_cancel_long_running_tasks_on_connection_loss=False,  # a 2 s blip must not revoke branches
        worker_hijack_root_logger=False,
        worker_send_task_events=True,
        task_send_sent_event=False,
        worker_enable_remote_control=True,
        beat_schedule=beat_schedule(settings),
        beat_schedule_filename="",
        timezone="UTC",
    )
    return app


def _connection(settings: Settings, address: Address) -> dict[str, Any]:
    """How broker and results reach Redis, and what they do while it is away, full or failing over."""
    keepalive = address.socket is None  # raises TypeError on a Unix socket
    sentinel = _sentinel_options(address)
    transport: dict[str, Any] = {
        "visibility_timeout": settings.visibility_timeout_seconds,
        "unacked_restore_interval": max(1, min(RESTORE_SECONDS, settings.visibility_timeout_seconds // 2)),
        "unacked_mutex_expire": RESTORE_SECONDS,  # whoever looks may die over it, and keep the others out
        "unacked_restore_throttle": 1,  # kombu's 10 is for a path that we do not take, and makes 100 s of the 10
        "socket_timeout": SOCKET_SECONDS,
        "socket_connect_timeout": SOCKET_SECONDS,
        "health_check_interval": SOCKET_SECONDS,
        "retry_on_timeout": True,
        **sentinel,
    }
    if keepalive:
        transport["socket_keepalive"] = True
    chosen: dict[str, Any] = {
        "broker_transport_options": transport,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # Redis may be away for longer than any count
        "broker_channel_error_retry": True,  # else a worker ends when Redis is full or has become a replica
        "redis_socket_timeout": SOCKET_SECONDS,
        "redis_socket_connect_timeout": SOCKET_SECONDS,
        "redis_backend_health_check_interval": SOCKET_SECONDS,
        "redis_retry_on_timeout": True,
        "redis_socket_keepalive": keepalive,
        "result_backend_always_retry": True,  # else a task that ends while Redis is away is recorded as FAILURE
        "result_backend_max_retries": 1000,
        "result_backend_thread_safe": True,  # one connection pool, not one per waiting agent
        "result_backend_transport_options": {"additional_connection_errors": REFUSALS, **sentinel},
    }
    if address.tls:
        chosen |= {"broker_use_ssl": dict(address.tls), "redis_backend_use_ssl": dict(address.tls)}
    return chosen


def _sentinel_options(address: Address) -> dict[str, Any]:
    """Without ``sentinel_kwargs`` Celery's results would wait on a silent Sentinel for ever."""
    if address.master is None:
        return {}
    return {"master_name": address.master, "sentinel_kwargs": sentinel_options(address)}


def beat_schedule(settings: Settings) -> dict[str, Any]:
    """Ticks are idempotent, and done once in half an interval: two beats, or none for an hour, do no harm.

    They do not expire: ``expires`` is a moment by the sender's clock, and a control worker whose clock is ahead of
    beat's would discard every one of them. What swarms wait for goes first (with Redis 9 is the lowest priority):
    where the way to Redis is slow, ticks come faster than they can be taken.
    """

    def every(task: str, seconds: float) -> dict[str, Any]:
        return {"task": task, "schedule": seconds, "options": {"queue": CONTROL, "priority": 9, "ignore_result": True}}

    return {
        "reconcile": every("swarmq.reconcile", settings.reconcile_seconds),
        "collapse": every("swarmq.collapse", settings.collapse_seconds),
        "gc": every("swarmq.gc", settings.gc_seconds),
    }


def require_url(settings: Settings) -> str:
    """The Redis URL of a worker, beat or Flower, which never start an embedded stack themselves."""
    url = settings.broker()
    if url is None:
        raise EnvironmentFault("SWARMQ_REDIS_URL is not set: name the Redis server, or start all with 'swarmq up'")
    return url


def __getattr__(name: str) -> Any:
    """``celery -A swarmq.fleet.app``: built when asked for, since imports read no settings."""
    if name != "app":
        raise AttributeError(name)
    from swarmq.fleet.build import build_app

    settings = load_settings()
    app = globals()["app"] = build_app(settings, require_url(settings))
    app.set_default()  # Flower looks up results by the process's default application
    return app
