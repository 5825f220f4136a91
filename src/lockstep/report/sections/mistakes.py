"""Single test images: those that are hardest for a network, and those that one backend gets wrong and another right.

A run keeps the test images with the largest loss, and an image that is wrong in one of the runs is nearly always among
its. What was not kept is named by its number: a report is made of run folders alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lockstep.language import _, n_, number
from lockstep.report.compare.cells import tested_on
from lockstep.report.compare.groups import Group
from lockstep.report.draw import lettering
from lockstep.report.draw.pictures import Sheet, Tile
from lockstep.report.facts import Facts
from lockstep.report.table import Table
from lockstep.report.words.quantities import fixed, listed, whole, word
from lockstep.spec import Recipe
from lockstep.training import metrics

SHOWN = 25
LONGEST = 200  # characters of a class's name
MAX_GROUPS = 8  # networks whose images a page has room for
LARGEST = 2**16  # bytes of an image that a page has room for
ROOM = 400_000  # characters of all images together


def pixels(runs: Sequence[Facts], wanted: Sequence[int]) -> dict[int, np.ndarray]:
    """Number → image (height, width, channels) uint8, of those that runs on one test set kept."""
    found: dict[int, np.ndarray] = {}
    for run in runs:
        if run.hardest is not None:
            images, numbers = run.hardest
            found |= dict(zip(numbers.tolist(), images, strict=True))
    return {number: found[number] for number in wanted if number in found and found[number].nbytes <= LARGEST}


def sections(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """`section` for each group that a page has room for; images that are too many for it are named, not drawn."""
    found, room = [], ROOM
    for place, members in enumerate(groups[:MAX_GROUPS]):
        told = section(members, place)
        for part in (told["hardest"], told["apart"]):
            if part and part["sheet"]:
                if part["sheet"].size > room:
                    part |= {
                        "sheet": None,
                        "gap": _("Not drawn, for the page’s size: the numbers stand in the table."),
                    }
                else:
                    room -= part["sheet"].size
        found.append(told)
    return found


def section(members: Group, number: int) -> dict[str, Any]:
    """The hardest images of the group's first run, and those on which the backends' first runs differ."""
    runs = [run for run in members.firsts() if tested_on(run) == tested_on(members.firsts()[0])]
    answers = {run.backend: found for run in runs if (found := run.predictions()) is not None}
    told: dict[str, Any] = {"title": members.title, "hardest": None, "apart": None, "gap": "", "apart_text": ""}
    if not answers:
        missing = _("it is missing")
        why = [f"{run.folder}: predictions.npz: {run.gaps.get('predictions.npz', missing)}" for run in runs]
        return told | {"gap": _("No images: {why}.", why=listed(why) or _("no finished run"))}
    first = next(run for run in runs if run.backend in answers)
    told["hardest"] = _hardest(first, *answers[first.backend], number)
    return told | _apart([run for run in runs if run.backend in answers], answers, number)


def _hardest(run: Facts, logits: np.ndarray, labels: np.ndarray, number: int) -> dict[str, Any]:
    squared = (run.spec.get("recipe") or {}).get("loss") == "mean_squared_error"
    recipe = Recipe(loss="mean_squared_error") if squared else Recipe()
    order = metrics.hardest(logits, labels, recipe, SHOWN).tolist()
    images = pixels([run], order)
    with np.errstate(invalid="ignore", over="ignore"):
        worth = logits.astype(np.float64) if squared else np.exp(metrics.log_softmax(logits))
    names = lettering.named(run.class_names, LONGEST)
    tiles, body = [], []
    for rank, place in enumerate(order, 1):
        true, said = int(labels[place]), int(logits[place].argmax())
        row = [_named(names, true), _share(worth[place, true]), _named(names, said), _share(worth[place, said])]
        body.append([str(rank), str(place), *row])
        if place in images:
            lines = (f"{row[0]} · {row[1]}", _("right") if said == true else f"→ {row[2]} · {row[3]}")
            alt = _(
                "Test image {n}: {true} with {share}, answered {answer} with {answered}",
                n=place,
                true=row[0],
                share=row[1],
                answer=row[2],
                answered=row[3],
            )
            tiles.append(Tile(images[place], lines, alt))
    wrong = int((logits.argmax(axis=1) != labels).sum())
    text = n_(
        "The {n} test images with the largest loss of {backend}, seed {seed}, which gets {wrong} of {all} wrong.",
        "The {n} test images with the largest loss of {backend}, seed {seed}, which gets {wrong} of {all} wrong.",
        len(order),
        backend=run.backend,
        seed=run.seed or "—",
        wrong=whole(wrong),
        all=whole(len(labels)),
    )
    if squared:
        text += " " + _(
            "Below each: the true class and, behind the arrow, the answer, each with what the network’s output for it "
            "is."
        )
    else:
        text += " " + _(
            "Below each: the true class and, behind the arrow, the answer, each with the probability that the network "
            "gives it."
        )
    columns = [
        (_("Rank"), "r"),
        (_("Image"), "r"),
        (_("True class"), "l"),
        (_("Its share"), "r"),
        (_("Answer"), "l"),
        (_("Share"), "r"),
    ]
    return {
        "sheet": Sheet(f"hardest{number}", text, tiles) if tiles else None,
        "text": text,
        "twin": Table(_("The hardest images; numbered from 0 in the order of the test set"), columns, body),
        "gap": _missing(len(order) - len(tiles)),
    }


def _apart(runs: Sequence[Facts], answers: dict[str, tuple[np.ndarray, np.ndarray]], number: int) -> dict[str, Any]:
    """Images that one backend gets wrong and another right, for runs with one seed."""
    runs = [run for run in runs if run.seed == runs[0].seed and _is_same(answers, runs[0], run)]
    if len(runs) < 2:
        return {"apart_text": ""}
    labels = answers[runs[0].backend][1]
    said = np.stack([answers[run.backend][0].argmax(axis=1) for run in runs])
    right = said == labels
    places = np.flatnonzero(right.any(axis=0) & ~right.all(axis=0)).tolist()
    who, seed = listed([run.backend for run in runs]), runs[0].seed or "—"
    if not places:
        text = _("No test image is right in one of {who} and wrong in another (seed {seed}).", who=who, seed=seed)
        return {"apart_text": text}
    shown, names = places[:SHOWN], lettering.named(runs[0].class_names, LONGEST)
    images = pixels(runs, shown)
    tiles, body = [], []
    for place in shown:
        by_answer: dict[str, list[str]] = {}
        for run, answer in zip(runs, said[:, place].tolist(), strict=True):
            by_answer.setdefault(_named(names, answer), []).append(run.backend)
        true = _named(names, int(labels[place]))
        told = [f"{'✓' if name == true else '✗'} {name}: {', '.join(group)}" for name, group in by_answer.items()]
        body.append([str(place), true, *(_named(names, answer) for answer in said[:, place].tolist())])
        if place in images:
            alt = _("Test image {n}, {true}: {answers}", n=place, true=true, answers="; ".join(told))
            tiles.append(Tile(images[place], (true, *told), alt))
    text = n_(
        "{count} test image of {all} is right in one of {who} and wrong in another (seed {seed}){more}.",
        "{count} test images of {all} are right in one of {who} and wrong in another (seed {seed}){more}.",
        len(places),
        count=word(len(places)).capitalize(),
        all=whole(len(labels)),
        who=who,
        seed=seed,
        more=_("; the first {n} are shown", n=word(SHOWN)) if len(places) > SHOWN else "",
    )
    columns = [(_("Image"), "r"), (_("True class"), "l"), *((run.backend, "l") for run in runs)]
    return {
        "apart": {
            "sheet": Sheet(f"apart{number}", text, tiles) if tiles else None,
            "text": text,
            "twin": Table(_("Each backend’s answer; images numbered from 0"), columns, body),
            "gap": _missing(len(shown) - len(tiles)),
        }
    }


def _is_same(answers: dict[str, tuple[np.ndarray, np.ndarray]], one: Facts, other: Facts) -> bool:
    return np.array_equal(answers[one.backend][1], answers[other.backend][1])


def _missing(n: int) -> str:
    if not n:
        return ""
    return n_(
        "{count} image of these is not drawn: not among those that the run kept in hardest.npz, or too large.",
        "{count} images of these are not drawn: not among those that the run kept in hardest.npz, or too large.",
        n,
        count=word(n).capitalize(),
    )


def _named(names: Sequence[str], index: int) -> str:
    return names[index] if 0 <= index < len(names) else _("class {n}", n=index)


def _share(value: float) -> str:
    return "—" if not np.isfinite(value) else number("< 0.001") if 0 <= value < 0.001 else fixed(float(value), 3)
