"""What a person sees in a terminal: progress while runs go on, tables and errors at their end."""

from __future__ import annotations

import statistics
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
        {"start": self._start, "phase": self._phase, "epoch": self._epoch, "end": self._end}[event["event"]](run, event)

    def _name(self, run: Run) -> str:
        varied = "".join(f" {key.rpartition('.')[2]}={value}" for key, value in run.grid.items())
        dtype = f" {run.dtype}" if run.dtype != "float32" else ""
        place = f"[{self.number}/{self.n_runs}]"
        return f"{place} {run.network_name} · {run.backend} · {run.dataset} · seed {run.seed}{dtype}{varied}"

    def _start(self, run: Run, event: dict[str, Any]) -> None:
        self.number += 1
        self.task = self.progress.add_task(escape(self._name(run)), total=run.recipe.epochs, last="starting")
        self._line(f"{self._name(run)}: starting")

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


class ProofWatcher:
    """Shows how a proof goes on: what each backend is doing, and its verdict. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        """Draw on a terminal only; elsewhere one line per backend."""
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}"), TimeElapsedColumn(), TextColumn("{task.fields[last]}"), console=console,
            transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self.task: Any = None

    def __enter__(self) -> ProofWatcher:
        """Start drawing."""
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave a clean terminal."""
        self.progress.stop()

    def tell(self, run: Run, event: dict[str, Any]) -> None:
        """Take one event of a proof (see `lockstep.proof.prove`)."""
        name = f"{run.network_name} · {run.backend} · {run.dataset} · {run.dtype}"
        if event["event"] == "start":
            self.task = self.progress.add_task(escape(name), last="starting")
        elif event["event"] == "phase":
            self.progress.update(self.task, last=event["phase"])
        elif event["event"] == "end":
            if self.task is not None:
                self.progress.remove_task(self.task)
            self.task = None
            reason = event["reason"]
            why = f": {divergence(reason)}" if isinstance(reason, dict) else f": {reason}" if reason else ""
            self.console.print(f"{escape(name)}  {verdict(event['verdict'])}{escape(why)}", soft_wrap=True)


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
    return f"{row['stage']}, {row['where']}{step}: {size}; cause: {', '.join(row['causes'])}"


def print_proof(document: Mapping[str, Any], console: Console) -> None:
    """A proof's verdicts, what they rest on, and what is wrong."""
    table = Table("network", "dtype", "backend", "verdict", title="Proof", title_justify="left")
    for column in ("worst, × allowed", "values", "layers", "updates"):
        table.add_column(column, justify="right")
    for network in document["networks"]:
        for row in network["backends"]:
            covered = row["coverage"]
            worst = [stage["worst"]["times_tolerance"] for stage in row["stages"] if stage["worst"]]
            table.add_row(
                escape(network["network"]), network["dtype"], row["backend"], verdict(row["verdict"]),
                f"{max(worst):.2g}" if worst else "–", f"{covered.get('values', 0):,}", str(covered.get("layers", "–")),
                f"{covered.get('updates_judged', 0)} of {document['steps']}",
            )  # fmt: skip
    console.print(table)
    for reason in document["coverage"].get("not_observed", []):
        console.print(f"not observed: {escape(reason)}", soft_wrap=True)
    seen: set[tuple[str, str, str]] = set()
    for row in document["divergences"]:
        cause = " or ".join(row["causes"])
        if (row["network"], row["backend"], cause) in seen and cause != "unexplained":  # at another place
            continue
        seen.add((row["network"], row["backend"], cause))
        console.print(f"[bold]{escape(row['network'])} · {row['backend']}[/] {escape(divergence(row))}", soft_wrap=True)
        for explained in row["explained"]:
            console.print(f"    {explained['cause']}: {escape(explained['what'])}", soft_wrap=True, highlight=False)
            console.print(f"    known from: {escape(explained['default_of'])}", soft_wrap=True, highlight=False)
            console.print(f"    → {escape(explained['mend'])}", soft_wrap=True, highlight=False)
        if row.get("bundle"):
            console.print(f"    to reproduce it alone: {escape(row['bundle'])}", soft_wrap=True, highlight=False)
    for plant in document.get("not_found", []):
        console.print(
            f"[bold red]planted, but NOT found in these steps:[/] {escape(plant)} (it made no difference that shows)"
        )
    console.print(f"{verdict(document['verdict'])}: {escape(document['claim'])}", soft_wrap=True)


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


def print_error(error: LockstepError, console: Console) -> None:
    """Every problem, for the person who reads it."""
    for problem in error.problems:
        place = f" [bold]{escape(problem.where)}[/]" if problem.where else ""
        console.print(f"[bold red]{problem.code}[/]{place}: {escape(problem.message)}", soft_wrap=True, highlight=False)
        if problem.hint:
            console.print(f"    → {escape(problem.hint)}", soft_wrap=True, highlight=False)
