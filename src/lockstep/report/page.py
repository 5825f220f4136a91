"""Facts → a plain dict → the page. `gather` decides everything that is said; the template only lays it out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from lockstep import plots, store
from lockstep.report import benched, compared, figures, hard, seen, trained
from lockstep.report.answer import answer, conclusions
from lockstep.report.diagram import diagram
from lockstep.report.diagram import said as said_of
from lockstep.report.facts import Environment, Facts, Layer, Scores
from lockstep.report.groups import (
    Group,
    accuracy,
    coordinate,
    epoch_seconds,
    group,
    n_test,
    same_machine,
    title_of,
    varying_coordinates,
)
from lockstep.report.numbers import (
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
)
from lockstep.report.proven import Fit, Reading, check_fit, read_document, read_proof
from lockstep.report.table import Table
from lockstep.report.verdicts import tell_proof

# A page has a size: what is left out beyond these is said where it is left out.
MAX_GROUPS = 16  # combinations shown with curves and confusion matrices
MAX_BARS = 60  # runs in the figure of times
MAX_DIAGRAMS = 16  # networks that are drawn layer by layer
MAX_SECONDS = 1e9  # longer is no clock
MAX_CLASSES = 40  # classes up to which a table of all classes is printed

_HERE = Path(__file__).parent
MEBIBYTE = 2**20
NONE = Reading("")  # where there are no runs, there is no proof of them


def write_report(records: list[store.Record], path: Path, *, image: int = 1, with_figures: bool = False) -> Path:
    """Write one self-contained page about these runs and return its path; raises LockstepError (LS-501, LS-502).

    `image` is the test image, from 1, whose feature maps are drawn. `with_figures` writes every figure as SVG and PNG
    into a folder beside the page too.
    """
    page = gather(records, image)
    store.write_bytes(path, render(page).encode("utf-8", errors="replace"))
    if with_figures:
        figures.write(page, path)
    return path


def write_proof(document: Mapping[str, Any], path: Path) -> Path:
    """Write one self-contained page about a proof's document, planted or a comparison, and return its path.

    Raises LockstepError (LS-501, LS-502).
    """
    reading = read_document(document)
    page = {"title": _proof_title(reading), "proof": tell_proof(reading, "proof")}
    store.write_bytes(path, render(page, "proof.html").encode("utf-8", errors="replace"))
    return path


def render(page: dict[str, Any], template: str = "report.html") -> str:
    """The dict of `gather` as HTML; every text in it is escaped."""
    loader = jinja2.FileSystemLoader(_HERE)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    css = (_HERE / "report.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(page=page, css=css)


def gather(records: Sequence[store.Record], image: int = 1) -> dict[str, Any]:
    """Everything that the page says, as plain data: texts, tables and drawings."""
    facts = [Facts(record) for record in records]
    groups = group(facts)
    shown, rest = groups[:MAX_GROUPS], groups[MAX_GROUPS:]
    runs = [run for found in groups for run in found.runs]
    proofs = [_proof(members) for members in _by(runs, lambda run: str(run.record.folder.absolute().parent))]
    verdicts = {folder: word for _, fit in proofs if fit for folder, word in fit.covered.items()}
    comparison = compared.compare(groups)
    page = {
        "about": json.dumps(about(records, image), ensure_ascii=False),
        "title": listed(_distinct(run.study for run in runs)) or "Report",
        "questions": _distinct(str(run.spec.get("question") or "") for run in runs),
        "answer": answer(groups, comparison),
        "unfinished": [_unfinished(run) for run in runs if not run.is_finished],
        "n_runs": len(runs),
        "results": _results(runs, groups, verdicts if any(reading.proof for reading, _ in proofs) else None),
        "comparisons": compared.tell(comparison),
        "conclusions": conclusions(comparison),
        "proofs": [tell_proof(reading, f"proof{n}", fit) for n, (reading, fit) in enumerate(proofs or [(NONE, None)])],
        "datasets": [_dataset(members, n) for n, members in enumerate(_by(runs, lambda run: run.dataset))],
        "networks": _networks(groups),
        "overviews": trained.overviews(groups),
        "curves": trained.curves(shown),
        "confusion": [_confusion(found, n) for n, found in enumerate(shown)],
        "images": hard.tell_all(groups),
        "images_left_out": [found.title for found in groups[hard.MAX_GROUPS :]],
        "seen": seen.see(groups, image - 1),
        "left_out": [found.title for found in rest],
        "times": _times(runs),
        "bench": benched.tell(list(dict.fromkeys(run.record.folder.absolute().parent for run in runs))),
        "machines": _machines(runs),
        "backends": _backends(runs),
        "reproduce": [_reproduce(found) for found in _by(runs, lambda run: run.network)],
        "hashes": _hashes(runs),
    }
    return page | {"cautions": _cautions(groups), "gaps": _gaps(runs)}  # last: gaps are found while reading


def about(records: Sequence[store.Record], image: int) -> dict[str, Any]:
    """What a page says of itself, for whoever makes it again: {"lockstep": version, "image", "runs": folders}."""
    folders = ["/".join(record.folder.absolute().parts[-2:]) for record in records]
    return {"lockstep": version("lockstep-nn"), "image": image, "runs": folders}


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))


def _by(runs: Iterable[Facts], key: Callable[[Facts], str]) -> list[list[Facts]]:
    """Runs with the same key together, in order of first appearance."""
    found: dict[str, list[Facts]] = {}
    for run in runs:
        found.setdefault(key(run), []).append(run)
    return list(found.values())


def _transposed(columns: Sequence[Sequence[str]]) -> list[list[str]]:
    return [list(row) for row in zip(*columns, strict=True)]


def _proof(runs: Sequence[Facts]) -> tuple[Reading, Fit | None]:
    """The proof beside the runs of one study's folder, and which of them it speaks of."""
    reading = read_proof(runs[0].record.folder.absolute().parent)
    return reading, check_fit(reading.proof, runs) if reading.proof else None


