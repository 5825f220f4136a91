"""Keras's own means: a seed for its generator, layers in a Sequential model, compile and fit, callbacks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lockstep.backends.plan import window_padding
from lockstep.exchange.scripts import decisions
from lockstep.exchange.scripts.given import Given
from lockstep.exchange.scripts.idiomatic import Idiom
from lockstep.exchange.scripts.lines import call, indented, listed, pair
from lockstep.spec import LayerFacts

# kind → what Keras calls it
INITIALIZERS: dict[str, Any] = {
    "he_normal": lambda s: '"he_normal"',
    "he_uniform": lambda s: '"he_uniform"',
    "glorot_normal": lambda s: '"glorot_normal"',
    "glorot_uniform": lambda s: "",
    "lecun_normal": lambda s: '"lecun_normal"',
    "lecun_uniform": lambda s: '"lecun_uniform"',
    "normal": lambda s: f"keras.initializers.RandomNormal(stddev={s.std!r})",
    "uniform": lambda s: f"keras.initializers.RandomUniform(-{s.limit!r}, {s.limit!r})",
    "torch_default": lambda s: 'keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")',
    "flax_default": lambda s: '"lecun_normal"',
    "zeros": lambda s: '"zeros"',
}


def imports(given: Given) -> list[str]:
    """The framework's own lines."""
    return ["import keras"]


def _started(row: LayerFacts, given: Given) -> list[str]:
    """Bias, initializers and L2 of a layer with a kernel, where not as Keras has them."""
    layer, own = row.layer, row.layer.initializer or given.plan.network.initializer
    found = [] if layer.bias else ["use_bias=False"]
    if name := INITIALIZERS[own.kind](own):
        found.append(f"kernel_initializer={name}")
    if layer.bias and layer.bias_initializer.kind != "zeros":
        found.append(f"bias_initializer={INITIALIZERS[layer.bias_initializer.kind](layer.bias_initializer)}")
    if given.recipe.l2:
        found.append(f"kernel_regularizer=keras.regularizers.L2({given.recipe.l2 / 2!r})")
    return found


def _conv2d(row: LayerFacts, given: Given) -> list[str]:
    layer = row.layer
    strides = [f"strides={pair(layer.stride)}"] if layer.stride != (1, 1) else []
    padding = ['padding="same"'] if layer.padding == "same" else []
    before = [f"keras.layers.ZeroPadding2D({window_padding(row)})"] if layer.padding == "same_lower" else []
    arguments = [str(layer.filters), pair(layer.kernel), *strides, *padding, *_started(row, given)]
    return [*before, f"keras.layers.Conv2D({', '.join(arguments)})"]


def _pool(kind: str, row: LayerFacts) -> list[str]:
    size, stride = row.layer.window()
    strides = [f"strides={pair(stride)}"] if stride != size else []
    padding = ['padding="same"'] if row.layer.padding == "same" else []
    return [f"keras.layers.{kind}({', '.join([pair(size), *strides, *padding])})"]


def _avg_pool2d(row: LayerFacts, given: Given) -> list[str]:
    layer = row.layer
    if layer.padding == "valid" or (layer.padding == "same" and not layer.count_padding):
        return _pool("AveragePooling2D", row)
    size, stride = layer.window()
    padded = [f"keras.layers.ZeroPadding2D({window_padding(row)})"]
    mean = [f"keras.layers.AveragePooling2D({pair(size)}, strides={pair(stride)})"]
    return [*padded, *mean]


def _batch_norm(row: LayerFacts, given: Given) -> list[str]:
    layer = row.layer
    return [f"keras.layers.BatchNormalization(momentum={1 - layer.momentum!r}, epsilon={layer.epsilon!r})"]


def _layer_norm(row: LayerFacts, given: Given) -> list[str]:
    layer = row.layer
    kind = "LayerNormalization(" if layer.over == "channels" else "GroupNormalization(groups=1, "
    return [f"keras.layers.{kind}epsilon={layer.epsilon!r})"]


def _plain(text: str) -> Any:
    return lambda row, given: [text]


