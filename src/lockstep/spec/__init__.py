"""What a network, a recipe and a study ARE: frozen, validated records; shapes, parameters, multiply-adds.

Everything here is plain data. A record says what is meant, never how a framework does it, so that four backends, the
report and a reader on a machine without any framework share one meaning. TOML and Python are one-to-one: the table
`{kind = "conv2d", filters = 20, kernel = 5}`, the short form `"conv2d 20 5"` and `Conv2D(20, 5)` are the same record.
"""

from __future__ import annotations

from lockstep.spec.branches import JOINS, Add, Concat, Join, Layer, Parallel, Repeat, Residual
from lockstep.spec.initializers import (
    INITIALIZERS,
    FlaxDefault,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Initializer,
    LecunNormal,
    LecunUniform,
    Normal,
    TorchDefault,
    Uniform,
    Zeros,
)
from lockstep.spec.layers import (
    ELU,
    GELU,
    LAYERS,
    AvgPool2D,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    LayerNorm,
    LeakyReLU,
    MaxPool2D,
    ReLU,
    Shape,
    Sigmoid,
    Softplus,
    Tanh,
    same_padding,
)
from lockstep.spec.network import INPUT, LayerFacts, Network
from lockstep.spec.recipe import (
    LOSSES,
    MISTAKES,
    OPTIMIZERS,
    SCHEDULES,
    SGD,
    Adam,
    AdamW,
    Augmentation,
    Constant,
    Cosine,
    EarlyStopping,
    Momentum,
    Nesterov,
    OneCycle,
    Optimizer,
    Recipe,
    RMSprop,
    Schedule,
    StepDecay,
)
from lockstep.spec.records import BLOCKS
from lockstep.spec.study import DEVICES, DTYPES, FORMAT, FORMATS, Run, Study
