"""A folder for a hub of models: the network for PyTorch and as ONNX, proven, under a card that says what it is.

The card's numbers come from the run's own files, its limits from what was trained and measured. Its head is what hubs
read (YAML, of which nothing but texts and numbers is written here).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import store, uncertainty
from lockstep.language import speaking
from lockstep.proof import forms, script
from lockstep.proof.forms import Exported

FORMS = ("safetensors", "onnx")
Tell = Callable[[str], None]


def export(
    folder: Path, out: Path, force: bool = False, tell: Tell = lambda what: None
) -> list[Exported]:  # fmt: skip
    """Write the folder once both forms of the run are equal; nothing is written otherwise. Raises as `forms.export`."""
    script.assert_free(out, force, "--hub")
    with tempfile.TemporaryDirectory(prefix="lockstep-") as name:
        place = Path(name) / out.name
        place.mkdir()
        found = forms.export(folder, FORMS, place, tell=tell)
        if any(form.proof.verdict != "EQUAL" for form in found):
            return [Exported(form.form, (), form.proof) for form in found]
        record = store.Record(folder)
        with speaking("en"):
            texts = {"README.md": card(record, found), "spec.toml": store.read_spec(folder)}
            proofs = {"format": store.FORMAT, "forms": {form.form: form.proof.document() for form in found}}
        texts |= {"proofs.json": store.as_json(proofs).decode(), "config.json": store.as_json(config(record)).decode()}
        for file, text in texts.items():
            (place / file).write_text(text, encoding="utf-8")
        forms.put(place, out, "--hub")
    return [Exported(form.form, tuple(out / path.name for path in form.paths), form.proof) for form in found]


def config(record: store.Record) -> dict[str, Any]:
    """What a program wants to know before it loads the weights."""
    dataset = record.environment["dataset"]
    return {
        "format": store.FORMAT, "architecture": record.network, "image_shape": dataset["shape"],
        "id2label": {str(n): name for n, name in enumerate(dataset.get("class_names", ()))},
        "run": record.folder.name, "network": record.spec["networks"],
    }  # fmt: skip


def card(record: store.Record, found: Sequence[Exported]) -> str:
    """README.md: the head for hubs, and what a person should know."""
    dataset, metrics = record.environment["dataset"], record.metrics
    n, right = dataset["n_test"], round(metrics["test"]["accuracy"] * dataset["n_test"])
    found_in = uncertainty.wilson(right, n)
    ends = f"{100 * (found_in.low or 0):.2f} to {100 * (found_in.high or 0):.2f} %"
    accuracy = f"{100 * right / n:.2f} % (95 % interval {ends})"
    files = "\n".join(f"- `{path.name}`" for form in found for path in form.paths)
    proofs = "\n".join(f"- {form.proof.verdict}: {form.proof.claim}" for form in found)
    licence = _licence(record)
    size = " × ".join(map(str, dataset["shape"]))
    return f"""{_head(record, metrics["test"]["accuracy"])}
# {record.network} on {dataset["title"]}

A small image classifier, trained by Lockstep with {record.backend} ({record.dtype}, seed {record.seed}) for
{metrics["epochs"]} epochs: {metrics["parameters"]:,} parameters, {metrics["multiply_adds"]:,} multiply-adds an image.

Images are uint8, {size} (height × width × channels), and are scaled inside. Classes: {_classes(dataset)}.

## Files

{files}
- `spec.toml`: the study of this one run; `lockstep run spec.toml` trains it again
- `proofs.json`, `config.json`

{_use(found)}

## What was measured

On {n:,} test images: accuracy {accuracy}, loss {metrics["test"]["loss"]:.4f}.

{_by_class(dataset, metrics)}

## What was proven

{proofs}

## Limits

- It was trained on {dataset["n_train"]:,} images of {dataset["title"]} and knows nothing else: of any other
  picture it names one of these classes too, and its probabilities say nothing of that.
- Its accuracy is that of one training; another seed gives another. It is known for these test images alone.
{_worst(dataset, metrics)}

## Licence

The images: {licence}. The weights are their author's, who has to say under which licence they are given.
"""


def _head(record: store.Record, accuracy: float) -> str:
    """What a hub reads: every text as JSON writes it, which is YAML too."""
    title = record.environment["dataset"]["title"]
    rows = [
        "---", "license: other", "library_name: pytorch", "pipeline_tag: image-classification",
        "tags: [lockstep, onnx, safetensors]", f"datasets: [{json.dumps(record.dataset)}]", "metrics: [accuracy]",
        "model-index:", f"- name: {json.dumps(record.network)}", "  results:", "  - task: {type: image-classification}",
        f"    dataset: {{name: {json.dumps(title)}, type: {json.dumps(record.dataset)}}}",
        f"    metrics: [{{type: accuracy, value: {accuracy:.4f}}}]", "---", "",
    ]  # fmt: skip
    return "\n".join(rows)


def _classes(dataset: Mapping[str, Any]) -> str:
    return ", ".join(dataset.get("class_names", ()))


def _use(found: Sequence[Exported]) -> str:
    """How the module is loaded, where there is one."""
    named = {path.suffix: path for form in found for path in form.paths}
    if ".py" not in named:
        return ""
    load = f'logits = load("{named[".safetensors"].name}")(images)  # uint8 (n, channels, height, width)'
    return f"```python\nfrom {named['.py'].stem} import load\n\n{load}\n```"


def _by_class(dataset: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    names, rows = dataset.get("class_names", ()), metrics["test"].get("per_class", ())
    table = ["| class | precision | recall | F1 | images |", "|---|---|---|---|---|"]
    for name, row in zip(names, rows, strict=False):
        numbers = " | ".join("–" if row[key] is None else f"{row[key]:.3f}" for key in ("precision", "recall", "f1"))
        table.append(f"| {name} | {numbers} | {row['support']} |")
    return "\n".join(table)


def _worst(dataset: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """What is most often taken for what."""
    names, confusion = dataset.get("class_names", ()), np.array(metrics["test"].get("confusion", ()))
    if not len(confusion) or not len(names):
        return ""
    wrong = confusion - np.diag(np.diag(confusion))
    label, taken = np.unravel_index(int(wrong.argmax()), wrong.shape)
    if not wrong[label, taken]:
        return "- Of these test images none was taken for another class."
    n = int(wrong[label, taken])
    return f"- Most often it takes {names[label]} for {names[taken]}: {n} of {int(confusion[label].sum())} test images."


def _licence(record: store.Record) -> str:
    from lockstep import data

    known = data.DATASETS.get(record.dataset)
    return known.licence if known else "that of their owner, which is not known here"
