"""`lockstep show`: what a study's networks are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lockstep.cli.options import AsJson, Choice, Networks, Settings, StudyFile
from lockstep.language import later
from lockstep.screen.output import console, print_json, tell


def show(
    study: StudyFile, settings: Settings = [], network: Networks = [],  # noqa: B006
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Every value instead, and where it comes from.")
    ] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show each network of a study: layers, shapes, parameters, multiply-adds, receptive field."""
    (_show_values if resolved else _show_networks)(study, Choice(settings, network=network), as_json)


def _show_values(file: Path, choice: Choice, as_json: bool) -> None:
    from lockstep.screen.tables import plain_table
    from lockstep.spec.records import as_toml
    from lockstep.study import provenance

    values = provenance.resolved_values(file, choice.settings, choice.network)
    if as_json:
        return print_json({"values": values})
    rows = [(row["key"], as_toml(row["value"]), row["source"]) for row in values]
    return console().print(plain_table(later("Every value"), (later("key"), later("value"), later("from")), rows))


def _show_networks(file: Path, choice: Choice, as_json: bool) -> None:
    from lockstep import data
    from lockstep.screen.networks import network_table

    study = choice.load(file)
    tables = [
        {"name": name, "dataset": dataset, **network.summary(data.describe(dataset).image_shape)}
        for dataset in study.dataset
        for name, network in study.networks.items()
    ]
    if as_json:
        return print_json({"study": study.name, "networks": tables})
    if study.question:
        tell(later(study.question))
    for table in tables:
        console().print(network_table(table["name"], table["dataset"], table["network"]))
    return None
