"""What the texts of modules share: one statement a layer, each under its name and what it puts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lockstep.exchange.scripts.given import Code, Joined, kept
from lockstep.exchange.trained import Trained
from lockstep.spec import INPUT, LayerFacts

PROGRAMS = Path(__file__).parent / "programs"


def statements(rows: Sequence[LayerFacts], codes: Mapping[str, Code], join: Joined) -> list[str]:
    """The forward pass; a checker knows each layer's output by the comment that stands before its statements."""
    variables, last = kept(rows), INPUT
    lines = [f"{variables[INPUT]} = x"] if INPUT in variables else []
    for row in rows:
        code = codes.get(row.name)
        size = " × ".join(map(str, row.output_shape))
        lines.append(f"# {row.name}: {size}" + (f"; {code.remark}" if code and code.remark else ""))
        if code is None:
            lines.append(f"x = {join(row, [variables[name] for name in row.inputs])}")
        else:
            lines += [f"x = {variables[row.inputs[0]]}"] if row.inputs != (last,) else []
            lines += code.before.splitlines()
            lines += [f"x = {code.apply.replace('{x}', 'x')}"] if code.apply != "{x}" else []
        lines += [f"{variables[row.name]} = x"] if row.name in variables else []
        last = row.name
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
