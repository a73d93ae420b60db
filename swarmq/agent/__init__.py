"""The agent loop: context, tools, transcript codec."""
