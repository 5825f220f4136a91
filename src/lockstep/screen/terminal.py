"""What a person sees in a terminal: progress while runs go on, tables and errors at their end."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import markup
from rich.console import Console
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

from lockstep.errors import CODES, LockstepError, title
from lockstep.language import LANGUAGES, Text, _, joined, later, mark, n_, number, say, spoken, visible
from lockstep.spec import Run
from lockstep.store import Record, results
from lockstep.store.documents.proof import Cost, Divergence, Network, Proof, Share, Stage


def escape(text: str, keep: str = "\n\t") -> str:
    """A text to be printed as it is: no markup of rich's, and no control character that a terminal would obey."""
    return markup.escape(visible(text, keep))


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
        """Start drawing."""
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave a clean terminal."""
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
        self._line(_("{run}: starting", run=name))

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
        for line in resumption(event, run.recipe.epochs):
            self.console.print(escape(f"  {line}"), soft_wrap=True, highlight=False)

    def _phase(self, run: Run, event: dict[str, Any]) -> None:
        self.progress.update(self.under_way[id(run)][1], last=told(event, "phase"))

    def _epoch(self, run: Run, event: dict[str, Any]) -> None:
        loss = results.fixed(event["train_loss"], 4) if event["train_loss"] is not None else _("no longer a number")
        accuracy = results.percent(event["test_accuracy"])
        told = _("loss {loss}, test accuracy {accuracy}", loss=loss, accuracy=accuracy)
        name, bar = self.under_way[id(run)]
        self.progress.update(bar, completed=event["epoch"], last=told)
        place, seconds = f"{event['epoch']}/{run.recipe.epochs}", event["train_seconds"]
        line = _("  epoch {place}: {said}, {seconds:.2f} s", place=place, said=told, seconds=seconds)
        self._line(line if len(self.under_way) == 1 and not self.is_one_line else f"{name}:{line[1:]}")

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

    def _line(self, text: str) -> None:
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


# What a run, a worker and the doctor say they are at, and places that a judge names.
WORDS = (
    mark("build"), mark("train"), mark("a whole epoch"), mark("judging"), mark("running"),
    mark("failed"), mark("finished"), mark("whole"), mark("unfinished"), mark("being worked on"), mark("damaged"),
    mark("all weights"), mark("images"), mark("input"), mark("its arrays"), mark("labels"), mark("logits"),
    mark("losses"), mark("manifest"), mark("names"), mark("order"), mark("test images"),
    mark("training from the start"), mark("updates taken"), mark("unexplained"),
)  # fmt: skip


def told(row: Mapping[str, Any], key: str) -> str:
    """A text out of a row, in the language in use."""
    return word(row[key])


def word(text: str) -> str:
    """A text, or a word that stands for one, in the language in use."""
    return say(text) if isinstance(text, Text) else _(text)


def stored(reason: object) -> str:
    """A reason, which is English out of a run folder, in the language in use, as far as its words are known there.

    What they are not is told behind the meaning of its code.
    """
    if isinstance(reason, Text):
        return say(reason)
    if parts := re.fullmatch(r"(LS-\d+ .*?: )([^\n]*)(?:\n\s*→ ([^\n]*))?", str(reason)):
        message, hint = _(parts[2]), _(parts[3] or "")
        if " " in parts[2] and say(message) != parts[2]:  # a word alone may mean something else
            return parts[1] + say(message) + (f"\n    → {say(hint)}" if parts[3] else "")
    if spoken() != LANGUAGES[0] and (code := str(reason).partition(" ")[0].rstrip(":")) in CODES:
        return f"{title(code)}: {reason}"
    return str(reason)


def resumption(event: Mapping[str, Any], epochs: int) -> list[str]:
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
    text = mark("warning: no longer as before, so the last bits may differ: {change}")
    return said + [_(text, change=change) for change in changes]


def print_checked(found: Mapping[str, Any], console: Console) -> None:
    """What `doctor.check_runs` found: a line for each run, and below it what is wrong and what can be used."""
    for row in found["runs"]:
        colour = "bold red" if row["state"] == "damaged" else "green" if row["state"] == "whole" else "yellow"
        console.print(f"[{colour}]{told(row, 'state'):<10}[/] {escape(row['run'])}", soft_wrap=True, highlight=False)
        for problem in row["problems"]:
            console.print(escape(_("    wrong: {what}", what=problem)), soft_wrap=True, highlight=False)
        if row["problems"] or row["state"] == "unfinished":
            for usable in row["usable"] or [_("nothing")]:
                console.print(escape(_("    can be used: {what}", what=usable)), soft_wrap=True, highlight=False)
        for note in row["notes"]:
            console.print(f"    {escape(say(note))}", soft_wrap=True, highlight=False)
    damaged = sum(row["state"] == "damaged" for row in found["runs"])
    counts = {"runs": len(found["runs"]), "files": found["files"], "damaged": damaged}
    console.print(_("{runs} runs, {files} files checked, {damaged} damaged", **counts), highlight=False)


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
        """Take one event of a proof (see `lockstep.proof.proof.prove`)."""
        varied = "".join(f" {key.rpartition('.')[2]}={value}" for key, value in run.grid.items())
        name = f"{run.network_name} · {run.backend} · {run.dataset} · {run.dtype}{varied}"
        if event["event"] == "start":
            self.tasks[name] = self.progress.add_task(escape(name), last=_("starting"))
        elif event["event"] == "phase":
            self.progress.update(self.tasks[name], last=told(event, "phase"))
        elif event["event"] == "judged":  # no verdict yet: what follows may take it back
            self.progress.update(self.tasks[name], last=_(STEP_BY_STEP))
            if not self.console.is_terminal:
                self.console.print(f"{escape(name)}  {_(STEP_BY_STEP)}", soft_wrap=True)
        elif event["event"] == "end":
            if name in self.tasks:
                self.progress.remove_task(self.tasks.pop(name))
            reason = event["reason"]
            why = divergence(reason) if isinstance(reason, Divergence) else stored(reason or "")
            why = f": {why}" if why else ""
            self.console.print(f"{escape(name)}  {verdict(event['verdict'])}{escape(why)}", soft_wrap=True)


STEP_BY_STEP = mark("judged step by step, its verdict is to come")


COLOURS = {
    mark("IDENTICAL"): "green",
    mark("EQUAL"): "green",
    mark("INCONCLUSIVE"): "yellow",
    mark("DIVERGED"): "bold red",
    mark("ERROR"): "bold red",
}


def verdict(word: str) -> str:
    """A verdict in its colour."""
    return f"[{COLOURS[word]}]{verdict_word(word)}[/]"


def verdict_word(word: str) -> str:
    """A verdict in the language in use."""
    return _(word)


def divergence(row: Divergence) -> str:
    """One divergence of a proof in a line."""
    off = math.inf if row.size is None else row.size
    if row.problem:
        size = say(row.problem)
    elif row.tolerance:
        size = _("off by {size:.1e}, allowed {tolerance:.1e}", size=off, tolerance=row.tolerance)
    else:
        size = _("off by {size:.1e}, must be equal", size=off)
    facts = {
        "stage": _(row.stage), "where": word(row.where), "size": size, "causes": _(" or ").join(map(_, row.causes))
    }  # fmt: skip
    if row.step is None:
        return _("{stage}, {where}: {size}; cause: {causes}", **facts)
    return _("{stage}, {where} at step {step}: {size}; cause: {causes}", step=row.step, **facts)


def print_proof(proof: Proof, console: Console) -> None:
    """A proof's verdicts, what they rest on, and what is wrong."""
    networks = proof.networks
    coordinates = [{"dataset": row.dataset, "dtype": row.dtype, **row.grid} for row in networks]
    keys = dict.fromkeys(key for row in coordinates for key in row)
    varying = [key for key in keys if key == "dtype" or len({str(row.get(key)) for row in coordinates}) > 1]
    columns = (_("network"), *(_(key.rpartition(".")[2]) for key in varying), _("backend"), _("verdict"))
    table = Table(*map(escape, columns), title=_("Proof"), title_justify="left")
    for column in (_("worst, × allowed"), _("values"), _("layers"), _("updates")):
        table.add_column(column, justify="right")
    unseen: dict[str, list[str]] = {}
    for network, coordinate in zip(networks, coordinates, strict=True):
        name = [network.network, *(str(coordinate.get(key, "–")) for key in varying)]
        for row in network.backends:
            covered = row.coverage
            table.add_row(
                *map(escape, name), row.backend, verdict(row.verdict), _worst(row.stages),
                number(f"{covered.values or 0:,}"), share(covered.layers),
                _("{n} of {all}", n=covered.updates_judged or 0, all=proof.steps),
            )  # fmt: skip
            if row.trace and covered.missing:
                where = " · ".join([*(part for part in name if part != network.dtype), row.backend])
                unseen.setdefault(joined(map(later, covered.missing)), []).append(where)
    console.print(table)
    for missing, places in unseen.items():
        said = _("not observed of {places}: {what}", places=", ".join(places), what=missing)
        console.print(escape(said), soft_wrap=True)
    for reason in proof.coverage.not_observed:
        if not any(reason.endswith(f": not observed: {missing}") for missing in unseen):  # said already, and of whom
            console.print(escape(_("not observed: {what}", what=reason)), soft_wrap=True)
    _print_power(networks, console)
    _print_divergences(proof.divergences, varying, console)
    for plant in proof.not_found:
        what, why = _("planted, but NOT found in these steps:"), _("(it made no difference that shows)")
        console.print(f"[bold red]{what}[/] {escape(plant)} {why}")
    console.print(f"{verdict(proof.verdict)}: {escape(say(proof.claim))}", soft_wrap=True)
    if previous := proof.previous:
        facts = {"day": previous.proven, "verdict": verdict_word(previous.verdict), "file": previous.file}
        kept = _("the proof of {day} ({verdict}) is kept: {file}", **facts)
        console.print(escape(kept), soft_wrap=True, highlight=False)


