"""What agents are told, and which AGENTS.md files of a repository they are shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmq.agent.instructions import MAX_CHARACTERS, Instructions, read_instructions
from swarmq.agent.prompts import (
    instructions_section,
    opening_messages,
    project_instructions,
    resume_note,
    system_prompt,
    user_prompt,
)
from swarmq.models.messages import Role, ToolSpec
from swarmq.models.plan import Kind, Subtask

SUBTASK = Subtask(name="Parser", instruction="Mend the parser.", specialty="compilers")
READ = ToolSpec(name="read", description="Read a file. Long ones in pages.", parameters={}, read_only=True)
BASH = ToolSpec(name="bash", description="Run a command.", parameters={})
SHARE = ToolSpec(name="swarm_share", description="Exchange results.", parameters={})


def test_the_opening_says_who_where_with_what_and_what_to_do() -> None:
    system, user = opening_messages(
        subtask=SUBTASK,
        branch_id="parser.2",
        root=Path("/w/parser.2-3"),
        tools=[READ, SHARE],
        context="## Result of A\n1",
    )
    assert (system.role, user.role) == (Role.SYSTEM, Role.USER)
    for said in ("compilers", "parser.2", "/w/parser.2-3", "- read: Read a file\n", "swarm_share", "# Finishing"):
        assert said in system.text
    assert "Commands start there" not in system.text
    assert user.text == "Complete this task:\n\nMend the parser.\n\n# Context from earlier work\n## Result of A\n1"


def test_only_tools_that_are_there_are_told() -> None:
    prompt = system_prompt(SUBTASK, "parser", Path("/w"), [BASH])
    assert "- bash" in prompt
    assert "Commands start there" in prompt
    assert "swarm_share" not in prompt
    assert "- read" not in prompt
    assert "You have no tools." in system_prompt(SUBTASK, "parser", None, [])


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Kind.EDIT, "counts as failed"),
        (Kind.VERIFY, "nothing that you write is kept"),
        (Kind.READ, "nothing in it may change"),
    ],
)
def test_each_kind_has_its_rules(kind: Kind, said: str) -> None:
    assert said in system_prompt(SUBTASK.model_copy(update={"kind": kind}), "parser", Path("/w"), [])


def test_without_a_repository_no_directory_is_told() -> None:
    prompt = system_prompt(SUBTASK.model_copy(update={"kind": Kind.READ}), "parser", None, [SHARE])
    assert "no repository" in prompt
    assert "Working directory" not in prompt
    assert "directory" not in resume_note(None).text


def test_without_context_the_task_stands_alone() -> None:
    assert user_prompt("  Mend it.\n", " ") == "Complete this task:\n\nMend it."


def test_a_resumed_agent_is_told_where_it_is() -> None:
    assert "/w/parser-2" in resume_note(Path("/w/parser-2")).text


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_instructions_come_root_first_and_nearest_last(tmp_path: Path) -> None:
    write(tmp_path / "AGENTS.md", "Root.\n")
    write(tmp_path / "src/AGENTS.md", "Source.")
    write(tmp_path / "src/core/AGENTS.md", "Core.")
    write(tmp_path / "node_modules/x/AGENTS.md", "Not ours.")
    write(tmp_path / ".git/AGENTS.md", "Not ours.")
    assert read_instructions(tmp_path) == (
        Instructions(".", "Root."),
        Instructions("src", "Source."),
        Instructions("src/core", "Core."),
    )


def test_what_is_too_long_is_named_only(tmp_path: Path) -> None:
    write(tmp_path / "AGENTS.md", "Root.")
    write(tmp_path / "a/AGENTS.md", "x" * MAX_CHARACTERS)
    write(tmp_path / "b/AGENTS.md", "Small.")
    found = read_instructions(tmp_path)
    assert found == (Instructions(".", "Root."), Instructions("a", None), Instructions("b", "Small."))
    section = instructions_section(found)
    assert "## a/AGENTS.md\n(too long to show here" in section
    assert section.index("## AGENTS.md") < section.index("## a/AGENTS.md") < section.index("## b/AGENTS.md")


def test_a_link_out_of_the_repository_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key")
    (tmp_path / "repo/elsewhere").mkdir(parents=True)
    (tmp_path / "repo/AGENTS.md").symlink_to(secret)
    (tmp_path / "outside").mkdir()
    write(tmp_path / "outside/AGENTS.md", "key")
    (tmp_path / "repo/linked").symlink_to(tmp_path / "outside")
    assert read_instructions(tmp_path / "repo") == ()


def test_text_that_is_not_utf_8_is_read_anyway(tmp_path: Path) -> None:
    (tmp_path / "AGENTS.md").write_bytes(b"caf\xe9")
    assert read_instructions(tmp_path) == (Instructions(".", "caf\ufffd"),)


async def test_a_repository_without_instructions_adds_nothing(tmp_path: Path) -> None:
    assert await project_instructions(tmp_path) == ""
    write(tmp_path / "AGENTS.md", "Use tabs.")
    assert "Use tabs." in await project_instructions(tmp_path)
