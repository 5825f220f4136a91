"""What others have reached with such a network, beside what one's own has: as expected, lower, or too good to be true.

A published accuracy is one number from one laboratory, often of decades ago, so nobody's own will meet it exactly. Each
row therefore states a band, which is a judgement and is printed: from what a hasty but correct training of such a
network gives, to what the best known training of it reaches. The rule is then mechanical. The 95 % interval of one's
own accuracy, over test images, lies wholly below the band: lower than expected. Wholly above it: better than plausible,
for which test images among the training images are the usual reason. Otherwise: as expected.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from lockstep.language import _, later, n_, number
from lockstep.report.compare.cells import Cell, between
from lockstep.report.compare.effects import Structure, structure
from lockstep.report.table import Table
from lockstep.report.words.quantities import MISSING, percent, span, whole
from lockstep.uncertainty import Interval

EXPECTED = later("as expected")
LOWER = later("lower than expected")
TOO_GOOD = later("better than plausible: check for leakage")
MARKS: dict[str, str] = {EXPECTED: "good", LOWER: "warn", TOO_GOOD: "bad"}
MAX_ROWS = 40

Matches = Callable[[Structure, Cell], bool]


@dataclasses.dataclass(frozen=True)
class Reference:
    """One published result: test accuracy in percent, its source, and the band (percent) that it lets one expect."""

    dataset: str
    model: str
    accuracy: str
    low: float
    high: float
    source: str
    matches: Matches
    is_same: bool = True  # the same structure, or the nearest that was found


def _mlp(*hidden: int) -> Matches:
    return lambda found, _: not found.filters and found.hidden == hidden


def _cnn(filters: tuple[int, ...], hidden: tuple[int, ...]) -> Matches:
    return lambda found, _: found.filters == filters and found.hidden == hidden


def _convolutions(n: int) -> Matches:
    return lambda found, _: len(found.filters) == n


def _lenet(found: Structure, _: Cell) -> bool:
    return len(found.filters) == 2 and len(found.hidden) == 2 and found.filters[0] < found.filters[1] <= 32


def _flips(found: Structure, cell: Cell) -> bool:
    return len(found.filters) == 2 and cell.settings.get("augmentation.flip") == "True"


def _small(found: Structure, cell: Cell) -> bool:
    return len(found.filters) == 2 and cell.parameters is not None and cell.parameters < 100_000


def _dropout(found: Structure, _: Cell) -> bool:
    return len(found.filters) == 3 and any("'dropout'" in text for text in found.others)


LECUN, KERAS = "LeCun et al. 1998", "keras-team/keras, examples/{}"
ZALANDO = "zalandoresearch/fashion-mnist, README"

# The first row that matches counts: a special case stands above the general one.
REFERENCES = (
    Reference("mnist", later("linear classifier"), "88.0", 87.0, 93.5, LECUN, _mlp()),
    Reference("mnist", "784-300-10", "95.3", 95.0, 98.7, LECUN, _mlp(300)),
    Reference("mnist", "784-300-100-10", "96.95", 96.0, 98.8, LECUN, _mlp(300, 100)),
    Reference("mnist", later("784-500-300-10, softmax, weight decay"), "98.47", 97.3, 98.9, "Hinton 2005",
              _mlp(500, 300)),
    Reference("mnist", later("784-800-10, cross-entropy (99.3 with elastic distortions)"), "98.4", 97.5, 99.3,
              "Simard et al. 2003", _mlp(800)),
    Reference("mnist", "784-100-10", "96.59", 95.5, 98.4,
              later("M. Nielsen, Neural Networks and Deep Learning, chapter 1"), _mlp(100)),
    Reference("mnist", later("MLP 512-512 with dropout 0.2, 20 epochs"), "98.40", 97.5, 98.9,
              KERAS.format("mnist_mlp.py"), _mlp(512, 512)),
    Reference("mnist", later("CNN 32-64-pool-128, 12 epochs"), "99.25", 98.6, 99.6, KERAS.format("mnist_cnn.py"),
              _cnn((32, 64), (128,))),
    Reference("mnist", later("conv5(24)-conv3(32)-FC256, one epoch, mean of 30 seeds"), "99.04 ± 0.07", 98.4, 99.6,
              "tuomaso/train_mnist_fast", _cnn((24, 32), (256,))),
    Reference("mnist", later("LeNet-5 (99.2 with distortions)"), "99.05", 98.3, 99.5, LECUN, _lenet, False),
    Reference("mnist", later("CNN 32-64-pool-128, 12 epochs"), "99.25", 98.3, 99.6, KERAS.format("mnist_cnn.py"),
              _convolutions(2), False),
    Reference("fashion-mnist", "MLP 256-128-64", "90.0", 87.5, 91.5, ZALANDO, _mlp(256, 128, 64)),
    Reference("fashion-mnist", later("two convolutions + flips"), "93.9", 90.5, 94.8, ZALANDO, _flips, False),
    Reference("fashion-mnist", later("two convolutions, < 100k parameters"), "92.5", 87.6, 93.5, ZALANDO, _small,
              False),
    Reference("fashion-mnist", later("two convolutions + pooling, plain"), "87.6–91.6", 87.6, 94.0, ZALANDO,
              _convolutions(2), False),
    Reference("fashion-mnist", later("three convolutions + two dense layers, with dropout"), "92.6", 89.0, 94.5,
              ZALANDO, _dropout, False),
    Reference("fashion-mnist", later("three convolutions + two dense layers"), "90.7", 88.5, 94.0, ZALANDO,
              _convolutions(3), False),
)  # fmt: skip

# Searched for and not found: these networks' own repeated runs are the reference.
NOT_FOUND: tuple[tuple[str, str, Matches], ...] = (
    ("mnist", later("an MLP of 3 × 100"), _mlp(100, 100, 100)),
    ("mnist", later("two 5 × 5 convolutions with pooling and a dense layer of 500"),
     lambda found, _: len(found.filters) == 2 and found.kernels == {(5, 5)} and found.hidden == (500,)),
)  # fmt: skip

# Nothing single has reached more, whatever its structure: (percent, model, source).
BEST = {
    "mnist": (99.83, later("best single network (branching CNN, homogeneous vector capsules)"), "arXiv 2001.09136"),
    "fashion-mnist": (96.91, "Fine-Tuning DARTS", "paperswithcode"),
}
N_TRAIN, N_TEST = 60_000, 10_000  # of both


def word_for(own: Interval, low: float, high: float) -> str:
    """One of the three words: the interval of one's own accuracy (shares) against a band (percent)."""
    if own.low is None or own.high is None:
        return MISSING
    if 100 * own.high < low:
        return LOWER
    return TOO_GOOD if 100 * own.low > high else EXPECTED