LAYERS: dict[str, Any] = {
    "conv2d": _conv2d,
    "max_pool2d": lambda row, given: _pool("MaxPooling2D", row),
    "avg_pool2d": _avg_pool2d,
    "global_avg_pool": _plain("keras.layers.GlobalAveragePooling2D()"),
    "flatten": lambda row, given: [
        *(["keras.layers.Permute((3, 1, 2))"] if row.layer.order == "chw" and len(row.input_shape) == 3 else []),
        "keras.layers.Flatten()",
    ],
    "dense": lambda row, given: [f"keras.layers.Dense({', '.join([str(row.layer.units), *_started(row, given)])})"],
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "dropout": lambda row, given: [f"keras.layers.Dropout({row.layer.rate!r})"],
    "relu": _plain('keras.layers.Activation("relu")'),
    "leaky_relu": lambda row, given: [f"keras.layers.LeakyReLU(negative_slope={row.layer.slope!r})"],
    "elu": lambda row, given: [f"keras.layers.ELU({row.layer.alpha!r})"],
    "tanh": _plain('keras.layers.Activation("tanh")'),
    "sigmoid": _plain('keras.layers.Activation("sigmoid")'),
    "softplus": _plain('keras.layers.Activation("softplus")'),
    "gelu": lambda row, given: (
        ['keras.layers.Activation("gelu")']
        if row.layer.form == "exact"
        else ["keras.layers.Lambda(lambda x: keras.activations.gelu(x, approximate=True))"]
    ),
}
REMARKS = {  # a word of a layer's line → the remark before the model
    "kernel_initializer": "Keras's own would draw kernels by Glorot's uniform distribution",
    "BatchNormalization(": "Keras's own has momentum 0.99 and epsilon 1e-3, and averages the biased variance",
    "LeakyReLU(": "Keras's own slope is 0.3",
    "LayerNormalization(": "Keras's own epsilon is 1e-3",
}


def sections(given: Given) -> Iterator[str]:
    """Everything behind the data."""
    if given.is_scheduled:
        yield decisions.learning_rate(given)
        yield '''class Schedule(keras.callbacks.Callback):
    """The learning rate of every step."""

    step = 0

    def on_train_batch_begin(self, batch, logs=None):
        rate = learning_rate(self.step, EPOCHS * self.params["steps"])
        self.model.optimizer.learning_rate, self.step = rate, self.step + 1'''
    yield _network(given)
    yield _main(given)


def _network(given: Given) -> str:
    change, rows = given.recipe.augmentation, list[str]()
    height, width, _channels = given.plan.input_shape
    rows.append(f"keras.Input({given.plan.input_shape})")
    if change and change.flip:
        rows.append('keras.layers.RandomFlip("horizontal")')
    if change and change.rotation:
        rows.append(f'keras.layers.RandomRotation({change.rotation / 360!r}, fill_mode="constant")')
    if change and change.shift:
        sizes = f"{change.shift} / {height}, {change.shift} / {width}"
        rows.append(f'keras.layers.RandomTranslation({sizes}, fill_mode="constant", interpolation="nearest")')
    for row in given.plan.rows:
        rows += LAYERS[row.layer.kind](row, given)
    text = "\n".join(rows)
    remarks = [f"    # {remark}" for word, remark in REMARKS.items() if word in text]
    layers = listed("layers = [", [_broken(row) for row in rows], "]", 4)
    return "\n".join(["def network():", *remarks, layers, "    return keras.Sequential(layers)"])


def _broken(row: str) -> str:
    """A layer's line, over several where it is too long."""
    head, _, rest = row.partition("(")
    if len(row) <= 100:
        return row
    arguments = re.split(r", (?![^()]*\))", rest[:-1])  # not within another call's parentheses
    return call(f"{head}(", arguments, indent=8).lstrip()


def _optimizer(given: Given) -> list[str]:
    o, recipe = given.recipe.optimizer, given.recipe
    options = ["LEARNING_RATE"]
    remarks = []
    if o.kind in ("adam", "adamw"):
        kind = "AdamW" if o.kind == "adamw" else "Adam"
        options += [f"beta_1={o.beta1!r}", f"beta_2={o.beta2!r}"] if (o.beta1, o.beta2) != (0.9, 0.999) else []
        options += [f"epsilon={o.epsilon!r}"] if o.epsilon != 1e-7 else []
        options += [f"weight_decay={o.weight_decay!r}"] if o.kind == "adamw" else []
        remarks = ["# Keras's own epsilon is 1e-7"] if o.epsilon != 1e-7 else []
    elif o.kind == "rmsprop":
        kind = "RMSprop"
        options += [f"rho={o.rho!r}", f"epsilon={o.epsilon!r}"]
        remarks = ["# Keras's own epsilon is 1e-7"]
    else:
        kind = "SGD"
        options += [f"momentum={o.momentum!r}"] if o.kind != "sgd" else []
        options += ["nesterov=True"] if o.kind == "nesterov" else []
    if recipe.clip_norm:
        options += [f"{'clipnorm' if recipe.clip_scope == 'tensor' else 'global_clipnorm'}={recipe.clip_norm!r}"]
    lines = [*remarks, call(f"optimizer = keras.optimizers.{kind}(", options, deeper=4)]
    if o.kind == "adamw":
        lines += ['optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])  # Keras\'s own decays all']
    return lines


