"""The report says what the run folders say, names what they lack, and asks nobody else."""

import doctest
import html.parser
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from lockstep import metrics, store
from lockstep.records import to_table
from lockstep.report import gather, numbers, write_report
from lockstep.spec import Adam, Conv2D, Dense, Flatten, MaxPool2D, Network, Recipe, ReLU, Study

NETWORKS = {
    "mlp": Network((Flatten(), Dense(31), ReLU(), Dense(7))),
    "cnn": Network((Conv2D(5, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(7))),
}
BACKENDS = ("numpy", "torch", "tensorflow", "jax")
CLASSES = ("zero", "one", "two", "three", "four", "five", "six")
N_TEST, EPOCHS = 211, 5


def fake_run(
    root: Path, network="mlp", backend="numpy", seed=0, *, rate=1e-3, dataset="digits", accuracy=0.9, status="finished",
    reason=None, class_names=CLASSES, epochs=EPOCHS, threads=2, question="Do four backends agree?",
) -> Path:  # fmt: skip
    """A run folder as a worker writes it, with numbers made up from the arguments."""
    recipe = Recipe(optimizer=Adam(rate), epochs=epochs, validation=0.1)
    study = Study({network: NETWORKS[network]}, dataset, backend, seed, recipe=recipe, question=question, name="demo")
    folder = store.claim(root / "demo", f"{network}-{dataset}-{rate:g}-{backend}-{seed}")
    code = "LS-402" if status == "failed" else None
    store.write_json(folder / "status.json", {"format": 1, "status": status, "code": code, "reason": reason})
    store.write_bytes(folder / "spec.toml", tomli_w.dumps(to_table(study)).encode())
    n = len(class_names)
    described = {
        "name": dataset, "title": dataset.capitalize(), "origin": "made up", "hashes": {"images.gz": "ab" * 32},
        "notes": "", "shape": [12, 11, 1], "class_names": list(class_names),
        "class_counts": [100 + i for i in range(n)], "n_train": 700, "n_validation": 70, "n_test": N_TEST,
    }  # fmt: skip
    store.write_json(folder / "environment.json", {
        "lockstep": "0.1.0", "python": "3.11.7", "platform": "Linux-6.1", "cpu": "AMD EPYC 9654", "cores": 2,
        "threads": {"asked": 2, "obtained": threads}, "device": "cpu", "versions": {backend: "2.4.1"},
        "dataset": described, "git_revision": None,
    })  # fmt: skip
    for epoch in range(1, epochs + 1):
        loss = 0.9 / epoch + 0.001 * BACKENDS.index(backend)
        rows = {f"{s}_loss": loss + 0.05 * i for i, s in enumerate(("train", "validation", "test"))}
        rows |= {f"{s}_accuracy": 1 - loss / 3 - 0.01 * i for i, s in enumerate(("train", "validation", "test"))}
        row = {"event": "epoch", "epoch": epoch, **rows, "learning_rate": rate, "train_seconds": 0.4}
        store.append_event(folder / "events.jsonl", row)
        if status == "failed" and epoch == 2:
            return folder
    _write_results(folder, study, backend, accuracy, n)
    return folder


def _write_results(folder: Path, study: Study, backend: str, accuracy: float, n: int) -> None:
    random = np.random.default_rng(3)
    images = random.integers(0, 256, (16, 12, 11, 1)).astype(np.uint8)
    store.write_npz(folder / "samples.npz", images=images, labels=np.arange(16) % n)
    labels = np.arange(N_TEST) % n
    right = np.arange(N_TEST) < round(accuracy * N_TEST)
    logits = 5.0 * np.eye(n, dtype=np.float32)[np.where(right, labels, (labels + 1) % n)]
    store.write_npz(folder / "predictions.npz", logits=logits, labels=labels)
    network = next(iter(study.networks.values()))
    rows = network.facts((12, 11, 1))
    table = [
        {"name": row.name, "kind": row.layer.kind, "input_shape": row.input_shape, "output_shape": row.output_shape,
         "parameters": row.parameters, "multiply_adds": row.multiply_adds, "receptive_field": row.receptive_field}
        for row in rows
    ]  # fmt: skip
    store.write_json(folder / "metrics.json", {
        "test": metrics.evaluate(logits, labels, study.recipe), "parameters": sum(row.parameters for row in rows),
        "multiply_adds": sum(row.multiply_adds for row in rows), "epochs": study.recipe.epochs, "best_epoch": None,
        "stopped_early": False, "network": table,
    })  # fmt: skip
    pace = 1 + BACKENDS.index(backend)
    clocks = {"import": 0.5 * pace, "build": 0.02, "compile": 0.8, "train": 2.0 * pace, "evaluate": 0.3}
    timing = {"seconds": {**clocks, "total": 9.0}, "epochs": [0.4 * pace] * 5, "peak_memory_bytes": 300 * 2**20}
    store.write_json(folder / "timing.json", timing)


def page_of(root: Path) -> str:
    return write_report(store.find_runs([root]), root / "report.html").read_text(encoding="utf-8")


def words(page: str) -> str:
    """What a person reads: text without tags, entities resolved, every white space one space."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    root = tmp_path_factory.mktemp("four")
    for place, backend in enumerate(BACKENDS):
        fake_run(root, backend=backend, accuracy=0.9 + 0.01 * place)
    return root, page_of(root)


# --------------------------------------------------------------------------------------------------------- contents


def test_the_page_has_the_numbers_of_the_runs(four):
    text = words(four[1])
    assert "demo Do four backends agree?" in text
    assert "All four backends trained mlp on Digits to a test accuracy between 90.0 % and 92.9 %" in text
    assert "a spread of 2.9 points (six images of 211)" in text
    assert "mlp numpy 90.0 " in text
    assert "4,347" in text  # parameters: 132·31 + 31 + 31·7 + 7
    assert "lockstep run demo/mlp-digits-0.001-numpy-0/spec.toml" in text
    for said in (
        "AMD EPYC 9654, two cores",
        "numpy 2.4.1",
        "12 × 11 × 1",
        "weighted average",
        "ab" * 32,
        "macro average",
    ):
        assert said in text


@pytest.mark.parametrize("function", [numbers.fixed, numbers.column, numbers.significant, numbers.count])
def test_numbers_are_written_as_their_examples_say(function):
    (example,) = doctest.DocTestFinder().find(function, globs=vars(numbers))
    assert doctest.DocTestRunner().run(example).failed == 0
    assert example.examples


def test_times_are_never_called_a_ranking(four):
    text = words(four[1])
    assert "One epoch of mlp on Digits took from 0.400 s (numpy) to 1.60 s (jax): on this machine" in text
    assert "on this machine, in this run, n = 1, order not interleaved: not a ranking." in text
    assert "One seed cannot tell" in text


def test_sections_stand_in_order(four):
    headings = re.findall(r"<h2>(.*?)</h2>", four[1])
    assert headings == [
        "Results", "Data", "Networks", "Loss and accuracy over epochs", "Confusion and classification", "Times",
        "How to reproduce",
    ]  # fmt: skip


def test_backends_that_answer_alike_are_counted(four):
    # 0.90 and 0.91 of 211 are 190 and 192 hits: two answers differ
    assert "numpy and torch 209 of 211 2 5" in words(four[1])


def test_equal_accuracies_have_no_spread(tmp_path):
    for backend in ("numpy", "jax"):
        fake_run(tmp_path, backend=backend)
    assert "Both backends trained mlp on Digits to the same test accuracy, 90.0 % of 211 test images." in words(
        page_of(tmp_path)
    )


def test_several_seeds_become_means_and_bands(tmp_path):
    for seed in (0, 1):
        for place, backend in enumerate(("numpy", "torch")):
            fake_run(tmp_path, backend=backend, seed=seed, accuracy=0.8 + 0.1 * seed + 0.05 * place)
    text = words(page_of(tmp_path))
    assert "with two seeds to a test accuracy between" in text
    assert "Two seeds can hardly tell" in text
    assert "with a band from the lowest to the highest" in text
    assert "means over seeds lie between 85.1 % and 89.8 %" in text


def test_only_coordinates_that_vary_have_a_column(tmp_path):
    for rate in (1e-3, 1e-2):
        fake_run(tmp_path, rate=rate)
    titles = [title for title, _ in gather(store.find_runs([tmp_path]))["results"].columns]
    assert titles[:3] == ["Network", "Backend", "optimizer.learning_rate"]
    assert "Seed" not in titles


def test_different_machines_are_not_compared(tmp_path):
    fake_run(tmp_path, backend="numpy", threads=2)
    fake_run(tmp_path, backend="torch", threads=1)
    text = words(page_of(tmp_path))
    assert "their times are not compared" in text
    assert "the runs report different CPUs, devices or thread counts" in text
    assert "One epoch" not in text


# ------------------------------------------------------------------------------------------------------------- gaps


def test_a_failed_run_is_shown_with_its_reason(tmp_path):
    fake_run(tmp_path, backend="numpy")
    fake_run(tmp_path, backend="torch", status="failed", reason="the worker process died (signal 9)")
    text = words(page_of(tmp_path))
    assert "1 of 2 runs did not finish" in text
    assert "failed, after two epochs: LS-402 the worker process died (signal 9)" in text
    assert "numpy (one of two backends) trained mlp on Digits to a test accuracy of 90.0 %" in text
    assert "Not shown: torch (no finished run)." in text


def test_an_unfinished_run_is_no_result(tmp_path):
    fake_run(tmp_path, status="running")
    text = words(page_of(tmp_path))
    assert "No run has finished with a test accuracy" in text
    assert "unfinished" in text


FILES = (
    "status.json", "spec.toml", "environment.json", "events.jsonl", "samples.npz", "predictions.npz", "metrics.json",
    "timing.json",
)  # fmt: skip


@pytest.mark.parametrize("file", [name for name in FILES if name != "status.json"])
def test_a_missing_file_leaves_a_named_gap(tmp_path, file):
    folder = fake_run(tmp_path)
    fake_run(tmp_path, backend="jax")
    (folder / file).unlink()
    if file == "samples.npz":  # the twin's images would do
        next((tmp_path / "demo").glob("*jax*/samples.npz")).unlink()
    text = words(page_of(tmp_path))
    assert f"{file}: it is missing" in text


# numpy leaves the file of a broken archive to the garbage collector
@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe{",
        b'networks = 3\nbackends = {a = 1}\nseeds = []\nrecipe = "x"',
        b'{"test": 3, "seconds": [], "dataset": 1}',
        b"PK\x03\x04",
    ],
)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_no_crash(tmp_path, file, content):
    folder = fake_run(tmp_path, epochs=2)
    (folder / file).write_bytes(content)
    assert "<h2>How to reproduce</h2>" in page_of(tmp_path)


def test_a_damaged_number_is_named(tmp_path):
    folder = fake_run(tmp_path)
    store.write_json(folder / "timing.json", {"seconds": {"train": "long"}})
    assert "timing.json: seconds.train: input should be a valid number" in words(page_of(tmp_path))


def test_no_runs_at_all_is_a_page_too(tmp_path):
    assert "nothing to compare" in write_report([], tmp_path / "report.html").read_text(encoding="utf-8")


# --------------------------------------------------------------------------------------------- safe and alone


class Outside(html.parser.HTMLParser):
    """Every place of a page that would fetch something or run something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self._in_style = tag == "style"
        if tag in ("script", "iframe", "object", "embed", "link", "base"):
            self.found.append(tag)
        for name, value in attributes:
            value = (value or "").strip()
            fetches = name in ("src", "href", "xlink:href", "srcset", "poster", "action", "background")
            if name.startswith("on") or (fetches and not value.startswith(("#", "data:image/png;base64,"))):
                self.found.append(f"{tag} {name}={value}")
            self._look_for_url(value)

    def handle_data(self, data):
        if self._in_style:
            self._look_for_url(data)
            self.found += re.findall(r"@import", data)

    def handle_endtag(self, tag):
        self._in_style = False

    def _look_for_url(self, text):
        self.found += [url for url in re.findall(r"url\(\s*['\"]?([^)]*)", text) if not url.startswith("#")]


def test_the_page_asks_nobody_else(four):
    assert Outside(four[1]).found == []


@pytest.mark.parametrize("fault", [
    '<img src="https://example.org/a.png">', "<script>1</script>", '<p style="background:url(//example.org/a)">',
    "<style>@import 'a.css'</style>", '<p onclick="1">', '<svg><use xlink:href="http://example.org#a"/></svg>',
])  # fmt: skip
def test_a_planted_request_is_found(four, fault):
    assert Outside(four[1].replace("</main>", fault + "</main>")).found


def test_text_from_run_folders_is_escaped(tmp_path):
    evil = (
        "<script>alert(1)</script>",
        '"><img src=http://example.org/x>',
        "$x",
        "a]]>b",
        "{{ 7*7 }}",
        "--><b>",
        "ĉ漢\x07",
    )
    question = "<script>fetch('http://example.org')</script>"
    fake_run(tmp_path, class_names=evil, question=question)
    fake_run(tmp_path, backend="torch", class_names=evil, question=question, status="failed", reason="<b onload=x>")
    page = page_of(tmp_path)
    assert Outside(page).found == []
    assert "<b" not in re.sub(r"<body", "", page)
    assert "<script>alert(1)</script>" in words(page)
    assert "{{ 7*7 }}" in page


def test_identifiers_are_unique_and_all_references_resolve(four):
    identifiers = re.findall(r' id="([^"]+)"', four[1])
    assert len(identifiers) == len(set(identifiers))
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', four[1])) <= set(identifiers)


def test_same_runs_give_the_same_bytes(four):
    root, page = four
    assert page_of(root) == page
    code = "import sys; from pathlib import Path; from lockstep import store, report\n"
    code += "report.write_report(store.find_runs([Path(sys.argv[1])]), Path(sys.argv[2]))"
    other = root / "again.html"
    subprocess.run([sys.executable, "-c", code, str(root), str(other)], check=True)
    assert other.read_text(encoding="utf-8") == page


def test_the_report_imports_no_framework():
    code = "import sys, lockstep.report; bad = {'torch', 'tensorflow', 'jax', 'matplotlib.pyplot', 'lockstep.backends'}"
    code += "; assert not bad & set(sys.modules), bad & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("spread", ["seeds", "settings"])
def test_forty_runs_stay_below_two_megabytes(tmp_path, spread):
    names = tuple(f"class {i}" for i in range(10))
    for i in range(10):
        for backend in BACKENDS:
            varied = {"seed": i} if spread == "seeds" else {"rate": 1e-3 * (i + 1)}
            fake_run(tmp_path, backend=backend, class_names=names, epochs=20, **varied)
    page = page_of(tmp_path)
    assert len(page.encode()) < 2 * 2**20
    assert "40 runs." in words(page)
