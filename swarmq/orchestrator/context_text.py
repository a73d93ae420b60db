"""What a subtask is told of the results of its dependencies, within its share of the context window. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from swarmq.agent.context import line_end, target_tokens, text_tokens
from swarmq.models.plan import Plan, Subtask
from swarmq.models.swarm import SubtaskResult

DEPENDENCY_SHARE = 0.25
"""Of what a conversation may hold before it is made shorter."""
_NOTE_TOKENS = 60
_FILES_LISTED = 50


def dependency_context(
    plan: Plan, subtask: Subtask, results: Mapping[str, SubtaskResult], window_tokens: int, *, shared: bool = True
) -> str:
    """The results of a subtask's dependencies, each under its name; empty without dependencies.

    ``shared``: as for results_text.
    """
    by_name = {other.name: other.id for other in plan.subtasks}
    known = [results[by_name[name]] for name in subtask.dependencies if by_name[name] in results]
    return results_text(known, int(target_tokens(window_tokens) * DEPENDENCY_SHARE), shared=shared)


def results_text(results: Sequence[SubtaskResult], budget_tokens: int, *, shared: bool = True) -> str:
    """Results under their names. What is too long for its fair share is cut and says so.

    ``shared``: whoever reads it has swarm_share, and is told that the whole text is there.
    """
    texts = [result_text(result) for result in results]
    shares = fair_shares([text_tokens(text) for text in texts], budget_tokens)
    return "\n\n".join(
        f"## Result of {result.name}\n{_within(text, share, result.subtask_id if shared else None)}"
        for result, text, share in zip(results, texts, shares, strict=True)
    )


def result_text(result: SubtaskResult) -> str:
    """A result's answer with what was merged, or its error."""
    text = result.text.strip() if result.success else f"It did not succeed: {result.error or result.status.value}"
    files = result.merge.files if result.merge is not None else ()
    if not files:
        return text or "(no text)"
    shown = ", ".join(files[:_FILES_LISTED])
    more = f" and {len(files) - _FILES_LISTED} more" if len(files) > _FILES_LISTED else ""
    return f"{text}\n\nFiles changed: {shown}{more}"


def fair_shares(sizes: Sequence[int], budget: int) -> list[int]:
    """Each gets what it needs or an equal part; what the small ones leave goes to the large ones.

    The shares' sum never exceeds the budget, and is the sizes' sum where that fits.
    """
    shares = [0] * len(sizes)
    left = budget
    by_size = sorted(range(len(sizes)), key=lambda index: sizes[index])
    for place, index in enumerate(by_size):
        shares[index] = min(sizes[index], left // (len(sizes) - place))
        left -= shares[index]
    return shares


def _within(text: str, share_tokens: int, key: str | None) -> str:
    if text_tokens(text) <= share_tokens:
        return text
    # 3.5 bytes are a token and UTF-8 never has fewer bytes than characters; the loop is for text that has more.
    limit_characters = max(0, int((share_tokens - _NOTE_TOKENS) * 3.5))
    while limit_characters > 0 and text_tokens(text[:limit_characters]) > share_tokens - _NOTE_TOKENS:
        limit_characters = limit_characters * 3 // 4
    end = line_end(text, limit_characters)
    whole = f' The whole text: swarm_share {{"action": "get", "key": "{key}"}}' if key is not None else ""
    return f"{text[:end]}\n[Cut: {end:,} of {len(text):,} characters.{whole}]"
