"""What `lockstep explain LS-304` prints of an error's code: how it comes about, what it looks like, what helps.

The message of an error speaks of one case; this table speaks of the code. A code without a row fails a test by name.
"""

from __future__ import annotations

import dataclasses

from lockstep.errors import CODES, LockstepError
from lockstep.language import later


@dataclasses.dataclass(frozen=True)
class Remedy:
    """One code explained: a sentence or two each, and a message as it is printed."""

    cause: str
    example: str
    remedy: str


REMEDIES: dict[str, Remedy] = {
    "LS-200": Remedy(
        "A command, an option or a value on the command line is misspelt, missing or does not go with the others.",
        "LS-200: Missing argument 'STUDY'. → see: lockstep run --help",
        "Read the help of the command: lockstep run --help. Values of a study are set with --set recipe.epochs=3.",
    ),
    "LS-201": Remedy(
        "The study's file is not there, is a folder, may not be read, or is larger than a study can be (1 MB).",
        "LS-201 demo.toml: cannot read: No such file or directory",
        "Give the path of a TOML file, seen from the folder that you are in; ls shows what is there.",
    ),
    "LS-202": Remedy(
        "The file breaks a rule of TOML: a bracket or a quote is left open, a key stands twice, the text is not UTF-8.",
        "LS-202 study.toml: Expected ']' at the end of a table declaration (at line 4, column 8)",
        "Look at the line that is named, and at the one before it; https://toml.io shows the notation on one page.",
    ),
    "LS-203": Remedy(
        "A key that no study has: misspelt, or in the wrong table.",
        'LS-203 study.toml:5:1: recipe.epocs: unknown key "epocs" → did you mean "epochs"?',
        "Take the proposed key; docs/study.md lists all of them.",
    ),
    "LS-204": Remedy(
        "A value of another type than the key takes: a text for a number, a number for a list.",
        "LS-204 study.toml:5:10: recipe.epochs: '1' is not a whole number → give a whole number",
        "Write numbers without quotes, texts with them, lists in brackets.",
    ),
    "LS-205": Remedy(
        "A value that the key cannot have: too large, too small, not finite, or none of those to choose from.",
        "LS-205 study.toml:6:13: recipe.optimizer.learning_rate: -0.1 is out of range: it must be above 0",
        "Choose a value in the range that the message names.",
    ),
    "LS-206": Remedy(
        "A layer cannot take what the one before puts out: a kernel larger than its image, dense without flatten; or "
        "the last layer has another number of outputs than the dataset has classes.",
        "LS-206 study.toml:9:5: networks.a: the last layer puts out (5,), but digits has 10 classes",
        "lockstep show STUDY prints every layer's shape up to the one that does not fit.",
    ),
    "LS-207": Remedy(
        "Two parts of a study that are right by themselves cannot be together, such as early stopping by validation "
        "loss without validation images.",
        "LS-207 study.toml: recipe.early_stopping: early stopping looks at validation_loss, but no images are held out",
        "Change the one that the message proposes, or leave one of the two out.",
    ),
    "LS-208": Remedy(
        "A key without which nothing can be done is not there.",
        'LS-208 study.toml: networks: "networks" is required → add it',
        "Add the key; docs/study.md shows the smallest study that runs.",
    ),
    "LS-209": Remedy(
        "A name that nothing has: of a backend, dataset, layer, optimizer, network of the study, or known difference.",
        'LS-209 study.toml:3:12: backends: there is no backend "numpi" → did you mean "numpy"?',
        "Take the proposed name. lockstep data list, lockstep doctor and lockstep explain causes list what there is.",
    ),
    "LS-210": Remedy(
        "Two run folders were to be compared that were never meant to be equal: another network, recipe, seed, dtype "
        "or dataset, or the same folder twice.",
        "LS-210 runs/demo/a: a run is compared with itself → name two folders",
        "Compare two runs of one network, recipe, dataset, seed and dtype.",
    ),
    "LS-301": Remedy(
        "The dataset is in none of the folders that are searched, and a download was not allowed or not possible; or a "
        "path leads nowhere.",
        "LS-301 mnist: MNIST is not on this machine, and downloading is switched off",
        "Where there is internet: lockstep data fetch NAME. Else put the files below $LOCKSTEP_DATA, or import your "
        "own copy with lockstep data import FOLDER NAME. lockstep data path shows the folders.",
    ),
    "LS-302": Remedy(
        "No mirror delivered the file as it should be: no network, an error page, a broken or foreign file, too slow. "
        "The table in the message says which answered how.",
        "LS-302 mnist: no mirror delivered train-images-idx3-ubyte.gz; tried: …",
        "Look at the network and the proxy (https_proxy), try again later, or bring the files by hand as for LS-301.",
    ),
    "LS-303": Remedy(
        "The content of a dataset's file is not what its SHA-256 says: it was damaged, changed or replaced.",
        "LS-303: 1 of 4 files are not what they should be → delete the file and fetch it again",
        "Delete the file and fetch or import it again; lockstep data verify checks all of them.",
    ),
    "LS-304": Remedy(
        "An IDX file (MNIST's format) is cut off, too long, of another type, or no IDX file; or the four files of a "
        "dataset do not belong together.",
        "LS-304 data/train-labels-idx1-ubyte: the header declares 60,000 bytes of values, but 59,995 follow",
        "Get the file again. Images other than unsigned bytes have to be converted, or stored as .npz.",
    ),
    "LS-305": Remedy(
        "A gzip file is cut off or damaged, or unpacks to far more than it should, as a decompression bomb does.",
        "LS-305 data/train-images-idx3-ubyte.gz: the gzip file is cut off: it ends before its own end mark",
        "Get the file again; gzip -t FILE tests it without Lockstep.",
    ),
    "LS-306": Remedy(
        "An npz file is damaged, lacks an array, holds arrays that are no images or labels, holds Python objects, or "
        "is packed as no honest one is (a name twice, a path that leads out, far more content than file).",
        "LS-306 own.npz: x_train is float64, not whole numbers → use (255 * x).round().astype('uint8')",
        "Save it again: np.savez(path, x_train=…, y_train=…, x_test=…, y_test=…) with arrays of whole numbers.",
    ),
    "LS-307": Remedy(
        "A folder cannot be a dataset of pictures: one class, empty classes, train without test, too large, or nothing "
        "is seen in any picture.",
        'LS-307 pets/eel: the class "eel" has no picture',
        "Make one subfolder per class with at least two pictures each, or train/<class>/ and test/<class>/. A smaller "
        "size is chosen by lockstep data import FOLDER NAME --size 64x64.",
    ),
    "LS-308": Remedy(
        "A picture is damaged, is no picture or of a format that is not read (HEIC, AVIF), is animated, has more than "
        "8 bits a channel or other colours than grey and RGB, or has more pixels than are read (33.5 million as a "
        "rule).",
        "LS-308 pets/cat/2.png: cannot be read: broken PNG file",
        "Convert it to a JPEG or an 8-bit grey or RGB PNG of a reasonable size, or remove it.",
    ),
    "LS-309": Remedy(
        "A label is negative, or names a class that there is not; or there is one class alone.",
        "LS-309 own.npz: 1 train labels lie outside 0 … 1: number 2 is 2",
        "Number the classes from 0; give as many class_names as there are classes, or none.",
    ),
    "LS-310": Remedy(
        "The name for an imported dataset is taken, is one of Lockstep's own, or has signs that a name cannot have.",
        'LS-310 name: "mnist" is a dataset that Lockstep knows already',
        "Choose letters, digits, dot, dash and underscore, at most 64; an import is never written over.",
    ),
    "LS-311": Remedy(
        "A table (.csv) is not one of images: no label, a row shorter than the others, values that are no whole "
        "numbers 0 … 255, or a number of pixels that makes no square.",
        "LS-311 train.csv: line 7 has 784 columns, the first one 785 → give every image one row of the same length",
        "Give every image one row: its label, then its k·k (grey) or 3·k·k (RGB) pixels, with or without a header.",
    ),
    "LS-401": Remedy(
        "A study asks for a backend whose framework is not installed in this Python.",
        "LS-401 backend jax: jax is not installed → pip install 'lockstep-nn[jax]'",
        "Install it with the command in the message, or leave it out: --backends numpy,torch.",
    ),
    "LS-402": Remedy(
        "The process of a run ended without a word: it was killed (often for memory), or its framework crashed.",
        "LS-402 runs/demo/…: it was ended by signal SIGKILL (as the system does when memory runs out)",
        "Look at worker.log in the run's folder. A smaller batch or network needs less memory; lockstep resume goes on "
        "from the last epoch that was saved.",
    ),
    "LS-403": Remedy(
        "The framework, or Lockstep, raised an error in the middle of a run that it has no better words for.",
        "LS-403 RuntimeError: … → the traceback is in runs/demo/…/worker.log",
        "Read worker.log in the run's folder: the traceback is there. If it is Lockstep's, send it to us.",
    ),
    "LS-404": Remedy(
        'The study asks for a device that the framework does not find: device = "cuda" without a usable GPU.',
        'LS-404 backend numpy: NumPy computes on the CPU only → use device = "cpu"',
        'Set device = "cpu", or install a build of the framework with CUDA and a driver that fits.',
    ),
    "LS-501": Remedy(
        "A folder or file may not be written: no permission, a read-only disk, a file where a folder should be.",
        "LS-501 runs: cannot write: File exists → choose a folder that you may write to with --runs FOLDER",
        "Choose another folder with --runs, or set XDG_CACHE_HOME or XDG_DATA_HOME for datasets.",
    ),
    "LS-502": Remedy(
        "The disk, or your share of it, is full. What was written before is whole.",
        "LS-502 runs/demo/…/predictions.npz: the disk is full → free some space and try again",
        "Free some space, then lockstep resume RUNS; lockstep doctor says how much is left.",
    ),
    "LS-503": Remedy(
        "The memory does not suffice for a dataset, a network or one more process.",
        "LS-503 photos: the dataset does not fit into memory",
        "Take smaller images, a smaller network or batch, or end other programs.",
    ),
    "LS-504": Remedy(
        "Another process works on the same run, or downloads the same dataset; the message names it where it can.",
        "LS-504 runs/demo/…: process 4711 (since 2026-01-01T12:00:00Z) works on this run",
        "Wait for it, or end it. A lock that a crash left behind holds nobody up.",
    ),
    "LS-505": Remedy(
        "A file of a run folder is missing, damaged or was edited, so it is not used; or there is no run in a folder.",
        "LS-505 runs: no run folder here → name a folder below runs/ that holds runs",
        "lockstep doctor RUNS says what is damaged and what can still be used; lockstep run does it again, beside it.",
    ),
    "LS-506": Remedy(
        "A run that was interrupted cannot go on: its spec.toml or its dataset is no longer what it was begun with.",
        "LS-506 runs/demo/…/checkpoint-3: it is of a run with another spec.toml: recipe.epochs: 1 → 4",
        "Put spec.toml or the data back as they were, or run the study anew with lockstep run.",
    ),
}


def explain(code: str) -> dict[str, object]:
    """Everything about a code: "code", "what", "exit_code", "cause", "example", "remedy"."""
    told = {name: later(text) for name, text in vars(REMEDIES[code]).items()}
    return {"code": code, "what": later(CODES[code]), "exit_code": LockstepError(code, "").exit_code} | told
