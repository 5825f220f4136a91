"""Two pages compared: what they say, how it is laid out, and what is drawn.

Outside its drawings and pictures a page is compared as it is written, spaces and the last digit of numbers aside: so no
style or attribute can be there that the page made again does not have. Its script must be ours to the last sign. A
drawing's lines depend on matplotlib's version; its texts are compared, and it may hold no kind of element, attribute or
style that draws nothing. Pictures are compared by their pixels.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import html.parser
import io
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

DRAWING = re.compile(r"<svg\b.*?</svg\s*>", re.DOTALL)
PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=\s]*")
TOKEN = re.compile(r"(<[^<>]*>)")
SHOWN = 3  # differences of a page that are named
SIDE = 20_000  # pixels of a picture along one side that are looked at


class Page(html.parser.HTMLParser):
    """What a page says: every text of it in order, descriptions of figures among them, and what it names itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.about: dict[str, Any] | None = None
        self._hidden = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Take note of descriptions, and of the page's own account of what it shows."""
        known = dict(attributes)
        self._hidden = tag in ("style", "script")
        self.texts += [known[name] or "" for name in ("alt", "aria-label") if name in known]
        if tag == "meta" and known.get("name") == "lockstep":
            try:
                about = json.loads(known.get("content") or "")
            except (ValueError, RecursionError):
                return
            self.about = about if isinstance(about, dict) else None

    def handle_endtag(self, tag: str) -> None:
        """Text is seen again after a style or a script."""
        self._hidden = False

    def handle_data(self, data: str) -> None:
        """Take note of what is read."""
        if not self._hidden and (text := " ".join(data.split())):
            self.texts.append(text)


# --------------------------------------------------------------------------------------------------------------- texts


