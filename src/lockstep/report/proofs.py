"""proof.json → what it says, checked and typed, and which runs it fits.

A proof is made once and the runs beside it change: another recipe, a newer framework, other data. So a verdict is
never shown as that of a run whose network, recipe, data, dtype or versions are not those that the proof's certificate
names.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from lockstep import store
from lockstep.errors import LockstepError
from lockstep.language import _
from lockstep.report.facts import Count, Environment, Facts, Part, why_unsound

FILE = "proof.json"

Verdict = Literal["IDENTICAL", "EQUAL", "INCONCLUSIVE", "DIVERGED", "ERROR"]
Number = Annotated[float, Field(allow_inf_nan=False)]
Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]  # None, where it may be, stands for infinity or NaN
Words = tuple[str, ...]
Grid = dict[str, Annotated[str, BeforeValidator(str)]]


class Worst(Part):
    """The number of a stage that is furthest off."""

    stage: str = ""
    where: str = ""
    step: int | None = None
    index: tuple[int, ...] = ()
    size: Size | None = None
    tolerance: Size | None = None
    times_tolerance: Size | None = None


class Stage(Part):
    """What was compared in one stage."""

    stage: str
    verdict: Verdict
    comparisons: Count = 0
    values: Count = 0
    worst: Worst | None = None


class Coverage(Part):
    """What was observed of one backend; `layers` and `parameters` are "6 of 6".

    `updates_within`: parameter → to within what part of its step its updates were judged, at best; None where the step
    is rounding alone. `in_float64` says whether the steps were taken in float64 too, because float32 is wide.
    """

    steps: Count | None = None
    updates_judged: Count | None = None
    steps_with_layers_judged: Count | None = None
    layers: str | None = None
    parameters: str | None = None
    late_steps: Count | None = None
    updates_within: dict[str, Size | None] = Field(default_factory=dict)
    in_float64: bool = False
    values: Count | None = None
    missing: Words = ()


class Data(Part):
    """The dataset of a certificate."""

    name: str = ""
    hashes: dict[str, str] = Field(default_factory=dict)


class Certificate(Part):
    """What was proven of one backend, with the digests by which a run is known to be the same."""

    verdict: Verdict
    backend: str
    versions: dict[str, str | None] = Field(default_factory=dict)
    dtype: str
    device: str | None = None
    threads: Count | None = None
    n_train: Count | None = None
    network: str
    recipe: str
    seed: int | None = None
    dataset: Data
    steps: Count | None = None
    values: Count | None = None
    worst: Worst | None = None
    missing: Words = ()


class Backend(Part):
    """One backend's verdict and what it rests on."""

    backend: str
    verdict: Verdict
    reason: str | None = None
    stages: tuple[Stage, ...] = ()
    coverage: Coverage = Coverage()
    certificate: Certificate | None = None
    folder: str | None = None


class Growth(Part):
    """How far each training is from the judge's: one number per step."""

    steps: Count
    loss: dict[str, tuple[Size | None, ...]]
    weights: dict[str, tuple[Size | None, ...]]


class Difference(Part):
    """A known difference, and how large it would have been in this proof, in tolerances; None is without bound."""

    cause: str
    what: str = ""
    stage: str = ""
    effect: Size | None = None
    is_seen: bool = False


class Suspicion(Part):
    """Why the judge himself is suspected, and of what."""

    stage: str = ""
    where: str = ""
    step: int | None = None
    reason: str = ""


class Network(Part):
    """One network, recipe, dataset and dtype, over its backends."""

    network: str
    dataset: str
    dtype: str
    seed: int | None = None
    grid: Grid = Field(default_factory=dict)
    n_train: Count | None = None
    batch_size: Count | None = None
    verdict: Verdict
    backends: tuple[Backend, ...]
    growth: Growth | None = None
    differences: tuple[Difference, ...] = ()
    blind: Words = ()
    suspicion: Suspicion | None = None


class Cause(Part):
    """What the catalogue says of a cause."""

    cause: str
    what: str = ""
    default_of: str = ""
    mend: str = ""


class Divergence(Part):
    """One place where a backend is not what it should be."""

    network: str
    dataset: str = ""
    dtype: str = ""
    grid: Grid = Field(default_factory=dict)
    backend: str
    stage: str
    where: str
    step: int | None = None
    steps: tuple[int | None, ...] = ()
    size: Size | None = None
    tolerance: Size | None = None
    times_tolerance: Size | None = None
    index: tuple[int, ...] = ()
    found: Number | None = None
    wanted: Number | None = None
    problem: str | None = None
    causes: Words = ()
    explained: tuple[Cause, ...] = ()
    folder: str | None = None
    bundle: str | None = None


class Cost(Part):
    """What a planted difference costs: the ends of two trainings."""

    network: str
    backend: str
    plants: Words = ()
    accuracy: Number | None = None
    planted_accuracy: Number | None = None
    loss: Number | None = None
    planted_loss: Number | None = None


class Observed(Part):
    """What was observed of everything that was asked."""

    values: Count = 0
    not_observed: Words = ()


class Previous(Part):
    """The proof of before, which was kept because this one could not observe everything."""

    file: str
    verdict: Verdict
    proven: str | None = None


