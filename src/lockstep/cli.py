"""The command line: parse, call one function, print. Slow imports stand in the command that needs them."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

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
Backends = Annotated[str | None, typer.Option(help="Only these, with commas: torch,numpy.", metavar="NAMES")]
Networks = Annotated[list[str], typer.Option("--network", help="Only this network of the study (again for more).")]
RunsFolder = Annotated[Path, typer.Option("--runs", help="Where run folders go.", metavar="FOLDER")]
Threads = Annotated[int | None, typer.Option(help="Threads for every backend (default: 2).")]
Quick = Annotated[bool, typer.Option("--quick", help="A first look: digits, one seed, at most 5 epochs.")]
Offline = Annotated[bool, typer.Option("--offline", help="Download nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, all else on stderr.")]
DatasetName = Annotated[str, typer.Argument(help="A dataset's name; see: lockstep data list.", metavar="NAME")]


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"lockstep {version('lockstep-nn')}")
        raise typer.Exit


@app.callback()
def _everywhere(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (anywhere in a command).")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of every command; --debug is taken out by `main` before."""


@app.command()
def run(
    study: StudyFile, settings: Settings = [], backends: Backends = None, network: Networks = [],  # noqa: B006
    runs: RunsFolder = Path("runs"), threads: Threads = None, offline: Offline = False,
    again: Annotated[bool, typer.Option("--again", help="Repeat finished runs too.")] = False, as_json: AsJson = False,
    quick: Quick = False,
) -> None:  # fmt: skip
    """Do every run of a study, then write its report."""
    from lockstep import resuming, store, terminal
    from lockstep import study as studies
    from lockstep.report import write_report

    _end_on_signals()
    error_console = _console(stderr=True)
    chosen = [name.strip() for name in backends.split(",")] if backends is not None else []
    loaded = studies.load_study(study, settings, chosen, network, quick)
    with terminal.Download(error_console) as download:
        studies.fetch_data(loaded, offline, download.tell)
    for sentence in [] if again else resuming.news(loaded, runs, threads):
        typer.echo(f"changed since it was run before: {sentence}", err=True)
    rows: list[dict[str, Any]] = []
    with terminal.Watcher(len(loaded.runs()), error_console) as watcher, _saying_what_is_kept(runs / loaded.name):

        def tell(run: Any, event: dict[str, Any]) -> None:
            if event["event"] == "end":
                rows.append(terminal.summary(event["record"], run.grid, event["reused"]))
            watcher.tell(run, event)

        records = studies.run_study(loaded, runs, tell, threads, again)
    if not as_json:  # before the report, which may fail
        _console().print(terminal.results_table(rows))
    report_path = write_report(records, runs / loaded.name / "report.html", with_figures=True)
    if as_json:
        _print_json({"study": loaded.name, "runs": rows, "report": str(report_path)})
    else:
        typer.echo(f"report: {report_path}")
        if len(store.find_runs([report_path.parent])) > len(records):
            typer.echo(f"It shows these {len(records)} runs; all that lie there: lockstep report {report_path.parent}")
    _end_where_runs_failed(rows, runs / loaded.name)


@contextlib.contextmanager
def _saying_what_is_kept(*folders: Path) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        typer.echo("interrupted; every epoch that was finished is saved", err=True)
        typer.echo("to go on: the same command again; finished runs are not repeated", err=True)
        typer.echo(f"to finish only the runs that were begun: lockstep resume {_quoted(folders)}", err=True)
        raise


def _end_where_runs_failed(rows: Sequence[dict[str, Any]], *folders: Path) -> None:
    """Exit with the first failed run's code."""
    failed = [row for row in rows if row["status"] != "finished"]
    if failed:
        typer.echo(f"{len(failed)} of {len(rows)} runs failed; the reasons stand above and in status.json", err=True)
        typer.echo(f"to go on with them when that is mended: lockstep resume {_quoted(folders)}", err=True)
        raise typer.Exit(int((failed[0]["code"] or "LS-403")[3]))


def _quoted(folders: Iterable[Path]) -> str:
    return " ".join(shlex.quote(str(folder)) for folder in folders)


