"""scripts/uv as a bare machine runs it: a real index on the loopback, a wheel whose uv tells how it was called."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = "0.13.9"
UV = """#!/bin/sh
echo "$0 $*"
echo "frozen=$UV_FROZEN python=$UV_PYTHON project=$UV_PROJECT"
"""


@dataclass
class Index:
    """Serves ``pages`` by path; with ``login`` only to who has it. A page may use HERE for the index's address."""

    url: str = ""
    login: str = ""
    pages: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def respond(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        expected = f"Basic {base64.b64encode(self.login.encode()).decode()}"
        if self.login and request.headers["Authorization"] != expected:
            request.send_error(401)
        elif request.path not in self.pages:
            request.send_error(404)
        else:
            request.send_response(200)
            request.end_headers()
            request.wfile.write(self.pages[request.path])


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.respond(self)

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    index.url = f"127.0.0.1:{server.server_port}/simple"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield index
    server.shutdown()
    server.server_close()
    thread.join()


def offer(index: Index, tmp_path: Path, *, sha256: str = "") -> None:
    """Put wheels of several machines on the index; only one of them fits this one."""
    path = tmp_path / "uv.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"uv-{VERSION}.data/scripts/uv", UV)
        archive.writestr(f"uv-{VERSION}.data/scripts/uvx", "not this")
    data = path.read_bytes()
    libc = "manylinux_2_17" if platform.libc_ver()[0] == "glibc" else "musllinux_1_1"
    system = "macosx_11_0" if sys.platform == "darwin" else libc
    names = [
        f"uv-{VERSION}-py3-none-win_amd64.whl",
        f"uv-{VERSION}-py3-none-manylinux_2_17_z80.manylinux2014_z80.musllinux_1_1_z80.whl",
        f"uv-0.1.0-py3-none-{system}_{platform.machine()}.whl",
        f"uv-{VERSION}-py3-none-{system}_{platform.machine()}.other_1_z80.whl",
    ]
    digest = sha256 or hashlib.sha256(data).hexdigest()
    links = "".join(f'<a href="../../files/{name}#sha256={digest}">{name}</a><br>\n' for name in names)
    index.pages = {"/simple/uv/": links.encode(), f"/files/{names[-1]}": data}


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A copy of the script in a checkout without .venv, and a PATH with a python3 that has no pip."""
    (tmp_path / "checkout" / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "uv", tmp_path / "checkout" / "scripts" / "uv")
    programs = tmp_path / "bin"
    programs.mkdir()
    no_pip = tmp_path / "nopip" / "pip"
    no_pip.mkdir(parents=True)
    (no_pip / "__main__.py").write_text("raise SystemExit('No module named pip')")
    python = programs / "python3"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={no_pip.parent} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (programs / "env").symlink_to("/usr/bin/env")
    return tmp_path


def run(place: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    script = str(place / "checkout" / "scripts" / "uv")
    given = {"HOME": str(place / "home"), "PATH": str(place / "bin")} | environment
    return subprocess.run([script, *words], env=given, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("variable", ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"])
def test_fetches_the_wheel_that_fits_once(bare: Path, index: Index, tmp_path: Path, variable: str) -> None:
    offer(index, tmp_path)
    given = {variable: f"http://{index.url}/"}
    first = run(bare, "run", "swarmq", "demo", **given)
    assert first.returncode == 0, first.stderr
    uv = bare / "home" / ".cache" / "swarmq" / f"uv-{VERSION}" / "uv"
    python = os.path.realpath(sys.executable)
    said, variables = first.stdout.splitlines()
    assert said == f"{uv} run swarmq demo"
    assert variables.startswith("frozen=1 python=")
    assert os.path.realpath(variables.split()[1].removeprefix("python=")) == python
    assert variables.endswith(f"project={bare / 'checkout'}")
    assert first.stderr == f"scripts/uv: fetching uv {VERSION}\n"
    assert list(uv.parent.iterdir()) == [uv]

    (bare / "checkout" / ".venv").mkdir()
    second = run(bare, "lock", **given)
    assert second.stderr == ""
    assert second.stdout.splitlines()[1].startswith("frozen= python= ")
    assert len(index.asked) == 2


def test_logs_in_to_a_private_index(bare: Path, index: Index, tmp_path: Path) -> None:
    offer(index, tmp_path)
    index.login = "me@work:p/w"
    done = run(bare, "run", UV_DEFAULT_INDEX=f"http://me%40work:p%2Fw@{index.url}")
    assert done.returncode == 0, done.stderr
    refused = run(bare, "run", UV_DEFAULT_INDEX=f"http://me:wrong@{index.url}", XDG_CACHE_HOME=str(tmp_path / "other"))
    assert refused.returncode == 1
    assert "401" in refused.stderr
    assert "wrong" not in refused.stderr


def test_refuses_a_wheel_with_another_hash(bare: Path, index: Index, tmp_path: Path) -> None:
    offer(index, tmp_path, sha256="0" * 64)
    done = run(bare, "run", UV_DEFAULT_INDEX=f"http://{index.url}")
    assert done.returncode == 1
    assert "does not have the index's sha256" in done.stderr
    assert not (bare / "home" / ".cache" / "swarmq" / f"uv-{VERSION}" / "uv").exists()


def test_names_the_way_out_when_there_is_no_index(bare: Path) -> None:
    done = run(bare, "run", UV_DEFAULT_INDEX="http://127.0.0.1:9/simple")
    assert done.returncode == 1
    assert "No module named pip" in done.stderr
    assert "set UV_DEFAULT_INDEX" in done.stderr
    assert done.stderr.count("\n") == 2


def test_falls_back_to_pip(bare: Path) -> None:
    (bare / "nopip" / "pip" / "__main__.py").write_text(
        "import os, sys\n"
        f"assert sys.argv[-1] == 'uv=={VERSION}', sys.argv\n"
        "target = os.path.join(sys.argv[sys.argv.index('--target') + 1], 'bin')\n"
        "os.makedirs(target)\n"
        f"open(os.path.join(target, 'uv'), 'w').write({UV!r})\n"
    )
    done = run(bare, "sync", UV_DEFAULT_INDEX="http://127.0.0.1:9/simple")
    assert done.returncode == 0, done.stderr
    assert "frozen=1" in done.stdout


def test_names_the_variable_when_home_cannot_be_written(bare: Path) -> None:
    (bare / "home").write_text("not a directory")
    done = run(bare, "run", UV_DEFAULT_INDEX="http://127.0.0.1:9/simple")
    assert done.returncode == 1
    assert "set XDG_CACHE_HOME (or HOME)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("says", "taken"), [("uv 0.13.9 (x)", True), ("uv 1.0.0", True), ("uv 0.7.22", False), ("", False)]
)
def test_takes_a_new_enough_uv_from_path(bare: Path, says: str, taken: bool) -> None:
    mine = bare / "bin" / "uv"
    mine.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo "{says}"; else echo mine "$@"; fi\n')
    mine.chmod(0o755)
    done = run(bare, "run", "x", UV_DEFAULT_INDEX="http://127.0.0.1:9/simple")
    assert (done.stdout == "mine run x\n") is taken


def test_does_not_take_itself_for_uv(bare: Path, index: Index, tmp_path: Path) -> None:
    offer(index, tmp_path)
    (bare / "bin" / "uv").symlink_to(bare / "checkout" / "scripts" / "uv")
    done = run(bare, "run", "x", UV_DEFAULT_INDEX=f"http://{index.url}")
    assert done.stdout.splitlines()[0].endswith(f"uv-{VERSION}/uv run x")


def test_an_old_python_is_named_or_left_for_a_newer_one(bare: Path, index: Index, tmp_path: Path) -> None:
    offer(index, tmp_path)
    script = bare / "checkout" / "scripts" / "uv"
    script.write_text(script.read_text().replace("PYTHON = (3, 11)", "PYTHON = (3, 99)"))
    done = run(bare, "run", UV_DEFAULT_INDEX=f"http://{index.url}")
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed; " in done.stderr
    assert "Traceback" not in done.stderr
    newer = bare / "bin" / "python3.100"
    newer.write_text('#!/bin/sh\necho newer "$@"\n')
    newer.chmod(newer.stat().st_mode | stat.S_IXUSR)
    assert run(bare, "run", "x").stdout == f"newer {script} run x\n"


def test_two_at_once(bare: Path, index: Index, tmp_path: Path) -> None:
    offer(index, tmp_path)
    script = str(bare / "checkout" / "scripts" / "uv")
    given = {"HOME": str(bare / "home"), "PATH": str(bare / "bin"), "UV_DEFAULT_INDEX": f"http://{index.url}"}
    both = [
        subprocess.Popen([script, "run"], env=given, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(2)
    ]
    answers = [json.dumps(process.communicate(timeout=60)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert answers[0] == answers[1]
