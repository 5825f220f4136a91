"""Run folders → one page that needs nothing else: no network, no framework, and no script to be whole.

`facts` reads the folders and `proofs` the proof beside them (what is missing becomes a named gap). `page` gathers what
`sections` have to show, a file each, and `report.html` lays it out; `proof.html` is the page of a proof alone,
`difference.html` that of two models of people's own. `earlier` holds the layout of before, by which pages are checked
that people have kept.
"""

from lockstep.report.compare.milestones import levels_of
from lockstep.report.page import (
    LAYOUT,
    about,
    compare,
    gather,
    numbers_of,
    render,
    write,
    write_difference,
    write_proof,
    write_report,
)

__all__ = [
    "LAYOUT", "about", "compare", "gather", "levels_of", "numbers_of", "render", "write", "write_difference",
    "write_proof", "write_report",
]  # fmt: skip