@app.command()
def resume(
    folders: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold them.", metavar="RUNS…")],
    threads: Annotated[int | None, typer.Option(help="Threads (default: as many as before).")] = None,
    offline: Offline = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Finish every run that was interrupted, from the last epoch that was saved; then write the reports."""
    from lockstep import resuming, store, terminal
    from lockstep import study as studies
    from lockstep.errors import LockstepError
    from lockstep.report import write_report

    _end_on_signals()
    error_console = _console(stderr=True)
    waiting, left, problems = resuming.unfinished(folders, threads)
    for sentence in left:
        typer.echo(f"left as it is: {sentence}", err=True)
    with terminal.Download(error_console) as download:
        for one in waiting:
            studies.fetch_data(one.study, offline, download.tell)
    rows: list[dict[str, Any]] = []
    with terminal.Watcher(len(waiting), error_console) as watcher, _saying_what_is_kept(*folders):

        def tell(run: Any, event: dict[str, Any]) -> None:
            if event["event"] == "end":
                rows.append(terminal.summary(event["record"], run.grid, event["reused"]))
            watcher.tell(run, event)

        records, held = resuming.resume(waiting, tell)
    problems += held
    if rows and not as_json:
        _console().print(terminal.results_table(rows))
    places = sorted({*(record.folder.parent for record in records), *resuming.unreported(folders)})
    reports = [
        str(write_report(store.find_runs([place]), place / "report.html", with_figures=True)) for place in places
    ]
    if as_json:
        errors = {"errors": [vars(problem) for problem in problems]} if problems else {}
        _print_json({"runs": rows, "left": left, "reports": reports, **errors})
    elif not rows:
        typer.echo("no run is waiting" if not problems else "no run that is waiting is free")
    for path in reports:
        typer.echo(f"report: {path}", err=as_json)
    if problems:
        error = LockstepError.several(problems)
        if not as_json:
            raise error
        terminal.print_error(error, error_console)
        raise typer.Exit(error.exit_code)
    _end_where_runs_failed(rows, *folders)


@contextlib.contextmanager
def _saying_that_nothing_is_proven() -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        typer.echo("interrupted; no proof was written, and one of before stands", err=True)
        raise


@app.command()
def prove(
    targets: Annotated[
        list[Path], typer.Argument(help="A study's TOML file, or two run folders to compare.", metavar="STUDY|RUN RUN")
    ],
    settings: Settings = [], backends: Backends = None, network: Networks = [],  # noqa: B006
    dtype: Annotated[str | None, typer.Option(help="float32 or float64, in place of the study's.")] = None,
    steps: Annotated[int, typer.Option(help="How many steps are taken and judged.")] = 10,
    plant: Annotated[
        list[str],
        typer.Option("--plant", help="Switch a known difference on: adam_epsilon_hat@torch.", metavar="CAUSE@BACKEND"),
    ] = [],  # noqa: B006
    cost: Annotated[bool, typer.Option(help="Train with and without a plant: what it costs.")] = True,
    runs: RunsFolder = Path("runs"), threads: Threads = None, offline: Offline = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Prove that backends take the same steps, or name the first place that differs and its cause."""
    from lockstep import comparison, proof, store, terminal
    from lockstep import study as studies
    from lockstep.errors import LockstepError
    from lockstep.report import write_proof, write_report
    from lockstep.spec import DTYPES

    _end_on_signals()
    error_console = _console(stderr=True)
    plant = list(dict.fromkeys(plant))
    if dtype is not None and dtype not in DTYPES:
        raise LockstepError(
            "LS-205", f'there is no dtype "{dtype}"', where="--dtype", hint=f"one of {', '.join(DTYPES)}"
        )
    if len(targets) > 1 and all(target.suffix == ".toml" for target in targets):
        hint = f"lockstep prove {targets[0]}, then lockstep prove {targets[1]}"
        raise LockstepError("LS-200", f"prove takes one study at a time, not {len(targets)}", where="STUDY", hint=hint)
    chosen_anything = settings or network or backends is not None or dtype or steps != 10
    if len(targets) == 2 and not plant and not chosen_anything:
        document = comparison.compare_runs(*targets)
        page = targets[1].resolve().parent / "comparison.html"
    elif len(targets) == 1:
        words = settings + ([f"dtype={dtype}"] if dtype else [])
        chosen = [name.strip() for name in backends.split(",")] if backends is not None else []
        asked = studies.load_study(targets[0], words, chosen, network)
        with terminal.Download(error_console) as download:
            studies.fetch_data(asked, offline, download.tell)
        with terminal.ProofWatcher(error_console) as watcher, _saying_that_nothing_is_proven():
            document = proof.prove(asked, runs, steps, plant, threads, watcher.tell)
        page = runs / asked.name / ("proof-planted.html" if plant else "proof.html")
        if plant and cost and not as_json:
            typer.echo("training to the end, as it should be and as planted (--no-cost leaves this out)", err=True)
        if plant and cost:
            with terminal.Watcher(2 * len(proof.costly(asked, plant)), error_console) as training:
                document["cost"] = proof.cost(asked, plant, runs, training.tell, threads)
            proof.write(document, runs)
    else:
        hint = "lockstep prove STUDY.toml, or lockstep prove RUN_A RUN_B"
        raise LockstepError("LS-200", "prove takes one study, or two run folders and no options of a study", hint=hint)
    write_proof(document, page)
    if len(targets) == 1 and not plant and (runs / document["study"] / "report.html").exists():
        place = runs / document["study"]
        write_report(store.find_runs([place]), place / "report.html", with_figures=True)
    if as_json:
        _print_json(document)
    else:
        terminal.print_proof(document, _console())
        for row in document.get("cost", []):
            typer.echo(terminal.cost(row))
        typer.echo(f"page: {page}")
    raise typer.Exit(proof.exit_code(document))


@app.command()
def bench(
    study: StudyFile, settings: Settings = [], backends: Backends = None, network: Networks = [],  # noqa: B006
    against: Annotated[str, typer.Option(help="shipped: the frameworks' own tutorials beside ours.")] = "",
    rounds: Annotated[int, typer.Option(help="How often each is timed, in a fresh process and another order.")] = 5,
    epochs: Annotated[int, typer.Option(help="Epochs of each; the first warms up.")] = 3,
    faults: Annotated[bool, typer.Option("--faults", help="What classic mistakes of comparisons cost here.")] = False,
    runs: RunsFolder = Path("runs"), threads: Threads = None, offline: Offline = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Time a study's networks, interleaved in fresh processes, and rank what can be ranked."""
    from lockstep import bench as benches
    from lockstep import faults as mistakes
    from lockstep import study as studies
    from lockstep import terminal, timed

    _end_on_signals()
    error_console = _console(stderr=True)
    chosen = [name.strip() for name in backends.split(",")] if backends is not None else []
    loaded = studies.load_study(study, settings, chosen, network)
    with terminal.Download(error_console) as download:
        studies.fetch_data(loaded, offline, download.tell)
    with timed.BenchWatcher(rounds, error_console) as watcher:
        if faults:
            document = mistakes.measure(loaded, runs, rounds, epochs, threads, watcher.tell)
        else:
            document = benches.bench(loaded, runs, rounds, epochs, against, threads, watcher.tell)
    if as_json:
        _print_json(document)
    else:
        (timed.print_faults if faults else timed.print_bench)(document, _console())
        typer.echo(f"records: {runs / loaded.name / ('faults.json' if faults else 'bench.json')}")


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
    language: Annotated[str | None, typer.Option(help="Of a word of the field: en or ru.", metavar="LANGUAGE")] = None,
    as_json: AsJson = False,
) -> None:
    """Explain a layer, an optimizer, a term; what frameworks do by default (measured here and now); what a divergence
    comes from; what an error means.
    """
    from lockstep import topics

    if _explain_topic(topic, language, markdown, as_json):
        return None

    from lockstep import differences, proof, remedies, terminal
    from lockstep.causes import CAUSES
    from lockstep.errors import CODES, LockstepError, did_you_mean

    if topic == "differences":
        _end_on_signals()
        typer.echo(f"running the defaults of {', '.join(differences.FRAMEWORKS)} …", err=True)
        document = differences.table(differences.measure())
        if markdown or as_json:
            return typer.echo(differences.markdown(document), nl=False) if markdown else _print_json(document)
        _print_lined("Differences", *differences.cells(document))
        return typer.echo(f"Measured with {differences.measured_with(document)}.")
    code = topic.upper()
    if topic not in ("causes", "errors", *CAUSES) and code not in CODES:
        words = [name for one in topics.LANGUAGES for name in topics.topics(one)]
        known = ["topics", "differences", "causes", "errors", *words, *CAUSES, *map(str.lower, CODES)]
        near = did_you_mean(topic, known)
        hint = (
            "words of the field (lockstep explain topics), differences, causes, errors, one cause or one error (LS-301)"
        )
        hint = near if near.startswith("did you mean") else hint
        raise LockstepError("LS-209", f'there is nothing to explain by the name "{topic}"', where="TOPIC", hint=hint)
    if markdown:
        hint = "lockstep explain causes --json"
        raise LockstepError("LS-200", "--markdown is for differences and words of the field", hint=hint)
    if topic == "errors" or code in CODES:
        errors = [remedies.explain(name) for name in CODES if topic == "errors" or name == code]
        if as_json:
            return _print_json({"codes": errors})
        if topic != "errors":
            return terminal.print_remedy(errors[0], _console())
        for error in errors:
            typer.echo(f"{error['code']}: {error['what']} (exit code {error['exit_code']})")
        return typer.echo("One of them with its cause, an example and the remedy: lockstep explain LS-301")
    names = CAUSES if topic == "causes" else (topic,)
    rows = [{**row, "stage": CAUSES[row["cause"]].stage} for row in proof.explained(names)]
    if as_json:
        return _print_json({"causes": rows})
    terminal.print_causes(rows, _console())
    return None


def _explain_topic(word: str, language: str | None, markdown: bool, as_json: bool) -> bool:
    """Print the part of the chapters that a word names, or the list of all; False where there is no such part."""
    import dataclasses

    from lockstep import terminal, topics
    from lockstep.errors import LockstepError

    if language not in (None, *topics.LANGUAGES):
        hint = f"one of {', '.join(topics.LANGUAGES)}"
        raise LockstepError("LS-205", f'there is no language "{language}"', where="--language", hint=hint)
    if word == "topics":
        rows = topics.listed(language or topics.LANGUAGES[0])
        if as_json:
            _print_json({"topics": [dict(zip(("names", "title", "chapter"), row, strict=True)) for row in rows]})
        else:
            _console().print(terminal.plain_table("Topics", ("lockstep explain …", "part", "chapter"), rows))
        return True
    found = topics.find(word, language)
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
    study: StudyFile, settings: Settings = [], network: Networks = [], as_json: AsJson = False  # noqa: B006
) -> None:  # fmt: skip
    """Show each network of a study: layers, shapes, parameters, multiply-adds, receptive field."""
    from lockstep import data, terminal
    from lockstep import study as studies

    loaded = studies.load_study(study, settings, networks=network)
    tables = [
        {"name": name, "dataset": dataset, **member.summary(data.describe(dataset).image_shape)}
        for dataset in loaded.dataset
        for name, member in loaded.networks.items()
    ]
    if as_json:
        return _print_json({"study": loaded.name, "networks": tables})
    if loaded.question:
        typer.echo(loaded.question)
    for table in tables:
        _console().print(terminal.network_table(table["name"], table["dataset"], table["network"]))


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold them.", metavar="RUNS…")],
    out: Annotated[
        Path | None, typer.Option(help="The page to write (default: report.html in the first folder).")
    ] = None,
    image: Annotated[
        int, typer.Option(min=1, max=16, help="The test image, from 1, whose feature maps are drawn.")
    ] = 1,
    figures: Annotated[bool, typer.Option(help="Write every figure as SVG and PNG beside the page too.")] = True,
) -> None:
    """Write the report of run folders again; needs no framework."""
    from lockstep import store
    from lockstep.report import write_report

    path = out or folders[0] / "report.html"
    typer.echo(f"report: {write_report(store.find_runs(folders), path, image=image, with_figures=figures)}")


