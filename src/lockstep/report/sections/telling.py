"""The comparisons as the page tells them: what can be said in sight, what cannot said once, the rows behind it.

`comparisons` has every row; here nothing is worked out anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lockstep.language import _, n_
from lockstep.report.sections.folds import fold, one_text
from lockstep.report.words.quantities import listed, whole


def section(found: Mapping[str, Any]) -> dict[str, Any]:
    """The section of `comparisons.section` with its tables folded, and one sentence for all that cannot be told."""
    said = _("What can be said")
    silent = [one for one in found["pairs"] if one_text(one["table"], said) == _("one seed: cannot be told")]
    told = [one for one in found["pairs"] if one not in silent]
    published = found["published"]
    return dict(found) | {
        "overview": found["overview"] and fold(found["overview"]),
        "silent": _silent(silent),
        "silent_pairs": [{"title": one["title"], "fold": fold(one["table"])} for one in silent],
        "pairs": [{"title": one["title"], "fold": fold(one["table"], said, one["title"])} for one in told],
        "gaps": found["gaps"] and fold(found["gaps"], said, _("Generalisation gap")),
        "effects": found["effects"] and fold(found["effects"], said, _("Depth and kernel size")),
        "rankings": found["rankings"] and fold(found["rankings"], said, _("Epoch times of two backends")),
        "start": found["start"] and fold(found["start"]),
        "published": {**published, "fold": published["table"] and fold(published["table"])},
    }


def _silent(tables: list[dict[str, Any]]) -> str:
    """That one seed tells nothing of any of these pairs, said once for all tables."""
    n = sum(len(one["table"].rows) for one in tables)
    if not n:
        return ""
    return n_(
        "With one seed none of these comparisons can be told from chance: {count} ({kinds}).",
        "With one seed none of these comparisons can be told from chance: {count} ({kinds}).",
        n,
        count=whole(n),
        kinds=listed([one["title"].lower() for one in tables]),
    )
