"""Starting weights: how both frameworks draw them, told from several draws and by name.

They are no difference of the models, since weights are drawn once for both; but trained from their own, both start
otherwise. Kernels of all sizes are taken together, each in units of what a scheme would give it, and compared by the
Kolmogorov-Smirnov distance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lockstep.exchange.models.records import Unit
from lockstep.language import later
from lockstep.proof.pair.party import Parties, Party
from lockstep.proof.pair.stages import Told

STAGE = "starting weights"
N_DRAWS = 3
FAR = 2.3  # of the Kolmogorov-Smirnov distance times √n: one in 20,000
ENOUGH = 30  # numbers in all: fewer tell nothing

SCALED = ("kernel", "recurrent", "table")  # what schemes are for

Fans = tuple[float, float]


def _uniform(bound: Callable[[float, float], float]) -> Callable[[np.ndarray, Fans], np.ndarray]:
    return lambda value, fans: np.clip(0.5 + 0.5 * value / bound(*fans), 0, 1)


def _normal(spread: Callable[[float, float], float]) -> Callable[[np.ndarray, Fans], np.ndarray]:
    return lambda value, fans: _phi(value / spread(*fans))


def _truncated(spread: Callable[[float, float], float]) -> Callable[[np.ndarray, Fans], np.ndarray]:
    """Cut at two standard deviations; Keras and JAX widen it so that it has the spread that was asked for."""

    def cumulative(value: np.ndarray, fans: Fans) -> np.ndarray:
        least = float(_phi(np.array([-2.0]))[0])
        z = np.clip(value / (spread(*fans) / 0.87962566103423978), -2, 2)
        return (_phi(z) - least) / (1 - 2 * least)

    return cumulative


def _phi(z: np.ndarray) -> np.ndarray:
    return np.array([0.5 * (1 + math.erf(each / math.sqrt(2))) for each in z.ravel()]).reshape(z.shape)


# name → the share of values below each, for a kernel of this fan in and fan out
SCHEMES: dict[str, Callable[[np.ndarray, Fans], np.ndarray]] = {
    later("uniform ±1/√fan_in"): _uniform(lambda i, o: i**-0.5),
    later("Glorot uniform"): _uniform(lambda i, o: (6 / (i + o)) ** 0.5),
    later("He uniform"): _uniform(lambda i, o: (6 / i) ** 0.5),
    later("LeCun uniform"): _uniform(lambda i, o: (3 / i) ** 0.5),
    later("uniform ±0.05"): _uniform(lambda i, o: 0.05),
    later("LeCun normal (truncated)"): _truncated(lambda i, o: i**-0.5),
    later("He normal (truncated)"): _truncated(lambda i, o: (2 / i) ** 0.5),
    later("Glorot normal (truncated)"): _truncated(lambda i, o: (2 / (i + o)) ** 0.5),
    later("He normal"): _normal(lambda i, o: (2 / i) ** 0.5),
    later("He normal of fan_out"): _normal(lambda i, o: (2 / o) ** 0.5),
    later("Glorot normal"): _normal(lambda i, o: (2 / (i + o)) ** 0.5),
    later("LeCun normal"): _normal(lambda i, o: i**-0.5),
    later("normal, σ 1"): _normal(lambda i, o: 1.0),
    later("normal, σ 0.02"): _normal(lambda i, o: 0.02),
    later("normal, σ 0.01"): _normal(lambda i, o: 0.01),
    later("truncated normal, σ 0.02"): _truncated(lambda i, o: 0.02),
}


def compared(parties: Parties) -> Told:
    """Both sides' starting weights by role: kernels, tables, what is constant."""
    told = Told()
    draws = [_draws(party) for party in parties]
    n_equal = n_all = 0
    for role in ("kernel", "recurrent", "table", "bias", "scale", "shift"):
        one, two = (_of_role(own, party, role) for own, party in zip(draws, parties, strict=True))
        if not one or not two:
            continue
        n_all += 1
        if is_alike(one, two):
            n_equal += 1
            continue
        shown = [named(each) if role in SCALED else spanned(each) for each in (one, two)]
        words = {"role": role, "a": shown[0], "b": shown[1]}
        told.not_observed.append(later("starting weights are drawn otherwise (not here): {role}: {a} | {b}", **words))
    told.count(STAGE, n_equal, n_all, later("kinds of parameters"))
    if n_equal < n_all:
        told.stages.clear()
    return told


def _draws(party: Party) -> list[dict[str, np.ndarray]]:
    """Units as the file makes them, several times; in float32, as they are made where they come from."""
    found = []
    batch = [value.astype(np.float32) if value.dtype.kind == "f" else value for value in party.batch]
    for _draw in range(N_DRAWS):
        party.rough.load("float32")
        party.rough.trace(batch)
        found.append(party.rough.units())
    return found


Sample = tuple[np.ndarray, Fans]


def _of_role(draws: Sequence[Mapping[str, np.ndarray]], party: Party, role: str) -> list[Sample]:
    """Every draw's values of all units of a role, with their fans."""
    units = [unit for unit in party.model.units if unit.role == role and unit.is_trained]
    return [
        (own[unit.name].astype(np.float64).ravel(), fans_of(unit))
        for own in draws for unit in units if unit.name in own
    ]  # fmt: skip


def fans_of(unit: Unit) -> Fans:
    """(fan in, fan out) of a unit in the canonical layout."""
    shape = unit.shape
    if len(shape) < 2:
        return float(max(math.prod(shape), 1)), float(max(math.prod(shape), 1))
    window = math.prod(shape[:-2])
    return float(window * shape[-2]), float(window * shape[-1])


def is_alike(one: Sequence[Sample], two: Sequence[Sample]) -> bool:
    """Whether two samples may be of one distribution, in units of 1/√fan_in."""
    a, b = (np.sort(np.concatenate([value * fans[0] ** 0.5 for value, fans in each])) for each in (one, two))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return bool(np.ptp(a) == np.ptp(b) and a[0] == b[0])
    if min(a.size, b.size) < ENOUGH:
        return True
    points = np.concatenate([a, b])
    share = np.searchsorted(a, points, "right") / a.size - np.searchsorted(b, points, "right") / b.size
    return float(np.abs(share).max()) * math.sqrt(a.size * b.size / (a.size + b.size)) < FAR


def named(samples: Sequence[Sample]) -> str:
    """The scheme that fits best; where none fits, what was drawn."""
    values = np.concatenate([value for value, _fans in samples])
    if np.ptp(values) == 0:
        return f"{values[0]:g}"
    distances = {name: _distance(scheme, samples) for name, scheme in SCHEMES.items()}
    best = min(distances, key=lambda name: distances[name])
    return best if distances[best] * math.sqrt(values.size) < FAR else spanned(samples)


def spanned(samples: Sequence[Sample]) -> str:
    """The least, the most and the spread of what was drawn; of a constant its value."""
    values = np.concatenate([value for value, _fans in samples])
    if np.ptp(values) == 0:
        return f"{values[0]:g}"
    return f"{values.min():.3g} … {values.max():.3g}, σ {values.std():.3g}"


def _distance(scheme: Callable[[np.ndarray, Fans], np.ndarray], samples: Sequence[Sample]) -> float:
    """The Kolmogorov-Smirnov distance of what a scheme makes of all values from the uniform distribution."""
    found = np.sort(np.concatenate([scheme(value, fans) for value, fans in samples]))
    steps = np.arange(found.size + 1) / found.size
    return float(max((steps[1:] - found).max(), (found - steps[:-1]).max()))
