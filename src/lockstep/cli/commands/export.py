"""`lockstep export`: a run as files of other programs, each proven before it is written."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lockstep.cli import interruption
from lockstep.cli.options import AsJson
from lockstep.language import later
from lockstep.screen.output import console, print_json, tell

if TYPE_CHECKING:
    from lockstep.proof import forms, script

RunFolders = Annotated[
    list[Path], typer.Argument(help="A finished run's folder; with --to several, or folders of them.", metavar="RUN…")
]
NOTHING = later("interrupted; nothing was written")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """As what a run is written."""

    script: Annotated[
        str | None,
        typer.Option(
            "--script", help="A file of a framework's own: torch, numpy, keras, jax or flax.", metavar="TARGET"
        ),
    ] = None
    idiomatic: Annotated[
        bool, typer.Option("--idiomatic", help="A script by the framework's own shuffling, loader and fit.")
    ] = False
    onnx: Annotated[bool, typer.Option("--onnx", help="A file of ONNX: uint8 images in, logits out.")] = False
    safetensors: Annotated[
        bool, typer.Option("--safetensors", help="PyTorch's weights, and the text of their module.")
    ] = False
    keras: Annotated[bool, typer.Option("--keras", help="A whole model of Keras's own layers.")] = False
    saved_model: Annotated[bool, typer.Option("--saved-model", help="A SavedModel of TensorFlow, in a folder.")] = False
    flax: Annotated[bool, typer.Option("--flax", help="Flax's variables, and the text of their module.")] = False

    to: Annotated[
        str | None, typer.Option("--to", help="A tracker: tensorboard, mlflow, wandb or trackio.", metavar="TRACKER")
    ] = None
    notebook: Annotated[
        bool,
        typer.Option("--notebook", help="A STUDY's file in place of RUN, as a notebook (executed on digits first)."),
    ] = False
    hub: Annotated[
        Path | None,
        typer.Option("--hub", help="A new folder for a hub of models: a card, proof, weights, ONNX.", metavar="FOLDER"),
    ] = None

    @property
    def forms(self) -> list[str]:
        """The forms of files, by their names."""
        return [name for name in ("onnx", "safetensors", "keras", "saved_model", "flax") if getattr(self, name)]

    def check(self, runs: Sequence[Path]) -> None:
        """Refuse to be asked for nothing, for several things at once, and for several runs as one file."""
        from lockstep.errors import LockstepError
        from lockstep.exchange import scripts

        asked = [name for name in ("script", "to", "hub") if getattr(self, name) is not None]
        asked += ["notebook"] if self.notebook else []
        if not asked and not self.forms:
            hint = f"lockstep export {shlex.quote(str(runs[0]))} --script torch"
            message = later(
                "export wants to know as what: --script {names}, --onnx …", names=" | ".join(scripts.TARGETS)
            )
            raise LockstepError("LS-200", message, hint=hint)
        if self.idiomatic and self.script is None:
            hint = f"lockstep export {shlex.quote(str(runs[0]))} --script torch --idiomatic"
            raise LockstepError("LS-200", later("--idiomatic is said of a script"), hint=hint)
        if len(asked) + bool(self.forms) > 1:
            names = " ".join(f"--{name.replace('_', '-')}" for name in [*asked, *self.forms])
            hint = later("one command for each; files (--onnx --keras …) go together")
            raise LockstepError("LS-200", later("{names} do not go together", names=names), hint=hint)
        if len(runs) > 1 and self.to is None:
            hint = later("one command for each run; --to takes several")
            raise LockstepError("LS-200", later("{n} runs were named, and one is exported", n=len(runs)), hint=hint)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where it goes."""

    out: Annotated[
        Path | None, typer.Option("--out", help="The file, or a folder for it (default: here).", metavar="FILE")
    ] = None
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False


