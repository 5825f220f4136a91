"""Fill in what the pages quote, so that nobody copies by hand: `python docs/generate.py [RUNS…]`.

Code: under `<!-- source: FILE FUNCTION -->` the fenced block becomes that function as it stands in src/lockstep.
Figures: what is drawn from the NumPy backend alone is drawn again.
Results: with run folders (or folders that hold them) results.json takes their accuracies, study by study; a study
without runs keeps what it had. From results.json come results.md and everything between `<!-- results: STUDY -->` and
`<!-- end -->` in the chapters and in speedruns.md. A number is in a page because it is in a run. Times, but for a
study that asks for them, are left to `lockstep bench`, which sees to what they need to mean something.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
PACKAGE = DOCS.parent / "src" / "lockstep"
CHAPTERS = DOCS / "chapters"
RESULTS = DOCS / "results.json"

SOURCE = re.compile(r"(<!-- source: (\S+) (\S+) -->\n)```python\n(.*?)```\n", re.DOTALL)
TIMED = (
    "speedrun",
    "speedrun-995",
    "speedrun-fashion",
)  # studies whose question is the time, and whose runs are made while the machine does nothing else
BLOCK = re.compile(r"(<!-- results: (\S+) -->\n).*?(<!-- end -->\n)", re.DOTALL)

# --------------------------------------------------------------------------------------------------------------- code


def source_of(file: str, name: str) -> str:
    """The text of a function, `outer.inner` for one inside another, without the indentation of where it stands."""
    text = (PACKAGE / file).read_text(encoding="utf-8")
    node: ast.AST = ast.parse(text)
    for part in name.split("."):
        found = [child for child in ast.walk(node) if isinstance(child, ast.FunctionDef | ast.ClassDef)]
        node = next((child for child in found if child.name == part and child is not node), node)
        if getattr(node, "name", "") != part:
            raise LookupError(f"{file} has no {name}")
    lines = text.splitlines()[node.lineno - 1 : node.end_lineno]  # type: ignore[attr-defined]
    return "\n".join(line[node.col_offset :] for line in lines) + "\n"  # type: ignore[attr-defined]


def with_sources(page: str) -> str:
    """The page with every quoted function as it is now."""
    return SOURCE.sub(lambda found: f"{found[1]}```python\n{source_of(found[2], found[3])}```\n", page)


# ------------------------------------------------------------------------------------------------------------- results

WORDS = {
    "en": {
        "nothing": "No run of this study has been put here yet: `python docs/generate.py runs/{study}` does it.",
        "head": "Test accuracy is the mean over the seeds with its 95 % interval (Student's t; none from one seed).",
        "concluded": "What the report concludes of accuracy:",
        "setting": "setting",
        "columns": ("network", "backend", "n seeds", "test accuracy", "training accuracy", "parameters"),
        "seconds": "seconds of training (median)",
        "made": "Made by {command} on {cpu}, {threads} threads, with {versions}; epochs: {epochs}, training images: "
        "{n_train}.",
        "pictures": {
            "": "Accuracy and loss over the epochs, {study}",
            "-kernels": "The first layer's kernels, a test image and its feature maps, {study}",
        },
        "only": "Fewer runs than the study asks for: {found} of {asked}. An interval needs two seeds or more.",
    },
    "ru": {
        "nothing": "Запусков этого исследования здесь пока нет: их добавляет `python docs/generate.py runs/{study}`.",
        "head": "Точность на тесте — среднее по значениям seed с 95%-м доверительным интервалом (Стьюдент; для "
        "одного запуска его нет).",
        "concluded": "Что отчёт заключает о точности:",
        "setting": "настройка",
        "columns": (
            "сеть", "бэкенд", "n запусков", "точность на тесте", "точность на обучении", "параметров",
        ),
        "seconds": "секунд обучения (медиана)",
        "made": "Получено командой {command} на {cpu}, потоков: {threads}, версии: {versions}; эпох: {epochs}, "
        "обучающих изображений: {n_train}.",
        "pictures": {
            "": "Точность и функция потерь по эпохам, {study}",
            "-kernels": "Ядра первого слоя, тестовое изображение и его карты признаков, {study}",
        },
        "only": "Запусков меньше, чем требует исследование: {found} из {asked}. Для интервала их нужно не менее двух.",
    },
}  # fmt: skip


def gather(folders: list[Path]) -> dict[str, Any]:
    """Study → what its finished runs say, and under "histories" their epochs for the figures."""
    from lockstep import store

    studies: dict[str, list[Any]] = {}
    for record in store.find_runs(folders):
        if record.is_finished:
            studies.setdefault(str(record.spec["name"]), []).append(record)
    return {name: _study(records) for name, records in studies.items()}


def _study(records: list[Any]) -> dict[str, Any]:
    from lockstep.backends import BACKENDS

    first, study = records[0], _file_of(records[0])
    cells: dict[tuple[str, str, str, str], list[Any]] = {}
    for record in sorted(records, key=lambda one: (_asked(study, one)[0], [*BACKENDS].index(one.backend))):
        chosen = _asked(study, record)[1]
        setting = ", ".join(map(str, chosen.values()) if len(chosen) == 1 else (f"{k}={v}" for k, v in chosen.items()))
        cells.setdefault((record.dataset, record.network, setting, record.backend), []).append(record)
    environment = first.environment
    return {
        "question": first.spec.get("question", ""),
        "command": _command(records),
        "cpu": _computed_on(environment),
        "threads": environment["threads"]["obtained"],
        "versions": ", ".join(f"{name} {number}" for name, number in _versions(records)),
        "epochs": max(len(record.history) for record in records),
        "n_train": first.environment["dataset"]["n_train"],
        "finished": max(record.status["finished"] for record in records),
        "n_runs": len(records),
        "rows": [_row(*key, members) for key, members in cells.items()],
        "conclusions": {language: _conclusions(records, language) for language in WORDS},
    }


def _computed_on(environment: Mapping[str, Any]) -> str:
    """The processor, and the GPU where there was one: "cuda (NVIDIA H200)"."""
    device = str(environment["device"])
    return environment["cpu"] if device == "cpu" else f"{environment['cpu']}, {device}"


def _versions(records: list[Any]) -> list[tuple[str, str]]:
    return sorted({pair for record in records for pair in record.environment["versions"].items()})


def _conclusions(records: list[Any], language: str) -> list[str]:
    """What the report concludes of accuracy; of times nothing, for other programs may have run beside."""
    from lockstep.language import speaking
    from lockstep.report.compare.comparison import compare
    from lockstep.report.compare.groups import group
    from lockstep.report.facts import Facts
    from lockstep.report.words.conclusions import of_accuracy

    with speaking(language):
        return of_accuracy(compare(group([Facts(record) for record in records])))


def _file_of(record: Any) -> Any:
    """The study of the run's name, as its file asks for it."""
    from lockstep.spec.toml import read_study

    return read_study(DOCS.parent / "studies" / f"{record.spec['name']}.toml", [])


