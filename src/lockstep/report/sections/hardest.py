"""The test images that are hardest for any backend, with what every backend makes of each.

`mistakes` draws those of one run. Here are the hardest of all backends of a network, each image once: below it the
answers, and for the page's script every probability, by which it shows an image large, and chooses by class or backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lockstep.language import _, n_
from lockstep.report.compare.cells import tested_on
from lockstep.report.compare.groups import Group
from lockstep.report.draw import lettering
from lockstep.report.draw.pictures import Tile
from lockstep.report.facts import Facts
from lockstep.report.sections.mistakes import LONGEST, MAX_GROUPS, ROOM, pixels
from lockstep.report.table import Table
from lockstep.report.words.quantities import fixed, listed, whole
from lockstep.spec import Recipe
from lockstep.training import metrics

OF_EACH = 25  # images of each backend
SHOWN = 40  # images of a network
MOST_CLASSES = 20  # whose probabilities are all given


def sections(groups: Sequence[Group]) -> list[dict[str, Any] | None]:
    """`section` for each group that a page has room for; None where there are no answers, or no room for images."""
    found, room = [], ROOM
    for members in groups[:MAX_GROUPS]:
        told = section(members)
        size = sum(len(tile["source"]) for tile in told["tiles"]) if told else 0
        found.append(told if size <= room else None)
        room -= size if size <= room else 0
    return found


def section(members: Group) -> dict[str, Any] | None:
    """The images as tiles, the classes and backends to choose by, and the same as a table."""
    firsts = members.firsts()
    runs = [run for run in firsts if tested_on(run) == tested_on(firsts[0])]
    answers = {run.backend: found for run in runs if (found := run.predictions()) is not None}
    runs = [run for run in runs if run.backend in answers and _is_same(answers, runs, run)]
    if not runs:
        return None
    recipe = _recipe(runs[0])
    ranks = {run.backend: metrics.hardest(*answers[run.backend], recipe, OF_EACH).tolist() for run in runs}
    best: dict[int, int] = {}
    for order in ranks.values():
        for rank, place in enumerate(order):
            best[place] = min(rank, best.get(place, rank))
    order = sorted(best, key=lambda place: (best[place], place))[:SHOWN]
    images = pixels(runs, order)
    shown = [place for place in order if place in images]
    if not shown:
        return None
    worth = {run.backend: _worth(answers[run.backend][0], recipe) for run in runs}
    labels = answers[runs[0].backend][1]
    names = lettering.named(runs[0].class_names, LONGEST)
    tiles = [_tile(place, images[place], int(labels[place]), names, worth, ranks) for place in shown]
    return {
        "tiles": tiles,
        "classes": sorted({tile["true"] for tile in tiles}, key=lambda name: list(names).index(name)),
        "backends": [run.backend for run in runs],
        "names": list(names) if len(names) <= MOST_CLASSES else [],
        "text": _text(runs, len(shown), recipe),
        "twin": _twin(shown, labels, names, worth),
    }


def _is_same(answers: dict[str, tuple[np.ndarray, np.ndarray]], runs: Sequence[Facts], run: Facts) -> bool:
    first = next(one for one in runs if one.backend in answers)
    return run.seed == first.seed and np.array_equal(answers[run.backend][1], answers[first.backend][1])


def _recipe(run: Facts) -> Recipe:
    squared = (run.spec.get("recipe") or {}).get("loss") == "mean_squared_error"
    return Recipe(loss="mean_squared_error") if squared else Recipe()


def _worth(logits: np.ndarray, recipe: Recipe) -> np.ndarray:
    """(n, classes): probabilities; of a network trained on squared errors its outputs."""
    if recipe.loss == "mean_squared_error":
        return logits.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(np.exp(metrics.log_softmax(logits)), dtype=np.float64)


def _tile(
    place: int, image: np.ndarray, label: int, names: Sequence[str], worth: dict[str, np.ndarray],
    ranks: dict[str, list[int]],
) -> dict[str, Any]:  # fmt: skip
    """One image: what it is, what each backend answers, and the numbers behind it."""
    true = _named(names, label)
    groups: dict[str, list[str]] = {}
    for backend, values in worth.items():
        groups.setdefault(_named(names, int(values[place].argmax())), []).append(backend)
    shares = {
        answer: _span([worth[one][place, _index(names, answer)] for one in who]) for answer, who in groups.items()
    }
    told, words = [], []
    for answer, who in groups.items():
        whose = "" if len(groups) == 1 else f" · {', '.join(who)}"
        told.append(f"{'✓' if answer == true else '✗'} {answer} {shares[answer]}{whose}")
        words.append(_("{answer} with {share} ({who})", answer=answer, share=shares[answer], who=listed(who)))
    alt = _("Test image {n}, {true}; answered: {answers}", n=place, true=true, answers="; ".join(words))
    few = len(names) <= MOST_CLASSES
    return {
        "n": place, "true": true, "lines": told, "alt": alt, "source": Tile(image, (), alt).source,
        "wrong": " ".join(one for one in worth if int(worth[one][place].argmax()) != label),
        "ranks": " ".join(str(ranks[one].index(place)) if place in ranks[one] else "-" for one in worth),
        "values": ";".join(",".join(_digits(value) for value in worth[one][place]) for one in worth) if few else "",
    }  # fmt: skip


def _index(names: Sequence[str], answer: str) -> int:
    return list(names).index(answer) if answer in names else 0


def _span(values: Sequence[float]) -> str:
    """ "0.98", "0.97…0.98": what the backends give an answer."""
    low, high = fixed(float(min(values)), 2), fixed(float(max(values)), 2)
    return low if low == high else f"{low}…{high}"


def _digits(value: float) -> str:
    """A probability in as few characters as three digits take."""
    return f"{value:.3f}".rstrip("0").rstrip(".").replace("0.", ".", 1) if np.isfinite(value) else ""


def _named(names: Sequence[str], index: int) -> str:
    return names[index] if 0 <= index < len(names) else _("class {n}", n=index)


def _text(runs: Sequence[Facts], n: int, recipe: Recipe) -> str:
    text = n_(
        "The {n} test images with the largest losses in any of {who}, seed {seed}: the true class, then each answer.",
        "The {n} test images with the largest losses in any of {who}, seed {seed}: the true class, then each answer.",
        n,
        who=listed([run.backend for run in runs]),
        seed=runs[0].seed or "—",
    )
    if recipe.loss == "mean_squared_error":
        return text + " " + _("Behind an answer stands the network’s output for it.")
    return text + " " + _("Behind an answer stands its probability.")


def _twin(shown: Sequence[int], labels: np.ndarray, names: Sequence[str], worth: dict[str, np.ndarray]) -> Table:
    """Every backend's answer to every image, with what it gives the answer and the true class."""
    columns = [(_("Image"), "r"), (_("True class"), "l")]
    for backend in worth:
        columns += [(backend, "l"), (_("its share"), "r"), (_("of the true class"), "r")]
    body = []
    for place in shown:
        row = [whole(place), _named(names, int(labels[place]))]
        for values in worth.values():
            answer = int(values[place].argmax())
            row += [
                _named(names, answer),
                fixed(float(values[place, answer]), 3),
                fixed(float(values[place, labels[place]]), 3),
            ]
        body.append(row)
    return Table(_("What each backend answers; images numbered from 0 in the order of the test set"), columns, body)
