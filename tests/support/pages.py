"""A report's page as tests read it: its words, and whom it asks for anything."""

from __future__ import annotations

import html.parser
import re
from pathlib import Path

from lockstep import report, store
from lockstep.report import write_report


def page_of(root: Path) -> str:
    return write_report(store.find_runs([root]), root / "report.html").read_text(encoding="utf-8")


def words(page: str) -> str:
    """What a person reads: text without tags, entities resolved, every white space one space."""
    page = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


OWN = (Path(report.__file__).parent / "report.js").read_text(encoding="utf-8")


class Outside(html.parser.HTMLParser):
    """Every place of a page that would fetch something or run something that is not ours."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False
        self._script: str | None = None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self._in_style = tag == "style"
        if tag == "script":
            is_data = dict(attributes) == {"type": "application/json", "id": "words"}
            self._script = None if is_data else ""
            self.found += [] if is_data or not attributes else [f"script {attributes}"]
        if tag in ("iframe", "object", "embed", "link", "base"):
            self.found.append(tag)
        for name, value in attributes:
            value = (value or "").strip()
            fetches = name in ("src", "href", "xlink:href", "srcset", "poster", "action", "background")
            if name.startswith("on") or (fetches and not value.startswith(("#", "data:image/png;base64,"))):
                self.found.append(f"{tag} {name}={value}")
            self._look_for_url(value)

    def handle_data(self, data):
        if self._script is not None:
            self._script += data
        if self._in_style:
            self._look_for_url(data)
            self.found += re.findall(r"@import", data)

    def handle_endtag(self, tag):
        self._in_style = False
        if tag == "script":
            self.found += ["script"] if self._script not in (None, OWN) else []
            self._script = None

    def _look_for_url(self, text):
        self.found += [url for url in re.findall(r"url\(\s*['\"]?([^)]*)", text) if not url.startswith("#")]