def print_gradients(document: Mapping[str, Any], console: Console) -> None:
    """Of each backend how many gradients are slopes of the loss, and what is wrong."""
    keys = dict.fromkeys(key for network in document["networks"] for key in network["grid"])
    columns = (_("network"), _("dataset"), *(key.rpartition(".")[2] for key in keys), _("backend"), _("verdict"))
    table = Table(*map(escape, columns), title=_("Gradients beside central differences"), title_justify="left")
    for column in (_("parameters"), _("gradients"), _("worst, × allowed"), _("errors seen from")):
        table.add_column(column, justify="right")
    for network in document["networks"]:
        name = [network["network"], network["dataset"], *(str(network["grid"].get(key, "–")) for key in keys)]
        for row in network["backends"]:
            seen = [one for one in row["parameters"] if one["gradients"]]
            worst = max((one["off"] / one["room"] for one in seen), default=None)
            least = max((one["seen"] for one in seen if one["seen"] is not None), default=None)
            table.add_row(
                *map(escape, name), row["backend"], verdict(row["verdict"]), str(len(seen)),
                str(sum(one["gradients"] for one in seen)), "–" if worst is None else number(f"{worst:.2g}"),
                "–" if least is None else f"{least:.0e}",
            )  # fmt: skip
    console.print(table)
    facts = {"images": document["images"], "step": document["step"]}
    said = _("float64, {images} images, steps of {step:g}; what was looked at in which parameter: --json", **facts)
    console.print(said, soft_wrap=True, highlight=False)
    console.print(verdict(document["verdict"]))


