"""``python -m swarmq``."""

import sys

from swarmq.cli.entry import main

sys.exit(main())
