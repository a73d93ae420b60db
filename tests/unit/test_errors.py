"""Every error survives Celery's JSON serializer: what a worker raises is what a producer catches."""

from __future__ import annotations

import inspect

import pytest
from celery.backends.base import Backend

from swarmq import errors
from swarmq.fleet.app import make_app
from swarmq.settings import load_settings

TREE = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, errors.SwarmqError)]


@pytest.fixture(scope="module")
def backend() -> Backend:
    return Backend(app=make_app(load_settings(), "redis://localhost:1/0"))


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_survives_the_serializer(kind: type[errors.SwarmqError], backend: Backend) -> None:
    error = kind("what happened", 429, 1.5) if issubclass(kind, errors.ModelError) else kind("what happened")
    stored = backend.prepare_exception(error, serializer="json")
    back = backend.exception_to_python(stored)
    assert type(back) is kind
    assert back.args == error.args
    assert str(back) == "what happened"


def test_the_docstring_draws_every_class() -> None:
    assert errors.__doc__ is not None
    assert not [kind.__name__ for kind in TREE if kind.__name__ not in errors.__doc__]
