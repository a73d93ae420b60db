"""Names a call, so that a script knows a repetition of it."""

from __future__ import annotations

import secrets


def new_call_id() -> str:
    """Made once per call, outside the gate's retries. From the system's randomness: forked workers must not agree."""
    return secrets.token_hex(8)
