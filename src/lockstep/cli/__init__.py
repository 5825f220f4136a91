"""The command line: parse, call one function, print. Slow imports stand in the command that needs them."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from lockstep import language
from lockstep.cli import commands
from lockstep.cli.commands.options import AsJson, Offline, RunsFolder
from lockstep.language import later as _
from lockstep.language import mark, say
from lockstep.machine import streams
from lockstep.screen.output import console as _console
from lockstep.screen.output import print_json as _print_json
from lockstep.screen.output import print_lined as _print_lined
from lockstep.screen.output import tell as _say
from lockstep.screen.output import tell_above as _say_above

if TYPE_CHECKING:
    from lockstep.errors import LockstepError

HELP = "Train the same neural network in NumPy, PyTorch, TensorFlow and JAX, and compare what is left."
EPILOG = (
    "Exit codes: 0 fine · 1 a proof diverged, a submission does not fit · 2 usage or configuration · 3 data · "
    "4 a backend is missing or failed · 5 resources · 130/143 interrupted."
)
PLAIN = {"add_completion": False, "no_args_is_help": True, "rich_markup_mode": None, "pretty_exceptions_enable": False}

app = typer.Typer(help=HELP, epilog=EPILOG, **PLAIN)  # type: ignore[arg-type]  # one dictionary for both apps
data_app = typer.Typer(help="Datasets: which there are, where they lie, your own.", **PLAIN)  # type: ignore[arg-type]
app.add_typer(data_app, name="data")

StudyFile = Annotated[Path, typer.Argument(help="A study's TOML file.", metavar="STUDY")]
Settings = Annotated[
    list[str],
    typer.Option("--set", help="Put a value over the file's: recipe.epochs=3 (again for more).", metavar="KEY=VALUE"),
]
Backends = Annotated[list[str], typer.Option(help="Only these, with commas: torch,numpy.", metavar="NAMES")]
Networks = Annotated[
    list[str], typer.Option("--network", help="Only this network of the study (again for more).", metavar="NAME")
]
Threads = Annotated[
    int | None, typer.Option(help="Threads for every backend (default: those of two that are free).", metavar="N")
]
Quick = Annotated[bool, typer.Option("--quick", help="A first look: digits, one seed, at most 5 epochs.")]
DatasetName = Annotated[str, typer.Argument(help="A dataset's name; see: lockstep data list.", metavar="NAME")]


def _version(asked: bool) -> None:
    if asked:
        from lockstep.version import version

        typer.echo(f"lockstep {version()}")
        raise typer.Exit


@app.callback()
def _everywhere(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (anywhere in a command).")] = False,
    language: Annotated[
        str | None,
        typer.Option(
            "--language",
            help="What to speak: en or ru (anywhere in a command; else what LOCKSTEP_LANGUAGE says).",
            metavar="LANGUAGE",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of every command; --debug and --language are taken out by `main` before."""


@app.command()
def demo(runs: RunsFolder = Path("runs"), threads: Threads = None, as_json: AsJson = False) -> None:
    """Train two small networks in every framework that is installed, and write the report: a first look."""
    from lockstep import backends
    from lockstep.spec.toml import own_study
    from lockstep.store import results

    here = [name for name in backends.BACKENDS if backends.why_missing(name) is None]
    for name in backends.BACKENDS.keys() - here:
        extra = f"pip install 'lockstep-nn[{backends.BACKENDS[name][3]}]'"
        _say(_("{name} is not installed and left out; to have it: {command}", name=name, command=extra), err=True)
    _do_study(own_study("demo"), [], here, [], runs, threads, True, False, as_json, False, False, results.in_a_sentence)


app.command()(commands.init)


@app.command()
def run(
    study: StudyFile, settings: Settings = [], backends: Backends = [], network: Networks = [],  # noqa: B006
    runs: RunsFolder = Path("runs"), threads: Threads = None, offline: Offline = False,
    again: Annotated[bool, typer.Option("--again", help="Repeat finished runs too.")] = False, as_json: AsJson = False,
    quick: Quick = False,
    together: Annotated[
        bool, typer.Option("--together", help="Train a small network's seeds and settings together (NumPy).")
    ] = False,
) -> None:  # fmt: skip
    """Do every run of a study, then write its report."""
    _do_study(study, settings, _names(backends), network, runs, threads, offline, again, as_json, quick, together)