def _proof_title(reading: Reading) -> str:
    proof = reading.proof
    if proof and proof.is_comparison:
        return "Two runs compared"
    return " ".join(filter(None, ("Planted differences in" if proof and proof.planted else "Proof of", reading.study)))


# ---------------------------------------------------------------------------------------------- what went wrong


def _named(run: Facts) -> str:
    return f"{run.network}, {run.backend}, seed {run.seed or MISSING} ({run.folder})"


def _state(run: Facts) -> str:
    """One word or two for the table: "finished", "stopped early", "failed", "unfinished"."""
    if run.is_finished:
        return "stopped early" if run.metrics and run.metrics.stopped_early else "finished"
    return "unfinished" if run.status.status == "running" else run.status.status


def _why(run: Facts) -> str:
    """The state of a run that did not finish, with its reason."""
    code, reason = run.status.code or "", run.status.reason or run.gaps.get("status.json", "")
    found = reason if reason.startswith(code) else f"{code} {reason}".strip()
    epochs = f", after {count(len(run.history), 'epoch')}" if run.history else ""
    return f"{_state(run)}{epochs}: {found or 'no reason is recorded'}"


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


def _cautions(groups: Sequence[Group]) -> list[str]:
    """What makes runs less comparable than they look: other studies or versions, or within a group other data."""
    runs = [run for members in groups for run in members.runs]
    found = []
    if len(studies := _distinct(run.study for run in runs)) > 1:
        found.append(f"These runs are of {count(len(studies), 'study', 'studies')}: {listed(studies)}.")
    versions = _distinct(run.environment.lockstep or "" for run in runs if run.environment)
    if len(versions) > 1:
        found.append(f"The runs were made by several versions of Lockstep: {listed(versions)}.")
    for members in groups:
        described = [run.environment for run in members.finished if run.environment]
        if len({tuple(sorted(one.dataset.hashes.items())) for one in described}) > 1:
            found.append(f"{members.title}: the runs did not read the same data: their hashes differ.")
        if not same_machine(members.finished):
            found.append(f"{members.title}: the runs report different CPUs, devices or thread counts.")
    return found


def _absent(members: Group, file: str, not_done: str = "Not shown") -> str:
    """Who has no part in a figure, and why."""
    why = []
    for backend in members.backends:
        runs = members.of(backend)
        if not runs:
            why.append(f"{backend} (no finished run)")
        elif reasons := [run.gaps[file] for run in runs if file in run.gaps]:
            why.append(f"{backend} ({file}: {reasons[0]})")
    return f"{not_done}: {listed(why)}." if why else ""


