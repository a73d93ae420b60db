"""For tests of swarmq and of what is built on it: a model server that follows a script."""

from __future__ import annotations

from swarmq.testing.script import Script, ScriptedConversation, Turn
from swarmq.testing.scripted import ScriptedServer

__all__ = ["Script", "ScriptedConversation", "ScriptedServer", "Turn"]
