"""Image files, as Pillow writes them and as nobody should."""

from __future__ import annotations

import struct
import zlib

from PIL import Image

LAST = 222  # the last pixel of a grey picture


def picture(path, value=100, size=(5, 7), mode="L", **options):
    """All one value but for the last pixel, since a picture in which nothing is seen is told of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new(mode, size, value)
    if mode == "L":
        image.putpixel((size[0] - 1, size[1] - 1), LAST)
    image.save(path, **options)


def png(header, content):
    """A PNG file of these chunks."""
    parts = [(b"IHDR", header), (b"IDAT", content), (b"IEND", b"")]
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
