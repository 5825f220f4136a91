"""What a person sees in a terminal: progress while runs go on, tables and errors at their end."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from lockstep.errors import LockstepError
from lockstep.spec import Run
from lockstep.store import Record


class Watcher:
    """Shows how runs go on: a bar on a terminal, a line per epoch elsewhere. Use as a context manager."""

    def __init__(self, n_runs: int, console: Console) -> None:
        """Prepare to show this many runs."""
        self.console, self.n_runs, self.number = console, n_runs, 0
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"),
            TimeElapsedColumn(), TextColumn("{task.fields[last]}"), console=console, transient=True,
            disable=not console.is_terminal,
        )  # fmt: skip
        self.task: Any = None

    def __enter__(self) -> Watcher:
        """Start drawing."""
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave a clean terminal."""
        self.progress.stop()

    def tell(self, run: Run, event: dict[str, Any]) -> None:
        """Take one event of a run (see `lockstep.study.Tell`)."""
        heard = {"start": self._start, "resumed": self._resumed, "phase": self._phase}
        {**heard, "epoch": self._epoch, "end": self._end}[event["event"]](run, event)

    def _name(self, run: Run) -> str:
        varied = "".join(f" {key.rpartition('.')[2]}={value}" for key, value in run.grid.items())
        dtype = f" {run.dtype}" if run.dtype != "float32" else ""
        place = f"[{self.number}/{self.n_runs}]"
        return f"{place} {run.network_name} · {run.backend} · {run.dataset} · seed {run.seed}{dtype}{varied}"

    def _start(self, run: Run, event: dict[str, Any]) -> None:
        self.number += 1
        self.task = self.progress.add_task(escape(self._name(run)), total=run.recipe.epochs, last="starting")
        self._line(f"{self._name(run)}: starting")

    def _resumed(self, run: Run, event: dict[str, Any]) -> None:
        """Said on a terminal too, and kept there: what is lost, and what may change the last bits."""
        self.progress.update(self.task, completed=event["epoch"])
        for line in resumption(event, run.recipe.epochs):
            self.console.print(escape(f"  {line}"), soft_wrap=True, highlight=False)

    def _phase(self, run: Run, event: dict[str, Any]) -> None:
        self.progress.update(self.task, last=event["phase"])

    def _epoch(self, run: Run, event: dict[str, Any]) -> None:
        loss = _number(event["train_loss"], ".4f") if event["train_loss"] is not None else "no longer a number"
        said = f"loss {loss}, test accuracy {_percent(event['test_accuracy'])}"
        self.progress.update(self.task, completed=event["epoch"], last=said)
        self._line(f"  epoch {event['epoch']}/{run.recipe.epochs}: {said}, {event['train_seconds']:.2f} s")

    def _end(self, run: Run, event: dict[str, Any]) -> None:
        if event["reused"]:
            self.number += 1
            self.console.print(f"{escape(self._name(run))}: finished before, taken as it is (--again repeats it)")
            return
        self.progress.remove_task(self.task)
        record: Record = event["record"]
        if not record.is_finished:
            self.console.print(
                f"[bold red]{escape(self._name(run))}: failed[/]\n  {escape(str(record.status['reason']))}"
            )

    def _line(self, text: str) -> None:
        if not self.console.is_terminal:
            self.console.print(escape(text), soft_wrap=True)


def resumption(event: Mapping[str, Any], epochs: int) -> list[str]:
    """Where a run goes on and what is lost, a sentence a line; `event` as `checkpoints.Keeper.announce` gives it."""
    after, lost = event["epoch"], event["lost"]
    said = [*event["warnings"]]
    if not after:
        said.append("begins anew: no epoch of it was saved" + (" that can be used" if said or lost else ""))
    else:
        gone = f"lost: epoch {', '.join(map(str, lost))}" if lost else "lost: what an epoch under way had done"
        said.append(f"goes on after epoch {after} of {epochs}" + (f"; {gone}" if after < epochs else ""))
    said += [f"warning: no longer as before, so the last bits may differ: {change}" for change in event["changed"]]
    return said