def _asked(study: Any, record: Any) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """What the study asks for in the place of this run: (place in its table, of the grid, recipe as a table)."""
    from lockstep.spec.records import to_table

    for place, run in enumerate(study.runs()):
        asked = to_table(run.recipe)
        if run.network_name == record.network and all(_at(asked, key) == _at(record.recipe, key) for key in study.grid):
            return place, dict(run.grid), asked
    raise LookupError(f"{record.folder}: the study {study.name} does not ask for this network and setting")


def _at(table: Any, key: str) -> Any:
    """The value under a dotted key of a recipe."""
    for part in key.removeprefix("recipe.").split("."):
        table = table.get(part) if isinstance(table, Mapping) else None
    return table


def _command(records: list[Any]) -> str:
    """The command that makes these runs: the study, and whatever in them is not the study's own."""
    study = _file_of(records[0])
    words = ["lockstep run", f"studies/{study.name}.toml"]
    trained = dict.fromkeys(record.backend for record in records)
    backends = (
        *(name for name in study.backends if name in trained),
        *(name for name in trained if name not in study.backends),
    )
    if backends != study.backends:
        words.append(f"--backends {','.join(backends)}")
    networks = dict.fromkeys(record.network for record in records)
    words += [f"--network {name}" for name in networks if len(networks) < len(study.networks)]
    settings: dict[str, Any] = {}
    for key, found in (("seeds", sorted({record.seed for record in records})), ("dataset", _datasets(records))):
        if found != list(getattr(study, key)):
            settings[key] = found
    if records[0].spec.get("train_size") != study.train_size:
        settings["train_size"] = records[0].spec.get("train_size")
    if records[0].spec.get("device", study.device) != study.device:
        settings["device"] = records[0].spec["device"]
    for record in records:
        asked = _asked(study, record)[2]
        settings |= {f"recipe.{key}": found for key, found in record.recipe.items() if found != asked.get(key)}
    words += [f"--set '{key}={json.dumps(found)}'" for key, found in settings.items()]
    return " ".join(words)


