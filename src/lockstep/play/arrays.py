"""Arrays as text in a page: bytes of one significance side by side, deflated, in base64.

Of float32 weights only the bytes with sign and exponent can be compressed; laid side by side they shrink to a half,
which is an eighth of the whole. A browser inflates by itself (DecompressionStream).
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np

TYPES = {"uint8", "float16", "float32", "float64"}


def packed(array: np.ndarray) -> dict[str, Any]:
    """An array as {"type", "shape", "data"}; its numbers in row-major order, little-endian."""
    array = np.ascontiguousarray(array)
    if array.dtype.name not in TYPES:
        raise ValueError(f"no way to pack {array.dtype}")
    columns = np.frombuffer(array.astype(array.dtype.newbyteorder("<")).tobytes(), np.uint8)
    shuffled = columns.reshape(-1, array.itemsize).T.tobytes()
    deflater = zlib.compressobj(9, wbits=-15)
    data = deflater.compress(shuffled) + deflater.flush()
    return {"type": array.dtype.name, "shape": list(array.shape), "data": base64.b64encode(data).decode("ascii")}


def unpacked(document: dict[str, Any]) -> np.ndarray:
    """The way back of `packed`."""
    dtype = np.dtype(document["type"]).newbyteorder("<")
    raw = np.frombuffer(zlib.decompress(base64.b64decode(document["data"]), wbits=-15), np.uint8)
    columns = np.ascontiguousarray(raw.reshape(dtype.itemsize, -1).T)
    return np.frombuffer(columns.tobytes(), dtype).astype(dtype.newbyteorder("=")).reshape(document["shape"])