def _do_study(
    study: Path, settings: list[str], chosen: list[str], network: list[str], runs: Path, threads: int | None,
    offline: bool, again: bool, as_json: bool, quick: bool, together: bool,
    closing: Callable[[Sequence[Mapping[str, Any]]], str] | None = None,
) -> None:  # fmt: skip
    """`lockstep run`; `closing` says of the rows of the table what came out, else the report's answer does."""
    from lockstep import store
    from lockstep import study as studies
    from lockstep.machine import timing
    from lockstep.report import gather, write
    from lockstep.screen import terminal
    from lockstep.study import crews, forecast, resumption

    _end_on_signals()
    error_console = _console(stderr=True)
    loaded = studies.load_study(study, settings, chosen, network, quick)
    with terminal.Download(error_console) as download:
        studies.fetch_data(loaded, offline, download.tell)
    for sentence in [] if again else resumption.news(loaded, runs, threads):
        _say(_("changed since it was run before: {what}", what=sentence), err=True)
    for sentence in crews.alone(loaded.runs(), timing.checked_threads(threads)) if together else []:
        _say(sentence, err=True)
    for sentence in studies.few_images(loaded):
        _say(_("warning: {what}", what=sentence), err=True)
    to_do = loaded.runs() if again else studies.not_done(loaded, runs)
    expectation = forecast.Expectation(
        to_do, runs, timing.checked_threads(threads), lambda said: _say_above(said, error_console)
    )
    reused: set[Path] = set()
    with terminal.Watcher(len(loaded.runs()), error_console) as watcher, _saying_what_is_kept(runs / loaded.name):

        def tell(run: Any, event: dict[str, Any]) -> None:
            if event["event"] == "end" and event["reused"]:
                reused.add(event["record"].folder)
            watcher.tell(run, event)
            expectation.hear(run, event)

        records = studies.run_study(loaded, runs, tell, threads, again, together)
    rows = [
        record.summary(run.grid, record.folder in reused) for run, record in zip(loaded.runs(), records, strict=True)
    ]
    if not as_json:  # before the report, which may fail
        _console().print(terminal.results_table(rows))
        if any((row["together"] or 1) > 1 for row in rows):
            _say(_("–: of runs that were trained together neither time nor memory is one's own"))
    page = gather(records)
    report_path = write(page, runs / loaded.name / "report.html", with_figures=True)
    if as_json:
        _print_json({"study": loaded.name, "runs": rows, "report": str(report_path)})
    else:
        _say(closing(rows) if closing else page["answer"])
        _say(_("report: {path}", path=report_path))
        if not closing and len(store.find_runs([report_path.parent])) > len(records):
            command = f"lockstep report {report_path.parent}"
            _say(_("It shows these {n} runs; all that lie there: {command}", n=len(records), command=command))
    _end_where_runs_failed(rows, runs / loaded.name)


@contextlib.contextmanager
def _saying_what_is_kept(*folders: Path) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        _say(_("interrupted; every epoch that was finished is saved"), err=True)
        _say(_("to go on: the same command again; finished runs are not repeated"), err=True)
        command = f"lockstep resume {_quoted(folders)}"
        _say(_("to finish only the runs that were begun: {command}", command=command), err=True)
        raise


def _end_where_runs_failed(rows: Sequence[dict[str, Any]], *folders: Path) -> None:
    """Exit with the first failed run's code."""
    failed = [row for row in rows if row["status"] != "finished"]
    if failed:
        counts = {"failed": len(failed), "all": len(rows)}
        _say(_("{failed} of {all} runs failed; the reasons stand above and in status.json", **counts), err=True)
        command = f"lockstep resume {_quoted(folders)}"
        _say(_("to go on with them when that is mended: {command}", command=command), err=True)
        raise typer.Exit(int((failed[0]["code"] or "LS-403")[3]))


def _names(given: Iterable[str]) -> list[str]:
    """ "torch,numpy" and what was given again, as one list."""
    return [name.strip() for names in given for name in names.split(",")]


def _quoted(folders: Iterable[Path]) -> str:
    return " ".join(shlex.quote(str(folder)) for folder in folders)