@app.command()
def verify(
    folders: Annotated[
        list[Path], typer.Argument(help="Submissions: folders that hold runs and their report.", metavar="FOLDER…")
    ],
    images: Annotated[
        int | None, typer.Option(min=1, help="Test images that go through each network again (default: all).")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="One CSV table on stdout.")] = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Compute what was handed in again: metrics, predictions from the weights, the report; a line per submission."""
    from lockstep import verify as checks
    from lockstep.errors import LockstepError

    if as_csv and as_json:
        raise LockstepError("LS-200", "--csv and --json are two answers", hint="ask for one of them")
    rows = []
    for folder in folders:
        rows.append(checks.verify(folder, images))
        if not (as_csv or as_json):
            typer.echo(checks.as_line(rows[-1]))
    if as_json:
        _print_json({"submissions": rows})
    elif as_csv:
        typer.echo(checks.as_csv(rows), nl=False)
    raise typer.Exit(checks.exit_code(rows))


@app.command()
def doctor(
    folders: Annotated[
        list[Path], typer.Argument(help="Check every file of these runs instead of the machine.", metavar="[RUNS…]")
    ] = [],  # noqa: B006
    runs: RunsFolder = Path("runs"), as_json: AsJson = False,
) -> None:  # fmt: skip
    """Say what this machine has and lacks; with RUNS, which files of runs are damaged and what can still be used."""
    from lockstep import terminal
    from lockstep.doctor import check

    if folders:
        return _doctor_of_runs(folders, as_json)
    found = check(runs)
    if as_json:
        return _print_json(found)
    console = _console()
    rows = [
        (row["name"], "missing" if row["missing"] else "ready", _versions(row["versions"]), row["remedy"] or "")
        for row in found["backends"]
    ]
    console.print(terminal.plain_table("Backends", ("backend", "state", "versions", "remedy"), rows))
    machine = {**found["machine"], "load": " ".join(f"{value:.2f}" for value in found["machine"]["load"] or ())}
    for key in ("memory_bytes", "disk_free_bytes"):
        machine[key] = f"{machine[key] / 2**30:,.1f} GiB" if machine[key] else "unknown"
    machine_rows = [(key.removesuffix("_bytes").replace("_", " "), value) for key, value in machine.items()]
    console.print(terminal.plain_table("Machine", ("what", "found"), machine_rows))
    data_rows = [(row["name"], row["state"], row["n_train"], row["n_test"]) for row in found["datasets"]]
    console.print(terminal.plain_table("Datasets", ("dataset", "state", "training", "test"), data_rows))
    for clash in found["clashes"] or ["none known"]:
        console.print(f"clash: {clash}" if found["clashes"] else "clashes: none known", markup=False, soft_wrap=True)


def _doctor_of_runs(folders: list[Path], as_json: bool) -> None:
    """Exit code 5 where anything is damaged."""
    from lockstep import terminal
    from lockstep.doctor import check_runs

    found = check_runs(folders)
    if as_json:
        _print_json(found)
    else:
        terminal.print_checked(found, _console())
    if any(row["state"] == "damaged" for row in found["runs"]):
        raise typer.Exit(5)


def _versions(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in found.items())


# ------------------------------------------------------------------------------------------------------ lockstep data


@data_app.command("list")
def data_list(as_json: AsJson = False) -> None:
    """List every dataset and whether it is on this machine."""
    import dataclasses

    from lockstep import data, terminal
    from lockstep.errors import LockstepError

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
    columns = ("dataset", "image", "classes", "training", "test", "state")
    _console().print(terminal.plain_table("Datasets", columns, rows))


@data_app.command("fetch")
def data_fetch(name: DatasetName, offline: Offline = False) -> None:
    """Download a dataset to the user's cache, unless it is on this machine."""
    from lockstep import data, terminal

    with terminal.Download(_console(stderr=True)) as download:
        folder = data.fetch(name, offline=offline, progress=download.tell)
    typer.echo(f"{name}: {folder}")