def _datasets(records: list[Any]) -> list[str]:
    return list(dict.fromkeys(record.dataset for record in records))


def _row(dataset: str, network: str, setting: str, backend: str, records: list[Any]) -> dict[str, Any]:
    from statistics import fmean, median

    from lockstep.uncertainty import mean_interval

    found = mean_interval([record.metrics["test"]["accuracy"] for record in records])
    clocks = [record.timing["seconds"] for record in records]
    seconds = [clock["train"] + clock.get("augment", 0.0) for clock in clocks]
    trained = [_trained(record) for record in records]
    return {
        "dataset": dataset,
        "network": network,
        "setting": setting,
        "backend": backend,
        "seeds": sorted(record.seed for record in records),
        "accuracy": found.value,
        "half_width": found.half,
        "train_accuracy": fmean(trained) if None not in trained else None,
        "parameters": records[0].metrics["parameters"],
        **({"seconds": median(seconds)} if records[0].spec["name"] in TIMED else {}),
    }


def _trained(record: Any) -> float | None:
    """Training accuracy in inference mode; of an older run what its last epoch's steps got right."""
    train = record.metrics.get("train") or record.history[-1]
    return train.get("accuracy", train.get("train_accuracy"))


def asked_runs(study: str) -> int | None:
    """How many runs the study of that name asks for."""
    from lockstep.spec.toml import read_study

    path = DOCS.parent / "studies" / f"{study}.toml"
    return len(read_study(path, []).runs()) if path.exists() else None


def block(study: str, results: Mapping[str, Any], language: str) -> str:
    """What a chapter says of a study's runs."""
    words: Any = WORDS[language]
    if study not in results:
        return "\n" + str(words["nothing"]).format(study=study) + "\n\n"
    found = results[study]
    asked = asked_runs(study)
    lines = ["", words["head"]]
    if asked is not None and found["n_runs"] < asked:
        lines += ["", str(words["only"]).format(found=found["n_runs"], asked=asked)]
    has_settings = any(row.get("setting") for row in found["rows"])
    network, *others = words["columns"]
    others += [words["seconds"]] if study in TIMED else []
    columns = [network, *([words["setting"]] if has_settings else []), *others]
    lines += ["", f"| {' | '.join(columns)} |", f"|{'---|' * (2 + has_settings)}{'---:|' * (len(others) - 1)}"]
    lines += [f"| {' | '.join(_cells(row, language, has_settings))} |" for row in found["rows"]]
    if concluded := found["conclusions"][language]:
        lines += ["", words["concluded"], "", *(f"- {line}" for line in concluded)]
    facts = {key: found[key] for key in ("cpu", "threads", "versions", "epochs")}
    facts["n_train"] = f"{found['n_train']:,}" if language == "en" else f"{found['n_train']:,}".replace(",", "\u00a0")
    lines += ["", str(words["made"]).format(command=f"`{found['command']}`", **facts)]
    pictures: Any = words["pictures"]
    for kind, said in pictures.items():
        if (DOCS / "figures" / f"{study}{kind}.svg").exists():
            lines += ["", f"![{said.format(study=study)}](../../figures/{study}{kind}.svg)"]
    return "\n".join(map(str, lines)) + "\n\n"


