"""`lockstep explain`: a word of the field, a default, a cause, an error."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Annotated

import typer

from lockstep import language
from lockstep.cli import interruption
from lockstep.cli.options import AsJson
from lockstep.language import later
from lockstep.screen.output import console, print_json, tell

if TYPE_CHECKING:
    from lockstep.errors import LockstepError
    from lockstep.explain.topics import Topic

Word = Annotated[
    str,
    typer.Argument(
        help="A word of the field (conv2d, adam; all: topics), differences, causes, errors, or one of these.",
        metavar="TOPIC",
    ),
]
Markdown = Annotated[bool, typer.Option("--markdown", help="As the pages of docs/ have it.")]


def explain(topic: Word, markdown: Markdown = False, as_json: AsJson = False) -> None:
    """Explain a layer, an optimizer, a term; what frameworks do by default (measured here and now); what a divergence
    comes from; what an error means.
    """
    from lockstep.explain import topics

    if topic == "topics":
        return _list_topics(as_json)
    if part := topics.find(topic):
        return _explain_part(part, markdown, as_json)
    if topic == "differences":
        return _explain_differences(markdown, as_json)
    return _explain_own(topic, markdown, as_json)


def _list_topics(as_json: bool) -> None:
    from lockstep.explain import topics
    from lockstep.screen.tables import plain_table

    rows = topics.listed(language.spoken())
    if as_json:
        return print_json({"topics": [dict(zip(("names", "title", "chapter"), row, strict=True)) for row in rows]})
    columns = ("lockstep explain …", later("part"), later("chapter"))
    return console().print(plain_table(later("Topics"), columns, rows))


def _explain_part(part: Topic, markdown: bool, as_json: bool) -> None:
    from lockstep.explain import topics

    if as_json:
        print_json(dataclasses.asdict(part))
    elif markdown:
        typer.echo(part.text)
    else:
        topics.print_topic(part, console())


def _explain_differences(markdown: bool, as_json: bool) -> None:
    from lockstep.defaults import differences
    from lockstep.screen.tables import print_lined

    interruption.end_on_signals()
    tell(later("running the defaults of {frameworks} …", frameworks=", ".join(differences.FRAMEWORKS)), err=True)
    document = differences.table(differences.measure())
    if markdown or as_json:
        return typer.echo(differences.markdown(document), nl=False) if markdown else print_json(document)
    print_lined(later("Differences"), *differences.cells(document), console())
    return tell(later("Measured with {versions}.", versions=differences.measured_with(document)))


def _explain_own(topic: str, markdown: bool, as_json: bool) -> None:
    """What is in no chapter: causes of divergences, and errors."""
    from lockstep.errors import CODES, LockstepError
    from lockstep.proof.causes import CAUSES

    is_error = topic == "errors" or topic.upper() in CODES
    if not is_error and topic not in ("causes", *CAUSES):
        raise _nothing_to_explain(topic)
    if markdown:
        hint = "lockstep explain causes --json"
        raise LockstepError("LS-200", later("--markdown is for differences and words of the field"), hint=hint)
    (_explain_errors if is_error else _explain_causes)(topic, as_json)


def _explain_errors(topic: str, as_json: bool) -> None:
    from lockstep.errors import CODES
    from lockstep.explain import remedies
    from lockstep.screen.explanations import print_remedy

    errors = [remedies.explain(code) for code in (CODES if topic == "errors" else [topic.upper()])]
    if as_json:
        return print_json({"codes": errors})
    if topic != "errors":
        return print_remedy(errors[0], console())
    for error in errors:
        tell(later("{code}: {what} (exit code {exit_code})", **error))
    return tell(later("One of them with its cause, an example and the remedy: lockstep explain LS-301"))


def _explain_causes(topic: str, as_json: bool) -> None:
    from lockstep.proof import verdicts
    from lockstep.proof.causes import CAUSES
    from lockstep.screen.explanations import print_causes

    names = CAUSES if topic == "causes" else (topic,)
    rows = [{**dict(row), "stage": CAUSES[row.cause].stage} for row in verdicts.explained(names)]
    if as_json:
        print_json({"causes": rows})
    else:
        print_causes(rows, console())


def _nothing_to_explain(topic: str) -> LockstepError:
    """The error that proposes what was perhaps meant."""
    from lockstep.errors import CODES, LockstepError, did_you_mean
    from lockstep.explain import topics
    from lockstep.proof.causes import CAUSES

    words = [name for one in topics.LANGUAGES for name in topics.topics(one)]
    known = ["topics", "differences", "causes", "errors", *words, *CAUSES, *map(str.lower, CODES)]
    is_code = re.fullmatch(r"LS-\d{3}", topic.upper())  # spelt as codes are: its neighbours are other errors
    near = "" if is_code else did_you_mean(topic, known)
    hint: str = later(
        "words of the field (lockstep explain topics), differences, causes, errors, one cause or one error (LS-301)"
    )
    if is_code:
        hint = later("every code there is: lockstep explain errors")
    message = later('there is nothing to explain by the name "{name}"', name=topic)
    return LockstepError("LS-209", message, where="TOPIC", hint=near if near.startswith("did you mean") else hint)
