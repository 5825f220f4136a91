"""The proof beside a study's runs, and which of them it fits.

A proof is made once and the runs beside it change: another recipe, a newer framework, other data. So a verdict is
never shown as that of a run whose network, recipe, data, dtype or versions are not those that the proof's certificate
names.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lockstep.errors import LockstepError
from lockstep.language import _
from lockstep.report.facts import Facts, why_unsound
from lockstep.store.documents.proof import FILE, Certificate, Proof, read_proof
from lockstep.store.documents.run import Environment


@dataclasses.dataclass(frozen=True)
class Reading:
    """A proof, or why there is none: `gap` is empty where nobody has made one yet."""

    study: str
    proof: Proof | None = None
    gap: str = ""


def read_beside(folder: Path) -> Reading:
    """The proof that lies in a study's folder."""
    if not (folder / FILE).exists():
        return Reading(folder.name)
    try:
        return Reading(folder.name, read_proof(folder))
    except LockstepError as error:
        return Reading(folder.name, gap=why_unsound(error))
    except RecursionError:
        return Reading(folder.name, gap=_("it is nested too deeply"))


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