def print_checked(found: Mapping[str, Any], console: Console) -> None:
    """What `doctor.check_runs` found: a line for each run, and below it what is wrong and what can be used."""
    for row in found["runs"]:
        colour = "bold red" if row["state"] == "damaged" else "green" if row["state"] == "whole" else "yellow"
        console.print(f"[{colour}]{row['state']:<10}[/] {escape(row['run'])}", soft_wrap=True, highlight=False)
        for problem in row["problems"]:
            console.print(f"    wrong: {escape(problem)}", soft_wrap=True, highlight=False)
        if row["problems"] or row["state"] == "unfinished":
            for usable in row["usable"] or ["nothing"]:
                console.print(f"    can be used: {escape(usable)}", soft_wrap=True, highlight=False)
        for note in row["notes"]:
            console.print(f"    {escape(note)}", soft_wrap=True, highlight=False)
    damaged = sum(row["state"] == "damaged" for row in found["runs"])
    console.print(f"{len(found['runs'])} runs, {found['files']} files checked, {damaged} damaged", highlight=False)


class ProofWatcher:
    """Shows how a proof goes on: what each backend is doing, and its verdict. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        """Draw on a terminal only; elsewhere a line when a backend's steps are judged, and one for its verdict."""
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}"), TimeElapsedColumn(), TextColumn("{task.fields[last]}"), console=console,
            transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> ProofWatcher:
        """Start drawing."""
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave a clean terminal."""
        self.progress.stop()

    def tell(self, run: Run, event: dict[str, Any]) -> None:
        """Take one event of a proof (see `lockstep.proof.prove`)."""
        varied = "".join(f" {key.rpartition('.')[2]}={value}" for key, value in run.grid.items())
        name = f"{run.network_name} · {run.backend} · {run.dataset} · {run.dtype}{varied}"
        if event["event"] == "start":
            self.tasks[name] = self.progress.add_task(escape(name), last="starting")
        elif event["event"] == "phase":
            self.progress.update(self.tasks[name], last=event["phase"])
        elif event["event"] == "judged":  # no verdict yet: what follows may take it back
            self.progress.update(self.tasks[name], last=STEP_BY_STEP)
            if not self.console.is_terminal:
                self.console.print(f"{escape(name)}  {STEP_BY_STEP}", soft_wrap=True)
        elif event["event"] == "end":
            if name in self.tasks:
                self.progress.remove_task(self.tasks.pop(name))
            reason = event["reason"]
            why = f": {divergence(reason)}" if isinstance(reason, dict) else f": {reason}" if reason else ""
            self.console.print(f"{escape(name)}  {verdict(event['verdict'])}{escape(why)}", soft_wrap=True)


STEP_BY_STEP = "judged step by step, its verdict is to come"


COLOURS = {
    "IDENTICAL": "green",
    "EQUAL": "green",
    "INCONCLUSIVE": "yellow",
    "DIVERGED": "bold red",
    "ERROR": "bold red",
}


def verdict(word: str) -> str:
    """A verdict in its colour."""
    return f"[{COLOURS[word]}]{word}[/]"


def divergence(row: Mapping[str, Any]) -> str:
    """One divergence of a proof in a line."""
    step = "" if row["step"] is None else f" at step {row['step']}"
    if row["problem"]:
        size = row["problem"]
    elif row["tolerance"]:
        size = f"off by {row['size']:.1e}, allowed {row['tolerance']:.1e}"
    else:
        size = f"off by {row['size']:.1e}, must be equal"
    return f"{row['stage']}, {row['where']}{step}: {size}; cause: {' or '.join(row['causes'])}"


def print_proof(document: Mapping[str, Any], console: Console) -> None:
    """A proof's verdicts, what they rest on, and what is wrong."""
    networks = document["networks"]
    coordinates = [{"dataset": row["dataset"], "dtype": row["dtype"], **row["grid"]} for row in networks]
    keys = dict.fromkeys(key for row in coordinates for key in row)
    varying = [key for key in keys if key == "dtype" or len({str(row.get(key)) for row in coordinates}) > 1]
    columns = ("network", *(key.rpartition(".")[2] for key in varying), "backend", "verdict")
    table = Table(*map(escape, columns), title="Proof", title_justify="left")
    for column in ("worst, × allowed", "values", "layers", "updates"):
        table.add_column(column, justify="right")
    unseen: dict[str, list[str]] = {}
    for network, coordinate in zip(networks, coordinates, strict=True):
        name = [network["network"], *(str(coordinate.get(key, "–")) for key in varying)]
        for row in network["backends"]:
            covered = row["coverage"]
            table.add_row(
                *map(escape, name), row["backend"], verdict(row["verdict"]), _worst(row["stages"]),
                f"{covered.get('values', 0):,}", str(covered.get("layers", "–")),
                f"{covered.get('updates_judged', 0)} of {document['steps']}",
            )  # fmt: skip
            if row["trace"] and covered.get("missing"):
                where = " · ".join([*(part for part in name if part != network["dtype"]), row["backend"]])
                unseen.setdefault(", ".join(covered["missing"]), []).append(where)
    console.print(table)
    for missing, places in unseen.items():
        console.print(f"not observed of {escape(', '.join(places))}: {escape(missing)}", soft_wrap=True)
    for reason in document["coverage"].get("not_observed", []):
        if not any(reason.endswith(f": not observed: {missing}") for missing in unseen):  # said already, and of whom
            console.print(f"not observed: {escape(reason)}", soft_wrap=True)
    _print_divergences(document["divergences"], varying, console)
    for plant in document.get("not_found", []):
        console.print(
            f"[bold red]planted, but NOT found in these steps:[/] {escape(plant)} (it made no difference that shows)"
        )
    console.print(f"{verdict(document['verdict'])}: {escape(document['claim'])}", soft_wrap=True)
    if previous := document.get("previous"):
        kept = f"the proof of {previous['proven']} ({previous['verdict']}) is kept: {previous['file']}"
        console.print(escape(kept), soft_wrap=True, highlight=False)