def reference_for(cell: Cell) -> Reference | None:
    """The published result of this cell's dataset and structure, or of the nearest structure."""
    found, dataset = structure(cell.layers), cell.group.runs[0].dataset
    if found is None or searched_for(cell):
        return None
    return next((row for row in REFERENCES if row.dataset == dataset and row.matches(found, cell)), None)


def searched_for(cell: Cell) -> str:
    """The name of this cell's structure, where a published result of it was searched for and not found."""
    found, dataset = structure(cell.layers), cell.group.runs[0].dataset
    rows = (what for name, what, matches in NOT_FOUND if found and name == dataset and matches(found, cell))
    return next(rows, "")


def judge(cell: Cell) -> str:
    """The last word of this cell's row, one of the three in English; empty where its dataset has none here."""
    return _row(cell)[-1] if cell.group.runs[0].dataset in BEST else ""


def _not_comparable(cell: Cell) -> str:
    """Why published results say nothing of these runs."""
    run = next(iter(cell.runs.values()))
    described = run.environment.dataset if run.environment else None
    n_train = (described.n_train or 0) + (described.n_validation or 0) if described else 0
    if "train_size" in cell.settings or (described and n_train and n_train < N_TRAIN):
        return n_(
            "not comparable: trained on {count} images of {all}",
            "not comparable: trained on {count} images of {all}",
            n_train,
            count=whole(n_train),
            all=whole(N_TRAIN),
        )
    if cell.n_test != N_TEST:
        return n_(
            "not comparable: tested on {count} images of {all}",
            "not comparable: tested on {count} images of {all}",
            cell.n_test or 0,
            count=whole(cell.n_test or 0),
            all=whole(N_TEST),
        )
    return ""


