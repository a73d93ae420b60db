"""The documentation against the code: generated pages, exit codes, examples, links."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from kubernetes_double.schema import problems

from swarmq.cli.exits import ExitCode
from swarmq.cli.main import app
from swarmq.kubernetes.podspec import PodDefaults, PodRequest, pod_manifest
from swarmq.kubernetes.rights import RIGHTS
from swarmq.models.plan import Plan
from swarmq.settings import EndpointSettings, Settings
from swarmq.testing import Script, ScriptedConversation, Turn

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
OPTIONS_OF_OTHERS = {
    "git": "check ff-only objects quiet reset strict write-tree",
    "docker": "all app build-arg for mount profile rm scale tmpfs target wait",
    "kubectl": "all for from-literal prefix selector timeout",
    "celery and flower": "app basic-auth port quiet tasks-columns without-gossip without-mingle",
    "uv, cargo, pytest, mypy": "dist frozen quiet runs strict timeout",
    "the scripted server": "host port port-file",
    "scripts, benchmarks and examples": "at-most branches latency-ms matrix plot races rate retry-after runs"
    " seconds server sweep warm-up",
}
"""What pages name that is no option of swarmq, by whose it is."""
LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)\s]*))?\)")


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """All fenced examples in a language, each with the page that has it."""
    for page in PAGES:
        for found, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if found == language:
                yield page.name, text


def headings(page: Path) -> set[str]:
    """The anchors of a page, made as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "reference"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_exit_code_is_documented() -> None:
    text = (ROOT / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)] == sorted(ExitCode)


def options(command: Any) -> Iterator[str]:
    """All long options of a command and of what is below it."""
    yield "--help"
    for parameter in command.params:
        yield from (name for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("--"))
    for below in getattr(command, "commands", {}).values():
        yield from options(below)


def test_every_option_that_a_page_names_exists() -> None:
    known = set(options(typer.main.get_command(app)))
    assert {"--version", "--max-total-steps", "--origin"} <= known
    known |= {f"--{name}" for names in OPTIONS_OF_OTHERS.values() for name in names.split()}
    unknown = {
        f"{page.relative_to(ROOT)}: {name}"
        for page in PAGES
        for name in OPTION.findall(page.read_text(encoding="utf-8"))
        if name not in known
    }
    assert unknown == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path = page.parent / target
        assert path.exists(), f"{page.name} links to {target}, which is not there"
        if anchor:
            assert anchor in headings(path), f"{page.name} links to {target}#{anchor}, a heading that is not there"


def test_examples_in_yaml_can_be_used() -> None:
    examples = list(blocks("yaml"))
    assert examples
    for page, text in examples:
        values = yaml.safe_load(text)
        if isinstance(values, list):
            Plan.parse(values)
        elif "conversations" in values:
            Script.parse(text, page)
        elif isinstance(values, dict) and values.get("kind") == "Role":
            granted = {
                (verb, resource) for rule in values["rules"] for resource in rule["resources"] for verb in rule["verbs"]
            }
            assert granted == {(right.verb, right.resource) for right in RIGHTS} | {("list", "events")}, page
        elif "spec" in values:
            request = PodRequest("swarm", "subtask", "branch", 0, 1, b"", 60, "nonce")
            assert (
                problems("pods", pod_manifest(request, PodDefaults("image", values), "0a1b2c3d", "2026-11-26")) == []
            ), page
        else:
            Plan.parse(values)


def test_examples_in_toml_are_settings() -> None:
    examples = list(blocks("toml"))
    assert examples
    for page, text in examples:
        values = tomllib.loads(text)
        assert values.keys() <= Settings.model_fields.keys(), page
        for endpoint in values.get("endpoints", {}).values():
            EndpointSettings.model_validate(endpoint)


def test_examples_in_python_compile() -> None:
    examples = list(blocks("python"))
    assert examples
    for page, text in examples:
        compile(text, page, "exec")


def test_pages_that_the_code_names_are_there() -> None:
    named = {
        name
        for path in (ROOT / "swarmq").rglob("*.py")
        for name in re.findall(r"docs/[\w/-]+\.md", path.read_text(encoding="utf-8"))
    }
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_every_field_of_a_script_is_documented() -> None:
    text = (ROOT / "docs" / "reference" / "scripted-server.md").read_text(encoding="utf-8")
    fields = [name for record in (Script, ScriptedConversation, Turn) for name in record.model_fields]
    assert [name for name in fields if f"| `{name}` |" not in text] == []