def _print_power(networks: Sequence[Network], console: Console) -> None:
    """To within what updates were judged, what would not have been seen, and whether the judge is to be suspected."""
    widest = max(
        (
            (within, name, network.network, row.backend, row.coverage.in_float64)
            for network in networks
            for row in network.backends
            for name, within in row.coverage.updates_within.items()
            if within is not None
        ),
        default=None,
    )
    if widest:
        within, name, network_name, backend, in_float64 = widest
        facts = {"percent": number(f"{100 * within:.2g}"), "where": f"{network_name} · {backend} · {name}"}
        said = _("an update that is off by {percent} % would have been seen ({where}; others more closely)", **facts)
        if within > 0.99:
            said = _("updates not judged: rounding may be as large as they ({where})", **facts)
        if in_float64:
            said = _("{said}; in float64 where float32 leaves more than a tenth open", said=said)
        console.print(escape(said), soft_wrap=True, highlight=False)
    blind: dict[str, list[str]] = {}
    for network in networks:
        for name in network.blind:
            blind.setdefault(name, []).append(network.network)
        if suspicion := network.suspicion:
            console.print(f"[bold red]{escape(say(suspicion.reason))}[/]", soft_wrap=True)
    if blind:
        names = ", ".join(f"{name} ({', '.join(dict.fromkeys(where))})" for name, where in blind.items())
        said = _("blind to: {names}. What that is: lockstep explain NAME", names=names)
        console.print(f"[yellow]{escape(said)}[/]", soft_wrap=True, highlight=False)


