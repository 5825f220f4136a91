"""The catalogue of known differences: one row each.

A difference is a change of what is run: another layer, another recipe, a mistake that `spec.MISTAKES` knows. So one row
serves three ends. The judge works a guilty part out again under the changed run, and where that gives the backend's
numbers within rounding, at every step that was wrong, the row *is* the cause (see `finder`). `--plant` gives the
changed run to one backend. And a study can ask what the difference costs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lockstep.backends.plan import window_padding
from lockstep.errors import LockstepError, did_you_mean
from lockstep.language import later
from lockstep.proof.changes import (
    ADAMS,
    DROPS,
    Change,
    alike,
    coupled,
    decoupled,
    has,
    initializers,
    label_smoothing,
    layers,
    layers_before,
    mistake,
    momentum_swapped,
    optimizer,
    padded_lower,
    recipe,
    swapped,
    where,
)
from lockstep.spec import Run, Shape


@dataclass(frozen=True)
class Cause:
    """One known difference.

    `what` the other side does, the `stage` that shows it first, `defaults` of frameworks (or common practice) that lead
    to it, how to `mend` it, and how it changes a run.
    """

    what: str
    stage: str
    defaults: str
    mend: str
    change: Change


# ------------------------------------------------------------------------------------------------------- the catalogue

CAUSES: dict[str, Cause] = {
    # starting weights
    "init_torch": Cause(
        "kernels and biases are drawn uniform in ±1/√fan_in",
        "starting weights",
        "PyTorch: Linear and Conv2d (Kaiming uniform with a = √5)",
        'draw the weights once and load them everywhere, or set initializer = "torch_default"',
        initializers("torch_default", "torch_default"),
    ),
    "init_keras": Cause(
        "kernels are drawn Glorot uniform, biases are zero",
        "starting weights",
        "Keras: Dense and Conv2D",
        'draw the weights once and load them everywhere, or set initializer = "glorot_uniform"',
        initializers("glorot_uniform", "zeros"),
    ),
    "init_flax": Cause(
        "kernels are drawn LeCun normal, cut at two standard deviations, biases are zero",
        "starting weights",
        "Flax: Dense and Conv",
        'draw the weights once and load them everywhere, or set initializer = "flax_default"',
        initializers("flax_default", "zeros"),
    ),
    "weights_of_another_seed": Cause(
        "the starting weights come from another seed",
        "starting weights",
        "every framework's own random stream",
        "an equal seed gives equal numbers in no two frameworks: draw the weights once and load them",
        mistake("weights_of_another_seed"),
    ),
    "kernels_transposed": Cause(
        "square kernels are transposed, or height and width are swapped",
        "starting weights",
        "PyTorch keeps (out, in) and (out, in, height, width), the others (in, out) and (height, width, in, out)",
        "transpose every kernel when it is loaded, the square ones too, which no shape check finds",
        mistake("kernels_transposed"),
    ),
    # data
    "order_not_shuffled": Cause(
        "the images come in the order of the dataset",
        "data",
        "PyTorch: DataLoader(shuffle=False); Keras's fit shuffles",
        "shuffle in every framework by one order, decided outside",
        mistake("order_not_shuffled"),
    ),
    "last_batch_dropped": Cause(
        "a short last batch is left out",
        "data",
        "common practice: drop_last=True, drop_remainder=True",
        "keep the short batch, or drop it everywhere",
        mistake("last_batch_dropped"),
    ),
    "augmentation_missing": Cause(
        "the images are not augmented",
        "data",
        "common practice: augmentation in the loader of one framework alone",
        "augment once, outside, and give every framework the same images",
        where(lambda r: r.augmentation, lambda r: {"augmentation": {}}),
    ),
    "scaling_missing": Cause(
        "pixels enter as 0 … 255",
        "forward",
        "common practice: ToTensor divides by 255, a NumPy array does not",
        "divide by 255 in every framework",
        mistake("scaling_missing"),
    ),
    "scaling_other": Cause(
        "pixels are standardised where they should only be scaled, or the other way round",
        "forward",
        "common practice: Normalize((0.1307,), (0.3081,)) in PyTorch's examples, /255 alone in Keras's",
        "use one scaling, worked out once",
        where(lambda r: True, lambda r: {"scaling": "standard" if r.scaling == "unit" else "unit"}),
    ),
    # forward
    "same_padding_before": Cause(
        "the odd row or column of zeros stands before the image",
        "forward",
        "PyTorch: padding = k // 2 under a stride; TensorFlow and JAX put it behind",
        'pad by hand as `same` does, or set padding = "same_lower" everywhere',
        padded_lower,
    ),
    "flatten_chw": Cause(
        "flattening puts the channels first",
        "forward",
        "PyTorch: channels, height, width; Keras: height, width, channels",
        "permute before flattening, or permute the rows of the next kernel",
        layers(
            "flatten",
            lambda row: len(row.input_shape) == 3 and min(row.input_shape[2], max(row.input_shape[:2])) > 1,
            order="chw",
        ),
    ),
    "avg_pool_counts_padding": Cause(
        "the zeros of the padding are counted in the average",
        "forward",
        "PyTorch: AvgPool2d(count_include_pad=True) and Flax; Keras does not count them",
        "count_include_pad=False, and divide by the real pixels under asymmetric padding",
        layers("avg_pool2d", lambda row: any(map(any, window_padding(row))), count_padding=True),
    ),
    "leaky_slope_keras": Cause(
        "the slope of leaky relu is 0.3",
        "forward",
        "Keras: LeakyReLU(negative_slope=0.3)",
        "give the slope by name",
        layers("leaky_relu", slope=0.3),
    ),
    "leaky_slope_tensorflow": Cause(
        "the slope of leaky relu is 0.2",
        "forward",
        "TensorFlow: tf.nn.leaky_relu(alpha=0.2); keras.activations.leaky_relu",
        "give the slope by name",
        layers("leaky_relu", slope=0.2),
    ),
    "gelu_tanh": Cause(
        "GELU is the tanh formula",
        "forward",
        "JAX and Flax: gelu(approximate=True); PyTorch and Keras are exact",
        "ask for the exact form by name",
        layers("gelu", form="tanh"),
    ),
    "batch_norm_epsilon": Cause(
        "batch normalisation adds 1e-3 to the variance",
        "forward",
        "Keras: BatchNormalization(epsilon=1e-3)",
        "give epsilon by name",
        layers("batch_norm", epsilon=1e-3),
    ),
    "layer_norm_epsilon": Cause(
        "layer normalisation adds 1e-3 to the variance",
        "forward",
        "Keras: LayerNormalization(epsilon=1e-3)",
        "give epsilon by name",
        layers("layer_norm", epsilon=1e-3),
    ),
    "layer_norm_epsilon_flax": Cause(
        "layer normalisation adds 1e-6 to the variance",
        "forward",
        "Flax: LayerNorm(epsilon=1e-6), as transformers and ConvNeXt have it",
        "give epsilon by name",
        layers("layer_norm", epsilon=1e-6),
    ),
    "layer_norm_whole_example": Cause(
        "layer normalisation goes over the whole image instead of each pixel's channels",
        "forward",
        "PyTorch: LayerNorm(x.shape[1:]), GroupNorm(1, channels); Keras: LayerNormalization(axis=[1, 2, 3])",
        "normalise over the channels alone: in PyTorch move them last, and back",
        layers("layer_norm", lambda row: len(row.input_shape) > 1, over="example"),
    ),
    "shortcut_missing": Cause(
        "the shortcut is left out: what the layers give is all there is",
        "forward",
        "common practice: x = block(x) where x = x + block(x) was meant",
        "add what went into the block to what came out of it",
        layers("add", others=0.0),
    ),
    "shortcut_twice": Cause(
        "the shortcut is added twice",
        "forward",
        "common practice: x + block(x) around a block that adds its own input already",
        "add it in one place",
        layers("add", others=2.0),
    ),
    "join_averaged": Cause(
        "branches are averaged instead of added up",
        "forward",
        "Keras: layers.Average where layers.Add was meant; a shortcut scaled by a half",
        "add them up",
        layers("add", lambda row: len(row.inputs) == 2, first=0.5, others=0.5),
    ),
    "activation_before_join": Cause(
        "the activation comes before the shortcut is added instead of behind it",
        "forward",
        "common practice: He et al. 2016 have relu behind the sum, their second paper has it inside the block",
        "add first, then relu",
        layers_before("add", "relu", lambda row: True, rectified=True),
    ),
    "branches_reversed": Cause(
        "branches are concatenated in the other order",
        "forward",
        "common practice: concat([x, y]) here and concat([y, x]) there, as in dense blocks and U-Nets",
        "concatenate in one order, or permute the channels of the next kernel",
        layers("concat", order="reversed"),
    ),
    "concat_along_height": Cause(
        "branches are concatenated along the height, and flattening hides it",
        "forward",
        "PyTorch: cat(dim=2); Keras and JAX: axis 1 of (batch, height, width, channels)",
        "concatenate along the channels: dim=1 in PyTorch, the last axis elsewhere",
        layers_before("concat", "flatten", alike, axis="height"),
    ),
    "concat_along_width": Cause(
        "branches are concatenated along the width, and flattening hides it",
        "forward",
        "PyTorch: cat(dim=-1), the channels' axis in Keras and JAX",
        "concatenate along the channels: dim=1 in PyTorch, the last axis elsewhere",
        layers_before("concat", "flatten", alike, axis="width"),
    ),
    "training_in_inference_mode": Cause(
        "training uses running statistics and no dropout",
        "forward",
        "Keras: model(x) is inference unless training=True",
        "call model(x, training=True) in a hand-written loop, model.train() in PyTorch",
        mistake("training_in_inference_mode", lambda run: has("batch_norm")(run) or DROPS(run)),
    ),
    "dropout_not_scaled": Cause(
        "kept values are not divided by the keep probability",
        "forward",
        "common practice: dropout as in Srivastava et al. 2014",
        "use inverted dropout in every framework",
        mistake("dropout_not_scaled", DROPS),
    ),
    "dropout_rate_kept": Cause(
        "the dropout rate is taken as the share that is kept",
        "forward",
        "TensorFlow 1: keep_prob",
        "rate is what is dropped",
        mistake("dropout_rate_kept", DROPS),
    ),
    "dropout_of_another_seed": Cause(
        "the dropout masks are other ones",
        "forward",
        "every framework's own random stream",
        "draw the masks once and multiply by them",
        mistake("dropout_of_another_seed", DROPS),
    ),
    "products_tf32": Cause(
        "the factors of products are rounded to TF32",
        "forward",
        "TensorFlow and JAX on newer GPUs; PyTorch's convolutions there",
        "switch TF32 off: torch.backends.cudnn.allow_tf32, tf.config.experimental.enable_tensor_float_32_execution, "
        "jax_default_matmul_precision",
        recipe(products="tf32"),
    ),
    "products_bfloat16": Cause(
        "the factors of products are rounded to bfloat16",
        "forward",
        "JAX on TPUs; mixed precision left on",
        "ask for float32 products by name",
        recipe(products="bfloat16"),
    ),
    "computed_in_float32": Cause(
        "float32 is computed where float64 was asked",
        "starting weights",
        "JAX: float64 silently becomes float32 unless jax_enable_x64",
        'jax.config.update("jax_enable_x64", True) before anything else; keras.config.set_floatx',
        mistake("computed_in_float32", lambda run: run.dtype == "float64"),
    ),
    # loss
    "softmax_twice": Cause(
        "softmax is applied twice: probabilities are taken for logits",
        "loss",
        "PyTorch's CrossEntropyLoss wants logits; Keras's from_logits is False",
        "leave the last softmax out, or set from_logits=False to match it",
        where(lambda r: r.loss == "cross_entropy", lambda r: {"loss": "cross_entropy_softmax_twice"}),
    ),
    "cross_entropy_clipped": Cause(
        "the loss cuts probabilities at 1e-7: at most 16.1, and no gradient beyond",
        "loss",
        "Keras: CategoricalCrossentropy(from_logits=False)",
        "compute the loss from logits",
        where(lambda r: r.loss == "cross_entropy", lambda r: {"loss": "cross_entropy_clipped"}),
    ),
    "loss_summed": Cause(
        "the loss is the sum over the batch",
        "loss",
        'common practice: reduction="sum"; Optax and tf.nn give one loss per example, to be added up or averaged',
        "divide by the batch, or the learning rate by it",
        recipe(loss_reduction="sum"),
    ),
    "targets_broadcast": Cause(
        "every output is compared with every target of the batch",
        "loss",
        "JAX and tf: (N, 1) − (N,) is (N, N), silently; PyTorch's MSELoss warns; Optax refuses",
        "give outputs and targets one shape",
        mistake("targets_broadcast", lambda run: run.recipe.loss == "mean_squared_error"),
    ),
    "label_smoothing_others": Cause(
        "label smoothing is shared among the K − 1 other classes",
        "loss",
        "common practice: Szegedy et al. 2016 spread it over all K, as PyTorch and Keras do",
        "use s·(K − 1)/K where the other side means K",
        label_smoothing,
    ),
    # backward
    "max_pool_ties_shared": Cause(
        "equal maxima of a window share the gradient",
        "backward",
        "max over a reshaped window in JAX, amax in PyTorch, reduce_max in TensorFlow; pooling layers give it to one",
        "use a pooling that gives it to the first, or keep equal values out of windows",
        layers("max_pool2d", ties="shared"),
    ),
    # gradients
    "l2_without_half": Cause(
        "the L2 penalty is λ·Σw² without the half: twice the gradient",
        "gradients",
        "Keras: regularizers.L2",
        "halve λ there",
        where(lambda r: r.l2, lambda r: {"l2": 2 * r.l2}),
    ),
    "decay_coupled": Cause(
        "weight decay is added to the gradient instead of taken from the weights",
        "gradients",
        "PyTorch: Adam(weight_decay=…) is coupled; Keras's weight_decay is not",
        "AdamW in PyTorch, optax.adamw in JAX",
        where(lambda r: r.optimizer.kind == "adamw", coupled),
    ),
    "decay_decoupled": Cause(
        "L2 is taken from the weights instead of added to the gradient",
        "gradients",
        "Keras: Adam(weight_decay=…) is decoupled; PyTorch's is not",
        "add λ·w to the gradient",
        where(lambda r: r.optimizer.kind == "adam" and r.l2, decoupled),
    ),
    "decay_on_all": Cause(
        "biases and batch normalisation are decayed too",
        "gradients",
        "AdamW in PyTorch, Keras and Optax decays every parameter; Keras's kernel_regularizer kernels alone",
        "make two parameter groups",
        mistake("decay_on_all", lambda run: run.recipe.l2 or getattr(run.recipe.optimizer, "weight_decay", 0)),
    ),
    # statistics
    "batch_norm_momentum_keras": Cause(
        "running statistics take 1 % of each batch",
        "statistics",
        "Keras and Flax: momentum 0.99, of the old value",
        "PyTorch's momentum m is 1 − m there",
        layers("batch_norm", momentum=0.01),
    ),
    "batch_norm_momentum_swapped": Cause(
        "momentum is taken for the weight of the old value",
        "statistics",
        "PyTorch's momentum weighs the new value, that of Keras and Flax the old one",
        "use 1 − momentum",
        momentum_swapped,
    ),
    "batch_norm_variance_biased": Cause(
        "the running variance averages the biased variance",
        "statistics",
        "Keras and Flax; PyTorch uses n/(n − 1)",
        "multiply the batch's variance by n/(n − 1)",
        layers("batch_norm", running_variance="biased"),
    ),
    # optimizers
    "clip_each": Cause(
        "each gradient is clipped by its own norm",
        "updated weights",
        "Keras: clipnorm; global_clipnorm is the other",
        "clip by the global norm: clip_grad_norm_, global_clipnorm, optax.clip_by_global_norm",
        where(lambda r: r.clip_norm, lambda r: {"clip_scope": "tensor"}),
    ),
    "adam_epsilon": Cause(
        "Adam's ε is 1e-7",
        "updated weights",
        "Keras: Adam(epsilon=1e-7); PyTorch and Optax 1e-8",
        "give ε by name",
        optimizer(*ADAMS, epsilon=1e-7),
    ),
    "adam_epsilon_hat": Cause(
        "ε is added before bias correction (epsilon-hat)",
        "updated weights",
        "TensorFlow and Keras; 316 times ε at step 1",
        "no constant ε makes the two equal: write Algorithm 1 by hand",
        optimizer(*ADAMS, epsilon_mode="hat"),
    ),
    "adam_of_keras": Cause(
        "Keras's Adam: ε 1e-7, added before bias correction",
        "updated weights",
        "Keras: Adam()",
        "write Algorithm 1 by hand, with ε 1e-8",
        optimizer(*ADAMS, epsilon=1e-7, epsilon_mode="hat"),
    ),
    "adamw_decay_keras": Cause(
        "AdamW decays by 4e-3",
        "updated weights",
        "Keras: AdamW(weight_decay=0.004)",
        "give the decay by name",
        optimizer("adamw", weight_decay=4e-3),
    ),
    "adamw_decay_optax": Cause(
        "AdamW decays by 1e-4",
        "updated weights",
        "Optax: adamw(weight_decay=1e-4)",
        "give the decay by name",
        optimizer("adamw", weight_decay=1e-4),
    ),
    "adamw_decay_torch": Cause(
        "AdamW decays by 1e-2",
        "updated weights",
        "PyTorch: AdamW(weight_decay=1e-2)",
        "give the decay by name",
        optimizer("adamw", weight_decay=1e-2),
    ),
    "rmsprop_epsilon": Cause(
        "RMSprop's ε is 1e-7",
        "updated weights",
        "Keras: RMSprop(epsilon=1e-7); PyTorch and Optax 1e-8",
        "give ε by name",
        optimizer("rmsprop", epsilon=1e-7),
    ),
    "rmsprop_epsilon_inside": Cause(
        "RMSprop's ε stands inside the root",
        "updated weights",
        "Keras and Optax; PyTorch adds it outside",
        "optax: eps_in_sqrt=False; Keras: write it by hand",
        optimizer("rmsprop", epsilon_mode="inside"),
    ),
    "rmsprop_of_keras": Cause(
        "Keras's RMSprop: ε 1e-7 inside the root",
        "updated weights",
        "Keras: RMSprop()",
        "write it by hand, with ε 1e-8 outside",
        optimizer("rmsprop", epsilon=1e-7, epsilon_mode="inside"),
    ),
    "rmsprop_decay": Cause(
        "RMSprop averages with 0.99",
        "optimizer slots",
        "PyTorch: RMSprop(alpha=0.99); Keras and Optax 0.9",
        "give the decay by name",
        optimizer("rmsprop", rho=0.99),
    ),
    "rmsprop_rate": Cause(
        "RMSprop's learning rate is 1e-2",
        "updated weights",
        "PyTorch: RMSprop(lr=1e-2); Keras 1e-3",
        "give the rate by name",
        optimizer("rmsprop", learning_rate=1e-2),
    ),
    "momentum_velocity": Cause(
        "momentum keeps a velocity that holds the rate of its time",
        "optimizer slots",
        "Keras: v ← μ·v − lr·g; PyTorch and Optax keep b ← μ·b + g. They part when the rate changes",
        "scale the buffer when the rate changes",
        optimizer("momentum", "nesterov", form="velocity"),
    ),
    "momentum_is_nesterov": Cause(
        "momentum is Nesterov's",
        "updated weights",
        "common practice: nesterov=True",
        "set nesterov alike",
        swapped("momentum", "nesterov"),
    ),
    "nesterov_is_momentum": Cause(
        "Nesterov's momentum is plain momentum",
        "updated weights",
        "every framework: nesterov=False",
        "set nesterov alike",
        swapped("nesterov", "momentum"),
    ),
    "rate_late": Cause(
        "each update uses the learning rate of the one before it",
        "updated weights",
        "common practice: scheduler.step() after the step that should have had it, schedules that count from 1",
        "print the rate of the first three updates on both sides",
        mistake("rate_late", lambda run: run.recipe.schedule.kind != "constant"),
    ),
    # afterwards
    "last_batch_unweighted": Cause(
        "the epoch's loss is the mean of the batches' means",
        "reported loss",
        "common practice: running_loss / len(loader) in PyTorch's examples; Keras weighs by examples",
        "weigh each batch by its examples",
        mistake("last_batch_unweighted"),
    ),
    "prediction_in_training_mode": Cause(
        "predictions use the batch's statistics, and dropout",
        "predictions",
        "PyTorch: train mode until model.eval()",
        "call model.eval() before predicting",
        mistake("prediction_in_training_mode", lambda run: has("batch_norm")(run) or DROPS(run)),
    ),
}


def differing(name: str, run: Run, shape: Shape) -> Run | None:
    """The run with one difference of the catalogue in it, or None where it would be the same run."""
    other = CAUSES[name].change(run, shape)
    return None if other == run else other


def planted(plants: Iterable[str], run: Run, shape: Shape, strict: bool = True) -> Run:
    """The run with these differences, given as `cause@backend`, where they are for its backend.

    Raises LockstepError (LS-209) for an unknown name, and where `strict` (LS-207) for a difference that changes nothing
    in this run.
    """
    for plant in dict.fromkeys(plants):
        name, _at, backend = plant.partition("@")
        if name not in CAUSES:
            hint = later("{near}; all of them: lockstep explain causes", near=did_you_mean(name, CAUSES))
            raise LockstepError(
                "LS-209", later('no known difference is called "{name}"', name=name), where="--plant", hint=hint
            )
        if backend != run.backend:
            continue
        other = differing(name, run, shape)
        if other is None and not strict:
            continue
        if other is None:
            message = later(
                '"{name}" makes no difference to network {network}: {what}',
                name=name,
                network=run.network_name,
                what=later(CAUSES[name].what),
            )
            hint = later(
                "it shows in {stage}; choose a network and recipe that has what it speaks of",
                stage=later(CAUSES[name].stage),
            )
            raise LockstepError("LS-207", message, where="--plant", hint=hint)
        run = other
    return run
