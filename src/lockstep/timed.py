"""What a person sees of a bench in a terminal: how it goes on, tables of times, and what cannot be ranked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

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
        self.task = self.progress.add_task("bench", last="listening to the machine")

    def __enter__(self) -> BenchWatcher:
        """Start drawing."""
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave a clean terminal."""
        self.progress.stop()

    def tell(self, event: dict[str, Any]) -> None:
        """Take one event of `lockstep.bench`."""
        if event["event"] == "noise":
            for warning in event["warnings"]:
                self.console.print(f"[yellow]warning[/] {escape(warning)}", soft_wrap=True)
            return
        entry = event["entry"]
        fault = f" ({entry.fault})" if entry.fault else ""
        name = f"round {event['round'] + 1}/{self.rounds} · {entry.run.network_name} · {entry.title}{fault}"
        if event["event"] == "start":
            self.progress.update(self.task, last=escape(name))
        elif event["event"] == "failed":
            self.console.print(f"[bold red]{escape(name)}: failed[/]\n  {escape(event['reason'])}", soft_wrap=True)
        elif not self.console.is_terminal:
            self.console.print(f"{escape(name)}: {event['seconds']:.3f} s per epoch", soft_wrap=True)


def seconds(value: float | None) -> str:
    """Three digits that mean something."""
    if value is None:
        return "–"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def spread(found: Mapping[str, Any]) -> str:
    """An interval, or that there is none."""
    return "–" if found["low"] is None else f"{seconds(found['low'])} – {seconds(found['high'])}"


def _told(row: Mapping[str, Any]) -> str:
    return f"{row['entry']}{' (as shipped)' if row['is_shipped'] else ''}"


def print_bench(document: Mapping[str, Any], console: Console) -> None:
    """Times, ranking and ratios of every network."""
    rounds = document["rounds"]
    for network in document["networks"]:
        table = Table(title=f"{escape(network['network'])} on {escape(str(network['dataset']))}", title_justify="left")
        table.add_column("", no_wrap=True)
        for name in (
            "epoch s",
            "95 % interval",
            "images/s",
            "import s",
            "build s",
            "compile s",
            "evaluate s",
            "MiB",
            "accuracy",
        ):
            table.add_column(name, justify="right")
        table.add_column("proof", no_wrap=True)
        for row in sorted(network["rows"], key=lambda row: float(row["epoch"]["median"])):
            clocks = [
                seconds(row["seconds"].get(name, {}).get("median"))
                for name in ("import", "build", "compile", "evaluate")
            ]
            proof = row["proof"]
            proven = (
                f"{proof['verdict']}, {proof['steps']} steps" if proof else "–" if row["is_shipped"] else "not proven"
            )
            table.add_row(
                escape(_told(row)), seconds(row["epoch"]["median"]), spread(row["epoch"]),
                f"{row['images_per_second']['median']:,.0f}", *clocks, f"{row['peak_memory_bytes'] / MEBIBYTE:.0f}",
                f"{100 * row['accuracy']:.2f} %", proven,
            )  # fmt: skip
        console.print(table)
        console.print(escape(ranked(network, rounds)), soft_wrap=True)
        _print_ratios(network, console)
    for row in document["left_out"]:
        console.print(
            f"not timed: {escape(_told(row))}, {escape(row['network'])}: {escape(row['reason'])}", soft_wrap=True
        )
    console.print(
        f"n = {rounds} rounds of {document['epochs']} epochs, the median of all but the first of each; "
        f"{document['threads']} threads; {escape(str(document['machine']['cpu']))}; "
        f"load before it began {document['noise']['load']}",
        soft_wrap=True,
    )  # fmt: skip


def ranked(network: Mapping[str, Any], rounds: int) -> str:
    """The ranking in words."""
    from lockstep.report import benched

    return benched.ranked(network["ranking"], rounds)


def _print_ratios(network: Mapping[str, Any], console: Console) -> None:
    if not network["ratios"]:
        return
    table = Table(title="how many times as long per image", title_justify="left")
    for name, side in (("", "left"), ("over", "left"), ("times", "right"), ("95 % interval", "right"), ("n", "right")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for row in network["ratios"]:
        table.add_row(escape(_told(row)), escape(row["over"]), f"{row['median']:.2f}", spread(row), str(row["n"]))
    console.print(table)


def print_faults(document: Mapping[str, Any], console: Console) -> None:
    """Each mistake, and what it would have made of the times here."""
    table = Table(title="What each mistake would have reported, as a multiple of what is so", title_justify="left")
    for name, side in (
        ("mistake", "left"),
        ("network", "left"),
        ("of", "left"),
        ("times", "right"),
        ("95 % interval", "right"),
    ):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    before = ""
    for row in document["faults"]:
        what = row["what"] if row["fault"] != before else ""
        before = row["fault"]
        table.add_row(escape(what), escape(row["network"]), escape(_told(row)), f"{row['median']:.2f}", spread(row))
    console.print(table)
    console.print(f"n = {document['rounds']} rounds; {escape(str(document['machine']['cpu']))}", soft_wrap=True)
