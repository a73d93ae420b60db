"""Context windows of models whose endpoint's settings do not name one."""

from __future__ import annotations

DEFAULT_WINDOW_TOKENS = 256_000

# First match of the name's start wins. As of autumn 2026, from the makers' model pages; what they call the window,
# except where prompts have a lower limit (gpt-5: 272,000, above which later ones of the family cost double).
_WINDOWS = (
    ("claude-opus-4-6", 1_000_000),
    ("claude-opus-4-7", 1_000_000),
    ("claude-opus-4-8", 1_000_000),
    ("claude-sonnet-4-6", 1_000_000),
    ("claude-opus-5", 1_000_000),
    ("claude-sonnet-5", 1_000_000),
    ("claude-haiku-5", 1_000_000),
    ("claude-fable-", 1_000_000),
    ("claude-mythos-", 1_000_000),
    ("claude-", 200_000),
    ("gpt-5", 272_000),
    ("gpt-4.1", 1_047_576),
    ("gpt-4o", 128_000),
    ("gpt-4-turbo", 128_000),
    ("o1", 200_000),
    ("o3", 200_000),
    ("o4", 200_000),
    ("deepseek-v4", 1_000_000),
    ("deepseek-", 128_000),
)


def context_window_tokens(model: str) -> int:
    """The window of a model by its name; a maker's prefix (``openai/gpt-5``) is ignored."""
    name = model.rsplit("/", 1)[-1].lower()
    return next((tokens for start, tokens in _WINDOWS if name.startswith(start)), DEFAULT_WINDOW_TOKENS)