# ------------------------------------------------------------------------------------------------------ results


def _results(runs: Sequence[Facts], groups: Sequence[Group], verdicts: Mapping[Path, str] | None) -> Table:
    """One row per run; `verdicts` of those that a proof speaks of, by run folder."""
    columns = [("Network", "l", [run.network for run in runs]), ("Backend", "l", [run.backend for run in runs])]
    if len({run.study for run in runs}) > 1:
        columns.insert(0, ("Study", "l", [run.study for run in runs]))
    for name in varying_coordinates(runs):
        values = [title_of(run) if name == "dataset" else coordinate(run, name) for run in runs]
        side = "r" if all(_is_numeric(value) for value in values) else "l"
        columns.append((name.capitalize() if "." not in name else name, side, values))
    if len({tuple(row) for row in _transposed([values for *_, values in columns])}) < len(runs):  # repeated runs
        columns.append(("Run", "l", [run.folder for run in runs]))
    columns += [(title, "r", values) for title, values in _figures(runs)]
    if verdicts is not None:
        columns.append(("Proof", "l", [verdicts.get(run.record.folder, MISSING) for run in runs]))
    columns.append(("Status", "l", [_state(run) for run in runs]))
    starts = set(itertools.accumulate(len(found.runs) for found in groups))
    rows = _transposed([values for *_, values in columns])
    notes = {place: _why(run) for place, run in enumerate(runs) if not run.is_finished}
    caption = f"{count(len(runs), 'run').capitalize()}. Seconds per epoch are the median over the run's epochs."
    return Table(caption, [(title, side) for title, side, _ in columns], rows, breaks=starts, notes=notes)


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
        ("Test accuracy (%)", [percent(accuracy(run), places) for run in runs]),
        ("Test loss", [fixed(loss, 4) for loss in losses]),
        ("Epoch (s)", column([epoch_seconds(run) for run in runs])),
        *((f"{clock.capitalize()} (s)", column([_clock(run, clock) for run in runs])) for clock in plots.CLOCKS),
        ("Peak memory (MiB)", [fixed(value / MEBIBYTE, 0) if value is not None else MISSING for value in memory]),
        ("Parameters", [fixed(value, 0) for value in parameters]),
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
        sizes = [("training", described.n_train), ("validation", described.n_validation), ("test", described.n_test)]
        parts = listed([f"{n:,} {kind}" for kind, n in sizes if n])
        size = f"{shape(described.shape)} (height, width, channels)"
        found["text"] = f"{parts} images of {size}, {count(len(names), 'class', 'classes')}."
        notes = [described.notes] if isinstance(described.notes, str) else described.notes
        found["notes"] = [text for text in (described.origin, *notes) if text]
        found |= _balance(names, described.class_counts, number)
    if samples:
        images, labels = samples
        found["images"] = [
            {"source": plots.png(image), "name": names[label] if 0 <= label < len(names) else f"class {label}"}
            for image, label in zip(images[:16], labels[:16].astype(int).tolist(), strict=True)
            if image.shape[-1] in (1, 3, 4)
        ]
    return found


def _balance(names: Sequence[str], counts: Sequence[int], number: int) -> dict[str, Any]:
    if not counts or len(counts) != len(names):
        return {"balance_text": "The class balance is not known: environment.json has no class_counts."}
    least, most = min(counts), max(counts)
    text = (
        f"Training images per class: {least:,} to {most:,}." if least < most else f"{most:,} training images per class."
    )
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
                    "gap": "No finished run has a table of its layers in metrics.json.",
                }
            )
    names = [name for name, _ in found]
    shown = []
    for number, ((name, layers), members) in enumerate(found.items()):
        title = name if names.count(name) == 1 else members.title
        drawing = _diagram(title, members, layers, number) if number < MAX_DIAGRAMS else None
        shown.append({"title": title, "table": _layers(name, layers), "drawing": drawing})
    return shown + missing


def _diagram(title: str, members: Group, layers: Sequence[Layer], number: int) -> plots.Drawing | None:
    shapes = [run.environment.dataset.shape for run in members.finished if run.environment]
    if not shapes or len(shapes[0]) != 3 or not all(row.output_shape for row in layers):
        return None
    return plots.svg(diagram(shapes[0], layers), said_of(title, shapes[0], layers), f"network{number}")


