"""What a task shows of itself in Celery's events, in ``inspect`` and so in Flower: ids and names, never a prompt.

It is made by the worker from the message, since a producer's own ``send_task`` shows whatever it sends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celery.worker.control import Panel
from kombu.utils.url import maybe_sanitize_url

from swarmq.fleet.pool import AgentRequest

RESULT_CHARACTERS = 80
"""What events show of a swarm's value: its id and state come first, the report behind them does not fit."""


def shown(name: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> tuple[str, str]:
    """Arguments and options as a person reads them. Pure; any message may come here."""
    match name, [str(argument) for argument in arguments]:
        case "swarmq.run_branch", [swarm, branch]:
            return f"({branch} of {swarm})", "{}"
        case (("swarmq.start_stage" | "swarmq.finish_stage"), [swarm, stage]):
            return f"(stage {stage} of {swarm})", "{}"
        case "swarmq.revoked", _:
            tasks = arguments[0] if arguments and isinstance(arguments[0], list) else []
            return f"({len(tasks)} task{'' if len(tasks) == 1 else 's'})", "{}"
        case "swarmq.swarm", _:
            kept = {key: options[key] for key in ("swarm_id",) if key in options}
            return f"({kept['swarm_id']})" if kept else "()", "{…}"
        case _, [only]:
            return f"({only[:80]})", "{}"
    return ("(…)" if arguments else "()"), ("{…}" if options else "{}")


def without_logins(broker: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker's ``stats`` tell of its broker, less the passwords: for Sentinels and sockets Celery gives URLs."""

    def masked(value: Any) -> Any:
        if isinstance(value, str):
            return ";".join(maybe_sanitize_url(url) for url in value.split(";"))
        return [masked(item) for item in value] if isinstance(value, list | tuple) else value

    return {name: masked(value) for name, value in broker.items()}


def hide_logins() -> None:
    """Wrap this worker's ``stats`` command, which Flower shows."""
    original = Panel.data["stats"]

    def stats(state: Any, **options: Any) -> Any:
        about = original(state, **options)
        return about | {"broker": without_logins(about["broker"])} if "broker" in about else about

    Panel.data["stats"] = stats


class ShownRequest(AgentRequest):
    """The pool's request, with words for people."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._argsrepr, self._kwargsrepr = shown(self._type, self.args or (), self.kwargs or {})
        self._request_dict |= {"argsrepr": self._argsrepr, "kwargsrepr": self._kwargsrepr}

    def info(self, safe: bool = True) -> dict[str, Any]:
        """What ``inspect`` answers; the message itself is nobody's business."""
        about: dict[str, Any] = super().info(safe=True)
        return about