def share(found: Share | None) -> str:
    """ "5 of 6" in the language in use."""
    return _("{n} of {all}", n=found.judged, all=found.of) if found else "–"


def _print_divergences(rows: Sequence[Divergence], varying: Iterable[str], console: Console) -> None:
    """The first place of each network, backend and cause, how many more there are, and each cause explained once."""
    groups: dict[tuple[str, ...], list[Divergence]] = {}
    for row in rows:
        coordinate = {"dataset": row.dataset, "dtype": row.dtype}
        coordinate |= {key: f"{key.rpartition('.')[2]}={value}" for key, value in row.grid.items()}
        whose = [row.network, *(coordinate[key] for key in varying if key in coordinate), row.backend]
        groups.setdefault((" · ".join(whose), row.folder or "", *row.causes), []).append(row)
    explained: set[str] = set()
    for (whose_is_it, folder, *_causes), found in groups.items():
        first = found[0]
        console.print(f"[bold]{escape(whose_is_it)}[/]: {escape(divergence(first))}", soft_wrap=True)
        said = [_("in {folder}", folder=folder)] if folder else []
        said += [_("places with this cause: {n}; the page lists them", n=len(found))] if len(found) > 1 else []
        for cause in first.explained:
            if cause.cause not in explained:
                explained.add(cause.cause)
                said += [
                    f"{cause.cause}: {word(cause.what)}",
                    _("known from: {what}", what=word(cause.default_of)),
                    f"→ {word(cause.mend)}",
                ]
        said += [_("to reproduce it alone: {file}", file=row.bundle) for row in found if row.bundle]
        for line in said:
            console.print(f"    {escape(line)}", soft_wrap=True, highlight=False)


def _worst(stages: Iterable[Stage]) -> str:
    """The worst number of all stages, in tolerances; "∞" where an exact one was missed or a number is none."""
    found = [stage.worst.times_tolerance for stage in stages if stage.worst]
    if not found:
        return "–"
    worst = max(math.inf if value is None else value for value in found)
    if math.isinf(worst):
        return "∞"
    return number(f"{worst:.2g}" if worst < 10 else f"{worst:,.0f}") if worst < 1e6 else "> 10⁶"


def print_causes(rows: Sequence[Mapping[str, str]], console: Console) -> None:
    """Causes one below the other, by the stage that shows them first.

    Not a table: names of options are long, and a name that is broken over two lines cannot be searched for or copied.
    """
    for stage in dict.fromkeys(row["stage"] for row in rows):
        heading = _("shows first in: {stage}", stage=_(stage))
        console.print(f"[bold]{escape(heading)}[/]\n", highlight=False)
        for row in (row for row in rows if row["stage"] == stage):
            console.print(f"[bold]{row['cause']}[/]", soft_wrap=True, highlight=False)
            known_from = _("known from: {what}", what=told(row, "default_of"))
            for text in (told(row, "what"), known_from, f"→ {told(row, 'mend')}"):
                console.print(escape(unbroken(text, console.width)), soft_wrap=True, highlight=False)
            console.print()


