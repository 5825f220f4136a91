"""A report's page as tests read it: its words, and whom it asks for anything."""

from __future__ import annotations

import html.parser
import re
from pathlib import Path

from lockstep import store
from lockstep.report import write_report


def page_of(root: Path) -> str:
    return write_report(store.find_runs([root]), root / "report.html").read_text(encoding="utf-8")


def words(page: str) -> str:
    """What a person reads: text without tags, entities resolved, every white space one space."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


class Outside(html.parser.HTMLParser):
    """Every place of a page that would fetch something or run something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self._in_style = tag == "style"
        if tag in ("script", "iframe", "object", "embed", "link", "base"):
            self.found.append(tag)
        for name, value in attributes:
            value = (value or "").strip()
            fetches = name in ("src", "href", "xlink:href", "srcset", "poster", "action", "background")
            if name.startswith("on") or (fetches and not value.startswith(("#", "data:image/png;base64,"))):
                self.found.append(f"{tag} {name}={value}")
            self._look_for_url(value)

    def handle_data(self, data):
        if self._in_style:
            self._look_for_url(data)
            self.found += re.findall(r"@import", data)

    def handle_endtag(self, tag):
        self._in_style = False

    def _look_for_url(self, text):
        self.found += [url for url in re.findall(r"url\(\s*['\"]?([^)]*)", text) if not url.startswith("#")]
