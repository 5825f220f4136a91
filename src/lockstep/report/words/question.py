"""What a study asks, as far as its runs can answer it: read from the words of its question.

A question is free text, in the language of whoever asks. Nothing is understood here: words are recognised that name
what a comparison may be about, so that the first paragraph begins with what was asked for. Where no word is known, what
varies between the runs is what is asked.
"""

from __future__ import annotations

import re

# What is asked about → words by which it is recognised. The order decides between words that stand at one place.
WORDS = {
    "gap": r"overfit|generali[sz]|regulari[sz]|\bgap\b|переобуч|разрыв|обобща|регуляриз",
    "structure": r"\blayers?\b|\bkernels?\b|\bdepth\b|\bdeep|слоёв|\bсло[йяеию]|\bяд(ер|р)|глубин",
    "settings": (
        r"optimi[sz]er|learning rate|activation|batch size|schedule|augment|label smoothing|initiali|оптимизатор|"
        r"темп\w* обучения|скорост\w* обучения|активац|размер\w* пакета|аугментац|инициализац"
    ),
    "backends": r"framework|backend|\bsame\b|pytorch|tensorflow|keras|\bjax\b|numpy|фреймворк|бэкенд|одинаков|та же",
    "networks": r"\bnetworks\b|which (network|model)|architecture|как(ая|ие) сет|сетей|архитектур",
    "cost": r"\bcosts?\b|\bfast|\btime\b|seconds|how little|\bspeed\b|стоит|быстр|врем[яе]|секунд|как мало",
}
TARGET = re.compile(r"(\d{1,3}(?:[.,]\d+)?)\s*(?:%|percent|процент)")


def asked(question: str) -> list[str]:
    """What a question asks about, keys of WORDS, in the order in which it does.

    >>> asked("Is it the same network in every framework, and what does it cost?")
    ['backends', 'cost']
    """
    text = question.lower()
    found = {name: match.start() for name, words in WORDS.items() if (match := re.search(words, text))}
    return sorted(found, key=lambda name: found[name])


def target(question: str) -> float | None:
    """The test accuracy that a question names, as a share; None where it names none, or more than one.

    >>> target("How little training takes a network to 99.5 % on MNIST?")
    0.995
    """
    found = {float(number.replace(",", ".")) for number in TARGET.findall(question)}
    values = [value / 100 for value in found if 0 < value <= 100]
    return values[0] if len(values) == 1 else None


def language(question: str) -> str | None:
    """The language in which a question is asked, where its letters tell: "ru", or None."""
    letters = [sign for sign in question.lower() if sign.isalpha()]
    cyrillic = sum("а" <= sign <= "я" or sign == "ё" for sign in letters)
    return "ru" if letters and 2 * cyrillic > len(letters) else None
