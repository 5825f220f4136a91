"""What every script says alike, in NumPy: the generator, the data, the start, the order, masks, augmentation, the loop.

Each part is the text of functions; only what the run needs is written. The numbers are those of `lockstep.randomness`,
`data.batches`, `data.augmentation` and `backends.weights`, said once more in as few lines as a reader wants to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from string import Template
from typing import Any

import numpy as np

from lockstep.backends.weights import fans
from lockstep.data.quartet import FILES
from lockstep.exchange.scripts.given import Given, Target
from lockstep.exchange.scripts.lines import WIDTH, call, indented, listed
from lockstep.randomness import TRUNCATED_STD

# ------------------------------------------------------------------------------------------------------- the generator

BITS = '''
def bits(n, purpose, *position, seed=SEED):
    """Random 64-bit words by their place alone, whatever was drawn before (Salmon et al. 2011)."""
    counter = [0, *position, *(0,) * (3 - len(position))]
    return np.random.Philox(key=[seed, purpose], counter=counter).random_raw(n)
'''
UNIFORM = '''
def uniform(n, *place, **seed):
    """In [0, 1)."""
    return (bits(n, *place, **seed) >> np.uint64(11)) * 2.0**-53
'''
SYMMETRIC = '''
def symmetric(n, *place, **seed):
    """In [-1, 1)."""
    return 2 * uniform(n, *place, **seed) - 1
'''
NORMAL = '''
def normal(n, *place, **seed):
    """Of the standard normal distribution (Box & Muller 1958)."""
    u, v = uniform(2 * n, *place, **seed).reshape(2, n)
    return np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * np.pi * v)
'''
TRUNCATED = '''
def truncated_normal(n, *place, **seed):
    """Of the standard normal distribution within ±2: what lies outside is drawn again."""
    values, draw = normal(n, *place, **seed), 0
    while (outside := abs(values) > 2).any():
        draw += 1
        values[outside] = normal(n, *place, draw, **seed)[outside]
    return values
'''
PERMUTATION = '''
def permutation(n, *place, **seed):
    """The numbers 0 … n - 1 in random order."""
    return np.argsort(bits(n, *place, **seed), kind="stable")
'''


def generator(given: Given) -> Iterator[str]:
    """The functions that random numbers come from."""
    drawn = {_draw(given, name).partition("(")[0] for name in _drawn_names(given)}
    yield BITS
    if drawn or given.recipe.augmentation:
        yield UNIFORM
    if "symmetric" in drawn:
        yield SYMMETRIC
    if {"normal", "truncated_normal"} & drawn:
        yield NORMAL
    if "truncated_normal" in drawn:
        yield TRUNCATED
    yield PERMUTATION


# ---------------------------------------------------------------------------------------------------- starting weights

# kind → (the function that draws, what its numbers are multiplied by, from the record, fan_in and fan_out).
DISTRIBUTIONS: dict[str, tuple[str, Callable[[Any, int, int], str]]] = {
    "he_normal": ("normal", lambda given, fan_in, fan_out: f"math.sqrt(2 / {fan_in})"),
    "he_uniform": ("symmetric", lambda given, fan_in, fan_out: f"math.sqrt(6 / {fan_in})"),
    "glorot_normal": ("normal", lambda given, fan_in, fan_out: f"math.sqrt(2 / ({fan_in} + {fan_out}))"),
    "glorot_uniform": ("symmetric", lambda given, fan_in, fan_out: f"math.sqrt(6 / ({fan_in} + {fan_out}))"),
    "lecun_normal": ("normal", lambda given, fan_in, fan_out: f"math.sqrt(1 / {fan_in})"),
    "lecun_uniform": ("symmetric", lambda given, fan_in, fan_out: f"math.sqrt(3 / {fan_in})"),
    "normal": ("normal", lambda given, fan_in, fan_out: repr(given.std)),
    "uniform": ("symmetric", lambda given, fan_in, fan_out: repr(given.limit)),
    "torch_default": ("symmetric", lambda given, fan_in, fan_out: f"1 / math.sqrt({fan_in})"),
    "flax_default": (
        "truncated_normal",
        lambda given, fan_in, fan_out: f"math.sqrt(1 / {fan_in}) / {TRUNCATED_STD}",
    ),
    "zeros": ("", lambda given, fan_in, fan_out: ""),
}
DRAWN = '''
def drawn(distribution, size, shape, layer, parameter):
    """Numbers of a parameter's own place, rounded to float32."""
    values = distribution(math.prod(shape), WEIGHTS, layer, parameter$seed).reshape(shape)
    return (values * size).astype("float32")
