"""The report in Russian has no English in it but names, and its catalog has every text of the report."""

from __future__ import annotations

import ast
import html
import itertools
import json
import re
from collections.abc import Collection
from pathlib import Path

import jinja2
import numpy as np
import pytest
from babel.messages.pofile import read_po

import lockstep
from lockstep import bench, language, parse_study, prove, run_study, store
from lockstep.data import digits
from lockstep.proof import comparison, findings, procedure
from lockstep.report import gather, render, write_proof
from lockstep.report.words import forms
from lockstep.report.words.quantities import count, fixed, listed, seconds, significant, word
from lockstep.spec.records import changed
from lockstep.store.documents.proof import Proof
from support import catalogs
from support.bench_documents import BENCH, write_bench
from support.catalogs import held
from support.needs import need_backend
from support.proof_documents import divergence, proof_of, proven
from support.run_folders import DAMAGED, fake_run

SOURCE = Path(lockstep.__file__).parent
REPORT = SOURCE / "report"

# What stays as it is in every language, word by word.
NAMES = set(
    """
    numpy torch tensorflow jax optax NumPy PyTorch TensorFlow Keras JAX Lockstep Python AMD EPYC Linux UTC SHA cpu
    mlp cnn demo Digits digits conv d max pool flatten dense relu kernel bias batch size softmax Softmax dropout
    float dtype BCa precision recall adam epsilon hat learning rate optimizer seed Seed
    Adam Glorot LeCun uniform normal TF tf bfloat products
    """.split()  # noqa: SIM905
)
CLASSES = {"zero", "one", "two", "three", "four", "five", "six"}
OF_THE_RUNS = set("Do four backends agree made up the backend failed".split()) | {"LS"}  # noqa: SIM905
FILES = re.compile(
    r"[\w./-]+\.(?:json|jsonl|npz|toml|gz|md)\b|demo/[\w.-]+|\b(?:ab){32}\b|lockstep explain(?: \w+)?|lab-[\w-]+"
    r"|lockstep prove"
)


def visible(page: str) -> list[str]:
    """What a person reads or hears, but for code; what the page's script says too."""
    words = re.findall(r'<script type="application/json" id="words">(.*?)</script>', page)
    page = re.sub(r"<(style|script|code|pre)\b.*?</\1>", " ", page, flags=re.DOTALL)
    spoken = re.findall(r'\b(?:alt|aria-label)="([^"]*)"', page)
    spoken += [text for block in words for text in json.loads(block).values()]
    return [html.unescape(text) for text in [*spoken, *re.sub(r"<[^>]+>", "\n", page).splitlines()] if text.strip()]


