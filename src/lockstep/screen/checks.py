"""What a person sees of a check: what the doctor found of this machine and of runs, and what `clean` moves aside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from lockstep.language import _, later, number, say
from lockstep.screen.output import console, tell
from lockstep.screen.tables import plain_table
from lockstep.screen.words import escape, word


def print_runs(found: Mapping[str, Any], console: Console) -> None:
    """What `doctor.check_runs` found: a line for each run, and below it what is wrong and what can be used."""
    for row in found["runs"]:
        colour = "bold red" if row["state"] == "damaged" else "green" if row["state"] == "whole" else "yellow"
        console.print(f"[{colour}]{word(row['state']):<10}[/] {escape(row['run'])}", soft_wrap=True, highlight=False)
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


# What `description.machine` and the doctor call it, and what a person does.
MACHINE = {
    "platform": later("platform"),
    "cpu": later("cpu"),
    "cores": later("cores"),
    "memory_bytes": later("memory"),
    "load": later("load"),
    "threads": later("threads"),
    "runs_folder": later("runs folder"),
    "runs_folder_is_writable": later("runs folder is writable"),
    "disk_free_bytes": later("disk free"),
}


def print_machine(found: Mapping[str, Any], console: Console) -> None:
    """What `doctor.check` found: backends, the machine, datasets, and what is known to clash."""
    rows: list[tuple[object, ...]] = []
    for row in found["backends"]:
        versions = ", ".join(f"{name} {number}" for name, number in row["versions"].items())
        rows.append((row["name"], _("missing") if row["missing"] else _("ready"), versions, row["remedy"] or ""))
    columns = (_("backend"), _("state"), _("versions"), _("remedy"))
    console.print(plain_table(_("Backends"), columns, rows))
    console.print(plain_table(_("Machine"), (_("what"), _("found")), _facts(found["machine"])))
    rows = [(row["name"], row["state"], row["n_train"], row["n_test"]) for row in found["datasets"]]
    columns = (_("dataset"), _("state"), _("training"), _("test"))
    console.print(plain_table(_("Datasets"), columns, rows))
    for clash in found["clashes"]:
        console.print(_("clash: {what}", what=clash), markup=False, soft_wrap=True)
    if not found["clashes"]:
        console.print(_("clashes: none known"), markup=False, soft_wrap=True)


def _facts(machine: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    said: dict[str, object] = {**machine, "load": " ".join(number(f"{value:.2f}") for value in machine["load"] or ())}
    for key in ("memory_bytes", "disk_free_bytes"):
        said[key] = _("{n:,.1f} GiB", n=machine[key] / 2**30) if machine[key] else _("unknown")
    said["runs_folder_is_writable"] = _("yes") if machine["runs_folder_is_writable"] else _("no")
    yield from ((_(MACHINE[key]), value) for key, value in said.items() if key in MACHINE)


WHYS = (later("unfinished"), later("superseded"), later("damaged"))


def print_leftovers(found: Mapping[str, Any], is_done: bool) -> None:
    """What `leftovers.clean_runs` moved aside, or would: a row a run, how much it is, and what to do next."""
    if found["runs"]:
        columns = (_("run"), _("why"), _("about"), "MiB", *([_("moved to")] if is_done else []))
        console().print(plain_table(_("Of no more use"), columns, [_cells(row, is_done) for row in found["runs"]]))
    facts = {"n": len(found["runs"]), "kept": found["kept"], "mib": found["bytes"] / 2**20}
    if is_done:
        facts["n"] = sum(row["to"] is not None for row in found["runs"])
        tell(_("{n} runs moved, {mib:,.1f} MiB; {kept} stay", **facts))
    else:
        tell(_("{n} runs would be moved, {mib:,.1f} MiB; {kept} stay", **facts))
    for folder in sorted({str(Path(row["run"]).parent) for row in found["runs"]}) if is_done else ():
        tell(_("its report may still show them; anew: lockstep report {folder}", folder=folder))
    if found["runs"] and not is_done:
        tell(_("to do it: the same command with --yes"))


def _cells(row: Mapping[str, Any], is_done: bool) -> tuple[str, ...]:
    cells = (row["run"], _(row["why"]), say(row["about"]), f"{row['bytes'] / 2**20:,.1f}")
    return (*cells, row["to"] or _("in use now")) if is_done else cells