def _layers(name: str, layers: Sequence[Layer]) -> Table:
    rows = [
        [row.name, shape(row.output_shape), f"{row.parameters:,}", f"{row.multiply_adds:,}", shape(row.receptive_field)]
        for row in layers
    ]
    sums = [f"{sum(row.parameters for row in layers):,}", f"{sum(row.multiply_adds for row in layers):,}"]
    titles = ("Output shape", "Parameters", "Multiply-adds", "Receptive field")
    return Table(
        f"{name}, layer by layer",
        [("Layer", "l"), *((title, "r") for title in titles)],
        rows,
        foot=[["Total", "", *sums, ""]],
    )


# ----------------------------------------------------------------------------------------------------- confusion


def _confusion(members: Group, number: int) -> dict[str, Any]:
    runs = [run for run in members.firsts() if run.metrics and run.metrics.test.confusion]
    found: dict[str, Any] = {"title": members.title, "plots": [], "caption": "", "reports": []}
    found |= {"twin": None, "share_twin": None}
    if runs:
        found |= _matrices(runs, number, members.seeds)
        reports = runs if len(runs[0].class_names) <= MAX_CLASSES else runs[:1]
        found["reports"] = [(run.backend, _report(run)) for run in reports]
    agreement = _agreement(members.firsts())
    return found | {
        "agreement": agreement,
        "absent": _absent(members, "metrics.json"),
        "disagreement": _absent(members, "predictions.npz", "Predictions not compared"),
    }


def _matrices(runs: Sequence[Facts], number: int, seeds: Sequence[str]) -> dict[str, Any]:
    counts = {run.backend: np.array(run.metrics.test.confusion) for run in runs if run.metrics}
    names = runs[0].class_names
    errors = [int((matrix - np.diag(np.diag(matrix))).max()) for matrix in counts.values()]
    drawn = [
        (
            backend,
            plots.svg(
                plots.confusion(matrix, names, max(errors)),
                _matrix_said(backend, matrix, names),
                f"confusion{number}-{place}",
            ),
        )
        for place, (backend, matrix) in enumerate(counts.items())
    ]
    first, matrix = next(iter(counts.items()))
    said = f"{_matrix_said(first, matrix, names)} In percent of each true class."
    share = plots.svg(plots.confusion(matrix, names, max(errors), in_percent=True), said, f"confusion{number}-percent")
    drawn.append((f"{first}, in percent of the true class", share))
    caption = f"Seed {runs[0].seed} of {listed(seeds)}." if len(seeds) > 1 else ""
    twin = share_twin = None
    if len(names) <= MAX_CLASSES:
        matrix = counts[runs[0].backend].tolist()
        rows = [[name, *(f"{n:,}" for n in row)] for name, row in zip(names, matrix, strict=False)]
        twin = Table(
            f"Confusion of {runs[0].backend}: rows true, columns predicted",
            [("True", "l"), *((name, "r") for name in names)],
            rows,
        )
        parts = [[percent(n / max(sum(row), 1), 2) for n in row] for row in matrix]
        share_twin = Table(
            f"Confusion of {runs[0].backend} in percent of the true class",
            twin.columns,
            [[name, *row] for name, row in zip(names, parts, strict=False)],
        )
    return {"plots": drawn, "caption": caption, "twin": twin, "share_twin": share_twin}


def _matrix_said(backend: str, matrix: np.ndarray, names: Sequence[str]) -> str:
    """What a screen reader says of a confusion matrix: hits and the most frequent error."""
    errors = matrix - np.diag(np.diag(matrix))
    text = f"Confusion matrix of {backend}: {int(np.trace(matrix)):,} of {int(matrix.sum()):,} test images right."
    if errors.max(initial=0) > 0:
        true, predicted = divmod(int(errors.argmax()), len(errors))
        text += f" Most frequent error: {names[true]} taken for {names[predicted]}, {int(errors.max())} times."
    return text


