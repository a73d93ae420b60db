"""A group of commands whose modules are imported only when one of them runs: ``--help`` reads the table alone."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group


@dataclass(frozen=True)
class Entry:
    """A command: the module that has it and what the list of commands says of it."""

    module: str
    help: str


SECTIONS: dict[str, dict[str, Entry]] = {
    "Work": {
        "run": Entry("run", "Split a task into subtasks, run an agent for each, bring back one branch."),
        "plan": Entry("plan", "Show the plan of a task without running it."),
        "watch": Entry("watch", "Follow a swarm live until it ends."),
        "result": Entry("swarms", "Print the report of an ended swarm."),
        "merge": Entry("changes", "Fast-forward a branch of yours to the result."),
        "retry": Entry("retry", "Run an ended swarm's plan again; what failed goes on where it was."),
        "pause": Entry("control", "Start no new step of a swarm; what runs is finished."),
        "resume": Entry("control", "Let a paused swarm go on."),
        "cancel": Entry("control", "Stop a swarm, or one branch of it."),
        "demo": Entry("demo", "Fix a small sample repository with a scripted model."),
    },
    "Look": {
        "ls": Entry("swarms", "List swarms, newest first."),
        "show": Entry("swarms", "Show a swarm, or one branch of it, in detail."),
        "events": Entry("events", "Print what happened in a swarm."),
        "transcript": Entry("branches", "Print the conversation of a branch."),
        "diff": Entry("branches", "Print the change of a swarm, or of one branch."),
        "collapse": Entry("collapse", "Why branches were stopped early, or were not."),
        "logs": Entry("logs", "Print the logs of the embedded stack's workers."),
    },
    "Servers": {
        "up": Entry("stack", "Start the embedded stack: Valkey, workers and beat."),
        "down": Entry("stack", "Stop the embedded stack."),
        "status": Entry("stack", "Show the processes of the embedded stack."),
        "workers": Entry("workers", "List the workers that are alive."),
        "worker": Entry("workers", "Run one worker in this process."),
        "agent": Entry("agent", "Run the agent of one payload; its log is the result."),
        "beat": Entry("workers", "Run the clock that looks after swarms in this process."),
        "exporter": Entry("exporter", "Serve the fleet's figures for Prometheus."),
    },
    "Upkeep": {
        "doctor": Entry("doctor", "Check this machine, Redis, the workers, beat and keys, and find what stands still."),
        "config": Entry("configuration", "Show the settings and where they come from."),
        "cache": Entry("upkeep", "Figures of the result cache, and emptying it."),
        "gc": Entry("upkeep", "Remove worktrees and clones whose time is over."),
    },
}
ENTRIES = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


def command_app(**options: Any) -> typer.Typer:
    """What a command module adds its commands to. Help is plain text: rich costs 0.2 s."""
    return typer.Typer(rich_markup_mode=None, add_completion=False, **options)


class _Commands(MutableMapping[str, Any]):
    """Commands by name, each built when it is looked up."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built and name in ENTRIES:
            module = import_module(f"swarmq.cli.{ENTRIES[name].module}")
            self._built.update(get_group(module.app).commands)
        return self._built[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._built[name] = command

    def __delitem__(self, name: str) -> None:
        del self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(ENTRIES)

    def __len__(self) -> int:
        return len(ENTRIES)


class LazyGroup(TyperGroup):
    """The root command."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "commands": {}})
        self.commands = _Commands()

    def list_commands(self, ctx: Any) -> list[str]:
        return list(ENTRIES)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, entries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.help) for name, entry in entries.items()])
