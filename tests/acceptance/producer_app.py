"""Somebody else's Celery application on the same broker: its own name, queue and tasks; no swarmq in its worker."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

app = Celery("producer", broker=os.environ["PRODUCER_URL"], backend=os.environ["PRODUCER_URL"])
app.conf.update(task_default_queue="producer", result_extended=True)


@app.task(name="producer.before")
def before(word: str) -> str:
    return f"context about {word}"


@app.task(name="producer.after")
def after(value: Any) -> dict[str, Any]:
    return {"after": value}


@app.task(name="producer.collect")
def collect(values: list[Any]) -> list[Any]:
    return values


@app.task(name="producer.failed", bind=True)
def failed(self: Any, task_id: str) -> str:
    app.backend.client.rpush("producer:failed", task_id)
    return task_id