def unbroken(text: str, width: int, indent: str = "    ", further: str = "    ") -> str:
    """Lines of at most this width, unless a single word is longer: no word is broken."""
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=further, break_long_words=False, break_on_hyphens=False
    )


def print_lined(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], console: Console) -> None:
    """A table whose cells have several lines; row below row where it would be too narrow for its words."""
    title, columns = say(title), [*map(say, columns)]
    rows = [[*map(say, row)] for row in rows]
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
            for nth, line in enumerate(str(cell).splitlines()):
                first = f"    {'' if nth else name}".ljust(indent)
                text = unbroken(line, console.width, first, " " * indent)
                console.print(escape(text), soft_wrap=True, highlight=False)
        console.print()
    return None


WIDE = 120


def cost(row: Cost) -> str:
    """What a plant costs, in a line."""
    return _(
        "what it costs: {run}: test accuracy {accuracy} as it should be, {planted_accuracy} planted; "
        "test loss {loss} and {planted_loss}",
        run=f"{row.network} · {row.backend}",
        **{name: results.percent(getattr(row, name)) for name in ("accuracy", "planted_accuracy")},
        **{name: results.fixed(getattr(row, name), 4) for name in ("loss", "planted_loss")},
    )


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
        table.add_row(*cells)
    return table


def network_table(name: str, dataset: str, rows: Iterable[dict[str, Any]]) -> Table:
    """A network layer by layer, as `lockstep show` prints it."""
    rows = list(rows)
    title = _("{network} on {dataset}", network=name, dataset=dataset)
    table = Table(_("layer"), _("output"), title=escape(title), title_justify="left", show_footer=True)
    totals = (sum(row["parameters"] for row in rows), sum(row["multiply_adds"] for row in rows))
    table.columns[0].footer = _("total")
    for column, footer in (
        (_("parameters"), number(f"{totals[0]:,}")),
        (_("multiply-adds"), number(f"{totals[1]:,}")),
        (_("receptive field"), ""),
    ):
        table.add_column(column, justify="right", footer=footer)
    for row in rows:
        output = " × ".join(map(str, row["output_shape"]))
        field = " × ".join(map(str, row["receptive_field"]))
        counts = (number(f"{row[key]:,}") for key in ("parameters", "multiply_adds"))
        table.add_row(row["name"], output, *counts, field)
    return table


def plain_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table of texts."""
    table = Table(*map(say, columns), title=say(title), title_justify="left")
    for row in rows:
        table.add_row(*(escape(say(cell)) for cell in row))
    return table


def print_remedy(row: Mapping[str, Any], console: Console) -> None:
    """An error's code explained, as `remedies.explain` gives it."""
    facts = {"what": row["what"], "exit_code": row["exit_code"]}
    meaning = _("{what} (exit code {exit_code})", **facts)
    console.print(f"[bold]{row['code']}[/]: {escape(meaning)}", highlight=False)
    parts = {_("cause"): row["cause"], _("example"): row["example"], _("remedy"): row["remedy"]}
    indent = max(8, *map(len, parts))
    for name, text in parts.items():
        lines = textwrap.wrap(say(text), max(console.width - 12, 40), break_long_words=False, break_on_hyphens=False)
        for nth, line in enumerate(lines):
            console.print(f"  {'' if nth else name:<{indent}} {escape(line)}", soft_wrap=True, highlight=False)


def print_error(error: LockstepError, console: Console) -> None:
    """Every problem, for the person who reads it."""
    for problem in error.problems:
        place, message = (
            f" [bold]{escape(say(problem.where), keep='')}[/]" if problem.where else "",
            escape(say(problem.message)),
        )
        console.print(f"[bold red]{problem.code}[/]{place}: {message}", soft_wrap=True, highlight=False)
        if problem.hint:
            console.print(f"    → {escape(say(problem.hint))}", soft_wrap=True, highlight=False)
