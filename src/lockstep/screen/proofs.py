"""What a person sees of a proof: how it goes on, its verdicts and what they rest on, and what a plant costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from lockstep.language import _, joined, later, n_, number, say
from lockstep.screen.words import escape, stored, word
from lockstep.spec import Run
from lockstep.store import results
from lockstep.store.documents.gradients import Gradients
from lockstep.store.documents.proof import Cost, Divergence, Network, Proof, Share, Stage


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
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def tell(self, run: Run, event: dict[str, Any]) -> None:
        """Take one event of a proof (see `lockstep.proof.procedure.prove`)."""
        varied = "".join(f" {key.rpartition('.')[2]}={value}" for key, value in run.grid.items())
        name = f"{run.network_name} · {run.backend} · {run.dataset} · {run.dtype}{varied}"
        if event["event"] == "start":
            self.tasks[name] = self.progress.add_task(escape(name), last=_("starting"))
        elif event["event"] == "phase":
            self.progress.update(self.tasks[name], last=word(event["phase"]))
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


STEP_BY_STEP = later("judged step by step, its verdict is to come")


COLOURS: dict[str, str] = {
    later("IDENTICAL"): "green",
    later("EQUAL"): "green",
    later("INCONCLUSIVE"): "yellow",
    later("DIVERGED"): "bold red",
    later("ERROR"): "bold red",
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


def upkeep_said(proof: Proof, of_runs: Iterable[str], made: int, seconds: float, left_out: int) -> list[str]:
    """What the proof of a study's runs came to, what it cost or from when it stands, and where to see more.

    `of_runs` are the verdicts on these runs; `made` traces were made for it now, in so many seconds; `left_out` runs
    are proven by nobody.
    """
    facts = {"verdict": claimed(proof), "n": made, "seconds": f"{seconds:.0f}", "when": proof.proven or "–"}
    if made:
        said = [
            _("proof: {verdict} ({n} traces in {seconds} s, kept until something that they depend on changes)", **facts)
        ]
    else:
        said = [_("proof: {verdict} (of {when}; nothing that it depends on has changed)", **facts)]
    if "DIVERGED" in of_runs:
        first = next(iter(proof.divergences), None)
        said += [f"    {first.network} · {first.backend}: {divergence(first)}"] if first else []
        said.append(_("    each place with its cause: proof.html beside the report"))
    if left_out:
        said.append(
            n_(
                "    of {n} run the setting is not proven, as the grid is wide: lockstep prove proves all of it",
                "    of {n} runs the setting is not proven, as the grid is wide: lockstep prove proves all of it",
                left_out,
            )
        )
    return said


def claimed(proof: Proof) -> str:
    """A proof's verdict and claim, as plain text."""
    return f"{verdict_word(proof.verdict)}: {say(proof.claim)}"


def print_gradients(document: Gradients, console: Console) -> None:
    """Of each backend how many gradients are slopes of the loss, and what is wrong."""
    keys = dict.fromkeys(key for network in document.networks for key in network.grid)
    columns = (_("network"), _("dataset"), *(key.rpartition(".")[2] for key in keys), _("backend"), _("verdict"))
    table = Table(*map(escape, columns), title=_("Gradients beside central differences"), title_justify="left")
    for column in (_("parameters"), _("gradients"), _("worst, × allowed"), _("errors seen from")):
        table.add_column(column, justify="right")
    for network in document.networks:
        name = [network.network, network.dataset, *(str(network.grid.get(key, "–")) for key in keys)]
        for row in network.backends:
            seen = [one for one in row.parameters if one.gradients]
            worst = max((one.times_tolerance for one in seen), default=None)
            least = max((one.seen for one in seen if one.seen is not None), default=None)
            table.add_row(
                *map(escape, name), row.backend, verdict(row.verdict), str(len(seen)),
                str(sum(one.gradients for one in seen)), "–" if worst is None else number(f"{worst:.2g}"),
                "–" if least is None else f"{least:.0e}",
            )  # fmt: skip
    console.print(table)
    facts = {"images": document.images, "step": document.step}
    said = _("float64, {images} images, steps of {step:g}; what was looked at in which parameter: --json", **facts)
    console.print(said, soft_wrap=True, highlight=False)
    console.print(verdict(document.verdict))


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


def cost(row: Cost) -> str:
    """What a plant costs, in a line."""
    return _(
        "what it costs: {run}: test accuracy {accuracy} as it should be, {planted_accuracy} planted; "
        "test loss {loss} and {planted_loss}",
        run=f"{row.network} · {row.backend}",
        **{name: results.percent(getattr(row, name)) for name in ("accuracy", "planted_accuracy")},
        **{name: results.fixed(getattr(row, name), 4) for name in ("loss", "planted_loss")},
    )
