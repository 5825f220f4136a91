"""The table: small faults, each as a real slip would be, and where a proof should say it.

A row of *.toml has a `name`, `what` is wrong, a `study` that is small and lets the fault bite, and the `places` where
it may be said: a stage and a layer, parameter or array ("forward: 2_max_pool2d", with * for anything), or a word of
PLACES, where only something that is done once more can show it. `edits` are pairs of a text of the file and of what
takes its place. `causes` are those of the catalogue that are true of the fault, if any: a slip is rarely a known
difference, and any other name is a false one. What all rows of a file have in common stands at its head.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Asked:
    """A study to prove: a file of studies/ with what is changed in it, or its own text."""

    file: str = ""
    networks: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Mutant:
    """A fault. `guilty` are those whom a proof may name for it; `first_step` is the step that it should name."""

    name: str
    what: str
    file: str  # in src/lockstep
    study: str
    places: tuple[str, ...]
    edits: tuple[tuple[str, str], ...]
    backends: tuple[str, ...]
    guilty: tuple[str, ...]
    causes: tuple[str, ...] = ()
    steps: int = 10
    threads: int = 1
    first_step: int | None = None
    equivalent: str = ""  # why nothing can see it
    missed: str = ""  # why a proof does not see it: what would have to be observed


# ------------------------------------------------------------------------------------------------------------ studies


def shipped(file: str, network: str, batch: int, *settings: str) -> Asked:
    """A network of studies/, on digits in small batches: all that its faults need."""
    small = ("dataset=digits", f"recipe.batch_size={batch}", 'device="cpu"')
    return Asked(f"{file}.toml", (network,), (*small, *settings))


def own(layers: str, recipe: str = "", more: str = "", dataset: str = "digits") -> Asked:
    """A study of one network, in batches of 16."""
    given = "" if "batch_size" in recipe else "batch_size = 16\n"
    words = ", ".join(f'"{word.strip()}"' for word in layers.split("|"))
    text = (
        f'name = "lab"\ndataset = "{dataset}"\n{more}\nnetworks.n = [{words}]\n[recipe]\nepochs = 4\n{given}{recipe}\n'
    )
    return Asked(text=text.replace("epochs = 4\n", "") if "epochs" in recipe else text)


MLP = "flatten | dense 24 | relu | dense 10"
STUDIES: dict[str, Asked] = {
    # of studies/
    "mlp": Asked("demo.toml", ("mlp",)),
    "cnn": Asked("demo.toml", ("cnn",)),
    "norm4": shipped("lab-architectures", "conv4-norm", 8),
    "norm4-32": shipped("lab-architectures", "conv4-norm", 32),
    "norm3": shipped("lab-regularisation", "batch-norm", 16),
    "l2": shipped("lab-regularisation", "l2", 16),
    "everything": shipped("lab-regularisation", "together", 16),
    "flipped": shipped("lab-regularisation", "augmentation", 16),
    "lenet": shipped("lab-lenet", "lenet", 16),
    "speedrun": shipped("speedrun", "speedrun", 32, "train_size=700"),
    "mlp800": shipped("lab-from-scratch", "mlp800", 32),
    # small ones that resemble them, where the recipe or layer is in none of them
    "momentum": own("flatten | dense 30 | tanh | dense 30 | tanh | dense 10",
                    'optimizer = "momentum 0.1"\nschedule = "cosine"'),
    "rmsprop": own(MLP, 'optimizer = "rmsprop 0.001"\nschedule = "cosine"'),
    "nesterov": own(MLP, 'optimizer = "nesterov 0.05"\nschedule = "cosine"'),
    "velocity": own(MLP, 'optimizer = "momentum 0.05 0.9 velocity"\nschedule = "cosine"'),
    "adamw": own(MLP, 'optimizer = "adamw 0.01 0.05"\nschedule = "cosine"'),
    "hat": own(MLP, 'optimizer = "adam 0.001 epsilon=1e-4 epsilon_mode=hat"'),
    "decayed": own(MLP, 'optimizer = "sgd 0.1"\nl2 = 0.01'),
    "clip": own(MLP, 'optimizer = "momentum 0.05"\nl2 = 0.05\nclip_norm = 0.5'),
    "clip-each": own(MLP, 'optimizer = "sgd 0.1"\nclip_norm = 0.2\nclip_scope = "tensor"'),
    "clip-loose": own(MLP, 'optimizer = "sgd 0.1"\nclip_norm = 50.0'),
    # gradients of 0.05, beside which 1e-6 is not nothing
    "clip-small": own("flatten | dense 24 initializer='normal 0.01' | relu | dense 10 initializer='normal 0.01'",
                      'optimizer = "momentum 0.1"\nloss = "mean_squared_error"\nclip_norm = 0.01'),
    "squared": own(MLP, 'optimizer = "sgd 0.1"\nloss = "mean_squared_error"\nlabel_smoothing = 0.1'),
    "smooth": own(MLP, "label_smoothing = 0.1"),
    "steps": own(MLP, 'optimizer = "sgd 0.1"\nschedule = "step 1 0.3"'),
    "activations": own("flatten | dense 20 | leaky_relu | dense 20 | elu 0.5 | dense 20 | gelu | dense 20 | softplus | "
                       "dense 20 | tanh | dense 20 | sigmoid | dense 10"),
    "tanh-gelu": own("flatten | dense 20 | gelu tanh | dense 10"),
    "double": own("flatten | dense 12 | gelu | dense 10", 'optimizer = "sgd 0.01"', 'dtype = "float64"'),
    "double-wide": own("flatten | dense 12 initializer='normal 2.0' | softplus | dense 10",
                       'optimizer = "sgd 0.01"', 'dtype = "float64"'),
    # 28 → 14 (1 zero high, 3 wide) → 7 (1 zero) → 4 (2 zeros); what enters the pooling may be below 0
    "windows": own("conv2d 4 [3, 5] 2 same | elu | max_pool2d 3 2 same | conv2d 6 3 padding=same | leaky_relu | "
                   "avg_pool2d 3 2 same | flatten | dense 10"),
    "lower": own("conv2d 4 3 2 same_lower | relu | avg_pool2d 2 2 same_lower | conv2d 4 3 padding=valid | relu | "
                 "avg_pool2d 2 2 same_lower | flatten chw | dense 10"),
    "ties": own("conv2d 4 5 | sigmoid | max_pool2d | conv2d 4 3 | sigmoid | max_pool2d 3 2 | flatten | dense 10"),
    "shared": own("conv2d 4 5 | sigmoid | max_pool2d ties=shared | flatten | dense 10"),
    "mean": own("conv2d 6 3 [2, 1] | relu | global_avg_pool | dense 10"),
    "averaged": own("conv2d 4 5 | relu | avg_pool2d | flatten | dense 10"),
    "skipping": own("conv2d 4 5 | relu | conv2d 4 3 2 | relu | flatten | dense 10"),  # one row and column in no window
    "narrow": own("conv2d 4 5 2 | relu | conv2d 64 3 | relu | flatten | dense 10", "batch_size = 3"),
    "drop": own("flatten | dense 32 | relu | dropout 0.3 | dense 10", 'schedule = "cosine"'),
    "drop-image": own("conv2d 4 5 2 | relu | dropout 0.3 | flatten | dense 10"),
    "norm": own("flatten | dense 24 bias=false | batch_norm | relu | dense 10", 'schedule = "cosine"'),
    "norm-sgd": own("conv2d 4 5 2 bias=false | batch_norm | relu | flatten | dense 10", 'optimizer = "momentum 0.05"'),
    # biases that batch norms take out again, under one clip of all: what their rounding may do must not hide the rest
    "biased": own("conv2d 8 3 padding=same | batch_norm | relu | max_pool2d | conv2d 8 3 padding=same | batch_norm | "
                  "relu | flatten | dense 16 | batch_norm | relu | dense 10",
                  'optimizer = "momentum 0.05"\nl2 = 0.01\nclip_norm = 0.5\nschedule = "cosine"\nbatch_size = 32'),
    # 1437 images are 359 batches and one image more
    "one": own("conv2d 4 5 2 bias=false | batch_norm | relu | flatten | dense 10", "batch_size = 4"),
    "no-short": own(MLP, 'schedule = "cosine"', "train_size = 1280"),  # 80 full batches
    "standard": own(MLP, 'scaling = "standard"'),
    "turned": own(MLP, "augmentation = {shift = 2, rotation = 15, flip = true}"),
    "held-out": own(MLP, 'validation = 0.2\nearly_stopping = {monitor = "validation_loss", patience = 2}'),
    "mine": own("flatten | dense 24 | batch_norm | relu | dropout 0.3 | dense 10", dataset="mine.npz"),
    "glorot": own("conv2d 6 5 2 | relu | conv2d 6 3 | relu | flatten | dense 20 | relu | dense 20 | relu | dense 10 "
                  "initializer=glorot_uniform"),
    "uniform": own("flatten | dense 24 initializer='uniform 0.1' | relu | dense 10 initializer=torch_default "
                   "bias_initializer=torch_default"),
    "many": own(MLP, 'optimizer = "sgd 0.1"', 'seeds = [0, 1]\ngrid = {"optimizer.learning_rate" = [0.1, 0.02]}'),
    "many-drop": own("flatten | dense 24 | relu | dropout 0.3 | dense 10", 'optimizer = "sgd 0.1"', "seeds = [0, 1]"),
}  # fmt: skip

# ------------------------------------------------------------------------------------------------------------- places
# What may be said of a fault that shows in one stage, or only when something is done once more.

PLACES: dict[str, tuple[str, ...]] = {
    "update": ("optimizer slots: *", "updated weights: *"),
    "loss": ("loss: loss", "loss: targets", "loss: reported by the step"),
    "placing": ("data: *", "whole epoch: *", "loss: *"),
    "restoring": ("starting weights: *", "optimizer slots: *", "statistics: *", "resuming: *", "whole epoch: *"),
    "rate": ("updated weights: *", "reported loss: *"),
    "masks": ("forward: *dropout*",),
    "order": ("data: order", "data: orders of two epochs"),
    "stopping": ("early stopping: *",),
    "together": ("trained together: *",),
    "evaluating": ("reported loss: *",),
}


def places(word: str) -> tuple[str, ...]:
    """What a word of `places` stands for; "update 0_conv2d/kernel": that parameter, in the slots or in the weights."""
    if word.startswith("update "):
        return tuple(f"{stage}: {word.removeprefix('update ')}" for stage in ("optimizer slots", "updated weights"))
    return (word,) if ":" in word else PLACES[word]


def read(path: Path) -> Iterator[Mutant]:
    """The rows of one file."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    common = {key: value for key, value in table.items() if key != "mutant"}
    for row in table["mutant"]:
        row = {**common, **row}
        row["places"] = [place for word in row["places"] for place in places(word)]
        row["edits"] = [tuple(edit) for edit in row["edits"]]
        row.setdefault("guilty", row["backends"][:1])
        yield Mutant(**{key: tuple(value) if isinstance(value, list) else value for key, value in row.items()})


MUTANTS: list[Mutant] = [mutant for path in sorted(Path(__file__).parent.glob("*.toml")) for mutant in read(path)]
