"""What makes runs less comparable, or their numbers less worth, than they look: said in a box above everything."""

from __future__ import annotations

from collections.abc import Sequence

from lockstep.data import LEAST_WATCHED
from lockstep.language import _, n_
from lockstep.report.compare.groups import Group, by, distinct, same_machine, title_of
from lockstep.report.facts import Facts
from lockstep.report.words.quantities import count, listed, whole


def cautions(groups: Sequence[Group]) -> list[str]:
    """What makes runs less comparable than they look: other studies or versions, or within a group other data."""
    runs = [run for members in groups for run in members.runs]
    found = []
    if len(studies := distinct(run.study for run in runs)) > 1:
        found.append(
            count(
                len(studies),
                "These runs are of {count} study: {names}.",
                "These runs are of {count} studies: {names}.",
                names=listed(studies),
            )
        )
    versions = distinct(run.environment.lockstep or "" for run in runs if run.environment)
    if len(versions) > 1:
        found.append(_("The runs were made by several versions of Lockstep: {versions}.", versions=listed(versions)))
    found += [
        _(
            "{run} is a copy of {other}: the same losses or predictions to the last bit. The two are one measurement, "
            "and the copy is in no mean.",
            run=run.folder,
            other=run.copy_of,
        )
        for run in runs
        if run.copy_of
    ]
    found += list(dict.fromkeys(line for run in runs for line in _few_images(run)))
    found += [leak for members in by(runs, lambda run: run.dataset) if (leak := _leak(members))]
    for members in groups:
        described = [run.environment for run in members.finished if run.environment]
        if len({tuple(sorted(one.dataset.hashes.items())) for one in described}) > 1:
            found.append(_("{title}: the runs did not read the same data: their hashes differ.", title=members.title))
        if not same_machine(members.finished):
            found.append(_("{title}: the runs report different CPUs, devices or thread counts.", title=members.title))
    return found


def _few_images(run: Facts) -> list[str]:
    """That hardly any images were trained on, or watched by early stopping."""
    described = run.environment.dataset if run.environment else None
    if not described:
        return []
    n, held_out, classes = described.n_train, described.n_validation, len(described.class_names)
    title, found = title_of(run), []
    if n is not None and n < classes:
        found.append(
            n_(
                "{title}: {count} image was trained on, for {classes} classes.",
                "{title}: {count} images were trained on, for {classes} classes.",
                n,
                title=title,
                count=whole(n),
                classes=whole(classes),
            )
        )
    if (run.spec.get("recipe") or {}).get("early_stopping") and held_out and held_out < LEAST_WATCHED:
        found.append(
            n_(
                "{title}: early stopping watched {count} image, so chance decided.",
                "{title}: early stopping watched {count} images, so chance decided.",
                held_out,
                title=title,
                count=whole(held_out),
            )
        )
    return found


def _leak(runs: Sequence[Facts]) -> str:
    """How many test images of a dataset are training images too, where the runs say that there are such."""
    told = [run.environment.dataset for run in runs if run.environment]
    n = max((one.n_test_in_training or 0 for one in told), default=0)
    if not n:
        return ""
    return n_(
        "{title}: {count} of {all} test images is also a training image, pixel by pixel: what is right there may be "
        "known by heart.",
        "{title}: {count} of {all} test images are also training images, pixel by pixel: what is right there may be "
        "known by heart.",
        n,
        title=title_of(runs[0]),
        count=whole(n),
        all=whole(told[0].n_test or 0),
    )
