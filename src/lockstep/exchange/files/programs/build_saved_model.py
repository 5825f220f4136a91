"""`python build_saved_model.py PLACE STEM`: the same model as the graphs of a SavedModel, STEM_saved_model.

`serve` gives logits and probabilities, `layers` every layer's output by its name.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import keras
import tensorflow as tf
from build_keras import model_of


def main(place: Path, stem: str) -> None:
    """Write the folder; what is known of the model lies in its assets.extra."""
    model, folder = model_of(place), place / f"{stem}_saved_model"
    outputs = {layer.name: layer.output for layer in model.layers if layer.name == "input" or layer.name[0].isdigit()}
    inside = keras.Model(model.inputs, outputs)

    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = model(images, training=False)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    archive = keras.export.ExportArchive()
    archive.track(inside)
    images = tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8, name="images")
    archive.add_endpoint("serve", serve, input_signature=[images])
    archive.add_endpoint("layers", lambda images: inside(images, training=False), input_signature=[images])
    archive.write_out(folder, verbose=False)
    (folder / "assets.extra").mkdir()
    shutil.copyfile(place / "facts.json", folder / "assets.extra" / "lockstep.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
