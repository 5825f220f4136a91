r"""How a formula of the chapters reads in a terminal: LaTeX in, one line of plain signs out.

The chapters use a small part of LaTeX, all of which stands in this file; a command that it does not know is an error,
so that a formula never comes out half said. Libraries that turn LaTeX into text print \frac{a+b}{c} as a+b/c, which is
another number.

>>> as_text(r"\hat{m} = \frac{m}{1-\beta_1^t}")
'm̂ = m / (1−β₁ᵗ)'
"""

from __future__ import annotations

import re

QUAD = "\0"  # a wide space, until single ones have been tidied
SIGNS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "varepsilon": "ε", "lambda": "λ", "mu": "μ",
    "pi": "π", "rho": "ρ", "sigma": "σ", "varphi": "φ", "Phi": "Φ", "theta": "θ", "partial": "∂",
    "cdot": "·", "times": "×", "odot": "⊙", "leftarrow": "←", "to": "→", "Rightarrow": "⇒", "le": "≤", "ge": "≥",
    "ne": "≠", "approx": "≈", "infty": "∞", "in": "∈", "dots": "…", "top": "ᵀ", "left": "", "right": "",
    "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈",
    "rceil": "⌉", "lVert": "‖", "rVert": "‖", "quad": QUAD, ",": " ", ";": " ", " ": " ", "{": "{", "}": "}",
}  # fmt: skip
SPACED = {"cdot", "leftarrow", "to", "Rightarrow", "le", "ge", "ne", "approx", "in", "times", "odot"}
FUNCTIONS = {"log", "ln", "exp", "max", "min", "tanh"}
OVER = {"hat": "\u0302", "bar": "\u0304", "tilde": "\u0303"}
WORDS = {"mathrm", "text", "operatorname"}
RAISED = dict(zip("0123456789+-−=()nijkltTᵀ", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱʲᵏˡᵗᵀᵀ", strict=True))
LOWERED = dict(zip("0123456789+-−=()aeijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎ₐₑᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True))

_TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|\s+|.", re.DOTALL)


def as_text(formula: str) -> str:
    """The formula as one line; raises ValueError where it uses a command that no chapter may use."""
    pieces = [piece for piece in _TOKEN.findall(formula.strip()) if not piece.isspace()]
    text = _until(pieces, "")
    return re.sub(r" *\0 *", "   ", re.sub(r"\( ", "(", re.sub(r" +", " ", text))).strip()


def _until(pieces: list[str], end: str) -> str:
    """Everything up to the piece `end`, which is consumed."""
    parts: list[str] = []
    while pieces:
        piece = pieces.pop(0)
        if piece == end:
            return "".join(parts)
        parts.append(_one(piece, pieces))
    if end:
        raise ValueError(f'the formula ends before "{end}"')
    return "".join(parts)


def _argument(pieces: list[str]) -> str:
    piece = pieces.pop(0)
    return _until(pieces, "}") if piece == "{" else _one(piece, pieces)


def _one(piece: str, pieces: list[str]) -> str:
    if piece == "{":
        return _until(pieces, "}")
    if piece in "_^":
        return _moved(_argument(pieces), *((LOWERED, "_") if piece == "_" else (RAISED, "^")))
    if piece in "=<>":
        return f" {piece} "
    if not piece.startswith("\\"):
        return "−" if piece == "-" else piece
    name = piece[1:]
    if name == "frac":
        above, below = _argument(pieces), _argument(pieces)
        return f"{_grouped(above)} / {_grouped(below)}" if " " in above + below or len(above + below) > 3 else (
            f"{above}/{below}"
        )  # fmt: skip
    if name == "sqrt":
        under = _argument(pieces)
        return f"√{under}" if _is_atom(under) else f"√({under})"
    if name in OVER:
        return _argument(pieces) + OVER[name]
    if name in WORDS:
        return _argument(pieces)
    if name not in {*SIGNS, *FUNCTIONS, "sum"}:
        raise ValueError(f"\\{name} has no plain form; add it to SIGNS, or write the formula without it")
    if name == "sum":
        limits = ""
        while pieces and pieces[0] in "_^":
            limits += _one(pieces.pop(0), pieces)
        return f" Σ{limits} "
    if name in FUNCTIONS:
        return f" {name} " if not (pieces and pieces[0] in "_^({") else f" {name}"
    return f" {SIGNS[name]} " if name in SPACED else SIGNS[name]


def _is_atom(text: str) -> bool:
    """Whether a term needs no brackets: an operator beside it cannot be taken for one inside it."""
    return not re.search(r"[ +−/·×<>=Σ]", text) or (text.startswith("(") and text.index(")") == len(text) - 1)


def _grouped(text: str) -> str:
    return text if _is_atom(text) else f"({text})"


def _moved(text: str, signs: dict[str, str], otherwise: str) -> str:
    """A text raised or lowered, where Unicode has such a form of each of its signs."""
    text = text.replace(" ", "")
    if all(sign in signs for sign in text):
        return "".join(signs[sign] for sign in text)
    return f"{otherwise}{text}" if len(text) == 1 else f"{otherwise}({text})"
