"""What `lockstep bench` measured for a study: times that may be ranked, with everything that they rest on.

bench.json lies beside the study's runs. A time without its machine, threads, versions, repetitions and interval is not
printed, and entries whose intervals overlap are not ranked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lockstep.errors import LockstepError
from lockstep.language import _, moment, n_
from lockstep.report.facts import why_unsound
from lockstep.report.sections.rankings import CLOCKS as CLOCK_TITLES
from lockstep.report.table import Table
from lockstep.report.words import forms
from lockstep.report.words.quantities import MISSING, column, fixed, listed, percent, significant, span
from lockstep.store.documents.bench import FILE, Bench, LeftOut, Network, Products, Ratio, Row, read_bench

ENOUGH = 5  # rounds below which nothing is ranked
MEBIBYTE = 2**20
CLOCKS = ("import", "build", "compile", "evaluate")


def read(folder: Path) -> tuple[Bench | None, str]:
    """(the bench of a study's folder, why it cannot be used); (None, "") where there is none."""
    if not (folder / FILE).exists():
        return None, ""
    try:
        return read_bench(folder), ""
    except LockstepError as error:
        return None, f"{folder.name}/{FILE}: {why_unsound(error)}."


def sections(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Every study's bench as plain data; a study without one has no entry."""
    found = []
    for folder in folders:
        bench, gap = read(folder)
        if bench:
            found.append(_of_bench(bench))
        elif gap:
            found.append({"study": folder.name, "gap": gap, "fairness": [], "networks": [], "left_out": []})
    return found


def _of_bench(bench: Bench) -> dict[str, Any]:
    return {
        "study": bench.study,
        "gap": "",
        "fairness": _fairness(bench),
        "networks": [_network(network, bench.rounds) for network in bench.networks if network.rows],
        "left_out": [f"{_named(row)}, {row.network}: {forms.say(row.reason)}" for row in bench.left_out],
    }


def _fairness(bench: Bench) -> list[str]:
    """What these times rest on, a sentence each."""
    machine, noise = bench.machine, bench.noise
    rows = [row for network in bench.networks for row in network.rows]
    versions = {name: number for row in rows for name, number in row.versions.items()}
    obtained = [str(n) for n in sorted({row.threads.obtained for row in rows if row.threads.obtained})]
    lines = [
        n_(
            "{n} rounds (n), each with every entry once in a fresh process, in a new order. The interval is the "
            "bootstrap’s, of the median; there is none below five.",
            "{n} rounds (n), each with every entry once in a fresh process, in a new order. The interval is the "
            "bootstrap’s, of the median; there is none below five.",
            bench.rounds,
        ),
        n_(
            "{n} epochs each, of which the first warms up and is not counted; data in memory before.",
            "{n} epochs each, of which the first warms up and is not counted; data in memory before.",
            bench.epochs,
        ),
        n_("{n} threads asked for", "{n} threads asked for", bench.threads)
        + (_(", {threads} obtained.", threads=listed(obtained)) if obtained else "."),
        _(
            "Machine: {cpu}, {cores} cores, {platform}.",
            cpu=machine.cpu or MISSING,
            cores=machine.cores or MISSING,
            platform=machine.platform or MISSING,
        ),
        _(
            "Before it began: load average {load}, and a fixed piece of work spread by {spread} %.",
            load=fixed(noise.load, 2),
            spread=percent(noise.spread, 1),
        ),
        _(
            "Versions: {versions}.",
            versions=", ".join(f"{name} {number}" for name, number in sorted(versions.items())) or MISSING,
        ),
    ]
    if bench.lockstep or bench.measured:
        when = moment(bench.measured) if bench.measured else MISSING
        lines.append(_("Measured by Lockstep {version}, {when}.", version=bench.lockstep or MISSING, when=when))
    return lines + [_("Warning: {text}.", text=forms.say(text)) for text in noise.warnings]


def _network(network: Network, rounds: int) -> dict[str, Any]:
    rows = sorted(network.rows, key=lambda row: row.epoch.median)
    places = column([value for row in rows for value in (row.epoch.median, row.epoch.low, row.epoch.high)])
    clocks = {
        clock: column([row.seconds[clock].median if clock in row.seconds else None for row in rows]) for clock in CLOCKS
    }
    body = [
        [
            _named(row), places[3 * n], _interval(places[3 * n + 1], places[3 * n + 2]), str(row.n),
            fixed(row.images_per_second.median, 0), *(clocks[clock][n] for clock in CLOCKS),
            fixed(row.peak_memory_bytes / MEBIBYTE if row.peak_memory_bytes else None, 0), percent(row.accuracy, 2),
            _proven(row),
        ]
        for n, row in enumerate(rows)
    ]  # fmt: skip
    titles = [_("Epoch (s)"), _("95 % interval"), "n", _("Images/s"), *(_(CLOCK_TITLES[clock]) for clock in CLOCKS)]
    titles += [_("Peak memory (MiB)"), _("Accuracy (%)")]
    columns = [("", "l"), *((title, "r") for title in titles), (_("Proof"), "l")]
    about = [_("batch {n}", n=network.batch_size) if network.batch_size else "", network.dtype or ""]
    caption = _(
        "{network} on {dataset} ({about}): medians over rounds",
        network=network.network,
        dataset=network.dataset or MISSING,
        about=", ".join(filter(None, about)),
    )
    return {
        "title": network.network,
        "table": Table(caption, columns, body),
        "ranking": f"{network.network}: {ranked([list(names) for names in network.ranking], rounds)}.",
        "products": above_products(network.products) if network.products else "",
        "ratios": _ratios(network),
    }


def above_products(found: Products) -> str:
    """A sentence: what the products alone would take, and how many times that the fastest backend takes."""
    facts = {"rate": fixed(found.peak.median / 1e9, 0), "seconds": significant(found.seconds.median)}
    ends = _interval(fixed(found.low, 2), fixed(found.high, 2))
    facts |= {"entry": found.entry, "times": fixed(found.median, 2) + (f" ({ends})" if ends != MISSING else "")}
    return _(
        "At the {rate} GFLOP/s of a large matrix product its products alone would take {seconds} s an epoch; {entry} "
        "takes {times} times as long.",
        **facts,
    )


def _ratios(network: Network) -> Table | None:
    rows = [
        [_named(row), row.over, fixed(row.median, 2), _interval(fixed(row.low, 2), fixed(row.high, 2)), str(row.n)]
        for row in network.ratios
    ]
    columns = [(_("Of"), "l"), (_("Over"), "l"), (_("Times as long"), "r"), (_("95 % interval"), "r"), ("n", "r")]
    caption = _("{network}: how many times as long per image, round by round, the median", network=network.network)
    return Table(caption, columns, rows) if rows else None


def _named(row: Row | Ratio | LeftOut) -> str:
    return _("{entry} (as shipped)", entry=row.entry) if row.is_shipped else row.entry


def _interval(low: str, high: str) -> str:
    return MISSING if MISSING in (low, high) else span(low, high)


def _proven(row: Row) -> str:
    if row.proof:
        steps = n_("{n} steps", "{n} steps", row.proof.steps)
        return f"{forms.say(row.proof.verdict)}, {steps}"
    return MISSING if row.is_shipped else _("not proven")


def ranked(groups: Sequence[Sequence[str]], rounds: int) -> str:
    """A ranking in words: entries from the fastest to the slowest; those of one group cannot be told apart."""
    if not groups:
        return _("nothing to rank")
    if rounds < ENOUGH:
        return _("cannot be ranked: fewer than five rounds give no interval")
    if len(groups) == 1 and len(groups[0]) > 1:
        return _("cannot be ranked: the intervals overlap")
    order = [
        names[0] if len(names) == 1 else _("[{names}: cannot be ranked among themselves]", names=", ".join(names))
        for names in groups
    ]
    return _("fastest first: {order}", order=" < ".join(order))