def english(page: str) -> list[str]:
    """The words in Latin letters that are no names, each with the text that it stands in."""
    allowed = NAMES | CLASSES | OF_THE_RUNS
    return [
        f"{word}: {text}"
        for text in visible(page)
        for word in re.findall(r"[A-Za-z]{2,}", FILES.sub(" ", text))
        if word not in allowed
    ]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report in Russian about two networks, a failed run, a proof that found something and a bench."""
    root = tmp_path_factory.mktemp("russian")
    for place, backend in enumerate(("numpy", "torch")):
        for seed in (0, 1):
            fake_run(root, backend=backend, seed=seed, accuracy=0.9 + 0.01 * place + 0.02 * seed)
        fake_run(root, "cnn", backend=backend, accuracy=0.95)
    fake_run(root, backend="jax", status="failed", reason="the backend failed")
    rows = [proven("numpy"), proven("torch", "DIVERGED"), proven("jax", "INCONCLUSIVE", missing=["predictions"])]
    rows[2]["reason"] = "jax and optax not installed"
    explained = [{"cause": "adam_epsilon_hat", "what": "the loss is the sum over the batch",
                  "default_of": "every framework's own random stream", "mend": "give ε by name"}]  # fmt: skip
    store.write_json(root / "demo" / "proof.json", proof_of(rows, [divergence(explained=explained)]))
    write_bench(
        root / "demo",
        left_out=[BENCH["left_out"][0] | {"reason": "torch not installed"}],
        noise=BENCH["noise"] | {"warnings": ["the machine is busy: its load average is 1.4 before anything starts"]},
    )
    with language.speaking("ru"):
        return gather(store.find_runs([root]))


def written(page: dict) -> str:
    with language.speaking("ru"):
        return render(page)


def test_a_report_in_russian_has_no_english_but_names(page):
    text = written(page)
    assert english(text) == []
    assert '<html lang="ru">' in text
    said = " ".join(visible(text)).replace("\u00a0", " ")
    for part in (
        "Сеть mlp на Digits, 2 значения seed", "доля верных ответов на тестовой выборке", "4 347", "0,400",
        "РАСХОДИТСЯ", "2 января 2026", "не установлено: jax и optax", "средняя загрузка 1,4 ещё до начала",
        "функция потерь — сумма по пакету", "Эпоха (с)", "разрыв",
    ):  # fmt: skip
        assert part in said, part


# ------------------------------------------------------------------------------ a study with everything in it, for real

EVERYTHING = """
question = "Does a network written in NumPy alone learn what Keras's learns, and as fast?"
dataset = "digits"
backends = ["numpy", "torch"]
seeds = [0, 1]
train_size = 300
[recipe]
epochs = 3
validation = 0.1
optimizer = "adam 0.01"
[networks]
mlp = ["flatten", "dense 20", "relu", "dense 10"]
mlp-dropout = ["flatten", "dense 20", "relu", "dropout 0.3", "dense 10"]
cnn = ["conv2d 3 3 stride=2", "batch_norm", "relu", "flatten", "dense 10"]
cnn5 = ["conv2d 3 5 stride=2", "batch_norm", "relu", "flatten", "dense 10"]
cnn2 = ["conv2d 3 3 stride=2", "batch_norm", "relu", "conv2d 3 3", "batch_norm", "relu", "flatten", "dense 10"]
"""
GRID = """
backends = "numpy"
train_size = 300
recipe = {epochs = 2, validation = 0.1, augmentation = {shift = 2}, early_stopping = {patience = 1}}
grid.optimizer = ["sgd 0.1", "momentum 0.1", "adam 0.01"]
networks.mlp = ["flatten", "dense 20", "tanh", "dense 10"]
"""
OWN = set("whole grid batch norm tanh cnn arxiv".split())  # noqa: SIM905
# Keys and values that vary in the grid, whose names stand as the study writes them.
KEYS = set("epochs validation augmentation shift patience monitor optimizer sgd momentum mnist true".split())  # noqa: SIM905
# What is code: keys, paths below a study's folder, hashes, a machine's platform, a dataset's title and file.
CODE = re.compile(
    r"\b[A-Za-z]+(?:_[a-z]+)+(?:\.\w+)?\b|\w+…|\b(?:whole|grid|demo)/[\w./-]+|\b[0-9a-f]{10,64}\b|Linux-[\w.-]+|"
    r"scikit-learn(?: digits)?|UCI Machine Learning Repository, optdigits|digits\.csv(?:\.gz)?"
)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """Folder → what its page gathered: a study that was trained, proven and timed, where one run failed, and a grid.

    The network that is proven and timed is trained in both backends, the others in NumPy, which starts sooner.
    """
    need_backend("torch")
    whole, grid = (tmp_path_factory.mktemp(name) for name in ("whole", "grid"))
    study = parse_study(EVERYTHING, name="whole")
    small = changed(study, networks={"mlp": study.networks["mlp"]})
    run_study(changed(small, backends=("torch",)), whole)
    *_, last = run_study(changed(study, backends=("numpy",)), whole)
    prove(small, whole, 3)
    bench(small, whole, rounds=1, epochs=2)
    store.write_status(last.folder, "failed", "LS-402", "the backend failed")
    run_study(parse_study(GRID, name="grid"), grid)
    fake_run(grid, "cnn", dataset="mnist", accuracy=0.9)
    return {folder: gathered(folder) for folder in (whole, grid)}


def gathered(root: Path) -> dict:
    with language.speaking("ru"):
        return gather(store.find_runs(root))


def faults(text: str, names: Collection[str] = OWN) -> list[str]:
    """What is wrong with the words and numbers of a page in Russian."""
    lines = [CODE.sub(" ", line) for line in visible(text)]
    found = [row for row in english("\n".join(map(html.escape, lines))) if row.partition(":")[0].lower() not in names]
    for line in lines:
        said = line.replace("\u00a0", " ").replace("\u202f", " ")
        for what, pattern in FORBIDDEN.items():
            found += [f"{what}: {said}"] if re.search(pattern, said) else []
    return found


FORBIDDEN = {
    "a hyphen for a minus": r"(?<![\w.,/…·-])-\d",
    "seed in other words": r"[Нн]ачальн\w+ чис",
    "two numbers that are one": r"(?:между|от) (\d[\d,]*( %)?) (?:и|до|…) \1(?![\d,])",
    "nothing was corrected": r"на [01] сравнени|\b0 сравнени",
    "decimal units": r"\bМБ\b",
    "a wrong form": r"\b(\d*[02-9])?1 (сравнений|запусков|эпох|значений)\b|\b[2-4] (сравнений|запусков)\b",
}


def test_a_report_with_everything_in_it_is_russian(everything):
    whole, grid = map(written, everything.values())
    assert faults(whole) + faults(grid, OWN | KEYS) == []
    said = " ".join(visible(whole)).replace("\u00a0", " ")
    for part in (
        "Учится ли сеть, написанная на одном NumPy, тому же, чему сеть в Keras, и так же быстро?",
        "Seed — число, из которого получаются все случайные решения запуска", "фронт Парето", "планки погрешностей",
        "с поправкой Холма на", "МиБ", "Тестовое изображение 0", "значение функции потерь", "Не закончено запусков: 1",
        "Глубина и размер ядра", "Переобучение", "лучшая эпоха",
    ):  # fmt: skip
        assert part in said, part
    assert re.sub(r"<[^>]+>", " ", whole).count("Seed — число") == 1, "explained once"


def test_the_page_of_a_proof_that_was_made_is_russian(everything, tmp_path):
    document = store.read_json(next(iter(everything)) / "whole" / "proof.json")
    with language.speaking("ru"):
        text = write_proof(Proof.model_validate(document), tmp_path / "proof.html").read_text(encoding="utf-8")
    assert faults(text) == []


def test_texts_of_it_without_a_translation_are_found(everything, monkeypatch):
    """In two headings and in a figure."""
    texts = ["Depth and kernel size", "front (filled markers)", "What these times rest on"]
    for text in texts:
        monkeypatch.delitem(held("ru"), text)
    found = {row.partition(":")[0] for row in faults(written(gathered(next(iter(everything)))))}
    assert found == set(re.findall("[A-Za-z]{2,}", " ".join(texts))) - NAMES


@pytest.mark.parametrize(
    ("planted", "what"),
    [
        ("These runs were not compared.", "These"), ("разность -0,53 п. п.", "a hyphen for a minus"),
        ("одно начальное число", "seed in other words"), ("лежат между 94,88 % и 94,88 %", "two numbers that are one"),
        ("с поправкой Холма на 0 сравнений", "nothing was corrected"), ("300 МБ", "decimal units"),
        ("с поправкой Холма на 2 сравнений", "a wrong form"), ("21 запусков", "a wrong form"),
    ],
)  # fmt: skip
def test_a_fault_that_is_planted_in_it_is_found(everything, planted, what):
    page = written({**next(iter(everything.values())), "cautions": [planted]})
    assert any(row.startswith(what) for row in faults(page)), faults(page)


@pytest.mark.parametrize(
    "said", ["между 94,88 % и 94,89 %", "от 1 до 12", "2026-01-02", "−0,5", "11 запусков", "3 сравнения"]
)
def test_what_is_right_is_no_fault(said):
    assert faults(f"<p>{said}</p>") == []


@pytest.mark.parametrize("catalog", ["report.po", "messages.po"])
def test_no_text_of_a_catalog_has_other_words_than_the_field(catalog):
    with (catalogs.REPORT.parent / catalog).open("rb") as file:
        said = [text for message in read_po(file, locale="ru") for text in _strings(message.string)]
    for what in ("seed in other words", "two numbers that are one", "nothing was corrected", "a loss in other words"):
        pattern = {**FORBIDDEN, "a loss in other words": r"\b[Пп]отери (на тесте|\{)|чёрточк"}[what]
        assert [text for text in said if re.search(pattern, text.replace("\u00a0", " "))] == [], what
    assert len(said) > 500


def _strings(found: str | tuple[str, ...]) -> tuple[str, ...]:
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("question", catalogs.QUESTIONS)
def test_the_question_of_a_shipped_study_is_asked_in_russian(question):
    with language.speaking("ru"):
        assert re.search("[а-я]{4}.*\\?$", language._(question))


@pytest.mark.parametrize(("file", "damage"), [(file, damage) for file, damage, _ in DAMAGED])
def test_damage_is_told_in_russian(tmp_path, file, damage):
    folder = fake_run(tmp_path)
    store.write_json(folder / file, store.read_json(folder / file) | damage)
    with language.speaking("ru"):
        gaps = gather(store.find_runs([tmp_path]))["gaps"]
    (told,) = [text for text in gaps if file in str(text)]
    assert re.search("[а-я]", str(told).split(file)[1]), told
    assert not re.search(r"\b(is|not|should|input|valid)\b", str(told)), told


def test_a_text_without_a_translation_is_found(page, monkeypatch):
    monkeypatch.delitem(held("ru"), "Kernels and feature maps")
    assert english(written(page)) == [
        f"{word}: Kernels and feature maps" for word in ("Kernels", "and", "feature", "maps")
    ]


@pytest.mark.parametrize("keys", [
    {"planted": ["adam_epsilon_hat@torch"], "cost": [{"network": "mlp", "backend": "torch",
     "plants": ["adam_epsilon_hat@torch"], "accuracy": 0.9, "planted_accuracy": 0.88, "loss": 0.3,
     "planted_loss": 0.4}]},
    {"first": "demo/a", "second": "demo/b",
     "claim": "at least one is not what its spec.toml says; their first different bits: step-0 loss at [0]"},
    {"verdict": "EQUAL", "divergences": [],
     "claim": "the first 7 steps are the same within rounding, on everything that was observed"},
])  # fmt: skip
def test_the_page_of_a_proof_has_no_english_but_names(tmp_path, keys):
    document = proof_of([proven("numpy"), proven("torch", "DIVERGED")], [divergence(explained=[])]) | keys
    with language.speaking("ru"):
        text = write_proof(Proof.model_validate(document), tmp_path / "proof.html").read_text(encoding="utf-8")
    assert [word for word in english(text) if not word.startswith(("step:", "loss:"))] == []
    assert '<html lang="ru">' in text


def test_numbers_nouns_and_lists_are_russian():
    with language.speaking("ru"):
        assert [count(n, "{count} seed", "{count} seeds") for n in (1, 2, 5, 21)] == [
            "1\u00a0значение seed", "2\u00a0значения seed", "5\u00a0значений seed", "21\u00a0значение seed"
        ]  # fmt: skip
        assert (fixed(1234.5, 1), significant(3.4e-5), seconds(0.4)) == ("1\u00a0234,5", "3,4·10⁻⁵", "0,400\u00a0с")
        assert listed(["a", "b", "c"]) == "a, b и c"
        assert word(3) == "3"


# ------------------------------------------------------------------------------------------- what files keep in English


@pytest.mark.parametrize(
    ("kept_text", "said"),
    [
        ("EQUAL", "РАВНО"),
        ("not observed: starting weights, predictions", "не наблюдалось: начальные веса, предсказания"),
        ("jax and optax not installed", "не установлено: jax и optax"),
        ("its shape is (3, 4) and not (4, 3)", "его форма (3, 4), а не (4, 3)"),
        ("missing: a/b; unexpected: c", "нет: a/b; лишнее: c"),
        ("times are unsteady: a fixed piece of work takes up to 1.25 times its median",
         "время неустойчиво: одна и та же работа занимает до 1,25 своей медианы"),
        ("every part of both is the judge's within rounding; their first different bits: start bias at [3, 4]",
         "каждая часть обоих совпадает с результатом судьи в пределах округления; первые различные биты: start bias, "
         "место [3, 4]"),
        ("words of somebody else", "words of somebody else"),
    ],
)  # fmt: skip
def test_what_files_keep_in_english_is_said_in_russian(kept_text, said):
    assert forms.say(kept_text) == kept_text
    with language.speaking("ru"):
        assert forms.say(kept_text) == said


def test_what_proofs_and_datasets_write_is_known():
    places = [
        findings.compare("loss", "loss", 0, *rest)
        for rest in (
            (None, 1.0), (np.zeros(2), np.zeros(3)), (np.zeros(2), np.zeros(2), 0.0, "float32"),
            (np.array([np.nan]), np.zeros(1)), (np.array([np.nan]), np.array([np.nan])),
            (np.zeros(1), np.zeros(1), np.inf),
        )
    ]  # fmt: skip
    written = {
        *findings.STAGES, *procedure.VERDICTS, *digits.NOTES, *(place.problem for place in places),
        *(procedure.claim(verdict, 7) for verdict in procedure.VERDICTS),
        *itertools.starmap(
            comparison.claim_of, itertools.product(procedure.VERDICTS, (None, "loss at [3]"), (True, False))
        ),
    }  # fmt: skip
    written -= {""}  # of a difference that has a size
    with language.speaking("ru"):
        assert [text for text in written if forms.say(text) == text] == []
    assert len(written) > 30


# ---------------------------------------------------------------------------------------------------------- the catalog


def test_the_catalog_has_every_text_of_the_report_and_no_other():
    assert catalogs.problems_of_report() == []
    assert len(catalogs.texts([REPORT])) > 500


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ('msgid "Reproduce"', 'msgid "Reproduces"', ["missing: Reproduce", "not in the source: Reproduces"]),
        ('msgstr "ещё {n}"', 'msgstr "ещё {m}"', ["other {names}: {n} more → ещё {m}"]),
        ('msgstr "Повторение"', 'msgstr ""', ["empty: Reproduce"]),
        ('msgstr[2] "{n} шагов"\n', "", ["empty: {n} steps"]),
        ('msgid "Reproduce"', '#, fuzzy\nmsgid "Reproduce"', ["fuzzy: Reproduce"]),
        (
            "nplurals=3",
            "nplurals=2",
            ["it cannot be read: msg has more translations than num_plurals of catalog on 13"],
        ),
    ],
)
def test_a_fault_in_the_catalog_is_found(tmp_path, old, new, found):
    text = catalogs.REPORT.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "ru").mkdir()
    copy = tmp_path / "ru" / "report.po"
    copy.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert set(found) <= set(catalogs.problems_of_report(copy))


# ---------------------------------------------------------------------------------- texts that no catalog can know of

SAYS = (*catalogs.KEYWORDS, "ValueError", "removeprefix")
SENTENCE = re.compile(r"[A-Za-z’]+ (?!al\b)[a-z’]+ (?!al\b)[a-z’]+")  # not “et al.”


def untold(source: str) -> list[str]:
    """The sentences of a module that are not given to a function that translates them; names of errors are none."""
    tree = ast.parse(source)
    told = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and (getattr(node.func, "id", "") or getattr(node.func, "attr", "")) in SAYS
        for part in ast.walk(node)
    }
    told |= {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told
        if SENTENCE.search(re.sub(r"<[^>]+>", "", node.value))
    ]


def untold_in_a_template(source: str) -> list[str]:
    """The words of a template that stand in it as they are, but for code."""
    page = jinja2.Environment(autoescape=True).parse(source)
    data = "\x00".join(node.data for node in page.find_all(jinja2.nodes.TemplateData))
    data = re.sub(r"<style.*?</style>|<title.*?</title>|<(code|pre)\b.*?</\1>", " ", data, flags=re.DOTALL)
    data = re.sub(r' class="[a-z -]+"', " ", data)  # of an element whose tag stands in the template below
    return re.findall(r"[A-Za-z]{2,}", FILES.sub(" ", re.sub(r"<[^>]*>", " ", data.replace("\x00", ""))))


@pytest.mark.parametrize("path", sorted(REPORT.rglob("*.py")), ids=lambda path: str(path.relative_to(REPORT)))
def test_every_sentence_of_the_report_can_be_translated(path):
    assert untold(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", sorted(REPORT.rglob("*.html")), ids=lambda path: path.name)
def test_every_word_of_a_template_can_be_translated(path):
    assert untold_in_a_template(path.read_text(encoding="utf-8")) == []


def test_a_sentence_that_cannot_be_translated_is_found():
    assert untold('def f(n):\n    """What it does here."""\n    return f"{n} runs did not finish"') == [
        " runs did not finish"
    ]
    assert untold('x = _("no run did finish")') == []
    assert untold_in_a_template('<h2>{{ _("Results") }}</h2><p>Trained by {{ x }}</p>') == ["Trained", "by"]