def section(cells: Sequence[Cell]) -> dict[str, object]:
    """The table of published results beside one's own, and sentences about what has none."""
    known = [cell for cell in cells if cell.runs and cell.group.runs[0].dataset in BEST]
    rows: list[list[str]] = []
    marks: dict[tuple[int, int], str] = {}
    for cell in known[:MAX_ROWS]:
        row = _row(cell)
        marks[len(rows), len(row) - 1] = MARKS.get(row[-1], "")
        rows.append([*row[:-1], _(row[-1])])
    columns = [
        (_("Network"), "l"),
        (_("Backend"), "l"),
        (_("Own (%)"), "r"),
        (_("95 % interval"), "r"),
        (_("Epochs"), "r"),
    ]
    columns += [
        (_("Published (%)"), "r"),
        (_("Model"), "l"),
        (_("Source"), "l"),
        (_("Band (%)"), "r"),
        (_("Own result is"), "l"),
    ]
    caption = _(
        "The interval is Wilson’s, over test images, of the mean over seeds. Wholly below the band: lower than "
        "expected; wholly above: better than plausible. The band is Lockstep’s judgement, from a hasty but correct "
        "training of such a network to the best known one. ≈ marks the nearest structure that was found, not the same."
    )
    return {
        "table": Table(caption, columns, rows, marks=marks) if rows else None,
        "sentences": [*_without(cells), *_searched(known)],
    }


def _row(cell: Cell) -> list[str]:
    own, reference = cell.over_images, reference_for(cell)
    epochs = sorted({len(run.history) for run in cell.runs.values()})
    start = [cell.title, cell.backend, percent(own.value if own else None, 2), between(own, 2)]
    start.append(span(str(epochs[0]), str(epochs[-1])) if len(epochs) > 1 else str(epochs[0]))
    best, model, source = BEST[cell.group.runs[0].dataset]
    if reference is None:
        limit = _("limit: {model}, {source}", model=_(model), source=source)
        ends = [MISSING, _("none found of this structure"), limit, _("up to {best}", best=number(f"{best}"))]
    else:
        near = "" if reference.is_same else "≈ "
        band = span(number(f"{reference.low}"), number(f"{reference.high}"))
        ends = [number(reference.accuracy), near + _(reference.model), _(reference.source), band]
    if own is None or (why := _not_comparable(cell)):
        return [*start, *ends, why if own else MISSING]
    if reference is None:
        word = word_for(own, 0.0, best)
        return [*start, *ends, word if word == TOO_GOOD else later("nothing to hold it to but the limit")]
    word = word_for(own, reference.low, reference.high)
    return [*start, *ends, word]


def _without(cells: Sequence[Cell]) -> list[str]:
    """Datasets for which no published result is known here."""
    titles = dict.fromkeys(cell.group.dataset for cell in cells if cell.group.runs[0].dataset not in BEST)
    return [
        _(
            "No published results are kept for {title}: repeated runs of one’s own are the only reference.",
            title=title,
        )
        for title in titles
    ]


def _searched(known: Sequence[Cell]) -> list[str]:
    names = dict.fromkeys(what for cell in known if (what := searched_for(cell)))
    return [_("A published figure of {what} was searched for and not found.", what=_(what)) for what in names]
