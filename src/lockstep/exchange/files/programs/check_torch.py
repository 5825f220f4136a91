"""`python check_torch.py PLACE STEM`: loads STEM.safetensors into the module of STEM_module.py; see `trained.Form`."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from watch import layers


def channels_first(images: np.ndarray) -> torch.Tensor:
    """As PyTorch takes them."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def channels_last(value: torch.Tensor) -> np.ndarray:
    """An output as it would lie elsewhere."""
    array = value.numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


@torch.inference_mode()
def main(place: Path, stem: str) -> None:
    """Write what the module gives."""
    module = place / f"{stem}_module.py"
    model = runpy.run_path(str(module))["load"](place / f"{stem}.safetensors")
    with np.load(place / "images.npz", allow_pickle=False) as arrays:
        few, every = arrays["few"], arrays["all"]
    held = {name: value.numpy() for name, value in model.state_dict().items() if "num_batches" not in name}
    if held.keys() != load_file(place / f"{stem}.safetensors").keys():
        raise SystemExit("the module's names are not those of the file")
    found = {f"tensor/{name}": value for name, value in held.items()}
    seen = layers(module, "forward", lambda: model(channels_first(few)))
    found |= {f"layer/PyTorch/{name}": channels_last(value) for name, value in seen.items()}
    parts = [every[start : start + 500] for start in range(0, len(every), 500)]
    found["logits/PyTorch"] = np.concatenate([model(channels_first(part)).numpy() for part in parts])
    np.savez(place / "found.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
