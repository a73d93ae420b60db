"""``python -m swarmq``."""

import sys

from swarmq.cli.main import main

sys.exit(main())