def _loss(given: Given) -> list[str]:
    recipe, classes = given.recipe, given.plan.classes
    sum_of = ', reduction="sum"' if recipe.loss_reduction == "sum" else ""
    if recipe.loss == "cross_entropy":
        smoothing = f", label_smoothing={recipe.label_smoothing!r}" if recipe.label_smoothing else ""
        made = f"loss = keras.losses.CategoricalCrossentropy(from_logits=True{smoothing}{sum_of})"
        return ["# Keras's own takes what comes out for probabilities", made]
    share = recipe.label_smoothing
    targets = f"y * {1 - share!r} + {share / classes!r}" if share else "y"
    mean = "keras.ops.mean(keras.ops.square(z - t))" + (" * len(z)" if sum_of else "")
    return [f"loss = lambda y, z: (lambda t: {mean})({targets})  # noqa: E731"]


def _listed(callbacks: list[str]) -> list[str]:
    line = f"callbacks = [{', '.join(callbacks)}]"
    return [line] if len(line) <= 106 else listed("callbacks = [", callbacks, "]").splitlines()


def _main(given: Given) -> str:
    recipe = given.recipe
    stopping = recipe.early_stopping if given.n_validation else None
    data = ["x, y = prepare(images), keras.utils.to_categorical(labels)"]
    if given.run.train_size or given.n_validation:
        n, size = given.n_validation, given.run.train_size
        data += ["order = np.random.permutation(len(x))"]
        end = f"{n} : {n + size}" if size else f"{n}:"
        data += [f"held_out, kept = order[:{n}], order[{end}]"] if stopping else [f"kept = order[{end}]"]
    arguments = ["x[kept]", "y[kept]"] if len(data) > 1 else ["x", "y"]
    # Keras's own shuffles, and its batch has 32.
    arguments += ["batch_size=BATCH_SIZE", "epochs=EPOCHS", "verbose=2"]
    callbacks = ["Schedule()"] if given.is_scheduled else []
    if stopping:
        monitor = {"validation_loss": "val_loss", "validation_accuracy": "val_accuracy"}[stopping.monitor]
        options = [f'"{monitor}"', f"patience={stopping.patience}"]
        options += [f"min_delta={stopping.min_delta!r}"] if stopping.min_delta else []
        options += ["restore_best_weights=True"] if stopping.restore_best else []
        callbacks += [f"keras.callbacks.EarlyStopping({', '.join(options)})"]
        arguments += ["validation_data=(x[held_out], y[held_out])"]
    arguments += ["callbacks=callbacks"] if callbacks else []
    lines = [
        "parser = argparse.ArgumentParser()",
        f'parser.add_argument("--data", default="{"$DATA" if given.source == "npz" else "."}")',
        'parser.add_argument("--out", default="result.npz")',
        'parser.add_argument("--seed", type=int, default=SEED)',
        "options = parser.parse_args()",
        "keras.utils.set_random_seed(options.seed)",
        "images, labels, test_images, test_labels = load(options.data)",
        *data, *_loss(given), *_optimizer(given), "model = network()",
        'model.compile(optimizer, loss, metrics=["accuracy"])',
        *(_listed(callbacks) if callbacks else []),
        call("model.fit(", arguments, deeper=4),
        "logits = model.predict(prepare(test_images), batch_size=500, verbose=0)",
        "accuracy = (logits.argmax(1) == test_labels).mean()",
        'print(f"test accuracy {100 * accuracy:.2f} %")',
        "np.savez(options.out, logits=logits, accuracy=accuracy)",
    ]  # fmt: skip
    return "def main():\n" + indented("\n".join(lines))


IDIOM = Idiom("Keras", imports, sections)
