"""What a person sees of a bench in a terminal: how it goes on, tables of times, and what cannot be ranked."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from lockstep.language import _, number, say
from lockstep.screen.proofs import verdict_word
from lockstep.screen.words import escape, stored
from lockstep.store import results
from lockstep.store.documents.bench import Bench, Fault, Faults, LeftOut, Middle, Network, Ratio, Row

MEBIBYTE = 2**20


class BenchWatcher:
    """Shows how a bench goes on: a line on a terminal, one line per lap elsewhere. Use as a context manager."""

    def __init__(self, rounds: int, console: Console) -> None:
        """Prepare to show this many rounds."""
        self.console, self.rounds = console, rounds
        self.progress = Progress(
            TextColumn("{task.description}"), TimeElapsedColumn(), TextColumn("{task.fields[last]}"), console=console,
            transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self.task = self.progress.add_task("bench", last=_("listening to the machine"))

    def __enter__(self) -> BenchWatcher:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def tell(self, event: dict[str, Any]) -> None:
        """Take one event of `lockstep.benchmark.benches.bench`."""
        if event["event"] == "noise":
            for warning in event["warnings"]:
                lead = _("warning")
                self.console.print(f"[yellow]{lead}[/] {escape(say(warning))}", soft_wrap=True)
            return
        if event["event"] == "interrupted":
            said = _("interrupted: {n} of {all} rounds were whole, and are kept", n=event["rounds"], all=self.rounds)
            self.console.print(f"[yellow]{escape(said)}[/]", soft_wrap=True)
            return
        entry = event["entry"]
        fault = f" ({entry.fault})" if entry.fault else ""
        place = _("round {n}/{all}", n=event["round"] + 1, all=self.rounds)
        name = f"{place} · {entry.run.network_name} · {entry.title}{fault}"
        if event["event"] == "start":
            self.progress.update(self.task, last=escape(name))
        elif event["event"] == "failed":
            failed, why = _("{run}: failed", run=name), stored(event["reason"])
            self.console.print(f"[bold red]{escape(failed)}[/]\n  {escape(why)}", soft_wrap=True)
        elif not self.console.is_terminal:
            said = _("{run}: {seconds:.3f} s per epoch", run=name, seconds=event["seconds"])
            self.console.print(escape(said), soft_wrap=True)


def seconds(value: float | None) -> str:
    """Three digits that mean something."""
    if value is None:
        return "–"
    return number(f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}")


def spread(found: Middle) -> str:
    """An interval, or that there is none."""
    return "–" if found.low is None else f"{seconds(found.low)} – {seconds(found.high)}"


def _told(row: Row | Ratio | LeftOut | Fault) -> str:
    return _("{name} (as shipped)", name=row.entry) if row.is_shipped else row.entry


def print_bench(bench: Bench, console: Console) -> None:
    """Times, ranking and ratios of every network."""
    from lockstep.report.sections import times

    for network in bench.networks:
        title = _("{network} on {dataset}", network=network.network, dataset=network.dataset)
        table = Table(title=escape(title), title_justify="left")
        table.add_column("", no_wrap=True)
        for name in (
            _("epoch s"),
            _("95 % interval"),
            _("images/s"),
            _("import s"),
            _("build s"),
            _("compile s"),
            _("evaluate s"),
            _("MiB"),
            _("accuracy"),
        ):
            table.add_column(name, justify="right")
        table.add_column(_("proof"), no_wrap=True)
        for row in sorted(network.rows, key=lambda row: row.epoch.median):
            clocks = [
                seconds(row.seconds[name].median if name in row.seconds else None)
                for name in ("import", "build", "compile", "evaluate")
            ]
            proof = row.proof
            proven = "–" if row.is_shipped else _("not proven")
            if proof:
                proven = _("{verdict}, {n} steps", verdict=verdict_word(proof.verdict), n=proof.steps)
            table.add_row(
                escape(_told(row)), seconds(row.epoch.median), spread(row.epoch),
                number(f"{row.images_per_second.median:,.0f}"), *clocks,
                f"{(row.peak_memory_bytes or 0) / MEBIBYTE:.0f}", results.percent(row.accuracy), proven,
            )  # fmt: skip
        console.print(table)
        console.print(escape(times.ranked(network.ranking, bench.rounds)), soft_wrap=True)
        _print_ratios(network, console)
        if network.products:
            console.print(escape(times.above_products(network.products)), soft_wrap=True)
    for one in bench.left_out:
        facts = {"entry": _told(one), "network": one.network, "why": one.reason}
        console.print(escape(_("not timed: {entry}, {network}: {why}", **facts)), soft_wrap=True)
    said = _(
        "n = {rounds} rounds of {epochs} epochs, the median of all but the first of each; {threads} threads; {cpu}; "
        "load before it began {load}",
        rounds=bench.rounds,
        epochs=bench.epochs,
        threads=bench.threads,
        cpu=bench.machine.cpu,
        load="–" if (load := bench.noise.load) is None else number(f"{load:.1f}"),
    )
    console.print(escape(said), soft_wrap=True)


def _print_ratios(network: Network, console: Console) -> None:
    if not network.ratios:
        return
    table = Table(title=_("how many times as long per image"), title_justify="left")
    for name, side in (
        ("", "left"),
        (_("over"), "left"),
        (_("times"), "right"),
        (_("95 % interval"), "right"),
        ("n", "right"),
    ):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for row in network.ratios:
        table.add_row(escape(_told(row)), escape(row.over), number(f"{row.median:.2f}"), spread(row), str(row.n))
    console.print(table)


def print_faults(found: Faults, console: Console) -> None:
    """Each mistake, and what it would have made of the times here."""
    table = Table(title=_("What each mistake would have reported, as a multiple of what is so"), title_justify="left")
    for name, side in (
        (_("mistake"), "left"),
        (_("network"), "left"),
        (_("of"), "left"),
        (_("times"), "right"),
        (_("95 % interval"), "right"),
    ):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    before = ""
    for row in found.faults:
        what = say(row.what) if row.fault != before else ""
        before = row.fault
        median = number(f"{row.median:.2f}")
        table.add_row(escape(what), escape(row.network), escape(_told(row)), median, spread(row))
    console.print(table)
    said = _("n = {rounds} rounds; {cpu}", rounds=found.rounds, cpu=found.machine.cpu)
    console.print(escape(said), soft_wrap=True)
