"""What the texts of modules share: one statement a layer, each under its name and what it puts out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lockstep.exchange.scripts.given import Code
from lockstep.exchange.trained import Trained
from lockstep.exchange.variables import filled, steps
from lockstep.spec import LayerFacts

PROGRAMS = Path(__file__).parent / "programs"


def statements(rows: Iterable[tuple[LayerFacts, Code]]) -> list[str]:
    """The forward pass; a checker knows each layer's output by the comment that stands before its statements."""
    lines: list[str] = []
    rows = list(rows)
    for step, (row, code) in zip(steps([row for row, _ in rows]), rows, strict=True):
        size = " × ".join(map(str, row.output_shape))
        lines.append(f"# {row.name}: {size}" + (f"; {code.remark}" if code.remark else ""))
        lines += [*step.before, *code.before.splitlines()]
        if code.apply != "{x}":
            lines.append(f"x = {filled(code.apply, step.taken)}")
        lines += step.after
    return lines


def numbers(values: np.ndarray) -> str:
    """One number, or a list of one for each channel, in as many digits as float32 has."""
    texts = [repr(float(str(value))) for value in values]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def heading(trained: Trained, what: str, use: str) -> str:
    """The docstring of a module's text."""
    facts, shape = trained.facts, trained.given.plan.input_shape
    return (
        f'"""{what}\n\n{facts["description"]}; test accuracy {facts["test_accuracy"]}.\n'
        f"Images are uint8, {' × '.join(map(str, shape))} (height × width × channels), and are scaled inside.\n\n"
        f'{use}"""\n'
    )


def metadata(trained: Trained, **more: Any) -> dict[str, str]:
    """What stands beside the tensors of a safetensors file."""
    return {**trained.facts, **more}
