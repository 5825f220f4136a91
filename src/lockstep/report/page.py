"""Facts → a plain dict → the page. `gather` decides everything that is said; the template only lays it out."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from lockstep import arguments, store
from lockstep.language import _, mark, n_, number, speaking, spoken
from lockstep.report.compare import milestones
from lockstep.report.compare.groups import (
    Group,
    accuracy,
    coordinate,
    epoch_seconds,
    group,
    n_test,
    title_of,
    varying_coordinates,
)
from lockstep.report.compare.groups import by as _by
from lockstep.report.compare.groups import distinct as _distinct
from lockstep.report.document import document
from lockstep.report.draw import figures, plots
from lockstep.report.draw.diagram import diagram
from lockstep.report.draw.diagram import said as said_of
from lockstep.report.facts import Facts
from lockstep.report.proofs import Fit, Reading, check_fit, read_beside
from lockstep.report.sections import cautions, chapters, comparisons, curves, kernels, mistakes, times
from lockstep.report.sections.differences import tell_difference
from lockstep.report.sections.verdicts import tell_proof
from lockstep.report.table import Table
from lockstep.report.words import forms, question
from lockstep.report.words.answer import answer, conclusions
from lockstep.report.words.numbers import (
    MISSING,
    accuracy_decimals,
    column,
    count,
    fixed,
    listed,
    percent,
    seconds,
    shape,
    significant,
    span,
    whole,
    word,
)
from lockstep.store.documents.difference import Difference
from lockstep.store.documents.proof import FILE as PROOF
from lockstep.store.documents.proof import Proof
from lockstep.store.documents.run import Environment, Layer, Scores
from lockstep.version import version

# A page has a size: what is left out beyond these is said where it is left out.
MAX_GROUPS = 16  # combinations shown with curves and confusion matrices
MAX_MATRICES = 40  # confusion matrices that are drawn
MAX_BARS = 60  # runs in the figure of times
MAX_DIAGRAMS = 16  # networks that are drawn layer by layer
MAX_SECONDS = 1e9  # longer is no clock
MAX_CLASSES = 40  # classes up to which a table of all classes is printed

_HERE = Path(__file__).parent
MEBIBYTE = 2**20
NONE = Reading("")  # where there are no runs, there is no proof of them


def write_report(
    records: store.Record | Iterable[store.Record], path: str | PathLike[str], *, image: int = 0,
    with_figures: bool = False, reach: Iterable[float] = (),
) -> Path:  # fmt: skip
    """Write one self-contained page about these runs and return its path; raises LockstepError (LS-501, LS-502).

    Beside it, as report.json, lies what was compared in numbers. `image` is the test image, from 0, whose feature maps
    are drawn. `with_figures` writes every figure as SVG and PNG into a folder beside the page too. `reach`
    are the test accuracies in per cent to which times are told, else some of a ladder.
    """
    place, image = arguments.path(path, "path"), arguments.index(image, "image", store.SAMPLES)
    return write(gather(store.given(records), image, milestones.levels_of(reach)), place, with_figures)


def write(page: dict[str, Any], path: Path, with_figures: bool = False) -> Path:
    """Write what `gather` gave: the page, its numbers and its figures; raises as `write_report`."""
    store.write_bytes(path, render(page).encode("utf-8", errors="replace"))
    store.write_json(numbers_of(path), page["document"])
    if with_figures:
        figures.write(page, path)
    return path


def numbers_of(page: Path) -> Path:
    """report.html → report.json; those of a page of another name never lie where a bench or a proof has its record."""
    return page.with_name("report.json" if page.stem == "report" else f"{page.stem}-report.json")


def write_proof(proof: Proof, path: Path) -> Path:
    """Write one self-contained page about a proof, planted or a comparison, and return its path.

    Raises LockstepError (LS-501, LS-502).
    """
    reading = Reading(proof.study, proof)
    page = {"title": _proof_title(reading), "proof": tell_proof(reading, "proof")}
    store.write_bytes(path, render(page, "proof.html").encode("utf-8", errors="replace"))
    return path


def write_difference(found: Difference, path: Path) -> Path:
    """Write one self-contained page about two models of people's own; raises LockstepError (LS-501, LS-502)."""
    page = tell_difference(found)
    store.write_bytes(path, render(page, "difference.html").encode("utf-8", errors="replace"))
    return path


