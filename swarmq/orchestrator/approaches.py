"""What the candidates of a race are told to try, so that they do not all do the same (S10)."""

from __future__ import annotations

APPROACHES = (
    "Make the smallest change that does it: touch as few files and lines as you can, and keep the structure as it is.",
    "Begin with a check: write or find a test that fails for the right reason, then make it pass, then tidy up.",
    "Follow precedent: find the most similar thing in this repository, and solve this one in the same way, with the "
    "same names, helpers and style.",
    "Mend the cause: find out why the code is as it is, change the design where that makes the rest simple, and only "
    "then do what is asked.",
    "Work from the outside in: read all callers and public interfaces first, decide what they should see, and adapt "
    "the inside to it.",
    "Think of what can go wrong: list edge cases and bad input first, and write the code so that each has a clear "
    "answer.",
    "Use what is there: prefer the standard library and what the repository depends on already to code of your own, "
    "and remove what that makes unnecessary.",
    "Start over: write the part in question anew from what it has to do, then compare it with the old one and carry "
    "over what is missing.",
)
"""In the order in which candidates get them."""
