"""Which columns of a table a terminal has room for, and how wide each is. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

GAP_CHARACTERS = 2
"""Between two columns."""


def fit(widths: Mapping[str, int], room: int, least: Mapping[str, int], spare: Sequence[str] = ()) -> dict[str, int]:
    """The columns to show, in their order, with the width of each. All are in characters.

    Columns of ``least`` hold free text: they are cut first, the widest of them at each point, down to the number there.
    Where that is not enough, those of ``spare`` are left out, the first one first. Every other column keeps its width,
    so that a name or a figure is whole: where even that has no room, the sum of the widths is over ``room``.
    """
    floor = {name: min(width, least.get(name, width)) for name, width in widths.items()}
    shown = set(widths)
    left_out = [name for name in spare if name in shown]
    for name in left_out:
        if _sum(floor, shown) <= room:
            break
        shown.remove(name)
    for name in reversed(left_out):  # a small column may have gone for nothing, as a large one had to follow
        if name not in shown and _sum(floor, shown | {name}) <= room:
            shown.add(name)
    fitted = {name: width for name, width in widths.items() if name in shown}
    while _sum(fitted, shown) > room:
        above = [name for name in fitted if fitted[name] > floor[name]]
        if not above:
            break
        fitted[max(above, key=fitted.__getitem__)] -= 1
    return fitted


def _sum(widths: Mapping[str, int], shown: set[str]) -> int:
    return sum(widths[name] for name in shown) + GAP_CHARACTERS * (len(shown) - 1)