@data_app.command("verify")
def data_verify(
    names: Annotated[list[str], typer.Argument(help="Datasets (default: all here).", metavar="[NAME…]")] = [],  # noqa: B006
) -> None:  # fmt: skip
    """Check the SHA-256 of every file of a dataset."""
    from lockstep import data, terminal
    from lockstep.errors import LockstepError

    rows: list[tuple[str, ...]] = []
    for name in names or data.available():
        try:
            rows += [(name, Path(row.file).name, *row[1:]) for row in data.verify(name)]
        except LockstepError as error:
            if names:
                raise
            rows.append((name, error.problems[0].where, "wrong", "", error.problems[0].message))
    if not names:  # what was never fetched is no fault
        rows = [row for row in rows if row[2] != "missing"]
    _console().print(terminal.plain_table("Files", ("dataset", "file", "state", "expected", "found"), rows))
    wrong = [row for row in rows if row[2] != "right"]
    if wrong:
        hint = "delete the file and fetch it again"
        raise LockstepError("LS-303", f"{len(wrong)} of {len(rows)} files are not what they should be", hint=hint)


@data_app.command("import")
def data_import(
    folder: Annotated[Path, typer.Argument(help="Images by class, IDX files, or an npz.", metavar="FOLDER")],
    name: Annotated[str, typer.Argument(help="What to call it.", metavar="NAME")],
) -> None:
    """Make a dataset of your own from images by class, IDX files or an npz."""
    from lockstep import data

    path = data.import_folder(folder, name)
    facts = data.describe(name)
    typer.echo(f"{name}: {facts.n_train} training and {facts.n_test} test images in {facts.n_classes} classes, {path}")
    for note in data.load(name, offline=True).notes:  # what was resized, recoloured or split on the way
        typer.echo(f"  {note}")


