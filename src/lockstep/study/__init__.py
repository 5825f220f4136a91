"""A study: checked, its runs told apart, done in a place, gone on with. Here stand the names that others use."""

from lockstep.study.check import QUICK_EPOCHS, checked, fetch_data, few_images, load_study
from lockstep.study.identity import one_run_study, run_id
from lockstep.study.runs import Tell, not_done, run_study

__all__ = [
    "QUICK_EPOCHS",
    "Tell",
    "checked",
    "fetch_data",
    "few_images",
    "load_study",
    "not_done",
    "one_run_study",
    "run_id",
    "run_study",
]  # fmt: skip
