"""What the scripts of the page say, by the keys that they ask for; the template's own texts stand in the template."""

from __future__ import annotations

from lockstep.language import _


def words() -> dict[str, str]:
    """Key → text in the language in use, with {names} that the script fills in."""
    return {
        "seed": _("seed {n}"),
        "agree": _("The {n} runs of {network} give one answer; their numbers agree to {apart}."),
        "differ": _("The {n} runs of {network} do not give one answer: their numbers are up to {apart} apart."),
        "invitation": _("Draw, drop a picture here, paste one, or take a test picture."),
        "drawn_by_mass": _("Its box is brought to the dataset’s size, its centre of mass to the middle."),
        "drawn_by_box": _("Its box is brought to the dataset’s size and into the middle."),
        "drawn_whole": _("The whole pad is scaled to the size of the dataset’s pictures."),
        "test_picture": _("Test picture {n}: it is “{name}”, and enters untouched."),
        "picture_untouched": _("The picture has the dataset’s size and enters as it is."),
        "picture_scaled": _("The middle of the picture is scaled to the size of the dataset’s pictures."),
        "picture_boxed": _("What is inked in the picture is boxed, scaled and centred."),
        "picture_inverted": _("Its paper is of the other colour, so it is inverted; then boxed, scaled and centred."),
        "dot": _("A dot, and no digit: whatever is answered means little."),
        "bar": _("A bar that lies, and no digit: whatever is answered means little."),
        "strangeness_comes": _("How strange it is will be said in a moment."),
        "common": _("Stranger than {share} of the test pictures, for {run}: nothing unusual."),
        "strange": _(
            "Stranger than {share} of the test pictures, for {run}: perhaps it is none of these classes at all."
        ),
        "not_here": _("not measured here"),
        "nobody": _("none"),
        "choose_value": _("Choose a value."),
        "first_maps": _("{shape}, the first {n} maps"),
        "layer_label": _("Layer {name} of {run}, {shape}: arrow keys choose a value"),
        "unit": _("value {n}"),
        "place": _("row {row}, column {column}, map {map}"),
        "cell": _("row, column {at}: {value}"),
        "value": _("value"),
        "same_value": _("The layer’s value, to the last digit: {value}"),
        "other_value": _("The layer’s value is another one: {value}"),
        "sum_of": _("sum of {n} products"),
        "sum_of_values": _("sum of {n} values"),
        "divided_by": _("divided by"),
        "largest_of": _("The largest of {n} values; the first of them where several are."),
        "bias": _("bias"),
        "mean": _("mean"),
        "variance": _("variance"),
        "scale": _("scale"),
        "shift": _("shift"),
        "normal_form": _("scale · x̂ + shift, x̂ = (x − mean) / √(variance + ε)"),
        "leaky_form": _("x where x > 0, {slope} · x elsewhere"),
        "elu_form": _("x where x > 0, {alpha} · (eˣ − 1) elsewhere"),
        "dropout_copies": _("Dropout lets everything through once training is over."),
        "flatten_copies": _("The same value as {place} of the layer before, in another order."),
        "concat_copies": _("The same value as {place} of {name}."),
        "add_form": _("{first} · x₁ + {others} · (x₂ + …)"),
        "add_rectified": _("{first} · max(x₁, 0) + {others} · (x₂ + …)"),
        "of_x": _("input"),
        "of_weight": _("weight"),
        "of_product": _("product"),
        "input": _("place"),
        "terms": _("Terms"),
        "largest_terms": _("The {shown} largest of {all} terms are shown; all are added."),
        "then": _("then {name}"),
        "field": _("It looks at {n} of {all} pixels, outlined on the picture above."),
        "speaking_text": _(
            "For “{name}” by {run}: blue speaks for it, orange against it; patches of {side} × {side} pixels."
        ),
        "after_epoch": _("after epoch {n} of {all}"),
        "proving": _("The page proves itself: picture {at} of {n} …"),
        "proven": _(
            "{right} of {n}: every layer of all {runs} networks is computed as Lockstep’s judge does, "
            "to 1 part in 10¹⁰."
        ),
        "changed": _(
            "{right} of {n}: this page was changed or damaged: {what} is not what the judge computed. "
            "Make it again: lockstep play."
        ),
        "layer_of": _("{layer} of {run}"),
        "no_file": _("LS-308: what was dropped is no file. Drop a picture from a folder."),
        "no_picture": _(
            "LS-308: {name} is no picture that this browser reads. Take a PNG, JPEG, GIF or WebP; your drawing is kept."
        ),
        "file_too_large": _(
            "LS-308: {name} has {size} MiB, and at most {most} are read. Take a smaller picture; your drawing is kept."
        ),
    }