def _print_divergences(rows: Sequence[Mapping[str, Any]], varying: Iterable[str], console: Console) -> None:
    """The first place of each network, backend and cause, how many more there are, and each cause explained once."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        coordinate = {"dataset": row["dataset"], "dtype": row["dtype"]}
        coordinate |= {key: f"{key.rpartition('.')[2]}={value}" for key, value in row["grid"].items()}
        whose = [row["network"], *(coordinate[key] for key in varying if key in coordinate), row["backend"]]
        groups.setdefault((" · ".join(whose), str(row.get("folder") or ""), *row["causes"]), []).append(row)
    explained: set[str] = set()
    for (title, folder, *_), found in groups.items():
        first = found[0]
        console.print(f"[bold]{escape(title)}[/]: {escape(divergence(first))}", soft_wrap=True)
        said = [f"in {folder}"] if folder else []
        said += [f"places with this cause: {len(found)}; the page lists them"] if len(found) > 1 else []
        for cause in first["explained"]:
            if cause["cause"] not in explained:
                explained.add(cause["cause"])
                said += [
                    f"{cause['cause']}: {cause['what']}",
                    f"known from: {cause['default_of']}",
                    f"→ {cause['mend']}",
                ]
        said += [f"to reproduce it alone: {row['bundle']}" for row in found if row.get("bundle")]
        for line in said:
            console.print(f"    {escape(line)}", soft_wrap=True, highlight=False)


def _worst(stages: Iterable[Mapping[str, Any]]) -> str:
    """The worst number of all stages, in tolerances; "∞" where an exact one was missed or a number is none."""
    found = [stage["worst"]["times_tolerance"] for stage in stages if stage["worst"]]
    if not found:
        return "–"
    if any(value is None or not math.isfinite(value) for value in found):
        return "∞"
    return f"{max(found):.2g}" if max(found) < 10 else f"{max(found):,.0f}" if max(found) < 1e6 else "> 10⁶"


def print_causes(rows: Sequence[Mapping[str, str]], console: Console) -> None:
    """Causes one below the other, by the stage that shows them first.

    Not a table: names of options are long, and a name that is broken over two lines cannot be searched for or copied.
    """
    for stage in dict.fromkeys(row["stage"] for row in rows):
        console.print(f"[bold]shows first in: {escape(stage)}[/]\n", highlight=False)
        for row in (row for row in rows if row["stage"] == stage):
            console.print(f"[bold]{row['cause']}[/]", soft_wrap=True, highlight=False)
            for text in (row["what"], f"known from: {row['default_of']}", f"→ {row['mend']}"):
                console.print(escape(unbroken(text, console.width)), soft_wrap=True, highlight=False)
            console.print()


def unbroken(text: str, width: int, indent: str = "    ", further: str = "    ") -> str:
    """Lines of at most this width, unless a single word is longer: no word is broken."""
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=further, break_long_words=False, break_on_hyphens=False
    )


def print_lined(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], console: Console) -> None:
    """A table whose cells have several lines; row below row where it would be too narrow for its words."""
    if console.width >= WIDE:
        table = plain_table(title, columns, rows)
        table.show_lines = True
        for column in table.columns:
            column.overflow = "fold"
        return console.print(table)
    indent = max(map(len, columns[1:])) + 6
    for row in rows:
        console.print(f"[bold]{escape(str(row[0]))}[/]", soft_wrap=True, highlight=False)
        for name, cell in zip(columns[1:], row[1:], strict=True):
            for number, line in enumerate(str(cell).splitlines()):
                first = f"    {'' if number else name}".ljust(indent)
                text = unbroken(line, console.width, first, " " * indent)
                console.print(escape(text), soft_wrap=True, highlight=False)
        console.print()
    return None


WIDE = 120


def cost(row: Mapping[str, Any]) -> str:
    """What a plant costs, in a line."""
    accuracies = f"{_percent(row['accuracy'])} as it should be, {_percent(row['planted_accuracy'])} planted"
    losses = f"{_number(row['loss'], '.4f')} and {_number(row['planted_loss'], '.4f')}"
    return f"what it costs: {row['network']} · {row['backend']}: test accuracy {accuracies}; test loss {losses}"


class Download:
    """A bar for what `lockstep.data.fetch` reports: (file, bytes so far, bytes in all or 0). A context manager."""

    def __init__(self, console: Console) -> None:
        """Draw on a terminal only."""
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> Download:
        """Start drawing."""
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave a clean terminal."""
        self.progress.stop()

    def tell(self, file: str, done: int, whole: int) -> None:
        """Take one report."""
        if file not in self.tasks:
            self.tasks[file] = self.progress.add_task(escape(file), total=whole or None)
        self.progress.update(self.tasks[file], completed=done)