def export(runs: RunFolders, wanted: Wanted, place: Place, as_json: AsJson = False) -> None:
    """Write a run as files that need no Lockstep; each is loaded and judged first, and not written unless equal."""
    interruption.end_on_signals()
    wanted.check(runs)
    with interruption.saying(NOTHING):
        if wanted.to is not None:
            return _tracker(runs, wanted.to, place, as_json)
        if wanted.notebook:
            return _notebook(runs[0], place, as_json)
        if wanted.script is not None:
            export_script = _idiomatic if wanted.idiomatic else _script
            return export_script(runs[0], wanted.script, place, as_json)
        return _files(runs[0], wanted, place, as_json)


def _aloud(what: str) -> None:
    tell(what, err=True)


def _script(run: Path, target: str, place: Place, as_json: bool) -> None:
    from lockstep.proof import script as scripted

    found = scripted.export(run, target, place.out, place.force, _aloud)
    if as_json:
        print_json({"script": None if found.path is None else str(found.path), "proof": found.proof.document()})
    else:
        _say(found.proof, [] if found.path is None else [found.path])
        if found.data:
            tell(later("written: {path}, the images and labels that it reads", path=found.data))
    _end([found])


def _idiomatic(run: Path, target: str, place: Place, as_json: bool) -> None:
    from lockstep.proof import idiomatic

    found = idiomatic.export(run, target, place.out, place.force, _aloud)
    if as_json:
        print_json(found.document())
    else:
        facts = {"accuracy": 100 * found.accuracy, "low": 100 * found.low, "high": 100 * found.high}
        told = later("test accuracy {accuracy:.2f} %; the study's is {low:.2f} to {high:.2f} % (seeds: {n})",
                     n=found.seeds, **facts)  # fmt: skip
        tell(told)
        tell(
            later(
                "lines of code: {lines}; names of packages: {names}; defaults put right: {defaults}",
                **found.count._asdict(),
            )
        )
        if found.path is None:
            tell(later("not written: its accuracy is not the study's"), err=True)
        else:
            tell(later("written: {path}", path=found.path))
    raise typer.Exit(0 if found.is_within else 1)


def _files(run: Path, wanted: Wanted, place: Place, as_json: bool) -> None:
    from lockstep.proof import forms as judged
    from lockstep.proof import hub

    if wanted.hub is not None:
        found = hub.export(run, wanted.hub, place.force, _aloud)
    else:
        found = judged.export(run, wanted.forms, place.out, place.force, _aloud)
    if as_json:
        rows = [{"form": f.form, "files": list(map(str, f.paths)), "proof": f.proof.document()} for f in found]
        print_json({"exports": rows})
    else:
        for form in found:
            _say(form.proof, form.paths)
    _end(found)


def _notebook(study: Path, place: Place, as_json: bool) -> None:
    from lockstep.proof import notebook

    path = notebook.export(study, place.out, place.force, _aloud)
    if as_json:
        print_json({"notebook": str(path)})
    else:
        tell(later("written: {path}", path=path))


def _tracker(runs: Sequence[Path], name: str, place: Place, as_json: bool) -> None:
    from lockstep import store
    from lockstep.exchange import trackers

    found = trackers.export(store.find_runs(runs), name, place.out, _aloud)
    if as_json:
        print_json(dataclasses.asdict(found) | {"place": str(found.place)})
        return
    n, there = len(found.written), len(found.unchanged)
    tell(later("runs written to {path}: {n}; there already: {there}", n=n, path=found.place, there=there))


def _say(proof: Any, paths: Sequence[Path]) -> None:
    """What was written, or why nothing was."""
    from lockstep.screen import proofs

    if proof.verdict != "EQUAL":
        proofs.print_proof(proof, console())
        tell(UNWRITTEN["script" if proof.steps else "files"], err=True)
        return
    tell(proofs.claimed(proof))
    for path in paths:
        tell(later("written: {path}", path=path))


UNWRITTEN = {
    "script": later("not written: the script would not take the run's steps"),
    "files": later("not written: it would not predict as the run does"),
}


def _end(found: Sequence[forms.Exported | script.Exported]) -> None:
    """End the command with the worst exit code of its proofs."""
    from lockstep.proof import procedure

    raise typer.Exit(max(procedure.exit_code(each.proof) for each in found))