@app.command()
def resume(
    folders: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold them.", metavar="RUNS…")],
    threads: Annotated[int | None, typer.Option(help="Threads (default: as many as before).", metavar="N")] = None,
    offline: Offline = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Finish every run that was interrupted, from the last epoch that was saved; then write the reports."""
    from lockstep import store
    from lockstep import study as studies
    from lockstep.errors import LockstepError
    from lockstep.report import write_report
    from lockstep.screen import terminal
    from lockstep.study import resumption

    _end_on_signals()
    error_console = _console(stderr=True)
    waiting, left, problems = resumption.unfinished(folders, threads)
    for sentence in left:
        _say(_("left as it is: {what}", what=sentence), err=True)
    ready = []
    with terminal.Download(error_console) as download:
        for one in waiting:
            try:
                studies.fetch_data(one.study, offline, download.tell)
                ready.append(one)
            except LockstepError as missing:
                problems += missing.problems
    rows: list[dict[str, Any]] = []
    with terminal.Watcher(len(ready), error_console) as watcher, _saying_what_is_kept(*folders):

        def tell(run: Any, event: dict[str, Any]) -> None:
            if event["event"] == "end":
                rows.append(event["record"].summary(run.grid, event["reused"]))
            watcher.tell(run, event)

        records, held = resumption.resume(ready, tell)
    problems += held
    if rows and not as_json:
        _console().print(terminal.results_table(rows))
    places = sorted({*(record.folder.parent for record in records), *resumption.unreported(folders)})
    reports = [
        str(write_report(store.find_runs([place]), place / "report.html", with_figures=True)) for place in places
    ]
    if as_json:
        errors = {"errors": [vars(problem) for problem in problems]} if problems else {}
        _print_json({"runs": rows, "left": left, "reports": reports, **errors})
    elif not rows:
        _say(_("no run is waiting") if not problems else _("no run that is waiting can go on now"))
    for path in reports:
        _say(_("report: {path}", path=path), err=as_json)
    if problems:
        error = LockstepError.several(problems)
        if not as_json:
            raise error
        terminal.print_error(error, error_console)
        raise typer.Exit(error.exit_code)
    _end_where_runs_failed(rows, *folders)


def _check_what_to_prove(targets: Sequence[Path], dtype: str | None) -> None:
    """Refuse a dtype that there is not, and several studies at once."""
    from lockstep.errors import LockstepError
    from lockstep.spec import DTYPES

    if dtype is not None and dtype not in DTYPES:
        hint = _("one of {names}", names=", ".join(DTYPES))
        raise LockstepError("LS-205", _('there is no dtype "{name}"', name=dtype), where="--dtype", hint=hint)
    if len(targets) > 1 and all(target.suffix == ".toml" for target in targets):
        first, then = (f"lockstep prove {target}" for target in targets[:2])
        message = _("prove takes one study at a time, not {n}", n=len(targets))
        hint = _("{first}, then {then}", first=first, then=then)
        raise LockstepError("LS-200", message, where="STUDY", hint=hint)


@contextlib.contextmanager
def _saying_that_nothing_is_proven() -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        _say(_("interrupted; no proof was written, and one of before stands"), err=True)
        raise


@app.command()
def prove(
    targets: Annotated[
        list[Path], typer.Argument(help="A study's TOML file, or two run folders to compare.", metavar="STUDY|RUN RUN")
    ],
    settings: Settings = [], backends: Backends = [], network: Networks = [],  # noqa: B006
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="float32 or float64, in place of the study's.", metavar="DTYPE")
    ] = None,
    steps: Annotated[int, typer.Option(help="How many steps are taken and judged.", metavar="N")] = 10,
    plant: Annotated[
        list[str],
        typer.Option("--plant", help="Switch a known difference on: adam_epsilon_hat@torch.", metavar="CAUSE@BACKEND"),
    ] = [],  # noqa: B006
    cost: Annotated[bool, typer.Option(help="Train with and without a plant: what it costs.")] = True,
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Instead: are gradients the slopes of the loss? In float64.")
    ] = False,
    runs: RunsFolder = Path("runs"), threads: Threads = None, offline: Offline = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Prove that backends take the same steps, or name the first place that differs and its cause."""
    from lockstep import scripting
    from lockstep import study as studies
    from lockstep.errors import LockstepError
    from lockstep.proof import comparison, proof
    from lockstep.report import write_proof
    from lockstep.screen import terminal

    _end_on_signals()
    error_console = _console(stderr=True)
    plant = list(dict.fromkeys(plant))
    _check_what_to_prove(targets, dtype)
    chosen_anything = settings or network or backends or dtype or steps != 10 or gradients
    if gradients and (plant or dtype or steps != 10):
        message = _("--gradients takes no steps, is in float64, and of a plant the gradients are right too")
        raise LockstepError("LS-200", message, hint=_("leave --plant, --dtype and --steps out"))
    if len(targets) == 2 and not plant and not chosen_anything:
        document = comparison.compare_runs(*targets)
        page = write_proof(document, targets[1].resolve().parent / "comparison.html")
    elif len(targets) == 1:
        words = settings + ([f"dtype={dtype}"] if dtype else [])
        chosen = _names(backends)
        asked = studies.load_study(targets[0], words, chosen, network)
        with terminal.Download(error_console) as download:
            studies.fetch_data(asked, offline, download.tell)
        if gradients:
            _check_gradients(asked, runs, threads, as_json)
        with terminal.ProofWatcher(error_console) as watcher, _saying_that_nothing_is_proven():
            document = proof.prove(asked, runs, steps, plant, threads, watcher.tell)
        if plant and cost and not as_json:
            _say(_("training to the end, as it should be and as planted (--no-cost leaves this out)"), err=True)
        if plant and cost:
            with scripting.cost_watcher(asked, plant, error_console) as training:
                document = scripting.add_cost(document, asked, plant, runs, training.tell, threads)
        page = scripting.write_pages(document, runs)
    else:
        hint = _("lockstep prove STUDY.toml, or lockstep prove RUN_A RUN_B")
        message = _("prove takes one study, or two run folders and no options of a study")
        raise LockstepError("LS-200", message, hint=hint)
    if as_json:
        _print_json(document.document())
    else:
        terminal.print_proof(document, _console())
        for row in document.cost:
            typer.echo(terminal.cost(row))
        _say(_("page: {path}", path=page))
    raise typer.Exit(proof.exit_code(document))


def _check_gradients(asked: Any, runs: Path, threads: int | None, as_json: bool) -> NoReturn:
    from lockstep.proof import gradients
    from lockstep.screen import terminal

    with terminal.ProofWatcher(_console(stderr=True)) as watcher, _saying_that_nothing_is_proven():
        document = gradients.check_gradients(asked, runs, threads, watcher.tell)
    if as_json:
        _print_json(document)
    else:
        terminal.print_gradients(document, _console())
    raise typer.Exit(gradients.exit_code(document))


@app.command()
def bench(
    study: StudyFile, settings: Settings = [], backends: Backends = [], network: Networks = [],  # noqa: B006
    against: Annotated[
        str, typer.Option(help="shipped: the frameworks' own tutorials beside ours.", metavar="WHOM")
    ] = "",
    rounds: Annotated[
        int, typer.Option(help="How often each is timed, in a fresh process and another order.", metavar="N")
    ] = 5,
    epochs: Annotated[int, typer.Option(help="Epochs of each; the first warms up.", metavar="N")] = 3,
    together: Annotated[
        int, typer.Option(help="Also N seeds trained together in one process.", metavar="N")
    ] = 1,
    faults: Annotated[bool, typer.Option("--faults", help="What classic mistakes of comparisons cost here.")] = False,
    runs: RunsFolder = Path("runs"), threads: Threads = None, offline: Offline = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Time a study's networks, interleaved in fresh processes, and rank what can be ranked."""
    from lockstep import study as studies
    from lockstep.benchmark import benches, mistakes
    from lockstep.errors import LockstepError
    from lockstep.screen import terminal, times
    from lockstep.store.documents.bench import Bench, Faults

    if faults and (against or together > 1):
        message = _("--faults commits mistakes of our own, and takes neither --against nor --together")
        raise LockstepError("LS-200", message, hint=_("ask for one of them"))
    _end_on_signals()
    error_console = _console(stderr=True)
    chosen = _names(backends)
    loaded = studies.load_study(study, settings, chosen, network)
    with terminal.Download(error_console) as download:
        studies.fetch_data(loaded, offline, download.tell)
    place = runs / loaded.name / ("faults.json" if faults else "bench.json")
    benches.ready(place)
    with times.BenchWatcher(rounds, error_console) as watcher:
        if faults:
            document: Bench | Faults = mistakes.measure(loaded, runs, rounds, epochs, threads, watcher.tell)
        else:
            document = benches.bench(loaded, runs, rounds, epochs, against, threads, watcher.tell, together)
    failed: LockstepError | None = None
    try:
        place = benches.keep(document, place, watcher.code is not None)
    except LockstepError as error:
        failed = error
    if as_json:
        _print_json(document.document())
    elif isinstance(document, Faults):  # also where it could not be written
        times.print_faults(document, _console())
    else:
        times.print_bench(document, _console())
    if failed:
        raise failed
    if not as_json:
        _say(_("records: {path}", path=place))
    if watcher.code is not None:
        raise typer.Exit(watcher.code)


@app.command()
def explain(
    topic: Annotated[
        str,
        typer.Argument(
            help="A word of the field (conv2d, adam; all: topics), differences, causes, errors, or one of these.",
            metavar="TOPIC",
        ),
    ],
    markdown: Annotated[bool, typer.Option("--markdown", help="As the pages of docs/ have it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Explain a layer, an optimizer, a term; what frameworks do by default (measured here and now); what a divergence
    comes from; what an error means.
    """
    if _explain_topic(topic, markdown, as_json):
        return None

    from lockstep.defaults import differences
    from lockstep.errors import CODES, LockstepError
    from lockstep.explain import remedies
    from lockstep.proof import verdicts
    from lockstep.proof.causes import CAUSES
    from lockstep.screen import terminal

    if topic == "differences":
        _end_on_signals()
        _say(_("running the defaults of {frameworks} …", frameworks=", ".join(differences.FRAMEWORKS)), err=True)
        document = differences.table(differences.measure())
        if markdown or as_json:
            return typer.echo(differences.markdown(document), nl=False) if markdown else _print_json(document)
        _print_lined(_("Differences"), *differences.cells(document))
        return _say(_("Measured with {versions}.", versions=differences.measured_with(document)))
    code = topic.upper()
    if topic not in ("causes", "errors", *CAUSES) and code not in CODES:
        raise _nothing_to_explain(topic)
    if markdown:
        hint = "lockstep explain causes --json"
        raise LockstepError("LS-200", _("--markdown is for differences and words of the field"), hint=hint)
    if topic == "errors" or code in CODES:
        errors = [remedies.explain(name) for name in CODES if topic == "errors" or name == code]
        if as_json:
            return _print_json({"codes": errors})
        if topic != "errors":
            return terminal.print_remedy(errors[0], _console())
        for error in errors:
            _say(_("{code}: {what} (exit code {exit_code})", **error))
        return _say(_("One of them with its cause, an example and the remedy: lockstep explain LS-301"))
    names = CAUSES if topic == "causes" else (topic,)
    rows = [{**dict(row), "stage": CAUSES[row.cause].stage} for row in verdicts.explained(names)]
    if as_json:
        return _print_json({"causes": rows})
    terminal.print_causes(rows, _console())
    return None


def _nothing_to_explain(topic: str) -> LockstepError:
    """The error that proposes what was perhaps meant."""
    from lockstep.errors import CODES, LockstepError, did_you_mean
    from lockstep.explain import topics
    from lockstep.proof.causes import CAUSES

    words = [name for one in topics.LANGUAGES for name in topics.topics(one)]
    known = ["topics", "differences", "causes", "errors", *words, *CAUSES, *map(str.lower, CODES)]
    is_code = re.fullmatch(r"LS-\d{3}", topic.upper())  # spelt as codes are: its neighbours are other errors
    near = "" if is_code else did_you_mean(topic, known)
    hint: str = _(
        "words of the field (lockstep explain topics), differences, causes, errors, one cause or one error (LS-301)"
    )
    if is_code:
        hint = _("every code there is: lockstep explain errors")
    message = _('there is nothing to explain by the name "{name}"', name=topic)
    return LockstepError("LS-209", message, where="TOPIC", hint=near if near.startswith("did you mean") else hint)


def _explain_topic(word: str, markdown: bool, as_json: bool) -> bool:
    """Print the part of the chapters that a word names, or the list of all; False where there is no such part."""
    import dataclasses

    from lockstep.explain import topics
    from lockstep.screen import terminal

    if word == "topics":
        rows = topics.listed(language.spoken())
        if as_json:
            _print_json({"topics": [dict(zip(("names", "title", "chapter"), row, strict=True)) for row in rows]})
        else:
            columns = ("lockstep explain …", _("part"), _("chapter"))
            _console().print(terminal.plain_table(_("Topics"), columns, rows))
        return True
    found = topics.find(word)
    if found is None:
        return False
    if as_json:
        _print_json(dataclasses.asdict(found))
    elif markdown:
        typer.echo(found.text)
    else:
        topics.print_topic(found, _console())
    return True


def _end_on_signals() -> None:
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) != signal.SIG_IGN:  # nohup
            signal.signal(getattr(signal, name), _terminated)


@app.command()
def show(
    study: StudyFile, settings: Settings = [], network: Networks = [],  # noqa: B006
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Every value instead, and where it comes from.")
    ] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show each network of a study: layers, shapes, parameters, multiply-adds, receptive field."""
    from lockstep import data
    from lockstep import study as studies
    from lockstep.screen import terminal
    from lockstep.spec.records import as_toml
    from lockstep.study import provenance

    if resolved:
        values = provenance.resolved_values(study, settings, network)
        if as_json:
            return _print_json({"values": values})
        columns = (_("key"), _("value"), _("from"))
        rows = [(row["key"], as_toml(row["value"]), row["source"]) for row in values]
        return _console().print(terminal.plain_table(_("Every value"), columns, rows))
    loaded = studies.load_study(study, settings, networks=network)
    tables = [
        {"name": name, "dataset": dataset, **member.summary(data.describe(dataset).image_shape)}
        for dataset in loaded.dataset
        for name, member in loaded.networks.items()
    ]
    if as_json:
        return _print_json({"study": loaded.name, "networks": tables})
    if loaded.question:
        _say(_(loaded.question))
    for table in tables:
        _console().print(terminal.network_table(table["name"], table["dataset"], table["network"]))


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold them.", metavar="RUNS…")],
    out: Annotated[
        Path | None, typer.Option(help="The page to write (default: report.html in the first folder).", metavar="FILE")
    ] = None,
    image: Annotated[
        int, typer.Option(min=0, max=15, help="The test image, from 0, whose feature maps are drawn.", metavar="N")
    ] = 0,
    reach: Annotated[
        list[float],
        typer.Option(
            "--reach", help="Time to a test accuracy of so many per cent (again for more).", metavar="PERCENT"
        ),
    ] = [],  # noqa: B006
    figures: Annotated[bool, typer.Option(help="Write every figure as SVG and PNG beside the page too.")] = True,
    as_json: AsJson = False,
) -> None:
    """Write the report of run folders again, and what was compared in numbers; needs no framework."""
    from lockstep import store
    from lockstep.report import gather, levels_of, write

    path = out or folders[0] / "report.html"
    records = store.find_runs(folders)
    page = gather(records, image, levels_of(reach))
    written = write(page, path, with_figures=figures)
    for sentence in store.damages(records):
        _say(_("warning: {what}", what=sentence), err=True)
    if as_json:
        _print_json(page["document"])
    else:
        _say(page["answer"])
    _say(_("report: {path}", path=written), err=as_json)


@app.command()
def verify(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Submissions: folders, or zips of them, that hold runs and a report.", metavar="FOLDER…"),
    ],
    images: Annotated[
        int | None,
        typer.Option(min=1, help="Test images that go through each network again (default: all).", metavar="N"),
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Train the first epoch of every run again: minutes.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="One CSV table on stdout.")] = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Compute what was handed in again: first losses, metrics, predictions, the report; a line per submission."""
    from lockstep import store
    from lockstep.check import submissions as checks
    from lockstep.errors import LockstepError

    if not any(folder.exists() for folder in folders):  # one of many that is missing has a line of its own
        store.must_be_there(folders)
    if as_csv and as_json:
        raise LockstepError("LS-200", _("--csv and --json are two answers"), hint=_("ask for one of them"))
    rows = []
    for row in checks.verify_all(folders, images, deep):
        rows.append(row)
        if not (as_csv or as_json):
            typer.echo(checks.as_line(row))
    if as_json:
        _print_json({"submissions": rows})
    elif as_csv:
        typer.echo(checks.as_csv(rows), nl=False)
    elif any(row["finished"] for row in rows):
        typer.echo(checks.closing(rows), err=True)
    raise typer.Exit(checks.exit_code(rows))


@app.command()
def doctor(
    folders: Annotated[
        list[Path], typer.Argument(help="Check every file of these runs instead of the machine.", metavar="[RUNS…]")
    ] = [],  # noqa: B006
    runs: RunsFolder = Path("runs"), as_json: AsJson = False,
) -> None:  # fmt: skip
    """Say what this machine has and lacks; with RUNS, which files of runs are damaged and what can still be used."""
    from lockstep.check.doctor import check
    from lockstep.screen import terminal

    if folders:
        return _doctor_of_runs(folders, as_json)
    found = check(runs)
    if as_json:
        return _print_json(found)
    console = _console()
    rows = [
        (row["name"], _("missing") if row["missing"] else _("ready"), _versions(row["versions"]), row["remedy"] or "")
        for row in found["backends"]
    ]
    columns = (_("backend"), _("state"), _("versions"), _("remedy"))
    console.print(terminal.plain_table(_("Backends"), columns, rows))
    machine = {**found["machine"], "load": " ".join(f"{value:.2f}" for value in found["machine"]["load"] or ())}
    for key in ("memory_bytes", "disk_free_bytes"):
        machine[key] = _("{n:,.1f} GiB", n=machine[key] / 2**30) if machine[key] else _("unknown")
    machine["runs_folder_is_writable"] = _("yes") if machine["runs_folder_is_writable"] else _("no")
    machine_rows = [(_(MACHINE[key]), value) for key, value in machine.items() if key in MACHINE]
    console.print(terminal.plain_table(_("Machine"), (_("what"), _("found")), machine_rows))
    data_rows = [(row["name"], row["state"], row["n_train"], row["n_test"]) for row in found["datasets"]]
    columns = (_("dataset"), _("state"), _("training"), _("test"))
    console.print(terminal.plain_table(_("Datasets"), columns, data_rows))
    for clash in found["clashes"]:
        console.print(say(_("clash: {what}", what=clash)), markup=False, soft_wrap=True)
    if not found["clashes"]:
        console.print(say(_("clashes: none known")), markup=False, soft_wrap=True)


# What `timing.machine` and the doctor call it, and what a person does.
MACHINE = {
    "platform": mark("platform"),
    "cpu": mark("cpu"),
    "cores": mark("cores"),
    "memory_bytes": mark("memory"),
    "load": mark("load"),
    "threads": mark("threads"),
    "runs_folder": mark("runs folder"),
    "runs_folder_is_writable": mark("runs folder is writable"),
    "disk_free_bytes": mark("disk free"),
}


def _doctor_of_runs(folders: list[Path], as_json: bool) -> None:
    """Exit code 5 where anything is damaged."""
    from lockstep.check.doctor import check_runs
    from lockstep.screen import terminal

    found = check_runs(folders)
    if as_json:
        _print_json(found)
    else:
        terminal.print_checked(found, _console())
    if any(row["state"] == "damaged" for row in found["runs"]):
        raise typer.Exit(5)


def _versions(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in found.items())


app.command()(commands.clean)
app.command()(commands.schema)


# ------------------------------------------------------------------------------------------------------ lockstep data


@data_app.command("list")
def data_list(as_json: AsJson = False) -> None:
    """List every dataset and whether it is on this machine."""
    import dataclasses

    from lockstep import data
    from lockstep.errors import LockstepError
    from lockstep.screen import terminal

    rows: list[tuple[object, ...]] = []
    facts: list[dict[str, Any]] = []
    for name in data.available():
        try:
            f = data.describe(name)
        except LockstepError as error:  # one that is damaged must not hide the others
            facts.append({"name": name, "state": str(error)})
            rows.append((name, *["–"] * 4, error.problems[0].message))
            continue
        facts.append(dataclasses.asdict(f) | {"n_classes": f.n_classes})
        rows.append((name, " × ".join(map(str, f.image_shape)), f.n_classes, f.n_train, f.n_test, f.state))
    if as_json:
        return _print_json({"datasets": facts})
    columns = (_("dataset"), _("image"), _("classes"), _("training"), _("test"), _("state"))
    _console().print(terminal.plain_table(_("Datasets"), columns, rows))


@data_app.command("fetch")
def data_fetch(name: DatasetName, offline: Offline = False) -> None:
    """Download a dataset to the user's cache, unless it is on this machine."""
    from lockstep import data
    from lockstep.screen import terminal

    with terminal.Download(_console(stderr=True)) as download:
        folder = data.fetch(name, offline=offline, progress=download.tell)
    _say(f"{name}: {folder}")


@data_app.command("verify")
def data_verify(
    names: Annotated[list[str], typer.Argument(help="Datasets (default: all here).", metavar="[NAME…]")] = [],  # noqa: B006
) -> None:  # fmt: skip
    """Check the SHA-256 of every file of a dataset."""
    from lockstep import data
    from lockstep.errors import LockstepError
    from lockstep.screen import terminal

    rows: list[tuple[str, ...]] = []
    for name in names or data.available():
        try:
            rows += [(name, Path(row.file).name, *row[1:]) for row in data.verify(name)]
        except LockstepError as error:
            if names:
                raise
            rows.append((name, error.problems[0].where, _("wrong"), "", error.problems[0].message))
    if not names:  # what was never fetched is no fault
        rows = [row for row in rows if row[2] != "missing"]
    columns = (_("dataset"), _("file"), _("state"), _("expected"), _("found"))
    _console().print(terminal.plain_table(_("Files"), columns, rows))
    wrong = [row for row in rows if row[2] != "right"]
    if wrong:
        message = _("{wrong} of {all} files are not what they should be", wrong=len(wrong), all=len(rows))
        raise LockstepError("LS-303", message, hint=_("delete the file and fetch it again"))


@data_app.command("import")
def data_import(
    folder: Annotated[Path, typer.Argument(help="Images by class, IDX files, an npz or a CSV.", metavar="FOLDER")],
    name: Annotated[str, typer.Argument(help="What to call it.", metavar="NAME")],
    size: Annotated[
        str | None,
        typer.Option(help="Bring all pictures to this height and width: 28x20, or 28 for both.", metavar="SIZE"),
    ] = None,
    keep_proportions: Annotated[
        bool, typer.Option("--keep-proportions", help="Fit pictures into the size, instead of stretching them.")
    ] = False,
) -> None:
    """Make a dataset of your own from images by class, IDX files, an npz or a CSV of pixels."""
    from lockstep import data

    path = data.import_folder(folder, name, size=size, keep_proportions=keep_proportions)
    facts = data.describe(name)
    counts: dict[str, object] = {"n_train": facts.n_train, "n_test": facts.n_test, "n_classes": facts.n_classes}
    counts |= {"name": name, "path": path}
    _say(_("{name}: {n_train} training and {n_test} test images in {n_classes} classes, {path}", **counts))
    loaded = data.load(name, offline=True)
    for note in loaded.notes:  # what was resized, recoloured or split on the way
        _say_of_import(language.recognised(note, data.NOTES))
    if n := loaded.n_test_in_training():
        leak = {"n": n, "all": len(loaded.test_images)}
        _say(_("warning: {n:,} of {all:,} test images are also training images, pixel by pixel", **leak), err=True)


def _say_of_import(note: str) -> None:
    """What was done on the way; what somebody may not have wanted is a warning, with what to do about it."""
    from lockstep.data import contents, folders, sizes

    form = note.forms[0] if isinstance(note, language.Text) else ""
    hints = {
        folders.ELSEWHERE: _("move them into the folder of their class"),
        contents.BLANK: _("look at one in a viewer"),
        sizes.LOST: _("choose a larger size where details matter: --size 64x64"),
    }
    if hint := hints.get(form):
        _say(_("warning: {note}; {hint}", note=note, hint=hint), err=True)
    else:
        _say(f"  {say(note)}")


@data_app.command("path")
def data_path() -> None:
    """Say in which folders datasets are looked for, in order."""
    from lockstep import data
    from lockstep.screen import terminal

    rows = [(place.folder, place.purpose, _("yes") if place.exists else _("no")) for place in data.path()]
    columns = (_("folder"), _("purpose"), _("exists"))
    _console().print(terminal.plain_table(_("Folders, in the order of looking"), columns, rows))


# ------------------------------------------------------------------------------------------------------------- border


def _terminated(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code; the only place that turns exceptions into messages."""
    from lockstep.errors import LockstepError

    streams.stand_in()
    streams.make_lasting()
    if not os.environ.get("SOURCE_DATE_EPOCH", "0").isdecimal():  # part of NumPy cannot be imported with it
        del os.environ["SOURCE_DATE_EPOCH"]
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments or bool(os.environ.get("LOCKSTEP_DEBUG"))
    arguments = [word for word in arguments if word != "--debug"]
    try:
        chosen, arguments = _language(arguments)
    except LockstepError as error:
        sys.exit(_explain(error, arguments))
    with language.speaking(chosen):
        sys.exit(_run(arguments, debug))


def _language(arguments: list[str]) -> tuple[str, list[str]]:
    """The language that is asked for, by --language or by LOCKSTEP_LANGUAGE, and the other arguments."""
    from lockstep.arguments import language as known
    from lockstep.arguments import language_of_environment
    from lockstep.errors import LockstepError

    chosen: str | None = None
    words, others = iter(arguments), []
    for word in words:
        if word == "--language" or word.startswith("--language="):
            chosen = word.partition("=")[2] if "=" in word else next(words, None)
            if chosen is None:
                hint = _("one of {names}", names=", ".join(language.LANGUAGES))
                raise LockstepError("LS-200", _("Option '--language' requires an argument."), hint=hint)
        else:
            others.append(word)
    return language_of_environment() if chosen is None else known(chosen, "--language"), others


def _run(arguments: list[str], debug: bool) -> int:
    """Run a command in the language in use; returns the exit code."""
    from lockstep.cli import usage

    command = typer.main.get_command(app)
    usage.translate(command)
    try:
        code = command(arguments or ["--help"], prog_name="lockstep", standalone_mode=False)
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if debug:
            traceback.print_exc()
        code = _explain(error, arguments)
    return code if isinstance(code, int) else 0


# What a command writes elsewhere by, where a folder may not be written.
ELSEWHERE = {
    "--runs": mark("choose a folder that you may write to with --runs FOLDER"),
    "--out": mark("choose a folder that you may write to with --out FILE"),
}


def _with_own_options(error: LockstepError, arguments: list[str]) -> LockstepError:
    """The error with the option that this command has for it: what cannot be written tells no command from another."""
    import dataclasses

    from lockstep.errors import LockstepError
    from lockstep.files import atomic

    commands = getattr(typer.main.get_command(app), "commands", {})
    command = next((commands[word] for word in arguments if word in commands), None)
    options = [name for parameter in getattr(command, "params", ()) for name in parameter.opts]
    hint = next((language.later(text) for name, text in ELSEWHERE.items() if name in options), atomic.HINT)
    found = [dataclasses.replace(one, hint=hint) if one.hint == atomic.HINT else one for one in error.problems]
    return LockstepError.several(found) if found != list(error.problems) else error


def _explain(error: Exception, arguments: list[str]) -> int:
    """Say what went wrong; returns the exit code."""
    from lockstep.cli import usage
    from lockstep.errors import LockstepError, is_want_of_memory, system

    if isinstance(error, typer.Abort):
        return 130
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(str(error))
        return 0
    if hasattr(error, "format_message"):  # a usage error of click's, which newer versions of typer carry inside
        error = LockstepError("LS-200", usage.error(error.format_message()), hint=usage.hint(error))
    if not isinstance(error, LockstepError) and is_want_of_memory(error):
        error = LockstepError("LS-503", _("not enough memory"), hint=_("a smaller dataset, network or batch"))
    if isinstance(error, OSError):
        where = str(error.filename) if error.filename else _("standard output")
        error = LockstepError("LS-501", system(error), where=where, hint=_("make room for it"))
    if isinstance(error, LockstepError):
        error = _with_own_options(error, arguments)
        if "--json" in arguments:
            _print_json({"errors": [vars(problem) for problem in error.problems]})
        from lockstep.screen.terminal import print_error

        print_error(error, _console(stderr=True))
        return error.exit_code
    from lockstep.cli import crash

    told: Sequence[str] = crash.told(error, crash.write_log(error, arguments))
    if "--json" in arguments:
        _print_json({"errors": [{"code": None, "message": told[0], "where": told[1], "hint": told[2]}]})
    told = [say(line) for line in told]
    rule = "─" * min(max(map(len, told)), 100)
    _say("\n".join((rule, *told, rule)), err=True)
    return crash.EXIT_CODE
