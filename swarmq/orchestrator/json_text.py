"""Finding JSON in what a model wrote around it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

MAX_CHARACTERS = 400_000
"""Only so much of a text is searched; a longer answer is no plan."""
_MAX_STARTS = 100
"""Each place that looks like a start may cost a scan to the text's end."""
_START = re.compile(r'\{\s{0,200}["}]|\[\s{0,200}\{')
_DECODER = json.JSONDecoder()


def json_values(text: str) -> Iterator[Any]:
    """The JSON objects, and arrays of objects, in a text, in order; nothing inside of another one."""
    text = text[:MAX_CHARACTERS]
    position = 0
    for _ in range(_MAX_STARTS):
        start = _START.search(text, position)
        if start is None:
            return
        try:
            value, position = _DECODER.raw_decode(text, start.start())
        except (json.JSONDecodeError, RecursionError):
            position = start.start() + 1
        else:
            yield value