@data_app.command("path")
def data_path() -> None:
    """Say in which folders datasets are looked for, in order."""
    from lockstep import data, terminal

    rows = [(place.folder, place.purpose, "yes" if place.exists else "no") for place in data.path()]
    _console().print(terminal.plain_table("Folders, in the order of looking", ("folder", "purpose", "exists"), rows))


# ------------------------------------------------------------------------------------------------------------- border


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    # A table that is piped into a file keeps its columns: nothing to fit it into.
    return Console(stderr=stderr, width=None if stream.isatty() else 140)


def _print_lined(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    from lockstep import terminal

    terminal.print_lined(title, columns, rows, _console())


def _print_json(document: dict[str, Any]) -> None:
    import json

    from lockstep.store import finite

    typer.echo(json.dumps(finite(document), indent=2, ensure_ascii=False))


def _terminated(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code; the only place that turns exceptions into messages."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments or bool(os.environ.get("LOCKSTEP_DEBUG"))
    arguments = [word for word in arguments if word != "--debug"]
    try:
        code = app(arguments or ["--help"], prog_name="lockstep", standalone_mode=False)
    except SystemExit as ended:
        code = 0 if ended.code == 1 else ended.code  # 1 is typer's answer to a reader that closed the pipe
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if debug:
            traceback.print_exc()
        code = _explain(error, arguments)
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception, arguments: list[str]) -> int:
    """Say what went wrong; returns the exit code."""
    from lockstep.errors import LockstepError

    if isinstance(error, typer.Abort):
        return 130
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(str(error))
        return 0
    if hasattr(error, "format_message"):  # a usage error of click's, which newer versions of typer carry inside
        error = LockstepError("LS-200", error.format_message(), hint="see: lockstep --help")
    if isinstance(error, MemoryError):
        error = LockstepError("LS-503", "not enough memory", hint="a smaller dataset, network or batch")
    if isinstance(error, OSError):
        message = error.strerror or str(error)
        error = LockstepError(
            "LS-501", message, where=str(error.filename or "standard output"), hint="make room for it"
        )
    if isinstance(error, LockstepError):
        if "--json" in arguments:
            _print_json({"errors": [vars(problem) for problem in error.problems]})
        from lockstep.terminal import print_error

        print_error(error, _console(stderr=True))
        return error.exit_code
    from lockstep import crash

    told = crash.told(error, crash.write_log(error, arguments))
    if "--json" in arguments:
        _print_json({"errors": [{"code": None, "message": told[0], "where": told[1], "hint": told[2]}]})
    rule = "─" * min(max(map(len, told)), 100)
    typer.echo("\n".join((rule, *told, rule)), err=True)
    return crash.EXIT_CODE
