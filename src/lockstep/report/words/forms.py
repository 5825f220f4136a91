"""What files keep in English, said in the language in use.

A text of ours keeps its form (`language.Text`), and a word of ours is in the catalog. Files of the version before hold
nothing but sentences: these are recognised here, by a whole text or by a form whose names and numbers are put in again.
What is not known here (the message of a framework, the words of a user) stays as it is.
"""

from __future__ import annotations

import functools
import re

from lockstep.data import contents, images
from lockstep.language import Text, _, later, number, recognised, spoken
from lockstep.language import say as say_form
from lockstep.report.words.quantities import listed

TEXTS = (
    # verdicts
    later("IDENTICAL"),
    later("EQUAL"),
    later("INCONCLUSIVE"),
    later("DIVERGED"),
    later("ERROR"),
    # stages
    later("data"),
    later("starting weights"),
    later("forward"),
    later("loss"),
    later("backward"),
    later("gradients"),
    later("statistics"),
    later("optimizer slots"),
    later("updated weights"),
    later("training"),
    later("whole epoch"),
    later("reported loss"),
    later("predictions"),
    # places
    later("all weights"),
    later("images"),
    later("input"),
    later("its arrays"),
    later("labels"),
    later("logits"),
    later("losses"),
    later("manifest"),
    later("names"),
    later("order"),
    later("test images"),
    later("training from the start"),
    later("updates taken"),
    # lines of growth
    later("NumPy in float32"),
    later("the judge in another order of summation"),
    # claims
    later("at least one backend does not do what the study says; the first places and their causes are named"),
    later("not everything that was asked was observed, so nothing is claimed of the whole"),
    later("every array of the two is the same, bit for bit"),
    later("every part of both is the judge's within rounding"),
    later("they are not the same bits, and nothing here says whether rounding explains it"),
    later("at least one is not what its spec.toml says"),
    # problems
    later("it is missing"),
    later("what rounding may do to it is not finite: the numbers of this recipe leave the range of its dtype"),
    later("it is not as it was written"),
    later("no checkpoint with its weights can be used"),
    # a bench
    later("intervals will be wide, and what others do falls on whoever is being timed"),
    # datasets
    later("the images are in a random order that is the same everywhere"),
)

# The first that fits counts: a longer form stands above the one that is its beginning.
FORMS = (
    later("the first {n} steps are the same within rounding, on everything that was observed"),
    later("the first {n} steps are the same within rounding"),
    later(
        "the losses of the first {n} steps of both, and the predictions that follow from their last weights, are the "
        "judge's within rounding; how later steps led to these weights was not judged, and what is too small for a "
        "loss needs traces"
    ),
    later("{claim}; their first different bits: {place}"),
    later("{name} stands where the other has {other}"),
    later("{name}: shapes {ours} and {theirs}"),
    later("{name} at its dtype"),
    later("{name} at [{index}]"),
    later("not observed: {stages}"),
    later("the dataset {name} of these runs is not on this machine"),
    later("{modules} not installed"),
    later("epoch {n}"),
    later("its shape is {found} and not {wanted}"),
    later("its dtype is {found} and not {wanted}"),
    later("it holds {value} at {place}, and the judge's is not finite either: this recipe diverges by itself"),  # once
    later("this recipe's numbers are not finite in any backend"),
    later("judged up to step {step}: from there this recipe's numbers are not finite in any backend"),
    later("updates were not judged of {names}: rounding may be as large as they"),
    later("the judge itself is not what an independent formula gives: {stage}, {where}"),
    later("NumPy's runs that are trained together are not what each of them is alone: {where}"),
    later("{names} differ from the judge at one place, and alike: suspect the judge"),
    later("early stopping"),
    later("resuming"),
    later("trained together"),
    later("it holds {value} at {place}"),
    later("{n} losses are kept, {all} steps were taken"),
    later("the checkpoint: {problem}"),
    later('"{key}" is missing'),
    later("it has format {found}, this version reads format {wanted}"),
    later("missing: {names}"),
    later("unexpected: {names}"),
    later("of another shape: {names}"),
    later("it is not written for augmentation"),
    later("it is not written for the optimizer {name}"),
    later("it is not written for the loss {name}"),
    later("it is not written for {names}"),
    later("the machine is busy: its load average is {load} before anything starts"),
    later("times are unsteady: a fixed piece of work takes up to {n} times its median"),
    later(
        "the {size} images are enlarged {n} times (bilinear, zeros outside) and centred in {to}; values {before} "
        "become {after}"
    ),
    later("{n} images of each class, drawn by Lockstep's own generator with seed {seed}, are the test set"),
    later("the test images are {share} of each class, drawn by Lockstep's own generator with seed {seed}"),
    later("{n} images have transparent parts, which were laid on black"),
    later(
        "{n} of {all} images were resized to the most common size, {size} (height × width), by Pillow's bilinear "
        "filter, which averages when it shrinks; proportions are not kept"
    ),
    later("ignored: {names} (not pictures, or links out of the folder)"),
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
