"""An application with its tasks. Apart from app.py, so that publishing code can know the queues without the tasks."""

from __future__ import annotations

from celery import Celery

from swarmq.fleet.app import make_app
from swarmq.fleet.runtime import Runtimes
from swarmq.fleet.tasks import register
from swarmq.settings import Settings


def build_app(settings: Settings, url: str) -> Celery:
    """The application of workers, beat, Flower and clients. Connects to nothing until it is used."""
    app = make_app(settings, url)
    app.runtimes = Runtimes(app, settings, url)
    register(app, app.runtimes)
    return app
