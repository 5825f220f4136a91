"""Run folders → one page that needs nothing else: no script, no network, no framework.

`facts` reads the folders (what is missing becomes a named gap), `page` gathers a plain dict, `report.html` lays it out.
"""

from lockstep.report.page import gather, write_report

__all__ = ["gather", "write_report"]
