"""Properties are tested without a limit of time: how long an example takes says how busy the machine is."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unhurried", settings(deadline=None))  # in CI over hypothesis' own profile for it
settings.load_profile("unhurried")
