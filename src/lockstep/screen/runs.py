"""What a person sees of runs: how they go on, where one goes on that was interrupted, and their table at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from lockstep.language import _, later, n_, say
from lockstep.screen import proofs
from lockstep.screen.words import escape, stored, word
from lockstep.spec import Run
from lockstep.store import Record, results


def few_threads(asked: int, taken: int) -> str:
    """That other programs have left fewer threads than were asked for."""
    return n_(
        "this machine is busy: of {asked} threads {n} is free, and taken (--threads {asked} takes all)",
        "this machine is busy: of {asked} threads {n} are free, and taken (--threads {asked} takes all)",
        taken,
        asked=asked,
    )


class Watcher:
    """Shows how runs go on: a bar on a terminal, a line per epoch elsewhere. Use as a context manager."""

    def __init__(self, n_runs: int, console: Console, is_one_line: bool = False) -> None:
        """Prepare to show this many runs; on one line where each is to be written over the one before."""
        self.console, self.n_runs, self.number = console, n_runs, 0
        self.is_one_line, self.width = is_one_line, 0  # of the line that stands there
        self.has_said_threads = False
        self.under_way: dict[int, tuple[str, Any]] = {}  # by the run's identity: its name and its bar
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(_("epochs")),
            TimeElapsedColumn(), TextColumn("{task.fields[last]}"), console=console, transient=True,
            disable=not console.is_terminal,
        )  # fmt: skip

    def __enter__(self) -> Watcher:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        self._end_line()

    def tell(self, run: Run, event: dict[str, Any]) -> None:
        """Take one event of a run (see `lockstep.study.Tell`)."""
        heard = {"start": self._start, "resumed": self._resumed, "phase": self._phase}
        {**heard, "epoch": self._epoch, "end": self._end}[event["event"]](run, event)

    def _name(self, run: Run) -> str:
        varied = "".join(f" {key.rpartition('.')[2]}={value}" for key, value in run.grid.items())
        dtype = f" {run.dtype}" if run.dtype != "float32" else ""
        place = f"[{self.number}/{self.n_runs}]"
        seed = _("seed {n}", n=run.seed)
        return f"{place} {run.network_name} · {run.backend} · {run.dataset} · {seed}{dtype}{varied}"

    def _start(self, run: Run, event: dict[str, Any]) -> None:
        self.number += 1
        self._say_threads(event)
        name = self._name(run)
        bar = self.progress.add_task(escape(name), total=run.recipe.epochs, last=_("starting"))
        self.under_way[id(run)] = name, bar
        self.write_line(_("{run}: starting", run=name))

    def _say_threads(self, event: dict[str, Any]) -> None:
        """Once, where other programs have left fewer than were asked for."""
        asked, taken = event.get("asked", 0), event.get("threads", 0)
        if taken < asked and not self.has_said_threads:
            self.has_said_threads = True
            self._end_line()
            self.console.print(few_threads(asked, taken), markup=False, soft_wrap=True, highlight=False)

    def _resumed(self, run: Run, event: dict[str, Any]) -> None:
        """Said on a terminal too, and kept there: what is lost, and what may change the last bits."""
        self.progress.update(self.under_way[id(run)][1], completed=event["epoch"])
        self._end_line()
        for line in lines_of_resumption(event, run.recipe.epochs):
            self.console.print(escape(f"  {line}"), soft_wrap=True, highlight=False)

    def _phase(self, run: Run, event: dict[str, Any]) -> None:
        self.progress.update(self.under_way[id(run)][1], last=word(event["phase"]))

    def _epoch(self, run: Run, event: dict[str, Any]) -> None:
        loss = results.fixed(event["train_loss"], 4) if event["train_loss"] is not None else _("no longer a number")
        accuracy = results.percent(event["test_accuracy"])
        told = _("loss {loss}, test accuracy {accuracy}", loss=loss, accuracy=accuracy)
        name, bar = self.under_way[id(run)]
        self.progress.update(bar, completed=event["epoch"], last=told)
        place, seconds = f"{event['epoch']}/{run.recipe.epochs}", event["train_seconds"]
        line = _("  epoch {place}: {said}, {seconds:.2f} s", place=place, said=told, seconds=seconds)
        self.write_line(line if len(self.under_way) == 1 and not self.is_one_line else f"{name}:{line[1:]}")

    def _end(self, run: Run, event: dict[str, Any]) -> None:
        self._end_line()
        if event["reused"]:
            self.number += 1
            said = _("{run}: finished before, taken as it is (--again repeats it)", run=self._name(run))
            self.console.print(escape(said))
            return
        name, bar = self.under_way.pop(id(run))
        self.progress.remove_task(bar)
        record: Record = event["record"]
        if not record.is_finished:
            failed, why = _("{run}: failed", run=name), stored(record.status["reason"])
            self.console.print(f"[bold red]{escape(failed)}[/]\n  {escape(why)}")

    def write_line(self, text: str) -> None:
        if self.is_one_line:
            self.console.file.write(f"\r{text.ljust(self.width)}")
            self.console.file.flush()
            self.width = len(text)
        elif not self.console.is_terminal:
            self.console.print(escape(text), soft_wrap=True)

    def _end_line(self) -> None:
        """Let what stands on the line stay there."""
        if self.width:
            self.console.file.write("\n")
            self.width = 0


def lines_of_resumption(event: Mapping[str, Any], epochs: int) -> list[str]:
    """Where a run goes on and what is lost, a sentence a line; `event` as `checkpoints.Keeper.announce` gives it."""
    after, lost = event["epoch"], event["lost"]
    said = [say(warning) for warning in event["warnings"]]
    if not after and (said or lost):
        said.append(_("begins anew: no epoch of it was saved that can be used"))
    elif not after:
        said.append(_("begins anew: no epoch of it was saved"))
    else:
        goes_on = _("goes on after epoch {after} of {epochs}", after=after, epochs=epochs)
        gone = _("lost: epoch {epochs}", epochs=", ".join(map(str, lost)))
        gone = gone if lost else _("lost: what an epoch under way had done")
        said.append(f"{goes_on}; {gone}" if after < epochs else goes_on)
    changes = map(say, event["changed"])
    text = later("warning: no longer as before, so the last bits may differ: {change}")
    return said + [_(text, change=change) for change in changes]


def results_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The final table: network × backend. Columns that tell runs apart are added where they vary."""
    found = results.results(rows)
    table = Table(*map(escape, found.titles[: -found.n_numbers]))
    for column in found.titles[-found.n_numbers :]:
        table.add_column(column, justify="right")
    for row, cells in zip(rows, found.rows, strict=True):
        cells = [*map(escape, cells)]
        if row["status"] != "finished":
            cells = [*cells[: -found.n_numbers], f"[red]{cells[-found.n_numbers]}[/]"]
        elif row.get("proof"):
            cells[-found.n_numbers - 1] = proofs.verdict(row["proof"])
        table.add_row(*cells)
    return table
