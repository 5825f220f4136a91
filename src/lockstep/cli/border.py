"""The border of the command line: here alone exceptions become messages, and every end an exit code."""

from __future__ import annotations

import dataclasses
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import typer

from lockstep import language
from lockstep.arguments import known_language, language_of_environment
from lockstep.cli import usage
from lockstep.cli.commands import app
from lockstep.errors import LockstepError, is_want_of_memory, system
from lockstep.language import later, say
from lockstep.machine import streams
from lockstep.screen.output import console, print_json, tell


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code; the only place that turns exceptions into messages."""
    streams.stand_in()
    streams.make_lasting()
    if not os.environ.get("SOURCE_DATE_EPOCH", "0").isdecimal():  # part of NumPy cannot be imported with it
        del os.environ["SOURCE_DATE_EPOCH"]
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments or bool(os.environ.get("LOCKSTEP_DEBUG"))
    arguments = [word for word in arguments if word != "--debug"]
    try:
        chosen, arguments = _language(arguments)
    except LockstepError as error:
        sys.exit(_explain(error, arguments))
    with language.speaking(chosen):
        sys.exit(_run(arguments, debug))


def _language(arguments: list[str]) -> tuple[str, list[str]]:
    """The language that is asked for, by --language or by LOCKSTEP_LANGUAGE, and the other arguments."""
    chosen: str | None = None
    words, others = iter(arguments), []
    for word in words:
        if word == "--language" or word.startswith("--language="):
            chosen = word.partition("=")[2] if "=" in word else next(words, None)
            if chosen is None:
                hint = later("one of {names}", names=", ".join(language.LANGUAGES))
                raise LockstepError("LS-200", later("Option '--language' requires an argument."), hint=hint)
        else:
            others.append(word)
    return language_of_environment() if chosen is None else known_language(chosen, "--language"), others


def _run(arguments: list[str], debug: bool) -> int:
    """Run a command in the language in use; returns the exit code."""
    command = typer.main.get_command(app)
    usage.translate(command)
    try:
        code = command(arguments or ["--help"], prog_name="lockstep", standalone_mode=False)
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if debug:
            traceback.print_exc()
        code = _explain(error, arguments)
    return code if isinstance(code, int) else 0


# What a command writes elsewhere by, where a folder may not be written.
ELSEWHERE = {
    "--runs": later("choose a folder that you may write to with --runs FOLDER"),
    "--out": later("choose a folder that you may write to with --out FILE"),
}


def _with_own_options(error: LockstepError, arguments: list[str]) -> LockstepError:
    """The error with the option that this command has for it: what cannot be written tells no command from another."""
    from lockstep.files import disk

    commands = getattr(typer.main.get_command(app), "commands", {})
    command = next((commands[word] for word in arguments if word in commands), None)
    options = [name for parameter in getattr(command, "params", ()) for name in parameter.opts]
    hint = next((language.later(text) for name, text in ELSEWHERE.items() if name in options), disk.HINT)
    found = [dataclasses.replace(one, hint=hint) if one.hint == disk.HINT else one for one in error.problems]
    return LockstepError.several(found) if found != list(error.problems) else error


def _explain(error: Exception, arguments: list[str]) -> int:
    """Say what went wrong; returns the exit code."""
    if isinstance(error, typer.Abort):
        return 130
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(str(error))
        return 0
    error = _in_our_words(error)
    if isinstance(error, LockstepError):
        return _explain_problems(_with_own_options(error, arguments), "--json" in arguments)
    return _explain_fault(error, arguments)


def _in_our_words(error: Exception) -> Exception:
    """A LockstepError for what the user, the disk or the memory is behind; every other exception is a fault of ours."""
    if hasattr(error, "format_message"):  # a usage error of click's, which newer versions of typer carry inside
        return LockstepError("LS-200", usage.error(error.format_message()), hint=usage.hint(error))
    if not isinstance(error, LockstepError) and is_want_of_memory(error):
        return LockstepError("LS-503", later("not enough memory"), hint=later("a smaller dataset, network or batch"))
    if isinstance(error, OSError):
        where = str(error.filename) if error.filename else later("standard output")
        return LockstepError("LS-501", system(error), where=where, hint=later("make room for it"))
    return error


def _explain_problems(error: LockstepError, as_json: bool) -> int:
    from lockstep.screen.errors import print_error

    if as_json:
        print_json({"errors": [vars(problem) for problem in error.problems]})
    print_error(error, console(stderr=True))
    return error.exit_code


def _explain_fault(error: Exception, arguments: list[str]) -> int:
    from lockstep.cli import crash

    told: Sequence[str] = crash.told(error, crash.write_log(error, arguments))
    if "--json" in arguments:
        print_json({"errors": [{"code": None, "message": told[0], "where": told[1], "hint": told[2]}]})
    told = [say(line) for line in told]
    rule = "─" * min(max(map(len, told)), 100)
    tell("\n".join((rule, *told, rule)), err=True)
    return crash.EXIT_CODE
