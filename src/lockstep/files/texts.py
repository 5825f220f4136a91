"""Texts as data: a document keeps, beside each of its English sentences, the form and the values that it is made of.

    {"claim": "the first 10 steps are the same …", …,
     "texts": {"the first 10 steps are the same …": {"forms": ["the first {n} steps are …"], "values": {"n": 10}}}}

So whoever knows nothing of it reads plain sentences, and whoever does says them in any language. Nothing that stands
there is believed: a form may only put its values in, and has to make that very sentence.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lockstep.language import Text

KEY = "texts"


def with_texts(document: Any) -> Any:
    """A table with the forms and values of every text in it; whatever else it is, as it is."""
    if not isinstance(document, Mapping):
        return document
    kept = {str(text): _kept(text) for text in _texts(document)}
    return {**document, KEY: kept} if kept else document


def _texts(value: Any) -> Iterator[Text]:
    """Every text that was made of a form."""
    if isinstance(value, Text):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _kept(text: Text) -> dict[str, Any]:
    return {"forms": list(text.forms), "values": {name: _value(value) for name, value in text.values.items()}}


def _value(value: Any) -> Any:
    """A value as JSON holds it; what is no number, no truth and no text is what it would be called in the sentence."""
    if isinstance(value, Text):
        return {"text": str(value), **_kept(value)}
    if isinstance(value, np.generic) and str(value) == str(value.item()):
        value = value.item()
    is_plain = value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    return value if is_plain else str(value)


def restored(document: Any) -> Any:
    """A document as it was before it was written: its sentences are texts again, where theirs are forms of them."""
    kept = document.pop(KEY, None) if isinstance(document, dict) else None
    if not isinstance(kept, dict):
        return document
    texts = {sentence: text for sentence, row in kept.items() if (text := _text(sentence, row)) is not None}
    return _put_back(document, texts) if texts else document


def _put_back(value: Any, texts: Mapping[str, Text]) -> Any:
    if isinstance(value, str):
        return texts.get(value, value)
    if isinstance(value, dict):
        return {key: _put_back(item, texts) for key, item in value.items()}
    return [_put_back(item, texts) for item in value] if isinstance(value, list) else value


def _text(sentence: Any, row: Any) -> Text | None:
    """The text of a form and its values that makes this sentence, if it does."""
    if not isinstance(row, dict) or not isinstance(sentence, str):
        return None
    forms, values = row.get("forms"), row.get("values")
    if not isinstance(values, dict) or not isinstance(forms, list) or len(forms) not in (1, 2):
        return None
    values = {name: _text(item.get("text"), item) if isinstance(item, dict) else item for name, item in values.items()}
    if not all(isinstance(item, str | int | float | None) for item in values.values()):
        return None
    try:
        made = Text.of(tuple(forms), values) if all(map(_only_puts_in, forms)) else None
    except (ValueError, TypeError, LookupError):
        return None
    return made if made == sentence else None


_SPEC = re.compile(r"[,]?(\.\d)?[a-z%]?")


def _only_puts_in(form: Any) -> bool:
    """Whether a form asks nothing of its values but to be written as a number or as they are."""
    return isinstance(form, str) and all(
        name is None or (name.isidentifier() and _SPEC.fullmatch(spec or "") and conversion in (None, "r", "s"))
        for _lead, name, spec, conversion in string.Formatter().parse(form)
    )
