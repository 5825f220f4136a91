"""Options that several commands take, and groups of them, which parse and build what they ask for.

A group is a dataclass whose fields are options. A command has it as one parameter; typer, which knows of no groups, is
given the command by `spread`: with the options one by one, in their order.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from lockstep.spec import Study

StudyFile = Annotated[Path, typer.Argument(help="A study's TOML file.", metavar="STUDY")]
RunFolders = Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold them.", metavar="RUNS…")]
Settings = Annotated[
    list[str],
    typer.Option("--set", help="Put a value over the file's: recipe.epochs=3 (again for more).", metavar="KEY=VALUE"),
]
Backends = Annotated[list[str], typer.Option(help="Only these, with commas: torch,numpy.", metavar="NAMES")]
Networks = Annotated[
    list[str], typer.Option("--network", help="Only this network of the study (again for more).", metavar="NAME")
]
RunsFolder = Annotated[Path, typer.Option("--runs", help="Where run folders go.", metavar="FOLDER")]
Threads = Annotated[
    int | None, typer.Option(help="Threads for every backend (default: those of two that are free).", metavar="N")
]
Offline = Annotated[bool, typer.Option("--offline", help="Download nothing.")]
Proven = Annotated[
    bool,
    typer.Option(
        "--proof/--no-proof", envvar="LOCKSTEP_PROOF", show_envvar=False,
        help="Prove what has run, once (or LOCKSTEP_PROOF=0).",
    ),
]  # fmt: skip
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, all else on stderr.")]


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is put over the keys of a study's file, and which of its backends and networks are taken."""

    settings: Settings = dataclasses.field(default_factory=list)
    backends: Backends = dataclasses.field(default_factory=list)
    network: Networks = dataclasses.field(default_factory=list)

    def load(self, file: Path, settings: Iterable[str] = (), quick: bool = False) -> Study:
        """The study of a file as it is asked for, with further settings."""
        from lockstep.study import load_study

        backends = [name.strip() for names in self.backends for name in names.split(",")]
        return load_study(file, [*self.settings, *settings], backends, self.network, quick)


@dataclasses.dataclass(frozen=True)
class Work:
    """Where run folders go, how many threads there are for them, and whether data may be downloaded."""

    runs: RunsFolder = Path("runs")
    threads: Threads = None
    offline: Offline = False

    def fetch(self, study: Study) -> None:
        """Download what a study needs and this machine lacks, behind a bar."""
        from lockstep.screen.downloads import Download
        from lockstep.screen.output import console
        from lockstep.study import fetch_data

        with Download(console(stderr=True)) as download:
            fetch_data(study, self.offline, download.tell)


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """A command as typer takes it: with the options of its groups one by one."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}
    parameters = []
    for one in inspect.signature(command).parameters.values():
        own = one.replace(annotation=hints[one.name], kind=inspect.Parameter.KEYWORD_ONLY)
        parameters += _options(groups[one.name]) if one.name in groups else [own]

    @functools.wraps(command)
    def typed(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
        command(**values)

    typed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    typed.__annotations__ = {one.name: one.annotation for one in parameters}
    return typed


def _options(group: Any) -> list[inspect.Parameter]:
    """The fields of a group as parameters, in their order."""
    hints, found = get_type_hints(group, include_extras=True), []
    for field in dataclasses.fields(group):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        kind = inspect.Parameter.KEYWORD_ONLY
        found.append(inspect.Parameter(field.name, kind, default=default, annotation=hints[field.name]))
    return found
