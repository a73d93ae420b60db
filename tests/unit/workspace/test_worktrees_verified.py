"""Running verify in a worktree: what it says, what it costs, and that nothing that it changes is left."""

from __future__ import annotations

import asyncio
import shutil
import tracemalloc
import uuid
from pathlib import Path

import pytest
from git_samples import FILES, git, head_of, names_at, shell, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmq.models.verify import VerifyReport
from swarmq.workspace.environment import child_environment
from swarmq.workspace.processes import find_processes
from swarmq.workspace.shell import Shell
from swarmq.workspace.swarm_repository import SwarmRepository, Worktree
from swarmq.workspace.verifying import CHANGES_NAMED, KEPT_BYTES, OUTPUT_BYTES, verify_worktree

pytest_plugins = ["git_fixtures"]
pytestmark = pytest.mark.usefixtures("own_configuration")
COOKIE = f"swarm/verify-{uuid.uuid4().hex}"  # of this process: whoever ends processes by it looks at all of the machine


@pytest.fixture
async def worktree(swarm: SwarmRepository, base: str) -> Worktree:
    return await swarm.open_worktree("fix", 1, base)


async def verify(
    swarm: SwarmRepository, worktree: Worktree, *commands: str, outputs: Path, timeout_seconds: float = 60
) -> VerifyReport:
    numbers = iter(range(1, 100))

    async def reserve() -> tuple[str, Path]:
        number = next(numbers)
        return f"output://{number}", outputs / f"{number}.txt"

    one = Shell(worktree.path, child_environment(), COOKIE)
    try:
        return await verify_worktree(swarm, worktree, one, commands, timeout_seconds=timeout_seconds, reserve=reserve)
    finally:
        await one.aclose()


async def test_commands_run_in_order_until_one_fails(
    swarm: SwarmRepository, worktree: Worktree, tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    passed = await verify(swarm, worktree, "true", "echo fine", outputs=outputs)
    assert (passed.passed, passed.command, passed.exit_code, passed.output) == (True, "echo fine", 0, "fine\n")
    failed = await verify(swarm, worktree, "true", "echo bad >&2; exit 3", f"touch {tmp_path}/third", outputs=outputs)
    assert (failed.passed, failed.exit_code, failed.output) == (False, 3, "bad\n")
    assert failed.ending == "ended with exit code 3"
    assert not (tmp_path / "third").exists()
    assert not outputs.exists(), "short outputs need no file"


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("no-such-program --check", 127, "a command does not exist"),
        ("./README.md", 126, "a command cannot be executed"),
        ("kill -9 $$", -9, "was killed by signal 9"),
    ],
)
async def test_how_it_ended_is_told(
    swarm: SwarmRepository, worktree: Worktree, tmp_path: Path, command: str, code: int, said: str
) -> None:
    write(worktree.path, {"README.md": "Read me\n"})
    report = await verify(swarm, worktree, command, outputs=tmp_path)
    assert (report.passed, report.exit_code) == (False, code)
    assert said in report.ending
    assert report.lacks_command == (code in (126, 127))


async def test_a_command_that_never_ends_is_ended_with_its_children(
    swarm: SwarmRepository, worktree: Worktree, tmp_path: Path
) -> None:
    command = "setsid sleep 71.5 & sleep 72.5 & sleep 73.5"
    report = await verify(swarm, worktree, command, outputs=tmp_path, timeout_seconds=0.3)
    assert (report.passed, report.timed_out, report.exit_code) == (False, True, None)
    assert "took too long" in report.ending
    assert not find_processes(f"SWARMQ_BRANCH={COOKIE}")


async def test_a_hundred_megabytes_cost_neither_memory_nor_disk(
    swarm: SwarmRepository, worktree: Worktree, tmp_path: Path
) -> None:
    tracemalloc.start()
    try:
        report = await verify(swarm, worktree, "yes | head -c 100000000; echo the end; exit 4", outputs=tmp_path / "o")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (report.exit_code, report.whole) == (4, "output://1"), "it ran to its end"
    assert report.output.endswith("the end\n")
    assert len(report.output) < OUTPUT_BYTES + 100
    assert (tmp_path / "o" / "1.txt").stat().st_size == KEPT_BYTES
    assert peak_bytes < 20_000_000


CHANGES = {
    "a tracked file changed": "echo x >> src/app.py",
    "a tracked file deleted": "rm src/app.py",
    "a directory in a file's place": "rm src/app.py; mkdir src/app.py; echo x > src/app.py/x",
    "a link in a directory's place": "rm -r src; ln -s /tmp src",
    "a mode changed": "chmod +x src/app.py",
    "unreadable": "chmod 000 src/app.py",
    "a new file": "mkdir -p new/deep; echo x > new/deep/file",
    "an unreadable new file": "echo x > locked; chmod 000 locked",
    "a pipe": "mkfifo pipe",
    "a nested repository": "git init -q inner && echo x > inner/x && git -C inner add x",
    "a commit": "git add -A; git -c user.name=t -c user.email=t@t commit -q --allow-empty -m theirs; echo x > y",
    "the agent's own new file": "echo x > mine.txt",
    "everything": "git rm -rq --cached . ; rm -rf src [!b]*; echo x > z",
}


