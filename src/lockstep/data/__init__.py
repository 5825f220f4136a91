"""Datasets: what there is, where it lies, how it is read, and what is decided about it before any backend sees it.

Importing this package is cheap: Pillow and everything for downloads are imported where they are used.
"""

from lockstep.data.augmentation import augment
from lockstep.data.batches import LEAST_WATCHED, batch_order, epoch_order, part_of, split
from lockstep.data.catalogue import DATASETS, Dataset, File
from lockstep.data.contents import Data, Facts
from lockstep.data.download import fetch
from lockstep.data.idx import read_idx
from lockstep.data.loading import Row, describe, import_folder, load, verify
from lockstep.data.places import Place, available, path

__all__ = [
    "DATASETS",
    "LEAST_WATCHED",
    "Data",
    "Dataset",
    "Facts",
    "File",
    "Place",
    "Row",
    "augment",
    "available",
    "batch_order",
    "describe",
    "epoch_order",
    "fetch",
    "import_folder",
    "load",
    "part_of",
    "path",
    "read_idx",
    "split",
    "verify",
]
