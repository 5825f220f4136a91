"""Put what `lockstep bench` measured into performance.md: `python docs/benches.py [RUNS/STUDY/bench.json…]`.

benches.json keeps, network by network, the last measurement that was given; from it comes everything between
`<!-- benches -->` and `<!-- end -->`. A ratio is taken round by round, as the bench takes it, then its median.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

DOCS = Path(__file__).resolve().parent
KEPT, PAGE = DOCS / "benches.json", DOCS / "performance.md"
BLOCK = re.compile(r"(<!-- benches -->\n).*?(<!-- end -->\n)", re.DOTALL)
NETWORKS = ("mlp", "mlp800", "lenet", "cnn")  # the columns
OF_ROW = ("entry", "name", "is_shipped", "together", "epoch", "images", "images_per_second", "laps", "proof")
CLOCKS = ("import", "compile")


class Target(NamedTuple):
    """How many times as long one entry may, or must, take per image as another: (name, is it a tutorial's)."""

    one: tuple[str, bool]
    over: tuple[str, bool]
    at_most: Mapping[str, float] = {}
    at_least: Mapping[str, float] = {}


ALL = dict.fromkeys(NETWORKS, 1.0)
TARGETS = (
    Target(("numpy", False), ("torch", True), at_most=ALL),
    Target(("numpy", False), ("torch", False), at_most={**ALL, "lenet": 1.5, "cnn": 1.5}),
    Target(("autograd", True), ("numpy", False), at_least={"lenet": 20, "cnn": 20}),
    Target(("sklearn", True), ("numpy", False), at_least={"mlp": 2, "mlp800": 2}),
    Target(("torch", True), ("torch", False), at_least={"mlp": 3, "lenet": 1.5, "cnn": 1.5}),
    Target(("keras", True), ("tensorflow", False), at_least={"mlp": 3, "lenet": 2, "cnn": 1.5}),
    Target(("flax", True), ("jax", False), at_least={"mlp": 2, "lenet": 1.5, "cnn": 1.5}),
    Target(("jax", False), ("torch", False), at_most=dict.fromkeys(NETWORKS, 1.5)),
)


SLOWEST = {"cnn": 2.0}  # how many times as long our slowest backend may take as our fastest
PRODUCTS = {"cnn": 2.0}  # and our fastest as its matrix products would at the rate of a large one


def gather(paths: Sequence[Path]) -> dict[str, Any]:
    """Network → what its bench says; of two benches of one network the later one counts."""
    found = {}
    for document in sorted(
        (json.loads(path.read_text(encoding="utf-8")) for path in paths), key=lambda d: d["measured"]
    ):
        for network in document["networks"]:
            rows = [
                {**{key: row[key] for key in OF_ROW}, **{clock: row["seconds"].get(clock) for clock in CLOCKS}}
                for row in network["rows"]
            ]
            facts = {key: document[key] for key in ("study", "rounds", "epochs", "threads", "measured")}
            facts |= {key: network[key] for key in ("dataset", "batch_size", "ranking")}
            facts["products"] = network.get("products")
            versions = {name: text for row in network["rows"] for name, text in row["versions"].items()}
            facts |= {"cpu": document["machine"]["cpu"], "load": document["noise"]["load"], "versions": versions}
            found[network["network"]] = {**facts, "rows": rows}
    return found


def block(kept: Mapping[str, Any]) -> str:
    """The text between the marks."""
    there = [name for name in NETWORKS if name in kept]
    if not there:
        return "\nNothing has been put here yet: `python docs/benches.py runs/STUDY/bench.json` does it.\n\n"
    lines = ["", f"| how many times as long per image | target | {' | '.join(there)} |"]
    lines += [f"|---|---|{'---:|' * len(there)}"]
    lines += [row for target in TARGETS if (row := _judged(target, kept, there))]
    for title, limits, of in (
        ("our slowest backend ÷ our fastest", SLOWEST, _slowest),
        ("our fastest ÷ its matrix products", PRODUCTS, _products),
    ):
        values = [of(kept[name]) for name in there]
        lines += [_limited(title, limits, values, there)] if any(values) else []
    lines += [
        "",
        "**Bold**: missed. In brackets the 95 % bootstrap interval of the median over rounds, none below five.",
        "",
    ]
    for name in there:
        lines += _table(name, kept[name])
    return "\n".join(lines) + "\n\n"


def _judged(target: Target, kept: Mapping[str, Any], there: Sequence[str]) -> str:
    """The row of a target, or nothing where nothing of it was measured."""
    limits, sign = (target.at_most, "≤") if target.at_most else (target.at_least, "≥")
    cells, titles = [], ["", ""]
    for name in there:
        sides = [_row(kept[name], *side) for side in (target.one, target.over)]
        if name not in limits or not all(sides):
            cells.append("–")
            continue
        titles = [_title(side) for side in sides if side]
        value, said = _ratio(*sides)  # type: ignore[arg-type]
        is_met = value <= limits[name] if target.at_most else value >= limits[name]
        cells.append(said if is_met else f"**{said}**")
    asked = ", ".join(dict.fromkeys(f"{sign} {limit:g}" for limit in limits.values()))
    if len(set(limits.values())) > 1:
        asked = ", ".join(f"{sign} {limits[name]:g} {name}" for name in there if name in limits)
    return f"| {titles[0]} ÷ {titles[1]} | {asked} | {' | '.join(cells)} |" if titles[0] else ""


def _limited(
    title: str, limits: Mapping[str, float], values: Sequence[tuple[float, str] | None], there: Sequence[str]
) -> str:
    """A row of ratios of which some networks' have a limit."""
    cells = []
    for name, found in zip(there, values, strict=True):
        if found is None:
            cells.append("–")
        else:
            cells.append(f"**{found[1]}**" if found[0] > limits.get(name, math.inf) else found[1])
    asked = ", ".join(f"≤ {limit:g} {name}" for name, limit in limits.items())
    return f"| {title} | {asked} | {' | '.join(cells)} |"


def _slowest(network: Mapping[str, Any]) -> tuple[float, str] | None:
    ours = [row for row in network["rows"] if not row["is_shipped"] and row["together"] == 1]
    ours.sort(key=lambda row: float(row["epoch"]["median"]))
    return _ratio(ours[-1], ours[0]) if len(ours) > 1 else None


def _products(network: Mapping[str, Any]) -> tuple[float, str] | None:
    found = network.get("products")
    return (found["median"], _told(found)) if found else None


def _row(network: Mapping[str, Any], name: str, is_shipped: bool) -> dict[str, Any] | None:
    rows = [
        row for row in network["rows"] if (row["name"], row["is_shipped"], row["together"]) == (name, is_shipped, 1)
    ]
    return rows[0] if rows else None


def _title(row: Mapping[str, Any]) -> str:
    return f"{row['entry']} (as shipped)" if row["is_shipped"] else str(row["entry"])


def _ratio(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[float, str]:
    from lockstep.benchmark.benches import interval

    laps = zip(one["laps"], other["laps"], strict=False)
    found = interval([first / one["images"] / (second / other["images"]) for first, second in laps])
    return found.median, _told(dict(found))


def _told(found: Mapping[str, Any]) -> str:
    ends = "" if found["low"] is None else f" ({found['low']:.2f} – {found['high']:.2f})"
    return f"{found['median']:.2f}{ends}"


def _table(name: str, network: Mapping[str, Any]) -> list[str]:
    lines = [f"**{name}** on {network['dataset']}, batches of {network['batch_size']}:", ""]
    lines += [
        "| | seconds an epoch | 95 % interval | images/s | import s | compile s | proof |",
        "|---|---:|---|---:|---:|---:|---|",
    ]
    for row in sorted(network["rows"], key=lambda row: float(row["epoch"]["median"])):
        epoch, proof = row["epoch"], row["proof"]
        ends = "–" if epoch["low"] is None else f"{epoch['low']:.3g} – {epoch['high']:.3g}"
        clocks = ["–" if row[clock] is None else f"{row[clock]['median']:.2f}" for clock in CLOCKS]
        proven = (
            "–" if row["is_shipped"] else "not proven" if not proof else f"{proof['verdict']}, {proof['steps']} steps"
        )
        cells = [
            _title(row),
            f"{epoch['median']:.3g}",
            ends,
            f"{row['images_per_second']['median']:,.0f}",
            *clocks,
            proven,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    versions = ", ".join(f"{package} {text}" for package, text in sorted(network["versions"].items()))
    images = max(row["images"] for row in network["rows"])
    facts = f"n = {network['rounds']} rounds of {network['epochs']} epochs of {images:,} images"
    facts = f"{facts}, {network['threads']} threads, {network['cpu']}"
    return [
        *lines,
        "",
        f"`lockstep bench studies/{network['study']}.toml --against shipped`: {facts}, load before it began "
        f"{network['load']:.1f}{_rate(network)}; {versions}.",
        "",
    ]


def _rate(network: Mapping[str, Any]) -> str:
    found = network.get("products")
    return f", {found['peak']['median'] / 1e9:.0f} GFLOP/s in a large matrix product" if found else ""


def main(paths: Sequence[Path]) -> None:
    """Keep what these benches say and fill the page in."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    if paths:
        kept |= gather(paths)
        KEPT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(BLOCK.sub(lambda found: f"{found[1]}{block(kept)}{found[2]}", page), encoding="utf-8")


if __name__ == "__main__":
    main([Path(word) for word in sys.argv[1:]])
