"""What files keep in English, said in the language in use.

A text of ours keeps its form (`language.Text`), and a word of ours is in the catalog. Files of the version before hold
nothing but sentences: these are recognised here, by a whole text or by a form whose names and numbers are put in again.
What is not known here (the message of a framework, the words of a user) stays as it is.
"""

from __future__ import annotations

import functools
import re

from lockstep.data import contents, images
from lockstep.language import Text, _, mark, number, recognised, spoken
from lockstep.language import say as say_form
from lockstep.report.words.quantities import listed

TEXTS = (
    # verdicts
    mark("IDENTICAL"),
    mark("EQUAL"),
    mark("INCONCLUSIVE"),
    mark("DIVERGED"),
    mark("ERROR"),
    # stages
    mark("data"),
    mark("starting weights"),
    mark("forward"),
    mark("loss"),
    mark("backward"),
    mark("gradients"),
    mark("statistics"),
    mark("optimizer slots"),
    mark("updated weights"),
    mark("training"),
    mark("whole epoch"),
    mark("reported loss"),
    mark("predictions"),
    # places
    mark("all weights"),
    mark("images"),
    mark("input"),
    mark("its arrays"),
    mark("labels"),
    mark("logits"),
    mark("losses"),
    mark("manifest"),
    mark("names"),
    mark("order"),
    mark("test images"),
    mark("training from the start"),
    mark("updates taken"),
    # lines of growth
    mark("NumPy in float32"),
    mark("the judge in another order of summation"),
    # claims
    mark("at least one backend does not do what the study says; the first places and their causes are named"),
    mark("not everything that was asked was observed, so nothing is claimed of the whole"),
    mark("every array of the two is the same, bit for bit"),
    mark("every part of both is the judge's within rounding"),
    mark("they are not the same bits, and nothing here says whether rounding explains it"),
    mark("at least one is not what its spec.toml says"),
    # problems
    mark("it is missing"),
    mark("what rounding may do to it is not finite: the numbers of this recipe leave the range of its dtype"),
    mark("it is not as it was written"),
    mark("no checkpoint with its weights can be used"),
    # a bench
    mark("intervals will be wide, and what others do falls on whoever is being timed"),
    # datasets
    mark("the images are in a random order that is the same everywhere"),
)

# The first that fits counts: a longer form stands above the one that is its beginning.
FORMS = (
    mark("the first {n} steps are the same within rounding, on everything that was observed"),
    mark("the first {n} steps are the same within rounding"),
    mark(
        "the losses of the first {n} steps of both, and the predictions that follow from their last weights, are the "
        "judge's within rounding; how later steps led to these weights was not judged, and what is too small for a "
        "loss needs traces"
    ),
    mark("{claim}; their first different bits: {place}"),
    mark("{name} stands where the other has {other}"),
    mark("{name}: shapes {ours} and {theirs}"),
    mark("{name} at its dtype"),
    mark("{name} at [{index}]"),
    mark("not observed: {stages}"),
    mark("the dataset {name} of these runs is not on this machine"),
    mark("{modules} not installed"),
    mark("epoch {n}"),
    mark("its shape is {found} and not {wanted}"),
    mark("its dtype is {found} and not {wanted}"),
    mark("it holds {value} at {place}, and the judge's is not finite either: this recipe diverges by itself"),  # once
    mark("this recipe's numbers are not finite in any backend"),
    mark("judged up to step {step}: from there this recipe's numbers are not finite in any backend"),
    mark("updates were not judged of {names}: rounding may be as large as they"),
    mark("the judge itself is not what an independent formula gives: {stage}, {where}"),
    mark("NumPy's runs that are trained together are not what each of them is alone: {where}"),
    mark("{names} differ from the judge at one place, and alike: suspect the judge"),
    mark("early stopping"),
    mark("resuming"),
    mark("trained together"),
    mark("it holds {value} at {place}"),
    mark("{n} losses are kept, {all} steps were taken"),
    mark("the checkpoint: {problem}"),
    mark('"{key}" is missing'),
    mark("it has format {found}, this version reads format {wanted}"),
    mark("missing: {names}"),
    mark("unexpected: {names}"),
    mark("of another shape: {names}"),
    mark("it is not written for augmentation"),
    mark("it is not written for the optimizer {name}"),
    mark("it is not written for the loss {name}"),
    mark("it is not written for {names}"),
    mark("the machine is busy: its load average is {load} before anything starts"),
    mark("times are unsteady: a fixed piece of work takes up to {n} times its median"),
    mark(
        "the {size} images are enlarged {n} times (bilinear, zeros outside) and centred in {to}; values {before} "
        "become {after}"
    ),
    mark("{n} images of each class, drawn by Lockstep's own generator with seed {seed}, are the test set"),
    mark("the test images are {share} of each class, drawn by Lockstep's own generator with seed {seed}"),
    mark("{n} images have transparent parts, which were laid on black"),
    mark(
        "{n} of {all} images were resized to the most common size, {size} (height × width), by Pillow's bilinear "
        "filter, which averages when it shrinks; proportions are not kept"
    ),
    mark("ignored: {names} (not pictures, or links out of the folder)"),
)
NOTES = (*images.NOTES, *contents.NOTES)  # of datasets, which have their words themselves
NUMBER = re.compile(r"\d[\d,]*(\.\d+)?")


def say(text: str) -> str:
    """A text of such a file in the language in use.

    >>> say("EQUAL")
    'EQUAL'
    """
    if spoken() == "en":
        return text
    if isinstance(text, Text):
        return say_form(text)
    if (whole := _(text)) != text:
        return whole
    if isinstance(noted := recognised(text, NOTES), Text):
        return say_form(noted)
    for form in FORMS:
        if found := _pattern(form).fullmatch(text):
            return _(form, **{name: _value(value) for name, value in found.groupdict().items()})
    parts = text.split("; ")
    return "; ".join(map(say, parts)) if len(parts) > 1 else text


def _value(text: str) -> str:
    """What stands in a form: a number, a text of its own, or several of them."""
    if NUMBER.fullmatch(text):
        return number(text)
    if (said := say(text)) != text:
        return said
    return ", ".join(listed([say(part) for part in row.split(" and ")]) for row in text.split(", "))


@functools.cache
def _pattern(form: str) -> re.Pattern[str]:
    """A form with a group for each of its names."""
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+?)", re.escape(form)), re.DOTALL)
