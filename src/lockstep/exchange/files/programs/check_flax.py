"""`python check_flax.py PLACE STEM`: loads STEM_flax.safetensors for the module of STEM_flax_module.py."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from watch import layers


def main(place: Path, stem: str) -> None:
    """Write what the module gives."""
    module = place / f"{stem}_flax_module.py"
    names = runpy.run_path(str(module))
    variables, model = names["load"](place / f"{stem}_flax.safetensors"), names["Network"]()
    with np.load(place / "images.npz", allow_pickle=False) as arrays:
        few, every = arrays["few"], arrays["all"]
    wanted = flatten_dict(jax.eval_shape(model.init, jax.random.key(0), every[:1]), sep="/")
    if wanted.keys() != flatten_dict(variables, sep="/").keys():
        raise SystemExit("the module's names are not those of the file")
    found = {f"tensor/{name}": np.asarray(value) for name, value in flatten_dict(variables, sep="/").items()}
    seen = layers(module, "__call__", lambda: model.apply(variables, few))
    found |= {f"layer/Flax/{name}": np.asarray(value) for name, value in seen.items()}
    infer = jax.jit(model.apply)
    parts = [every[start : start + 500] for start in range(0, len(every), 500)]
    found["logits/Flax"] = np.concatenate([np.asarray(infer(variables, part)) for part in parts])
    np.savez(place / "found.npz", **found)  # type: ignore[arg-type]  # its stub takes names for options


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
