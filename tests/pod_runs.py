"""Payloads for ``swarmq agent``, and runs of it as a process, for tests without a fleet."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swarmq.models.branch import BranchSpec
from swarmq.models.options import SwarmOptions
from swarmq.models.plan import Kind, Subtask
from swarmq.pod.payload import ModelAccess, Payload, RepositoryAccess, encode
from swarmq.pod.protocol import Decoder, LogRecord, ResultRecord, StepRecord
from swarmq.settings import EndpointSettings
from swarmq.workspace.swarm_repository import SwarmRepository

SWARM = "k3x9qm2p4t"
SNAPSHOT_BYTES = 900_000


def payload_for(instruction: str, model_url: str, base: str | None = None, **fields: Any) -> Payload:
    """A run of one branch, with an endpoint that needs a key."""
    kind = fields.pop("kind", Kind.EDIT if base is not None else Kind.READ)
    subtask = Subtask(name="Part", instruction=instruction, kind=kind)
    spec = BranchSpec(
        swarm_id=SWARM,
        id=subtask.id,
        subtask_id=subtask.id,
        stage=0,
        kind=kind,
        base_commit=base,
        celery_task_id=f"{SWARM}.{subtask.id}",
    )
    endpoint = EndpointSettings(base_url=f"{model_url}/v1", api_key_env="MODEL_KEY")
    known: dict[str, Any] = {
        "nonce": secrets.token_hex(16),
        "branch": spec,
        "token": 1,
        "options": SwarmOptions(),
        "subtask": subtask,
        "model": ModelAccess(spec="test:scripted", endpoint=endpoint, api_key="sk-must-not-leak"),
        "probe_seconds": 0.05,
    }
    return Payload.model_validate(known | fields)


async def snapshot_of(swarm: SwarmRepository, base: str, checkpoint: str | None = None) -> RepositoryAccess:
    wanted = [base, *([checkpoint] if checkpoint is not None else [])]
    pack = await swarm.pack_of(wanted, [], SNAPSHOT_BYTES, shallow=base)
    return RepositoryAccess(base_commit=base, shallow=base, pack=pack)


@dataclass
class AgentRun:
    """What one run of the command left."""

    exit_code: int
    stdout: str
    stderr: str
    records: list[LogRecord] = field(default_factory=list)

    @property
    def result(self) -> ResultRecord:
        last = self.records[-1]
        assert isinstance(last, ResultRecord), self.stdout + self.stderr
        return last

    @property
    def steps(self) -> list[StepRecord]:
        return [record for record in self.records if isinstance(record, StepRecord)]


def start_agent(payload: Payload, where: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """``swarmq agent`` as a container would run it: an environment with nothing in it, a file that can be removed."""
    where.mkdir(parents=True, exist_ok=True)
    file = where / "payload"
    file.write_bytes(encode(payload))
    return subprocess.Popen(
        [sys.executable, "-m", "swarmq", "agent", "--payload-file", str(file), *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(where), **variables},
        cwd=where,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_agent_process(payload: Payload, where: Path, *arguments: str, **variables: str) -> AgentRun:
    process = start_agent(payload, where, *arguments, **variables)
    stdout, stderr = process.communicate(timeout=60)
    records = list(Decoder(payload.nonce).feed(stdout.encode()))
    return AgentRun(process.returncode, stdout, stderr, records)
