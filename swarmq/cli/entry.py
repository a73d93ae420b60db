"""Where the program starts. Ctrl-C while it is still importing ends it at once: nothing has been begun."""

from __future__ import annotations

import os
import signal

INTERRUPTED = 130
"""``ExitCode.INTERRUPTED``, which is one of the imports."""


def main() -> int:
    """Import the command line and run one command; the exit code."""
    # A handler, and no try: what an import makes of a KeyboardInterrupt inside it is not ours to know.
    guards = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # nohup and "&" of a script ignore it
    if guards:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from swarmq.cli.main import main as run

    if guards:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()