'''


def _numbered(given: Given) -> Iterator[tuple[str, Any, tuple[int, ...], tuple[int, ...], int, int]]:
    """(name, record of its initializer, shape, kernel's shape, layer's number, place) of every drawn parameter."""
    n_kernels = 0
    for index, row in enumerate(given.plan.rows):
        number = index if given.run.format == 1 else n_kernels
        n_kernels += "kernel" in row.parameter_shapes
        for place, (what, shape) in enumerate(row.parameter_shapes.items()):
            if "kernel" in row.parameter_shapes:
                own = row.layer.initializer or given.plan.network.initializer
                chosen = own if what == "kernel" else row.layer.bias_initializer
                yield f"{row.name}/{what}", chosen, shape, row.parameter_shapes["kernel"], number, place


def _drawn_names(given: Given) -> list[str]:
    return [name for name, chosen, *_ in _numbered(given) if chosen.kind != "zeros"]


def _draw(given: Given, name: str) -> str:
    """The code of one drawn parameter: its distribution before the first parenthesis."""
    (found,) = [row for row in _numbered(given) if row[0] == name]
    _name, chosen, shape, kernel, number, place = found
    distribution, size = DISTRIBUTIONS[chosen.kind]
    return f"{distribution}({size(chosen, *fans(kernel))}|{shape}, {number}, {place})"


def starting_weights(given: Given, target: Target) -> Iterator[str]:
    """The starting weights, by canonical name and layout."""
    drawn = _drawn_names(given)
    if drawn:
        seed = ", seed=SEED + 1" if given.makes("weights_of_another_seed") else ""
        yield Template(DRAWN).substitute(seed=seed)
    rows = []
    for name, shape in given.plan.network.parameter_shapes(given.plan.input_shape).items():
        value = (
            f'np.{"ones" if name.endswith("/scale") else "zeros"}({shape[0] if len(shape) == 1 else shape}, "float32")'
        )
        if name in drawn:
            distribution, _, rest = _draw(given, name)[:-1].partition("(")
            size, _, place = rest.partition("|")
            value = f"drawn({distribution}, {size}, {place})"
        rows.append(f'"{name}": {value}')
    table = listed("{", rows, "}", 4).lstrip()
    remark = "".join(f"    # {line}\n" for line in target.remark.splitlines() if drawn)
    body = f"    return {table}"
    if given.makes("kernels_transposed"):
        body = f"""    weights = {table}
    # Transposed on purpose: square kernels of dense layers, height and width of convolutions.
    return {{
        name: value.swapaxes(0, 1) if value.ndim > 1 and value.shape[0] == value.shape[1] else value
        for name, value in weights.items()
    }}"""
    layout = "kernels are (in, out)" + (" or (height, width, in, out)" if given.has("conv2d") else "")
    yield f'def starting_weights():\n    """Every parameter by name; {layout}."""\n{remark}{body}'


# ---------------------------------------------------------------------------------------------------------------- data

DIGITS = '''
def load(folder):
    """scikit-learn's digits of 8×8, enlarged three times into 28×28; 36 of each class are the test images."""
    images, labels = load_digits(return_X_y=True)
    near = np.maximum(3 - abs(np.arange(28)[:, None] - (3 * np.arange(8) + 3)), 0)  # thirds of a pixel
    images = near @ images.reshape(-1, 8, 8).astype(int) @ near.T
    images = ((images * 510 + 144) // 288).astype("uint8")[..., None]
    is_test = np.zeros(len(labels), bool)
    for digit in range(10):
        own = np.flatnonzero(labels == digit)
        is_test[own[permutation(len(own), SPLIT, digit, seed=0)[:36]]] = True
    return images[~is_test], labels[~is_test], images[is_test], labels[is_test]
'''
IDX = '''
def load(folder):
    """The four IDX files of a folder, gzipped or not: images (n, $height, $width, $channels), labels (n,)."""
    arrays = []
    for name in ($names):
        path = next(Path(folder).glob(f"{name}-ubyte*"))
        content = (gzip.open if path.suffix == ".gz" else open)(path, "rb").read()
        shape = np.frombuffer(content, ">i4", content[3], 4)
        arrays.append(np.frombuffer(content, "uint8", offset=4 + 4 * content[3]).reshape(shape))
    train_images, train_labels, test_images, test_labels = arrays
    return train_images[..., None], train_labels.astype(int), test_images[..., None], test_labels.astype(int)
'''
NPZ = '''
def load(file):
    """Images (n, $height, $width, $channels) of uint8 and labels (n,), to train on and to test."""
    with np.load(file, allow_pickle=False) as arrays:
        names = ("train_images", "train_labels", "test_images", "test_labels")
        return [arrays[name] for name in names]
'''
PART = '''
def part(kept, labels, n):
    """The first `n` of these images: of each class its share, one of every class before any second."""
    own = labels[kept]
    by_class = np.argsort(own, kind="stable")
    classes, starts, counts = np.unique(own[by_class], return_index=True, return_counts=True)
    place = np.searchsorted(classes, own)
    rank = np.empty(len(own), int)
    rank[by_class] = np.arange(len(own)) - np.repeat(starts, counts)
    share = np.where(rank, (rank + 0.5) / counts[place], 0.0)
    return kept[np.sort(np.lexsort((place, share))[:n])]
'''


def reading(given: Given) -> Iterator[str]:
    """How the data are read, and which of them are trained on."""
    height, width, channels = given.plan.input_shape
    text = {"digits": DIGITS, "idx": IDX, "npz": NPZ}[given.source]
    globs = ", ".join(f'"{name.replace("-idx", "?idx").removesuffix("-ubyte")}"' for name in FILES.values())
    yield Template(text).substitute(height=height, width=width, channels=channels, names=globs)
    if given.run.train_size and given.run.format != 1:
        yield PART
    yield _prepare(given)


def _prepare(given: Given) -> str:
    mean, scale = given.plan.mean, given.plan.scale
    pixels, lines = f'images.astype("{given.dtype}")', list[str]()
    for what, values, sign, nothing in (("mean", mean, "-", 0.0), ("scale", scale, "*", 1.0)):
        if (values == nothing).all():
            continue
        text = _number_text(values, given.dtype)
        if "[" in text:
            numbers = ", ".join(map(repr, map(float, values)))
            lines.append(call(f"{what} = np.array(", [f"[{numbers}]", f'"{given.dtype}"'], deeper=4))
            text = what
        pixels = f"{pixels} {sign} {text}" if sign == "-" else f"{_factor(pixels)} {sign} {text}"
    said = "Pixels as they enter the network" + (": 0 … 255, on purpose" if given.makes("scaling_missing") else "")
    body = "\n".join([*lines, f"return {pixels}"])
    return f'def prepare(images):\n    """{said}."""\n{indented(body)}'


def _factor(text: str) -> str:
    return f"({text})" if " - " in text else text


def _number_text(values: np.ndarray, dtype: str) -> str:
    """One number for all channels, or one for each."""
    numbers = [float(value) for value in values]
    if len(set(numbers)) == 1:
        return f"np.{dtype}(1 / 255)" if numbers[0] == 1 / 255 else f"np.{dtype}({numbers[0]!r})"
    return f'np.array({numbers}, "{dtype}")'


# --------------------------------------------------------------------------------------------------------- every epoch

AUGMENT = '''
def augment(images, epoch):
    """The images of one epoch, $what; each by its own numbers."""
    n, height, width, _ = images.shape
    changed = images.copy()
'''
FLIP = """
    flip = uniform(n, AUGMENTATION, epoch, 0) < 0.5
    changed[flip] = changed[flip, :, ::-1]
"""
ROTATE = """
    angles = np.deg2rad((2 * uniform(n, AUGMENTATION, epoch, 1) - 1) * $rotation)
    for k, (sin, cos) in enumerate(zip(np.sin(angles), np.cos(angles))):  # bilinear, zeros outside
        y, x = np.arange(height)[:, None] - (height - 1) / 2, np.arange(width) - (width - 1) / 2
        rows = np.clip(cos * y + sin * x + (height - 1) / 2, -1, height)
        columns = np.clip(cos * x - sin * y + (width - 1) / 2, -1, width)
        top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
        down, right = (rows - top)[..., None], (columns - left)[..., None]
        padded = np.pad(changed[k].astype(float), ((1, 2), (1, 2), (0, 0)))
        corners = [padded[top + i + 1, left + j + 1] for i in (0, 1) for j in (0, 1)]
        above = corners[0] * (1 - right) + corners[1] * right
        below = corners[2] * (1 - right) + corners[3] * right
        changed[k] = np.rint(above * (1 - down) + below * down)
"""
SHIFT = """
    moves = [np.floor(uniform(n, AUGMENTATION, epoch, k) * $span).astype(int) - $shift for k in (2, 3)]
    padded = np.pad(changed, ((0, 0), ($shift, $shift), ($shift, $shift), (0, 0)))
    for k, (down, right) in enumerate(zip(*moves)):
        top, left = $shift - down, $shift - right
        changed[k] = padded[k, top : top + height, left : left + width]
"""
MASK = '''
def mask(shape, rate, step, layer):
    """What a dropout layer multiplies by: 0, or $factor where 16 random bits keep a value."""
    n = math.prod(shape)
    words = bits(-(-n // 4), DROPOUT, step, layer$seed).astype("<u8").view("<u2")[:n]
    kept = (words < round((1 - rate) * 65536)).reshape(shape)
    return kept.astype("$dtype")$scaled
'''
MASKS = '''
def masks(step, n):
    """Dropout layer → its mask for the $n images of a step; a framework's own would be another."""
'''


def every_epoch(given: Given) -> Iterator[str]:
    """Augmentation, dropout masks and the learning rate."""
    change = given.recipe.augmentation
    if change:
        words = {"flipped": change.flip, "rotated": change.rotation, "shifted": change.shift}
        said = [word for word, is_so in words.items() if is_so]
        parts = [Template(AUGMENT).substitute(what=" and ".join(said))]
        parts += [FLIP] if change.flip else []
        parts += [Template(ROTATE).substitute(rotation=change.rotation)] if change.rotation else []
        numbers = {"shift": change.shift, "span": 2 * change.shift + 1}
        parts += [Template(SHIFT).substitute(numbers)] if change.shift else []
        body = "\n".join(part.strip("\n") for part in parts) + "\n    return changed"
        if not (change.shift or change.rotation):
            body = body.replace("n, height, width, _ = images.shape", "n = len(images)")
        yield body
    if given.masked:
        yield from _masks(given)
    if given.is_scheduled:
        yield learning_rate(given)


def _masks(given: Given) -> Iterator[str]:
    is_scaled = not given.makes("dropout_not_scaled")
    seed = ", seed=SEED + 1" if given.makes("dropout_of_another_seed") else ""
    scaled = f" * np.{given.dtype}(1 / (1 - rate))" if is_scaled else ""
    factor = "1 / (1 - rate)" if is_scaled else "1, on purpose,"
    yield Template(MASK).substitute(dtype=given.dtype, factor=factor, scaled=scaled, seed=seed)
    rows = []
    for name, (number, row) in given.masked.items():
        rate = 1 - row.layer.rate if given.makes("dropout_rate_kept") else row.layer.rate
        rows.append(f'"{name}": mask((n, {", ".join(map(str, row.output_shape))}), {rate!r}, step, {number})')
    yield Template(MASKS).substitute(n="`n`").strip("\n") + "\n    return " + listed("{", rows, "}", 4).lstrip()


# kind → (record) → the statements that give the factor of the learning rate, from `step`, `steps` and `epoch`.
SCHEDULES: dict[str, Callable[[Any], str]] = {
    "constant": lambda s: "return LEARNING_RATE",
    "step": lambda s: f"return LEARNING_RATE * {s.factor_per_drop!r} ** (step * EPOCHS // steps // {s.every})",
    "cosine": lambda s: (
        f"share = step / steps\n"
        f"return LEARNING_RATE * ({s.final!r} + {1 - s.final!r} * 0.5 * (1 + math.cos(math.pi * share)))"
    ),
    "one_cycle": lambda s: (
        f"low, high, share = {s.start!r}, 1.0, step / steps / {s.warm_up!r}\n"
        f"if share >= 1:\n"
        f"    low, high, share = 1.0, {s.final!r}, (step / steps - {s.warm_up!r}) / {1 - s.warm_up!r}\n"
        f"return LEARNING_RATE * (high + (low - high) * 0.5 * (1 + math.cos(math.pi * share)))"
    ),
}


def learning_rate(given: Given) -> str:
    """The function that gives a step's learning rate."""
    said = "The learning rate of a step, of `steps` in all"
    late = ""
    if given.makes("rate_late"):
        said, late = "The learning rate of a step: on purpose that of the one before", "step = max(step - 1, 0)\n"
    body = indented(late + SCHEDULES[given.recipe.schedule.kind](given.recipe.schedule))
    return f'def learning_rate(step, steps):\n    """{said}."""\n{body}'


# ------------------------------------------------------------------------------------------------------------ the loop


def training(given: Given, target: Target) -> Iterator[str]:
    """The epochs, with early stopping where the recipe has it, and what is written at the end."""
    recipe = given.recipe
    stopping = recipe.early_stopping if given.n_validation else None
    images = "augment(images, epoch)" if recipe.augmentation else "images"
    order = "permutation(len(images), ORDER, epoch)"
    if given.makes("order_not_shuffled"):
        order = "np.arange(len(images))  # not shuffled, on purpose"
    n = "len(images) // BATCH_SIZE" if given.makes("last_batch_dropped") else "math.ceil(len(images) / BATCH_SIZE)"
    if given.makes("last_batch_dropped"):
        n = f"max({n}, 1)  # the short last one is left out, on purpose"
    arguments = "images, labels, steps_asked" + (", validation" if stopping else "")
    body = [
        f"def train({arguments}):",
        '    """Every step of every epoch: the trained network, and each step\'s loss."""',
        *(f"    {line}" for line in target.begin(given)),
        *_stopping_begin(stopping),
        "    losses = []",
        f"    n_batches = {n}",
        "    for epoch in range(EPOCHS):",
        *([f"        pixels = {images}"] if recipe.augmentation else []),
        f"        order = {order}",
        "        for start in range(0, n_batches * BATCH_SIZE, BATCH_SIZE):",
        "            batch = order[start : start + BATCH_SIZE]",
        f"            x = prepare({'pixels' if recipe.augmentation else 'images'}[batch])",
        *(["            now = masks(len(losses), len(batch))"] if given.masked else []),
        *(["            rate = learning_rate(len(losses), EPOCHS * n_batches)"] if given.is_scheduled else []),
        *(f"            {line}" for line in target.take(given).splitlines()),
        "            losses.append(float(loss))",
        "            if len(losses) == steps_asked:",
        "                return model, losses",
        '        print(f"epoch {epoch + 1}: loss of its last step {losses[-1]:.4f}", flush=True)',
        *_stopping_each(stopping),
        *(["    put(model, kept)"] if stopping and stopping.restore_best else []),
        "    return model, losses",
    ]
    yield "\n".join(body)
    yield _main(given, bool(stopping))


def _stopping_begin(stopping: Any) -> list[str]:
    return ["    best, best_epoch = math.inf, 0"] if stopping else []


def _stopping_each(stopping: Any) -> list[str]:
    """What happens after an epoch: the validation images are looked at, and perhaps it was the last one."""
    if not stopping:
        return []
    measure = "loss" if stopping.monitor == "validation_loss" else "accuracy"
    value = "validation_loss(predict(model, prepare(validation[0])), validation[1])"
    if measure == "accuracy":
        value = "-(predict(model, prepare(validation[0])).argmax(1) == validation[1]).mean()"
    keep = ["            kept = values(model)"] if stopping.restore_best else []
    return [
        f"        value = {value}",
        f"        if value < best - {stopping.min_delta!r}:" if stopping.min_delta else "        if value < best:",
        "            best, best_epoch = value, epoch",
        *keep,
        f"        elif epoch - best_epoch >= {stopping.patience}:",
        "            break",
    ]


VALIDATION_LOSS = '''
def validation_loss(logits, labels):
    """The mean over all images, in float64."""
    wanted = np.eye($classes)[labels]
    z = logits.astype(float) - logits.max(1, keepdims=True)
$body
'''
# loss → the statements behind that: what is reported of predictions, without label smoothing.
REPORTED = {
    "cross_entropy": "logs = z - np.log(np.exp(z).sum(1, keepdims=True))\nreturn -(wanted * logs).sum(1).mean()",
    "mean_squared_error": "return np.square(logits.astype(float) - wanted).mean()",
    "cross_entropy_clipped": (
        "p = np.exp(z) / np.exp(z).sum(1, keepdims=True)\n"
        "return -(wanted * np.log(np.clip(p, 1e-7, 1 - 1e-7))).sum(1).mean()"
    ),
    "cross_entropy_softmax_twice": (
        "p = np.exp(z) / np.exp(z).sum(1, keepdims=True)\n"
        "return -(wanted * (p - np.log(np.exp(p).sum(1, keepdims=True)))).sum(1).mean()"
    ),
}


def reported_loss(given: Given) -> Iterator[str]:
    """The loss of the validation images, where early stopping looks at it."""
    stopping = given.recipe.early_stopping if given.n_validation else None
    if stopping and stopping.monitor == "validation_loss":
        body = indented(REPORTED[given.recipe.loss])
        text = Template(VALIDATION_LOSS).substitute(classes=given.plan.classes, body=body)
        unused = "    z =" if given.recipe.loss == "mean_squared_error" else None
        yield "\n".join(line for line in text.splitlines() if not unused or not line.startswith(unused))


MAIN = """
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="$data", help="$data_help")
    parser.add_argument("--out", default="result.npz", help="losses, weights, predictions, accuracy")
    parser.add_argument("--steps", type=int, help="take only the first N steps")
    parser.add_argument("--images", type=int, help="train on the first N images only")
    options = parser.parse_args()
    images, labels, test_images, test_labels = load(options.data)
$split
    model, losses = train(images[kept], labels[kept], options.steps$more)
    logits = predict(model, prepare(test_images))
    accuracy = (logits.argmax(1) == test_labels).mean()
    print(f"test accuracy {100 * accuracy:.2f} %")
    results = {"losses": losses, "logits": logits, "accuracy": accuracy}
    np.savez(options.out, **results, **values(model))
"""


def _main(given: Given, stops: bool) -> str:
    said = {
        "digits": (".", "not needed: scikit-learn has the digits"),
        "idx": (".", "the folder with the four IDX files"),
        "npz": ("$DATA", "the .npz file with images and labels"),
    }[given.source]
    split = ["kept = np.arange(len(images))"]
    if given.n_validation:
        split = ["order = permutation(len(images), SPLIT)"]
        split += [f"kept, held_out = np.sort(order[{given.n_validation}:]), np.sort(order[:{given.n_validation}])"]
        if not stops:
            split = [
                f"kept = np.sort(permutation(len(images), SPLIT)[{given.n_validation}:])  # the rest is for validation"
            ]
    if given.run.train_size:
        size = given.run.train_size
        split += [f"kept = kept[:{size}]" if given.run.format == 1 else f"kept = part(kept, labels, {size})"]
    split += ["kept = kept[: options.images]"]
    more = ", (images[held_out], labels[held_out])" if stops else ""
    text = Template(MAIN).safe_substitute(data=said[0], data_help=said[1], split=indented("\n".join(split)), more=more)
    return "\n".join(_shortened(line) for line in text.splitlines())


def _shortened(line: str) -> str:
    """A call of the loop broken where the line is too long."""
    if len(line) <= WIDTH or "(" not in line:
        return line
    indent = len(line) - len(line.lstrip())
    head, _, rest = line.strip().partition("(")
    return call(f"{head}(", rest[:-1].split(", "), indent=indent)
