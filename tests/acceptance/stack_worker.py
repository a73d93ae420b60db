"""A stand-in for a worker of the embedded stack: writes its heartbeat, says what happened to it, ends when told.

``python stack_worker.py NAME [MODE]``; modes: ``crash`` ends at once, ``stubborn`` ignores SIGTERM and leaves a daemon.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

NAME, MODE = sys.argv[1], [*sys.argv, ""][2]
STATE = Path(os.environ["SWARMQ_STATE_DIR"])
RUNTIME = Path(os.environ["SWARMQ_RUNTIME_DIR"])


def report(event: str, **about: object) -> None:
    with (STATE / "reports.jsonl").open("a") as file:
        file.write(json.dumps({"name": NAME, "pid": os.getpid(), "event": event, **about}) + "\n")


def broker_answers() -> bool:
    """Whether Valkey still takes commands with the password of the URL file."""
    import redis

    url = urlsplit(Path(os.environ["SWARMQ_REDIS_URL_FILE"]).read_text())
    client = redis.Redis(unix_socket_path=unquote(url.path), password=unquote(url.password or ""))
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def main() -> None:
    if MODE == "crash":
        sys.exit("no module named Bogus")
    daemon = 0
    if MODE == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # Started in a session of its own by a parent that ends at once: nobody's child but init's, or the supervisor's.
        script = (
            "import subprocess as s; print(s.Popen(['sleep', '600'], start_new_session=True, stdout=-3, stderr=-3).pid)"
        )
        daemon = int(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)
    else:
        signal.signal(signal.SIGTERM, stop)
    report("started", keys={k: v for k, v in os.environ.items() if k.endswith("_KEY")}, daemon=daemon)
    (RUNTIME / "workers" / f"{NAME}-{os.getpid()}.json").write_text(json.dumps({"pid": os.getpid()}))
    while True:
        signal.pause()


def stop(number: int, frame: object) -> None:
    report("stopped", broker=broker_answers())
    os._exit(0)


if __name__ == "__main__":
    main()
