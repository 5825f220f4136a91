"""The datasets: how many images of which size and class, some of them, and the hashes of their files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lockstep import store
from lockstep.language import _, n_
from lockstep.report.compare.groups import title_of
from lockstep.report.draw import plots
from lockstep.report.facts import Facts
from lockstep.report.table import Table
from lockstep.report.words import forms
from lockstep.report.words.quantities import count, listed, shape, whole

MAX_CLASSES = 40  # classes up to which their balance is drawn


def section(runs: Sequence[Facts], number: int) -> dict[str, Any]:
    described = next((run.environment.dataset for run in runs if run.environment), None)
    samples = next((run.samples for run in runs if run.is_finished and run.samples), None)
    names = list(described.class_names) if described else []
    found: dict[str, Any] = {
        "title": title_of(runs[0]),
        "text": "",
        "notes": [],
        "images": [],
        "balance": None,
        "balance_text": "",
    }
    if described:
        train, validation, test = described.n_train, described.n_validation, described.n_test
        parts = [
            _("{n} training", n=whole(train)) if train else "",
            _("{n} validation", n=whole(validation)) if validation else "",
            _("{n} test", n=whole(test)) if test else "",
        ]
        found["text"] = count(
            len(names),
            "{parts} images of {size} (height, width, channels), {count} class.",
            "{parts} images of {size} (height, width, channels), {count} classes.",
            parts=listed([part for part in parts if part]),
            size=shape(described.shape),
        )
        notes = [described.notes] if isinstance(described.notes, str) else described.notes
        found["notes"] = [forms.say(text) for text in (described.origin, *notes) if text]
        found |= _balance(names, described.class_counts, number)
    if samples:
        images, labels = samples
        found["images"] = [
            {"source": plots.png(image), "name": names[label] if 0 <= label < len(names) else _("class {n}", n=label)}
            for image, label in zip(images[: store.SAMPLES], labels[: store.SAMPLES].astype(int).tolist(), strict=True)
            if image.shape[-1] in (1, 3, 4)
        ]
    return found


def _balance(names: Sequence[str], counts: Sequence[int], number: int) -> dict[str, Any]:
    if not counts or len(counts) != len(names):
        return {"balance_text": _("The class balance is not known: environment.json has no class_counts.")}
    least, most = min(counts), max(counts)
    if least < most:
        text = _("Training images per class: {low} to {high}.", low=whole(least), high=whole(most))
    else:
        text = n_("{count} training images per class.", "{count} training images per class.", most, count=whole(most))
    if len(counts) > MAX_CLASSES:
        return {"balance_text": text}
    label = text + " " + ", ".join(f"{name}: {n}" for name, n in zip(names, counts, strict=True))
    return {"balance_text": text, "balance": plots.svg(plots.class_balance(names, counts), label, f"balance{number}")}


def hashes(runs: Sequence[Facts]) -> Table | None:
    rows: dict[tuple[str, str, str], None] = {}
    for run in runs:
        for file, digest in (run.environment.dataset.hashes if run.environment else {}).items():
            rows[title_of(run), file, digest] = None
    columns = [(_("Dataset"), "l"), (_("File"), "l"), ("SHA-256", "l")]
    return Table(_("Data files"), columns, [list(row) for row in rows]) if rows else None
