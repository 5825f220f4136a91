"""What the command line's library says by itself, in the language in use: the headings of a help, errors of usage.

Click, and typer with it, speaks English only, and puts Python's names of types where the name of an argument is enough.
Texts of our own commands are translated where the help is written.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lockstep.language import Text, _, later, recognised

HEADINGS = {"Usage": later("Usage"), "Arguments": later("Arguments"), "Options": later("Options")}
HEADINGS |= {"Commands": later("Commands")}
PIECES = (later("[OPTIONS]"), later("COMMAND [ARGS]..."))  # of a usage, and no names of arguments
ITS_HELP = later("Show this message and exit.")
EXTRAS = {"required": later("required"), "default: ": later("default: ")}

BRACED = re.compile(r"\{([^{}]+)\}")  # "{STUDY}": the name of an argument that must be given
TYPE = re.compile(r" <[^<>]+>$")  # "STUDY <path>": what the name says already

# In the order in which they are tried: the first that fits a message word by word, but for its {names}, translates it.
ERRORS = (
    later("No such option: {option} (Possible options: {options})"),
    later("No such option: {option}"),
    later("No such command {command}. Did you mean {commands}?"),
    later("No such command {command}."),
    later("Missing command."),
    later("Missing argument {argument}."),
    later("Missing option {option}."),
    later("Got unexpected extra argument(s) ({words})"),
    later("Option {option} requires an argument."),
    later("Option {option} does not take a value."),
    later("Invalid value for {option}: {why}"),
    later("Input should be a valid integer, unable to parse string as an integer"),
    later("Input should be a valid integer, got a number with a fractional part"),
    later("Input should be greater than or equal to {limit}"),
    later("Input should be less than or equal to {limit}"),
)


def error(message: str) -> str:
    """An error of usage as a text that can be said in the language in use, if it is one of ERRORS."""
    return recognised(message, ERRORS)


TO_SET = later("a key of the study; put a value over the file's: --set {key}=VALUE")
TO_READ = later("see: {command} --help")


def hint(raised: Any) -> Text:
    """What to do after an error of usage: the key of a study that an unknown option names, or where to read on."""
    context, option = getattr(raised, "ctx", None), getattr(raised, "option_name", None) or ""
    options = {name for one in context.command.params for name in one.opts} if context else set()
    if "--set" in options and f"{option}s" not in options and (key := _key(option.strip("-").replace("-", "_"))):
        return later(TO_SET, key=key)
    return later(TO_READ, command=context.command_path if context else "lockstep")


def _key(name: str) -> str:
    """The path of a study's key of this name that takes a value and no table, or ""."""
    from lockstep import spec

    keys = {"learning_rate": "recipe.optimizer.learning_rate"}
    for path, kind, tables in (
        ("recipe.", spec.Recipe, {"augmentation", "early_stopping"}),
        ("", spec.Study, {"networks", "recipe", "grid", "recipe_for"}),
    ):
        keys |= {field.name: path + field.name for field in dataclasses.fields(kind) if field.name not in tables}
    return keys.get(name) or keys.get(f"{name}s", "")


def texts(command: Any) -> Iterator[str]:
    """Every text of our own in the help of a command and of those below it."""
    yield from filter(None, (command.help, command.epilog))
    for parameter in command.params:
        yield from filter(None, [getattr(parameter, "help", None)])
    for below in getattr(command, "commands", {}).values():
        yield from texts(below)


def translate(command: Any) -> None:
    """Let a command and all below it give their help in the language in use."""
    for thing in (command, *command.params):
        for name in ("help", "epilog"):
            if text := getattr(thing, name, None):
                setattr(thing, name, _(text))
    command.context_class = _speaking(command.context_class)
    for below in getattr(command, "commands", {}).values():
        translate(below)


def _speaking(context_class: Any) -> Any:
    """A class of contexts whose helps have their headings in the language in use."""

    class Formatter(context_class.formatter_class):
        def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
            for piece in PIECES:
                args = args.replace(piece, _(piece))
            args = BRACED.sub(r"\1", args).replace("…...", "…")
            super().write_usage(prog, args, prefix or f"{_(HEADINGS['Usage'])}: ")

        def write_heading(self, heading: str) -> None:
            super().write_heading(_(HEADINGS.get(heading, heading)))

        def write_dl(self, rows: Sequence[tuple[str, str]], *widths: Any, **named: Any) -> None:
            super().write_dl(list(_rows(rows)), *widths, **named)

    return type("Context", (context_class,), {"formatter_class": Formatter})


def _rows(rows: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """What each option does, with what the library adds to it in brackets."""
    for name, text in rows:
        said, bracket, extras = text.partition("  [")
        said = _(said) if said == ITS_HELP else said
        for english in EXTRAS if bracket else ():
            extras = extras.replace(english, _(EXTRAS[english]))
        yield TYPE.sub("", name), said + bracket + extras