@pytest.mark.parametrize("command", CHANGES.values(), ids=CHANGES)
async def test_what_it_changes_is_told_and_put_back(
    swarm: SwarmRepository, worktree: Worktree, base: str, tmp_path: Path, command: str
) -> None:
    write(worktree.path, {"mine.txt": "mine\n", ".gitignore": "build/\n"})
    shell(worktree.path, "git config user.name a; git config user.email a@a; git add mine.txt; git commit -qm mine")
    write(worktree.path, {"later.txt": "later\n"})
    head = head_of(worktree.path)
    report = await verify(swarm, worktree, f"mkdir -p build; echo x > build/out; {command}", outputs=tmp_path)
    unseen = ("a pipe", "unreadable")  # git does not list the one, and root can read the other
    assert report.changed or command in [CHANGES[name] for name in unseen], report
    assert (worktree.path / "build" / "out").exists(), "ignored files stay"
    made = await swarm.commit(worktree, message="m", trailers={})
    assert made is not None
    assert made.files == (".gitignore", "later.txt", "mine.txt")
    assert names_at(swarm_git(swarm), made.commit) == sorted({*FILES, ".gitignore", "later.txt", "mine.txt"})
    assert (worktree.path / "mine.txt").read_text() == "mine\n"
    assert git(swarm_git(swarm), "rev-parse", f"{made.commit}^") == head
    again = await verify(swarm, worktree, "true", outputs=tmp_path)
    assert again.changed == ()


def swarm_git(swarm: SwarmRepository) -> Path:
    return swarm._clone.git_dir


async def test_many_changed_files_are_not_all_named(swarm: SwarmRepository, worktree: Worktree, tmp_path: Path) -> None:
    report = await verify(swarm, worktree, "for i in $(seq 200); do echo > file-$i; done", outputs=tmp_path)
    assert len(report.changed) == CHANGES_NAMED
    assert await swarm.changed_files(worktree) == ()


async def test_a_stopped_verify_leaves_no_process(swarm: SwarmRepository, worktree: Worktree, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    task = asyncio.create_task(verify(swarm, worktree, f"sleep 75.5 & touch {ready}; wait", outputs=tmp_path))
    while not ready.exists():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not find_processes(f"SWARMQ_BRANCH={COOKIE}")


async def test_what_a_command_leaves_running_is_ended_before_its_changes_are_put_back(
    swarm: SwarmRepository, worktree: Worktree, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    late = (
        f"(trap 'echo late > late.txt; exit' TERM; touch {ready}; while :; do sleep 0.01; done) > /dev/null 2>&1 & "
        f"until [ -e {ready} ]; do sleep 0.01; done"
    )
    marker = f"SWARMQ_BRANCH={COOKIE}"

    async def reserve() -> tuple[str, Path]:
        return "output://1", tmp_path / "1.txt"

    async def verified(*commands: str) -> VerifyReport:
        return await verify_worktree(swarm, worktree, one, commands, timeout_seconds=60, reserve=reserve)

    write(worktree.path, {"mine.txt": "mine\n"})
    one = Shell(worktree.path, child_environment(), COOKIE)
    try:
        await one.run("setsid sleep 76.5 > /dev/null 2>&1 &", timeout_seconds=60)
        failed = await verified("sleep 77.5 > /dev/null 2>&1 &", f"{late}; false")
        left = [process.cmdline() for process in find_processes(marker)]
        assert (failed.passed, failed.changed, left) == (False, ("late.txt",), [["sleep", "76.5"]]), "the agent goes on"
        ready.unlink()
        passed = await verified("sleep 78.5 > /dev/null 2>&1 &", late)
        assert (passed.passed, passed.changed, find_processes(marker)) == (True, ("late.txt",), [])
        made = await swarm.commit(worktree, message="m", trailers={})
        assert made is not None
        assert made.files == ("mine.txt",)
    finally:
        await one.aclose()


names = st.sampled_from(["a", "b", "d/a", "d/b", "d/e/a", "src/app.py", "run me"])
acts = st.sampled_from(
    [
        "mkdir -p $(dirname '{0}') && echo {1} > '{0}'",
        "rm -rf '{0}'",
        "ln -sfn {1} '{0}'",
        "mkdir -p '{0}'",
        "chmod 755 '{0}'",
    ]
)
scripts = st.lists(st.tuples(acts, names, st.integers(0, 3)), max_size=6).map(
    lambda steps: (
        "; ".join(f"{{ {act.format(name, number)}; }} 2>/dev/null || true" for act, name, number in steps) or "true"
    )
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=scripts, by_verify=scripts)
async def test_any_change_is_put_back(
    swarm: SwarmRepository, base: str, tmp_path: Path, before: str, by_verify: str
) -> None:
    worktree = await swarm.open_worktree("any", 1, base)
    shell(worktree.path, f"{before}; true")
    first = await swarm.snapshot(worktree)
    shell(worktree.path, f"{by_verify}; true")
    await swarm.put_back(worktree, first)
    assert await swarm.snapshot(worktree) == first
    await swarm.remove_worktree(worktree)
    shutil.rmtree(worktree.path, ignore_errors=True)