def _percent(value: Any) -> str:
    return _number(value, ".2%").replace("%", " %")


def _number(value: Any, form: str) -> str:
    return "–" if value is None else format(value, form)


def summary(record: Record, grid: Mapping[str, Any], reused: bool = False) -> dict[str, Any]:
    """One run as `lockstep run --json` gives it; what the run did not reach is None.

    `grid`: the keys of the recipe that the study varies, with this run's values.
    """
    row: dict[str, Any] = {
        "network": record.network, "backend": record.backend, "seed": record.seed, "dataset": record.dataset,
        "dtype": record.dtype, "grid": dict(grid), "status": record.status["status"], "code": record.status.get("code"),
        "reason": record.status.get("reason"), "parameters": None, "test_accuracy": None, "test_loss": None,
        "epochs": None, "seconds": None, "seconds_per_epoch": None, "peak_memory_bytes": None,
        "folder": str(record.folder), "reused": reused,
    }  # fmt: skip
    if record.is_finished:
        test, timing = record.metrics["test"], record.timing
        row |= {
            "parameters": record.metrics["parameters"], "test_accuracy": test["accuracy"], "test_loss": test["loss"],
            "epochs": record.metrics["epochs"], "seconds": timing["seconds"],
            "seconds_per_epoch": statistics.median(timing["epochs"]), "peak_memory_bytes": timing["peak_memory_bytes"],
        }  # fmt: skip
    return row


