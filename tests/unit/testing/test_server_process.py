from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from swarmq.testing import server

SCRIPT = "conversations: [{match: hello, turns: [{text: hi}]}]"
PATIENCE_SECONDS = 20


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-W", "error", "-m", "swarmq.testing.server", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_tells_where_it_listens_and_ends_when_told(tmp_path: Path, number: signal.Signals) -> None:
    file, port_file = tmp_path / "script.yaml", tmp_path / "port"
    file.write_text(SCRIPT)
    with running(str(file), "--port-file", str(port_file)) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url == f"http://127.0.0.1:{port_file.read_text()}"
        body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]})
        with urllib.request.urlopen(f"{url}/v1/chat/completions", body, PATIENCE_SECONDS) as answer:
            assert orjson.loads(answer.read())["choices"][0]["message"]["content"] == "hi"
        process.send_signal(number)
        assert process.wait(PATIENCE_SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert [path.name for path in tmp_path.iterdir() if path != file] == ["port"]


def test_a_bad_script_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert server.main([str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err == f"{tmp_path}/none.yaml: No such file or directory\n"


def test_an_address_that_is_not_here_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "script.yaml").write_text(SCRIPT)
    assert server.main([str(tmp_path / "script.yaml"), "--host", "192.0.2.1"]) == 5
    assert capsys.readouterr().err.startswith("192.0.2.1:0: ")