def differences(told: Sequence[str], wanted: Sequence[str]) -> list[tuple[str, str]]:
    """(the page's text, the runs' text) wherever they differ in more than the last digit of a number."""
    rows: list[tuple[str, str]] = []
    if len(told) == len(wanted):
        return [_apart(a, b) for a, b in zip(told, wanted, strict=True) if not reads_alike(a, b)]
    for kind, a, b, c, d in difflib.SequenceMatcher(None, told, wanted, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        if b - a == d - c:
            pairs = zip(told[a:b], wanted[c:d], strict=True)
            rows += [_apart(one, two) for one, two in pairs if not reads_alike(one, two)]
        else:
            rows.append(_apart(" ".join(told[a:b]), " ".join(wanted[c:d])))
    return rows


NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def reads_alike(one: str, other: str) -> bool:
    """Whether texts are equal except for last decimals: another version of a library may round the other way."""
    if one == other:
        return True
    if NUMBER.sub("0", one) != NUMBER.sub("0", other):
        return False
    return all(_last_digit(a, b) for a, b in zip(NUMBER.findall(one), NUMBER.findall(other), strict=True))


def _last_digit(a: str, b: str) -> bool:
    places = len(a.partition(".")[2])
    if a == b or not places or places != len(b.partition(".")[2]):
        return a == b
    return abs(float(a.replace(",", "")) - float(b.replace(",", ""))) < 1.5 * 10.0**-places


def _apart(one: str, other: str) -> tuple[str, str]:
    """Two texts, shortened for a sentence so that the place where they part is shown."""
    same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = same - 20 if max(len(one), len(other)) > 60 and same > 40 else 0
    shown = [f"…{text[start:]}" if start else text for text in (one, other)]
    first, second = (text if len(text) <= 60 else f"{text[:57]}…" for text in shown)
    return first, second


# -------------------------------------------------------------------------------------------------------------- markup


def added(told: str, wanted: str, plain: Any = lambda text: text) -> list[tuple[str, str]]:
    """(markup of a page, that of the page made again) wherever they differ outside drawings and pictures.

    `plain` brings numbers into English, so that the last digit can be told.
    """
    one, two = ([plain(token) for token in _tokens(text)] for text in (told, wanted))
    return differences(one, two)


def _tokens(text: str) -> list[str]:
    """Tags and what stands between them, spaces made one, with a mark for each drawing and picture."""
    text = PICTURE.sub("data:picture", DRAWING.sub(lambda found: _frame(found[0]), text))
    return [token for part in TOKEN.split(text) if (token := " ".join(part.split()))]


def _frame(drawing: str) -> str:
    """The tag of a drawing, whose size, axes and description are the page's, and the names of its lines."""
    names = " ".join(re.findall(r'data-series="[^"]*"', drawing))
    return f"{drawing[: drawing.index('>') + 1]}{names}</svg>"


# ------------------------------------------------------------------------------------------------------------- scripts

SCRIPT = re.compile(r"<script\b.*?</script\s*>", re.DOTALL | re.IGNORECASE)
POLICY = re.compile(r"<meta http-equiv=[^>]*>", re.IGNORECASE)


def other_scripts(told: str, wanted: str) -> bool:
    """Whether a page's scripts, or what it lets run, are not to the last sign those of the page made again.

    In a text the last digit of a number may differ. A script in which it does is another program.
    """
    return any(pattern.findall(told) != pattern.findall(wanted) for pattern in (SCRIPT, POLICY))


# ------------------------------------------------------------------------------------------------------------ drawings


# What any version of matplotlib may draw with: it shows nothing outside of its drawing and does nothing.
ELEMENTS = "svg g defs path rect use text tspan image clippath line polyline polygon circle ellipse title desc"
ATTRIBUTES = (
    "d x y x1 y1 x2 y2 cx cy r rx ry dx dy width height points transform viewbox id class role style aria-label href "
    "clip-path clip-rule fill fill-opacity fill-rule stroke stroke-width stroke-opacity stroke-dasharray "
    "stroke-dashoffset stroke-linecap stroke-linejoin stroke-miterlimit opacity text-anchor font-size font-family "
    "font-style font-weight preserveaspectratio image-rendering xml:space version"
)
PROPERTIES = (
    "fill fill-opacity fill-rule stroke stroke-width stroke-opacity stroke-dasharray stroke-dashoffset stroke-linecap "
    "stroke-linejoin stroke-miterlimit opacity text-anchor font font-size font-family font-style font-weight "
    "font-variant font-stretch image-rendering"
)
PLAIN = {
    *(f"<{name}>" for name in ELEMENTS.split()), *(f"{name}=" for name in ATTRIBUTES.split()),
    *(f"style {name}:" for name in PROPERTIES.split()), "href=data:picture",
}  # fmt: skip


def strange(told: str, wanted: str) -> list[str]:
    """Elements, attributes and styles in a page's drawings that no drawing of ours has, whatever drew it."""
    return sorted(_kinds(told) - _kinds(wanted) - PLAIN)


def _kinds(text: str) -> set[str]:
    found: set[str] = set()
    for drawing in DRAWING.findall(text):
        drawing = PICTURE.sub("data:picture", drawing)
        rest = re.sub(r"<(/?)([^\s<>/]+)((?:[^<>\"']|\"[^\"]*\"|'[^']*')*)>", "", drawing)
        found |= {"<"} if "<" in rest else set()  # what is no element: comments, CDATA, declarations
        for name, attributes in re.findall(r"<([^\s<>/]+)((?:[^<>\"']|\"[^\"]*\"|'[^']*')*)>", drawing):
            found.add(f"<{name.lower()}>")
            pairs = re.findall(r"([^\s=\"'/]+)(?:\s*=\s*(\"[^\"]*\"|'[^']*'|[^\s\"']+))?", attributes)
            for key, value in pairs:
                found.add(f"{key.lower()}=")
                found |= _of_value(key.lower(), value.strip("\"'"))
    return found


def _of_value(key: str, value: str) -> set[str]:
    """What an attribute's value can do: properties of a style, names of classes, where a link leads."""
    if key == "style":
        return {f"style {part.partition(':')[0].strip().lower()}:" for part in value.split(";") if part.strip()} | (
            {f"style {word}" for word in re.findall(r"(?:url\([^#]|[@\\{}]|expression|!important)", value)}
        )
    if key in ("class", "role"):
        return {f"{key}={value}"}
    if key.endswith("href") and not value.startswith("#"):
        return {f"href={value[:20]}"}
    return set()


def drawn_otherwise(told: str, wanted: str) -> int:
    """How many drawings of a page are not, line by line, those of the page made again."""
    one, two = DRAWING.findall(told), DRAWING.findall(wanted)
    return sum(a != b for a, b in zip(one, two, strict=False)) + abs(len(one) - len(two))


# ------------------------------------------------------------------------------------------------------------ pictures


def other_pictures(told: str, wanted: str) -> Iterator[int]:
    """The numbers, from 1, of a page's pictures whose pixels are not those of the page made again."""
    one, two = (PICTURE.findall(DRAWING.sub("", text)) for text in (told, wanted))
    for number, (a, b) in enumerate(zip(one, two, strict=False), 1):
        if a != b and _pixels(a) != _pixels(b):
            yield number
    if len(one) != len(two):
        yield min(len(one), len(two)) + 1


def _pixels(source: str) -> tuple[Any, ...] | None:
    """(size, RGBA) of a picture in a page; None of one that cannot be read, which is equal to nothing readable."""
    from PIL import Image

    try:
        packed = base64.b64decode("".join(source.partition(",")[2].split()), validate=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(io.BytesIO(packed), formats=["PNG"]) as image:
                if max(image.size) > SIDE:
                    return None
                return image.size, image.convert("RGBA").tobytes()
    except (ValueError, OSError, SyntaxError, binascii.Error, Warning, Image.DecompressionBombError):
        return None
