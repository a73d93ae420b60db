"""``swarmq exporter``: the fleet's figures over HTTP, at ``/metrics``, for Prometheus; ``/healthz`` for probes.

A scrape costs Redis four round trips, and scrapes that come close together share one look, so that neither many
scrapers nor an impatient one can load it.
"""

from __future__ import annotations

import signal
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import make_wsgi_app
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from swarmq.background import BackgroundLoop
from swarmq.errors import StoreError, UsageError
from swarmq.fleet.app import QUEUES
from swarmq.fleet.metrics import families
from swarmq.settings import Settings
from swarmq.store.connection import Gate
from swarmq.store.scaling import FleetLoad
from swarmq.store.store import Store

log = structlog.get_logger()

SHARED_SECONDS = 2.0
"""Scrapes within this time of each other get the same figures."""
ANSWER_SECONDS = 3.0
"""How long a scrape waits for Redis before it says that Redis is down."""
CLIENT_SECONDS = 10.0


class FleetCollector(Collector):
    """``look`` blocks until it has read the fleet, or raises StoreError."""

    def __init__(self, look: Callable[[], FleetLoad], clock: Callable[[], float] = time.monotonic) -> None:
        self._look, self._clock = look, clock
        self._lock = threading.Lock()
        self._latest: list[Metric] = []
        self._looked_at = float("-inf")

    def describe(self) -> Iterable[Metric]:
        """Nothing: else registering would already ask Redis."""
        return ()

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            if self._clock() - self._looked_at > SHARED_SECONDS:
                self._latest = self._measured()
                self._looked_at = self._clock()
            return self._latest

    def _measured(self) -> list[Metric]:
        try:
            return list(families(self._look()))
        except StoreError as error:
            log.warning("scraped in vain", error=str(error))
            return [GaugeMetricFamily("swarmq_redis_up", "Whether Redis answered this scrape.", 0)]


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_SECONDS

    def log_message(self, *_: Any) -> None:
        """A line for each scrape is no news."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """As WSGIServer does, without its look-up of this machine's name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _ServerOnIPv6(_Server):
    address_family = socket.AF_INET6


def application(collector: Collector) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    """The WSGI application: two pages."""
    registry = CollectorRegistry()
    registry.register(collector)
    metrics = make_wsgi_app(registry)

    def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                found: Iterable[bytes] = metrics(environ, start_response)
                return found
            case "/healthz":
                start_response("200 OK", [("Content-Type", "text/plain")])
                return [b"ok\n"]
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"/metrics or /healthz\n"]

    return serve


def parse_listen(address: str) -> tuple[str, int]:
    """``HOST:PORT``; IPv6 in brackets. UsageError."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65_535:
        raise UsageError(f"address {address!r}: write HOST:PORT, such as 127.0.0.1:9540")
    return host.strip("[]"), int(port)


def run_exporter(settings: Settings, url: str, address: str, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. ``ready`` is told the URL of the metrics. UsageError for an address in use."""
    host, port = parse_listen(address)
    background = BackgroundLoop("exporter")
    gate = Gate.open(url, retry_seconds=ANSWER_SECONDS, max_connections=settings.redis_max_connections)
    queues = list(QUEUES.values())
    collector = FleetCollector(lambda: background.run(Store(gate).scaling.look(queues)))
    try:
        server = (_ServerOnIPv6 if ":" in host else _Server)((host, port), _Handler)
    except OSError as error:
        raise UsageError(f"address {address}: {error.strerror or error}") from None
    server.set_app(application(collector))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown, daemon=True).start())
    shown = f"[{host}]" if ":" in host else host
    ready(f"http://{shown}:{server.server_port}/metrics")
    try:
        server.serve_forever(poll_interval=0.2)
    finally:
        server.server_close()
        background.run(gate.aclose())
        background.stop()