RESULT_COLUMNS = ("network", "backend", "test accuracy", "test loss", "s / epoch", "total s", "peak memory")


def results_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The final table: network × backend. Columns that tell runs apart are added where they vary."""
    varying = [key for key in ("dataset", "seed", "dtype") if len({row[key] for row in rows}) > 1]
    table = Table(*(RESULT_COLUMNS[:2]), *varying, *(key.rpartition(".")[2] for key in rows[0]["grid"]))
    for column in RESULT_COLUMNS[2:]:
        table.add_column(column, justify="right")
    for row in rows:
        cells = [row["network"], row["backend"], *(str(row[key]) for key in varying), *map(str, row["grid"].values())]
        table.add_row(
            *map(escape, cells), *(_result_cells(row) if row["status"] == "finished" else [f"[red]{row['status']}[/]"])
        )
    return table


def _result_cells(row: dict[str, Any]) -> list[str]:
    memory = row["peak_memory_bytes"]
    return [
        _percent(row["test_accuracy"]), _number(row["test_loss"], ".4f"), _number(row["seconds_per_epoch"], ".2f"),
        _number(row["seconds"]["total"], ".1f"), "–" if memory is None else f"{memory / 1e6:,.0f} MB",
    ]  # fmt: skip


def network_table(name: str, dataset: str, rows: Iterable[dict[str, Any]]) -> Table:
    """A network layer by layer, as `lockstep show` prints it."""
    rows = list(rows)
    table = Table(
        "layer", "output", title=f"{escape(name)} on {escape(dataset)}", title_justify="left", show_footer=True
    )
    totals = (sum(row["parameters"] for row in rows), sum(row["multiply_adds"] for row in rows))
    table.columns[0].footer = "total"
    for column, footer in (
        ("parameters", f"{totals[0]:,}"),
        ("multiply-adds", f"{totals[1]:,}"),
        ("receptive field", ""),
    ):
        table.add_column(column, justify="right", footer=footer)
    for row in rows:
        output = " × ".join(map(str, row["output_shape"]))
        field = " × ".join(map(str, row["receptive_field"]))
        table.add_row(row["name"], output, f"{row['parameters']:,}", f"{row['multiply_adds']:,}", field)
    return table


def plain_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table of texts."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    return table


def print_remedy(row: Mapping[str, Any], console: Console) -> None:
    """An error's code explained, as `remedies.explain` gives it."""
    console.print(f"[bold]{row['code']}[/]: {escape(row['what'])} (exit code {row['exit_code']})", highlight=False)
    for key in ("cause", "example", "remedy"):
        lines = textwrap.wrap(row[key], max(console.width - 12, 40), break_long_words=False, break_on_hyphens=False)
        for number, line in enumerate(lines):
            console.print(f"  {'' if number else key:<8} {escape(line)}", soft_wrap=True, highlight=False)


def print_error(error: LockstepError, console: Console) -> None:
    """Every problem, for the person who reads it."""
    for problem in error.problems:
        place = f" [bold]{escape(problem.where)}[/]" if problem.where else ""
        console.print(f"[bold red]{problem.code}[/]{place}: {escape(problem.message)}", soft_wrap=True, highlight=False)
        if problem.hint:
            console.print(f"    → {escape(problem.hint)}", soft_wrap=True, highlight=False)
