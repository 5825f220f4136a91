"""Functions of single numbers: what they are, and how each framework says them, to be called and to be written down."""

from __future__ import annotations

import ast
import dataclasses
from typing import Any

from lockstep.proof.pair.alternatives import LEAKY
from lockstep.proof.pair.rewrites import Edit, expression, names_of, prefix_of

# function, as `alternatives` calls it → PyTorch's layer and function, Keras's and JAX's function, with their arguments
WORDS: dict[str, tuple[str, str, str, str]] = {
    "relu": ("ReLU()", "relu()", "relu()", "relu()"),
    "relu6": ("ReLU6()", "relu6()", "relu6()", "relu6()"),
    "elu": ("ELU()", "elu()", "elu()", "elu()"),
    "selu": ("SELU()", "selu()", "selu()", "selu()"),
    "GELU, exact": ("GELU()", "gelu()", "gelu(approximate=False)", "gelu(approximate=False)"),
    "GELU by tanh": (
        "GELU(approximate='tanh')", "gelu(approximate='tanh')", "gelu(approximate=True)", "gelu(approximate=True)",
    ),
    "SiLU": ("SiLU()", "silu()", "silu()", "silu()"),
    "mish": ("Mish()", "mish()", "mish()", "mish()"),
    "softplus": ("Softplus()", "softplus()", "softplus()", "softplus()"),
    "softsign": ("Softsign()", "softsign()", "soft_sign()", "soft_sign()"),
    "tanh": ("Tanh()", "tanh()", "tanh()", "tanh()"),
    "sigmoid": ("Sigmoid()", "sigmoid()", "sigmoid()", "sigmoid()"),
    "hard sigmoid, x/6 + 1/2": ("Hardsigmoid()", "hardsigmoid()", "hard_sigmoid()", "hard_sigmoid()"),
    "hard swish": ("Hardswish()", "hardswish()", "hard_silu()", "hard_silu()"),
    "hard tanh": ("Hardtanh()", "hardtanh()", "hard_tanh()", "hard_tanh()"),
}  # fmt: skip
PREFIXES = {"torch": "torch.nn.functional.", "keras": "keras.ops.", "jax": "jax.nn."}
PLACES = {"torch": 1, "keras": 2, "jax": 3}


@dataclasses.dataclass(frozen=True)
class Code:
    """A function in one framework."""

    layer: str  # PyTorch's, with its arguments: "ELU()"
    function: str  # its last name
    full: str
    arguments: dict[str, Any]


def code(name: str, framework: str) -> Code | None:
    """How a framework says a function; None where nobody wrote that down."""
    words = WORDS.get(name)
    if (slope := LEAKY.get(name)) is not None:
        function = f"leaky_relu(negative_slope={slope:g})"
        words = (f"LeakyReLU({slope:g})", function, function, function)
    if words is None or framework not in PREFIXES:
        return None
    call = expression(words[PLACES[framework]])
    if not isinstance(call, ast.Call):
        raise TypeError(f"{words} is no call")
    arguments = {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
    name = ast.unparse(call.func)
    return Code(words[0], name, PREFIXES[framework] + name, arguments)


def edit(file: str, line: int, callee: str, found: Code, framework: str, is_layer: bool) -> Edit:
    """The call with this function in the place of its own."""

    def change(node: ast.Call, tree: ast.Module) -> ast.expr | None:
        prefix = prefix_of(node)
        if is_layer and framework == "torch":
            return expression(prefix + found.layer)
        text = ", ".join(f"{key}={value!r}" for key, value in found.arguments.items())
        if is_layer:
            return expression(f"{prefix}Lambda(lambda x: keras.ops.{found.function}(x{', ' * bool(text)}{text}))") if (
                "keras" in names_of(tree)
            ) else None  # fmt: skip
        if not node.args:
            return None
        prefix = "F." if framework == "torch" and "F" in names_of(tree) else prefix
        prefix = "torch.nn.functional." if framework == "torch" and prefix != "F." else prefix
        return expression(f"{prefix}{found.function}({ast.unparse(node.args[0])}{', ' * bool(text)}{text})")

    return Edit(file, line, callee, f"function {found.full}", change)