def compare(records: Sequence[store.Record]) -> dict[str, Any]:
    """What these runs say of each other, in numbers: the document of `lockstep report --json` (docs/run-folder.md)."""
    groups = group([Facts(record) for record in records])
    runs = [run for found in groups for run in found.runs]
    return store.finite(document(groups, comparisons.compare(groups), _verdict(_proofs(runs))))


def render(page: dict[str, Any], template: str = "report.html") -> str:
    """The dict of `gather` as HTML; every text in it is escaped."""
    loader = jinja2.FileSystemLoader(_HERE)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.globals |= {"_": _, "n_": n_, "language": spoken()}
    css = (_HERE / "report.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(page=page, css=css)


def gather(records: Sequence[store.Record], image: int = 0, levels: Sequence[float] = ()) -> dict[str, Any]:
    """Everything that the page says, as plain data: texts, tables and drawings.

    `levels` are test accuracies, as shares, to which times are told.
    """
    facts = [Facts(record) for record in records]
    groups = group(facts)
    shown, rest = groups[:MAX_GROUPS], groups[MAX_GROUPS:]
    runs = [run for found in groups for run in found.runs]
    proofs = _proofs(runs)
    verdicts = {folder: verdict for _, fit in proofs if fit for folder, verdict in fit.covered.items()}
    comparison = comparisons.compare(groups)
    page = {
        "about": json.dumps(about(records, image, levels), ensure_ascii=False),
        "title": listed(_distinct(run.study for run in runs)) or _("Report"),
        "questions": _distinct(_(str(run.spec.get("question") or "")) for run in runs),
        **_answer(groups, comparison, runs, _verdict(proofs)),
        "unfinished": [_unfinished(run) for run in runs if not run.is_finished],
        "n_runs": len(runs),
        "results": _results(runs, groups, verdicts if any(reading.proof for reading, _ in proofs) else None),
        "comparisons": comparisons.tell(comparison),
        "document": store.finite(document(groups, comparison, _verdict(proofs), levels)),
        "milestones": milestones.table(milestones.reached(groups, levels)),
        "conclusions": conclusions(comparison),
        "proofs": [tell_proof(reading, f"proof{n}", fit) for n, (reading, fit) in enumerate(proofs or [(NONE, None)])],
        "datasets": [_dataset(members, n) for n, members in enumerate(_by(runs, lambda run: run.dataset))],
        "networks": _networks(groups),
        "overviews": curves.overviews(groups),
        "curves": curves.curves(shown),
        "confusion": [_confusion(found, n, MAX_MATRICES // len(shown)) for n, found in enumerate(shown)],
        "images": mistakes.tell_all(groups),
        "images_left_out": [found.title for found in groups[mistakes.MAX_GROUPS :]],
        "seen": kernels.see(groups, image),
        "left_out": [found.title for found in rest],
        "times": _times(runs),
        "bench": times.tell(list(dict.fromkeys(run.record.folder.absolute().parent for run in runs))),
        "machines": _machines(runs),
        "backends": _backends(runs),
        "reproduce": [_reproduce(found) for found in _by(runs, lambda run: run.network)],
        "hashes": _hashes(runs),
        "explained": chapters.links(),
        "chapters": chapters.table(),
        "control_questions": chapters.control_questions(_distinct(run.study for run in runs)),
    }
    return page | {"cautions": cautions.cautions(groups), "gaps": _gaps(runs)}  # last: gaps are found while reading


def _verdict(proofs: Sequence[tuple[Reading, Fit | None]]) -> tuple[str, int] | None:
    """The verdict and the steps of the first proof that is one of these runs."""
    found = [reading.proof for reading, fit in proofs if fit and fit.covered and reading.proof]
    return (found[0].verdict, found[0].steps) if found else None


def _answer(
    groups: Sequence[Group], found: comparisons.Comparison, runs: Sequence[Facts], proven: tuple[str, int] | None
) -> dict[str, str]:
    """The first paragraph, in the language in which the study asks, and which that is where it is another."""
    asked_for = next((str(run.spec.get("question")) for run in runs if run.spec.get("question")), "")
    own = question.language(asked_for) or spoken()
    with speaking(own):
        said = answer(groups, found, asked_for, proven)
    return {"answer": said, "answer_language": "" if own == spoken() else own}


def about(records: Sequence[store.Record], image: int, levels: Sequence[float] = ()) -> dict[str, Any]:
    """What a page says of itself, for whoever makes it again: {"lockstep": version, "image", "runs", "proofs"}.

    "proofs" has a study's folder → the start of its proof's SHA-256, None where it had none: one that was made later
    makes nobody's page wrong. And "language", where it is not English, and "levels", where some were asked for.
    """
    folders = ["/".join(record.folder.absolute().parts[-2:]) for record in records]
    other: dict[str, Any] = {} if spoken() == "en" else {"language": spoken()}
    other |= {"levels": list(levels)} if levels else {}
    proofs = {place.name: digest_of(place) for place in sorted({record.folder.absolute().parent for record in records})}
    return {"lockstep": version(), "image": image, "runs": folders, "proofs": proofs} | other


def digest_of(study: Path) -> str | None:
    """The start of the SHA-256 of the proof in a study's folder; None where there is none."""
    try:
        return hashlib.sha256((study / PROOF).read_bytes()).hexdigest()[:16]
    except OSError:
        return None


def _transposed(columns: Sequence[Sequence[str]]) -> list[list[str]]:
    return [list(row) for row in zip(*columns, strict=True)]


def _proofs(runs: Sequence[Facts]) -> list[tuple[Reading, Fit | None]]:
    """The proof beside each study's runs, and which of them it speaks of."""
    return [_proof(members) for members in _by(runs, lambda run: str(run.record.folder.absolute().parent))]


def _proof(runs: Sequence[Facts]) -> tuple[Reading, Fit | None]:
    """The proof beside the runs of one study's folder, and which of them it speaks of."""
    reading = read_beside(runs[0].record.folder.absolute().parent)
    return reading, check_fit(reading.proof, runs) if reading.proof else None


def _proof_title(reading: Reading) -> str:
    proof = reading.proof
    if proof and proof.is_comparison:
        return _("Two runs compared")
    if proof and proof.planted:
        return _("Planted differences in {study}", study=reading.study).strip()
    return _("Proof of {study}", study=reading.study).strip()


# ---------------------------------------------------------------------------------------------- what went wrong


def _named(run: Facts) -> str:
    return _(
        "{network}, {backend}, seed {seed} ({folder})",
        network=run.network,
        backend=run.backend,
        seed=run.seed or MISSING,
        folder=run.folder,
    )


STATES = {"running": mark("unfinished"), "failed": mark("failed"), "unknown": mark("unknown")}


def _state(run: Facts) -> str:
    """One word or two for the table: "finished", "stopped early", "failed", "unfinished"."""
    if run.is_finished:
        if run.is_diverged:
            return _("diverged")
        if run.copy_of:
            return _("copy")
        return _("stopped early") if run.metrics and run.metrics.stopped_early else _("finished")
    return _(STATES.get(run.status.status, run.status.status))


def _why(run: Facts) -> str:
    """The state of a run that did not finish, with its reason."""
    code, reason = run.status.code or "", run.status.reason or run.gaps.get("status.json", "")
    found = reason if reason.startswith(code) else f"{code} {reason}".strip()
    told = {"state": _state(run), "reason": found or _("no reason is recorded")}
    if run.history:
        return count(
            len(run.history),
            "{state}, after {count} epoch: {reason}",
            "{state}, after {count} epochs: {reason}",
            **told,
        )
    return f"{told['state']}: {told['reason']}"


def _unfinished(run: Facts) -> str:
    return f"{_named(run)}: {_why(run)}"


def _gaps(runs: Sequence[Facts]) -> list[str]:
    """What finished runs should have and have not."""
    return [
        f"{_named(run)}: {file}: {reason}"
        for run in runs
        if run.is_finished or "spec.toml" in run.gaps
        for file, reason in run.gaps.items()
    ]


def _absent(members: Group, file: str, not_done: str = mark("Not shown: {why}.")) -> str:
    """Who has no part in a figure, and why."""
    why = []
    for backend in members.backends:
        runs = members.of(backend)
        if not runs:
            why.append(_("{backend} (no finished run)", backend=backend))
        elif reasons := [run.gaps[file] for run in runs if file in run.gaps]:
            why.append(f"{backend} ({file}: {reasons[0]})")
    return _(not_done, why=listed(why)) if why else ""


# ------------------------------------------------------------------------------------------------------ results


def _results(runs: Sequence[Facts], groups: Sequence[Group], verdicts: Mapping[Path, str] | None) -> Table:
    """One row per run; `verdicts` of those that a proof speaks of, by run folder."""
    columns = [(_("Network"), "l", [run.network for run in runs]), (_("Backend"), "l", [run.backend for run in runs])]
    if len({run.study for run in runs}) > 1:
        columns.insert(0, (_("Study"), "l", [run.study for run in runs]))
    for name in varying_coordinates(runs):
        values = [title_of(run) if name == "dataset" else coordinate(run, name) for run in runs]
        side = "r" if all(_is_numeric(value) for value in values) else "l"
        columns.append((coordinate_title(name), side, values))
    if len({tuple(row) for row in _transposed([values for *_, values in columns])}) < len(runs):  # repeated runs
        columns.append((_("Run"), "l", [run.folder for run in runs]))
    columns += [(title, "r", values) for title, values in _figures(runs)]
    if verdicts is not None:
        columns.append((_("Proof"), "l", [forms.say(verdicts.get(run.record.folder, MISSING)) for run in runs]))
    columns.append((_("Status"), "l", [_state(run) for run in runs]))
    starts = set(itertools.accumulate(len(found.runs) for found in groups))
    rows = _transposed([values for *_, values in columns])
    notes = {place: _why(run) for place, run in enumerate(runs) if not run.is_finished}
    caption = n_(
        "{count} run. Seconds per epoch are the median over the run's epochs.",
        "{count} runs. Seconds per epoch are the median over the run's epochs.",
        len(runs),
        count=word(len(runs)).capitalize(),
    )
    return Table(caption, [(title, side) for title, side, _ in columns], rows, breaks=starts, notes=notes)


COORDINATES = {"dataset": mark("Dataset"), "dtype": mark("Dtype"), "seed": mark("Seed")}


def coordinate_title(name: str) -> str:
    """A column's title; keys of the recipe stay as the study writes them."""
    if name in COORDINATES:
        return _(COORDINATES[name])
    return name.capitalize() if "." not in name else name


def _is_numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == MISSING
    return True


def _figures(runs: Sequence[Facts]) -> list[tuple[str, list[str]]]:
    """The numeric columns: title and values."""
    places = max((accuracy_decimals(n_test(run)) for run in runs), default=2)
    memory = [run.timing.peak_memory_bytes if run.timing else None for run in runs]
    parameters = [run.metrics.parameters if run.metrics else None for run in runs]
    losses = [run.metrics.test.loss if run.metrics else None for run in runs]
    return [
        (_("Test accuracy (%)"), [percent(accuracy(run), places) for run in runs]),
        (_("Test loss"), [fixed(loss, 4) for loss in losses]),
        (_("Epoch (s)"), column([epoch_seconds(run) for run in runs])),
        *((_(comparisons.CLOCKS[clock]), column([_clock(run, clock) for run in runs])) for clock in plots.CLOCKS),
        (_("Peak memory (MiB)"), [fixed(value / MEBIBYTE, 0) if value is not None else MISSING for value in memory]),
        (_("Parameters"), [fixed(value, 0) for value in parameters]),
    ]


def _clock(run: Facts, name: str) -> float | None:
    value = run.timing.seconds.get(name) if run.timing else None
    return value if value is not None and 0 <= value < MAX_SECONDS else None


# ------------------------------------------------------------------------------------------------------ datasets


def _dataset(runs: Sequence[Facts], number: int) -> dict[str, Any]:
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


# ------------------------------------------------------------------------------------------------------ networks


def _networks(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """One table per network and input shape."""
    found: dict[tuple[str, tuple[Layer, ...]], Group] = {}
    missing: list[dict[str, Any]] = []
    for members in groups:
        tables = [run.metrics.network for run in members.finished if run.metrics and run.metrics.network]
        if tables:
            found.setdefault((members.network, tables[0]), members)
        elif not any(name == members.network for name, _ in found):
            missing.append(
                {
                    "title": members.title,
                    "table": None,
                    "drawing": None,
                    "gap": _("No finished run has a table of its layers in metrics.json."),
                }
            )
    names = [name for name, _ in found]
    shown = []
    for place, ((name, layers), members) in enumerate(found.items()):
        title = name if names.count(name) == 1 else members.title
        drawing = _diagram(title, members, layers, place) if place < MAX_DIAGRAMS else None
        shown.append({"title": title, "table": _layers(name, layers), "drawing": drawing})
    return shown + missing


def _diagram(title: str, members: Group, layers: Sequence[Layer], number: int) -> plots.Drawing | None:
    shapes = [run.environment.dataset.shape for run in members.finished if run.environment]
    if not shapes or len(shapes[0]) != 3 or not all(row.output_shape for row in layers):
        return None
    return plots.svg(diagram(shapes[0], layers), said_of(title, shapes[0], layers), f"network{number}")


def _layers(name: str, layers: Sequence[Layer]) -> Table:
    rows = [
        [
            row.name,
            shape(row.output_shape),
            whole(row.parameters),
            whole(row.multiply_adds),
            shape(row.receptive_field),
        ]
        for row in layers
    ]
    sums = [whole(sum(row.parameters for row in layers)), whole(sum(row.multiply_adds for row in layers))]
    titles = (_("Output shape"), _("Parameters"), _("Multiply-adds"), _("Receptive field"))
    return Table(
        _("{name}, layer by layer", name=name),
        [(_("Layer"), "l"), *((title, "r") for title in titles)],
        rows,
        foot=[[_("Total"), "", *sums, ""]],
    )


# ----------------------------------------------------------------------------------------------------- confusion


def _confusion(members: Group, number: int, room: int) -> dict[str, Any]:
    runs = [run for run in members.firsts() if run.metrics and run.metrics.test.confusion]
    found: dict[str, Any] = {"title": members.title, "plots": [], "caption": "", "reports": []}
    found |= {"twin": None, "share_twin": None}
    if runs:
        found |= _matrices(runs, number, members.seeds, room)
        reports = runs if len(runs[0].class_names) <= MAX_CLASSES else runs[:1]
        found["reports"] = [(run.backend, _report(run)) for run in reports]
    agreement = _agreement(members.firsts())
    return found | {
        "agreement": agreement,
        "absent": _absent(members, "metrics.json"),
        "disagreement": _absent(members, "predictions.npz", mark("Predictions not compared: {why}.")),
    }


def _matrices(runs: Sequence[Facts], number: int, seeds: Sequence[str], room: int) -> dict[str, Any]:
    """`room` is how many matrices may be drawn; the first backend's, in counts and in percent, always are."""
    counts = {run.backend: np.array(run.metrics.test.confusion) for run in runs if run.metrics}
    names = runs[0].class_names
    errors = [int((matrix - np.diag(np.diag(matrix))).max()) for matrix in counts.values()]
    shown, left_out = list(counts)[: max(1, room - 1)], list(counts)[max(1, room - 1) :]
    drawn = [
        (
            backend,
            plots.svg(
                plots.confusion(counts[backend], names, max(errors)),
                _matrix_said(backend, counts[backend], names),
                f"confusion{number}-{place}",
            ),
        )
        for place, backend in enumerate(shown)
    ]
    matrix = counts[shown[0]]
    said = _matrix_said(shown[0], matrix, names) + " " + _("In percent of each true class.")
    share = plots.svg(plots.confusion(matrix, names, max(errors), in_percent=True), said, f"confusion{number}-percent")
    drawn.append((_("{backend}, in percent of the true class", backend=shown[0]), share))
    captions = [_("Seed {seed} of {seeds}.", seed=runs[0].seed, seeds=listed(seeds))] if len(seeds) > 1 else []
    if left_out:
        captions.append(_("Not drawn on a page of so many networks: {backends}.", backends=listed(left_out)))
    twins = _matrix_twins(shown[0], matrix, names) if len(names) <= MAX_CLASSES else (None, None)
    return {"plots": drawn, "caption": " ".join(captions), "twin": twins[0], "share_twin": twins[1]}


def _matrix_twins(backend: str, matrix: np.ndarray, names: Sequence[str]) -> tuple[Table, Table]:
    """A confusion matrix as two tables: counts, and percent of each true class."""
    columns = [(_("True"), "l"), *((name, "r") for name in names)]
    title = _("Confusion of {backend}: rows true, columns predicted", backend=backend)
    rows = [[name, *map(whole, row)] for name, row in zip(names, matrix.tolist(), strict=False)]
    share_title = _("Confusion of {backend} in percent of the true class", backend=backend)
    shares = [[percent(n / max(sum(row), 1), 2) for n in row] for row in matrix.tolist()]
    share_rows = [[name, *row] for name, row in zip(names, shares, strict=False)]
    return Table(title, columns, rows), Table(share_title, columns, share_rows)


def _matrix_said(backend: str, matrix: np.ndarray, names: Sequence[str]) -> str:
    """What a screen reader says of a confusion matrix: hits and the most frequent error."""
    errors = matrix - np.diag(np.diag(matrix))
    text = _(
        "Confusion matrix of {backend}: {right} of {all} test images right.",
        backend=backend,
        right=whole(int(np.trace(matrix))),
        all=whole(int(matrix.sum())),
    )
    if errors.max(initial=0) > 0:
        true, predicted = divmod(int(errors.argmax()), len(errors))
        text += " " + n_(
            "Most frequent error: {true} taken for {answer}, {n} times.",
            "Most frequent error: {true} taken for {answer}, {n} times.",
            int(errors.max()),
            true=names[true],
            answer=names[predicted],
        )
    return text


def _report(run: Facts) -> Table:
    """Precision, recall, F1 and support of every class, and their averages."""
    test = run.metrics.test if run.metrics else None
    classes = list(zip(run.class_names, test.per_class, strict=False)) if test else []
    averages = [(_("macro average"), test.macro), (_("weighted average"), test.weighted)] if test else []
    total = sum(row.support or 0 for _, row in classes)
    foot = [[*_scores(name, row), fixed(total, 0)] for name, row in averages if row]
    body = [[*_scores(name, row), fixed(row.support, 0)] for name, row in classes]
    columns = [(_("Class"), "l"), (_("Precision"), "r"), (_("Recall"), "r"), ("F1", "r"), (_("Support"), "r")]
    return Table(_("Classification report of {backend}", backend=run.backend), columns, body, foot=foot)


def _scores(name: str, row: Scores) -> list[str]:
    return [name, *(fixed(value, 3) for value in (row.precision, row.recall, row.f1))]


def _agreement(runs: Sequence[Facts]) -> Table | None:
    """How often two backends give the same answer, from their predictions on the whole test set."""
    answers: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for run in runs:
        if (found := run.predictions()) is not None:
            answers[run.backend] = found
    rows = []
    for (one, (left, labels)), (other, (right, same)) in itertools.combinations(answers.items(), 2):
        if left.shape == right.shape and np.array_equal(labels, same):
            alike = left.argmax(axis=1) == right.argmax(axis=1)
            with np.errstate(invalid="ignore"):  # a diverged network answers infinity
                apart = float(np.abs(left.astype(np.float64) - right).max())
            rows.append(
                [
                    listed([one, other]),
                    _("{n} of {all}", n=whole(int(alike.sum())), all=whole(len(alike))),
                    whole(int((~alike).sum())),
                    significant(apart),
                ]
            )
    columns = [
        (_("Backends"), "l"),
        (_("Same answer"), "r"),
        (_("Different"), "r"),
        (_("Largest logit difference"), "r"),
    ]
    if not rows:
        return None
    seed = _(", seed {seed}", seed=runs[0].seed) if runs and runs[0].seed else ""
    caption = _("Do the backends answer alike? After training, on the test set{seed}", seed=seed)
    return Table(caption, columns, rows)


# --------------------------------------------------------------------------------------------------------- times


def _times(runs: Sequence[Facts]) -> dict[str, Any]:
    timed = [run for run in runs if run.timing]
    n_together = sum(run.is_of_many for run in runs)
    of_many = count(
        n_together,
        "{count} run was trained together with others in one process: neither time nor memory is its own.",
        "{count} runs were trained together with others in one process: neither time nor memory is their own.",
    )
    if not timed:
        return {"plot": None, "caption": of_many if n_together else _("No run has a timing.json.")}
    varying = [name for name in varying_coordinates(runs) if name != "dataset"]
    rows = [
        (
            " · ".join([run.network, *(coordinate(run, name) for name in varying), run.backend]),
            {c: _clock(run, c) for c in plots.CLOCKS},
        )
        for run in timed[:MAX_BARS]
    ]
    said = "; ".join(
        f"{label}: " + ", ".join(f"{_(plots.CLOCK_NAMES[c])} {seconds(v)}" for c, v in clocks.items())
        for label, clocks in rows[:8]
    )
    text = _(
        "Each run once, in its own process: this is a record, not a ranking; what may be ranked stands "
        "above. Loading and augmenting data are not in these clocks. "
        "The numbers are in the table of results."
    )
    if n_together:
        text += " " + of_many
    if len(timed) < len(runs) - n_together:
        text += " " + count(
            len(runs) - n_together - len(timed),
            "Not drawn: {count} run without a timing.json.",
            "Not drawn: {count} runs without a timing.json.",
        )
    if len(timed) > MAX_BARS:
        text += " " + _("The first {n} of {all} runs are drawn.", n=MAX_BARS, all=len(timed))
    label = _("Seconds per clock. {clocks}", clocks=said)
    return {"plot": plots.svg(plots.clocks(rows), label, "times"), "caption": text}


def _machine(run: Facts) -> tuple[str, ...]:
    found = run.environment or Environment()
    cores = f", {comparisons.cores_of(found.cores)}" if found.cores else ""
    memory = _("{n} GiB", n=number(f"{found.memory_bytes / 2**30:.1f}")) if found.memory_bytes else MISSING
    return (f"{found.cpu or MISSING}{cores}", memory, found.device or MISSING, found.platform or MISSING)


def _machines(runs: Sequence[Facts]) -> Table:
    rows = [[*_machine(members[0]), str(len(members))] for members in _by(runs, lambda run: "\n".join(_machine(run)))]
    n_known = sum(any(cell != MISSING for cell in row[:-1]) for row in rows)
    columns = [(_("CPU"), "l"), (_("Memory"), "l"), (_("Device"), "l"), (_("Platform"), "l"), (_("Runs"), "r")]
    caption = _("Machine") if n_known <= 1 else _("Machines: times of different machines cannot be compared")
    return Table(caption, columns, rows)


def _backends(runs: Sequence[Facts]) -> Table:
    """Versions and threads behind every backend's times."""

    def told(run: Facts) -> tuple[str, ...]:
        found = run.environment or Environment()
        versions = ", ".join(f"{name} {version}" for name, version in sorted(found.versions.items()))
        threads = ["" if n is None else str(n) for n in (found.threads.asked, found.threads.obtained)]
        own = [
            f"{name} {version}" for name, version in (("Lockstep", found.lockstep), ("Python", found.python)) if version
        ]
        return (run.backend, versions or MISSING, ", ".join(own) or MISSING, *(text or MISSING for text in threads))

    kinds = _by((run for run in runs if run.environment), lambda run: "\n".join(told(run)))
    kinds.sort(key=lambda members: plots.backend_order(run.backend for run in runs).index(members[0].backend))
    rows = [
        [*told(members[0]), _load(members), str(len({run.seed for run in members})), str(len(members))]
        for members in kinds
    ]
    titles = (_("Threads asked"), _("Threads obtained"), _("Load"), _("Seeds"), _("Runs"))
    columns = [
        (_("Backend"), "l"),
        (_("Versions"), "l"),
        (_("Lockstep, Python"), "l"),
        *((title, "r") for title in titles),
    ]
    caption = _("What each backend ran with. Load is the machine’s 1-minute load average, over its runs.")
    return Table(caption, columns, rows)


def _load(runs: Sequence[Facts]) -> str:
    """The lowest and the highest load average that these runs met."""
    loads = [run.environment.load[0] for run in runs if run.environment and run.environment.load]
    if not loads:
        return MISSING
    low, high = (number(f"{load:.1f}") for load in (min(loads), max(loads)))
    return low if low == high else span(low, high)


# ----------------------------------------------------------------------------------------------------- reproduce


def _reproduce(runs: Sequence[Facts]) -> dict[str, Any]:
    """The first run of a network, as a study and as a command."""
    run = next((run for run in runs if run.is_finished and run.spec), runs[0])
    revision = run.environment.git_revision if run.environment else None
    return {
        "network": run.network,
        "folder": run.folder,
        "command": f"lockstep run {run.folder}/spec.toml --again --runs .",
        "spec": run.spec_text,
        "gap": run.gaps.get("spec.toml", ""),
        "revision": revision or "",
    }


def _hashes(runs: Sequence[Facts]) -> Table | None:
    """SHA-256 of every data file."""
    rows: dict[tuple[str, str, str], None] = {}
    for run in runs:
        for file, digest in (run.environment.dataset.hashes if run.environment else {}).items():
            rows[title_of(run), file, digest] = None
    columns = [(_("Dataset"), "l"), (_("File"), "l"), ("SHA-256", "l")]
    return Table(_("Data files"), columns, [list(row) for row in rows]) if rows else None