def _report(run: Facts) -> Table:
    """Precision, recall, F1 and support of every class, and their averages."""
    test = run.metrics.test if run.metrics else None
    classes = list(zip(run.class_names, test.per_class, strict=False)) if test else []
    averages = [("macro average", test.macro), ("weighted average", test.weighted)] if test else []
    total = sum(row.support or 0 for _, row in classes)
    foot = [[*_scores(name, row), f"{total:,.0f}"] for name, row in averages if row]
    body = [[*_scores(name, row), fixed(row.support, 0)] for name, row in classes]
    columns = [("Class", "l"), ("Precision", "r"), ("Recall", "r"), ("F1", "r"), ("Support", "r")]
    return Table(f"Classification report of {run.backend}", columns, body, foot=foot)


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
                    f"{one} and {other}",
                    f"{int(alike.sum()):,} of {len(alike):,}",
                    f"{int((~alike).sum()):,}",
                    significant(apart),
                ]
            )
    columns = [("Backends", "l"), ("Same answer", "r"), ("Different", "r"), ("Largest logit difference", "r")]
    seed = f", seed {runs[0].seed}" if runs and runs[0].seed else ""
    return (
        Table(f"Do the backends answer alike? After training, on the test set{seed}", columns, rows) if rows else None
    )


# --------------------------------------------------------------------------------------------------------- times


def _times(runs: Sequence[Facts]) -> dict[str, Any]:
    timed = [run for run in runs if run.timing]
    if not timed:
        return {"plot": None, "caption": "No run has a timing.json."}
    varying = [name for name in varying_coordinates(runs) if name != "dataset"]
    rows = [
        (
            " · ".join([run.network, *(coordinate(run, name) for name in varying), run.backend]),
            {c: _clock(run, c) for c in plots.CLOCKS},
        )
        for run in timed[:MAX_BARS]
    ]
    said = "; ".join(
        f"{label}: " + ", ".join(f"{c} {seconds(v)}" for c, v in clocks.items()) for label, clocks in rows[:8]
    )
    text = (
        "Each run once, in its own process: this is a record, not a ranking; what may be ranked stands under "
        "Comparisons. Loading and augmenting data are not in these clocks. "
        "The numbers are in the table of results."
    )
    if len(timed) < len(runs):
        text += f" Not drawn: {count(len(runs) - len(timed), 'run')} without a timing.json."
    if len(timed) > MAX_BARS:
        text += f" The first {MAX_BARS} of {len(timed)} runs are drawn."
    return {"plot": plots.svg(plots.clocks(rows), f"Seconds per clock. {said}", "times"), "caption": text}


def _machine(run: Facts) -> tuple[str, ...]:
    found = run.environment or Environment()
    cores = f", {count(found.cores, 'core')}" if found.cores else ""
    memory = f"{found.memory_bytes / 2**30:.1f} GiB" if found.memory_bytes else MISSING
    return (f"{found.cpu or MISSING}{cores}", memory, found.device or MISSING, found.platform or MISSING)


def _machines(runs: Sequence[Facts]) -> Table:
    rows = [[*_machine(members[0]), str(len(members))] for members in _by(runs, lambda run: "\n".join(_machine(run)))]
    n_known = sum(any(cell != MISSING for cell in row[:-1]) for row in rows)
    columns = [("CPU", "l"), ("Memory", "l"), ("Device", "l"), ("Platform", "l"), ("Runs", "r")]
    return Table(
        "Machine" if n_known <= 1 else "Machines: times of different machines cannot be compared", columns, rows
    )


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
    titles = ("Threads asked", "Threads obtained", "Load", "Seeds", "Runs")
    columns = [("Backend", "l"), ("Versions", "l"), ("Lockstep, Python", "l"), *((title, "r") for title in titles)]
    caption = "What each backend ran with. Load is the machine’s 1-minute load average, over its runs."
    return Table(caption, columns, rows)


def _load(runs: Sequence[Facts]) -> str:
    """The lowest and the highest load average that these runs met."""
    loads = [run.environment.load[0] for run in runs if run.environment and run.environment.load]
    if not loads:
        return MISSING
    low, high = f"{min(loads):.1f}", f"{max(loads):.1f}"
    return low if low == high else f"{low} to {high}"


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
    columns = [("Dataset", "l"), ("File", "l"), ("SHA-256", "l")]
    return Table("Data files", columns, [list(row) for row in rows]) if rows else None
