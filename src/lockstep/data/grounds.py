"""What lies below transparent pictures: the ground on which their ink is seen.

A canvas, Paint and tablets save dark ink on nothing at all; on black it would be a black picture. So the ground is
white where the ink of most transparent pictures is dark, and black, which augmentation brings in at borders as well,
where it is light. A picture that could not be seen on the ground of the others lies on the other one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from lockstep.language import later

LEAST_CONTRAST = 32  # of 255, at a picture's best pixel: less is not seen

ON_WHITE = later("pictures with transparent parts that were laid on white, since their ink is dark: {n:,}")
ON_BLACK = later("pictures with transparent parts that were laid on black, since their ink is light: {n:,}")
NOTES = (ON_WHITE, ON_BLACK)


def lay(images: np.ndarray, opacities: Mapping[int, np.ndarray]) -> Iterator[str]:
    """Lay transparent images on their ground, in place, and say on which.

    `images`: uint8 (n, height, width, channels), on black; `opacities`: uint8 (height, width), of those that are not
    opaque, by their number.
    """
    if not opacities:
        return
    darkness = {number: is_dark(images[number], opacity) for number, opacity in opacities.items()}
    inked = [dark for dark in darkness.values() if dark is not None]
    to_white = 2 * sum(inked) > len(inked)
    laid = {ON_WHITE: 0, ON_BLACK: 0}
    for number, opacity in opacities.items():
        on_black = np.minimum(images[number], opacity[..., np.newaxis])  # which rounding could break by one
        on_white = 255 - (opacity[..., np.newaxis] - on_black)
        seen, else_seen = _contrasts(on_black, opacity)[:: -1 if to_white else 1]
        is_white = to_white != (seen < LEAST_CONTRAST < else_seen)
        images[number] = on_white if is_white else on_black
        laid[ON_WHITE if is_white else ON_BLACK] += darkness[number] is not None
    for ground, n in laid.items():
        if n:
            yield later(ground, n=n)


def is_dark(on_black: np.ndarray, opacity: np.ndarray) -> bool | None:
    """Whether the ink is nearer to black than to white, None where there is no ink."""
    ink = int(opacity.sum(dtype=np.int64))
    return 2 * float(_grey(on_black).sum()) < ink if ink else None


def _grey(image: np.ndarray) -> np.ndarray:
    """(height, width, channels) → (height, width), as ITU-R 601 weighs colours."""
    return image[..., 0].astype(float) if image.shape[-1] == 1 else image @ np.array([0.299, 0.587, 0.114])


def _contrasts(on_black: np.ndarray, opacity: np.ndarray) -> tuple[int, int]:
    """How far an image's best pixel is from black, and from white, once it lies there."""
    return int(on_black.max()), int((opacity[..., np.newaxis].astype(int) - on_black).max())