def _cells(row: Mapping[str, Any], language: str, has_settings: bool) -> list[str]:
    half = "" if row["half_width"] is None else f" ± {100 * row['half_width']:.2f}"
    trained = "–" if row["train_accuracy"] is None else f"{100 * row['train_accuracy']:.2f} %"
    numbers = [
        f"{len(row['seeds'])}", f"{100 * row['accuracy']:.2f}{half} %", trained, f"{row['parameters']:,}",
    ]  # fmt: skip
    if "seconds" in row:
        numbers.append(f"{row['seconds']:.2f}")
    if language == "ru":
        numbers = [number.replace(",", "\u00a0").replace(".", ",") for number in numbers]
    return [row["network"], *([row["setting"]] if has_settings else []), row["backend"], *numbers]


def with_results(path: Path, page: str, results: Mapping[str, Any], language: str) -> str:
    """The page of this path with what the runs say in its blocks."""

    def filled(found: re.Match[str]) -> str:
        said = block(found[2], results, language)
        return found[1] + (said.replace("../../figures/", "figures/") if path.parent == DOCS else said) + found[3]

    return BLOCK.sub(filled, page)


def results_page(results: Mapping[str, Any]) -> str:
    """results.md."""
    lines = [
        "# Results",
        "",
        "The studies' headline numbers, taken from run folders by `python docs/generate.py RUNS…`. Whole reports are "
        "made by `lockstep run` and `lockstep report`.",
        "",
    ]
    for study in sorted(path.stem for path in (DOCS.parent / "studies").glob("*.toml") if path.stem != "demo"):
        lines += [f"## {study}", ""]
        if study in results:
            lines += [results[study]["question"], "", f"Last run finished: {results[study]['finished']}.", ""]
        lines += [block(study, results, "en").strip().replace("../../figures/", "figures/"), ""]
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------------- figures


def draw_runs(folders: list[Path]) -> None:
    """A study's curves: accuracy and loss side by side, from its run folders."""
    import figures

    from lockstep import store

    studies: dict[str, list[Any]] = {}
    for record in store.find_runs(folders):
        if record.is_finished:
            studies.setdefault(str(record.spec["name"]), []).append(record)
    for study, records in studies.items():
        if max(len(record.history) for record in records) > 1:
            figures.save(figures.histories(records), DOCS / "figures" / f"{study}.svg")
        if study == "lab-lenet":
            figures.save(figures.kernels(records[0]), DOCS / "figures" / f"{study}-kernels.svg")


def pages() -> list[tuple[Path, str]]:
    """(path, language) of every page with something to fill in."""
    return [*((path, path.parent.name) for path in sorted(CHAPTERS.glob("*/*.md"))), (DOCS / "speedruns.md", "en")]


def main(folders: list[Path]) -> None:
    """Fill everything in."""
    sys.path.insert(0, str(DOCS))
    import figures

    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    if folders:
        results |= gather(folders)
        RESULTS.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        draw_runs(folders)
    figures.draw(DOCS / "figures")
    (DOCS / "results.md").write_text(results_page(results), encoding="utf-8")
    for path, language in pages():
        page = path.read_text(encoding="utf-8")
        path.write_text(with_results(path, with_sources(page), results, language), encoding="utf-8")


if __name__ == "__main__":
    main([Path(word) for word in sys.argv[1:]])