class Proof(Part):
    """proof.json, proof-planted.json, and the document of two run folders (`first` and `second`)."""

    format: Literal[1]
    study: str = ""
    verdict: Verdict
    claim: str = ""
    steps: Count = 0
    planted: Words = ()
    coverage: Observed = Observed()
    networks: tuple[Network, ...]
    divergences: tuple[Divergence, ...] = ()
    cost: tuple[Cost, ...] = ()
    first: str | None = None
    second: str | None = None
    lockstep: str | None = None
    git_revision: str | None = None
    machine: Environment = Environment()
    threads: Count | None = None
    proven: str | None = None
    previous: Previous | None = None

    @property
    def is_comparison(self) -> bool:
        """Whether two run folders were compared, and no study was proven."""
        return self.second is not None


@dataclasses.dataclass(frozen=True)
class Reading:
    """A proof, or why there is none: `gap` is empty where nobody has made one yet."""

    study: str
    proof: Proof | None = None
    gap: str = ""


def read_proof(folder: Path) -> Reading:
    """The proof that lies in a study's folder."""
    path = folder / FILE
    if not path.exists():
        return Reading(folder.name)
    try:
        return Reading(folder.name, Proof.model_validate(store.read_json(path)))
    except (LockstepError, ValidationError) as error:
        return Reading(folder.name, gap=why_unsound(error))
    except RecursionError:
        return Reading(folder.name, gap=_("it is nested too deeply"))


def read_document(document: Mapping[str, Any]) -> Reading:
    """A proof's document that was not written to a file, or not yet."""
    study = str(document.get("study") or "")
    try:
        return Reading(study, Proof.model_validate(store.finite(document)))
    except ValidationError as error:
        return Reading(study, gap=why_unsound(error))


# ------------------------------------------------------------------------------------------------------ does it fit?


def digest(table: Any) -> str:
    """A certificate's name for a network or a recipe, from its table in spec.toml."""
    return hashlib.sha256(json.dumps(table, sort_keys=True, default=str).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Fit:
    """Which runs a proof speaks of: run folder → verdict, and the other runs with the reasons why it does not."""

    covered: dict[Path, str]
    misfits: tuple[tuple[Facts, tuple[str, ...]], ...]


def check_fit(proof: Proof, runs: Sequence[Facts]) -> Fit:
    """Hold every finished run against the certificates of its backend. The seed may be another one."""
    covered: dict[Path, str] = {}
    misfits = []
    certificates: dict[tuple[str, ...], list[Certificate]] = {}
    for one in (row.certificate for network in proof.networks for row in network.backends if row.certificate):
        for key in ((one.backend,), (one.backend, one.network, one.recipe)):
            certificates.setdefault(key, []).append(one)
    for run in (run for run in runs if run.is_finished):
        key = (run.backend, digest(_network(run)), digest(run.spec.get("recipe")))
        found = certificates.get(key) or certificates.get(key[:1], [])
        why, nearest = min(
            ((_misfit(proof, one, run, key), one) for one in found),
            key=lambda row: len(row[0]),
            default=([_("{backend} was not observed", backend=run.backend)], None),
        )
        if proof.planted:
            why = [_("differences were planted in it")]
        if why or nearest is None:
            misfits.append((run, tuple(why)))
        else:
            covered[run.record.folder] = nearest.verdict
    return Fit(covered, tuple(misfits))


def _network(run: Facts) -> Any:
    return (run.spec.get("networks") or {}).get(run.network)


def _misfit(proof: Proof, certificate: Certificate, run: Facts, key: tuple[str, ...]) -> list[str]:
    """In what a run is not what the certificate says."""
    environment = run.environment or Environment()
    why = []
    if key[1] != certificate.network:
        why.append(_("another network"))
    if key[2] != certificate.recipe:
        why.append(_("another recipe"))
    if run.dtype != certificate.dtype:
        ran = run.dtype or _("an unknown dtype")
        why.append(_("proven in {proven}, run in {ran}", proven=certificate.dtype, ran=ran))
    if certificate.device and environment.device != certificate.device:  # older certificates name none
        ran = environment.device or _("an unknown device")
        why.append(_("proven on {proven}, run on {ran}", proven=certificate.device, ran=ran))
    if not environment.dataset.hashes or environment.dataset.hashes != certificate.dataset.hashes:
        why.append(_("other data"))
    for name in sorted({*certificate.versions, *environment.versions}):
        both = certificate.versions.get(name), environment.versions.get(name)
        if both[0] != both[1]:
            proven, ran = (one or _("(unknown)") for one in both)
            why.append(_("proven with {name} {proven}, run with {ran}", name=name, proven=proven, ran=ran))
    if environment.lockstep != proof.lockstep:
        proven, ran = (one or _("(unknown)") for one in (proof.lockstep, environment.lockstep))
        why.append(_("proven by Lockstep {proven}, run by {ran}", proven=proven, ran=ran))
    if environment.git_revision != proof.git_revision:
        proven, ran = (one[:10] if one else _("(unknown)") for one in (proof.git_revision, environment.git_revision))
        why.append(_("proven by Lockstep’s revision {proven}, run by {ran}", proven=proven, ran=ran))
    return why
