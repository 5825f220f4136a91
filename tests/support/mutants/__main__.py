"""`python -m support.mutants`: see the head of this package."""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from support import mutants
from support.mutants.runner import Runner, counts, totals
from support.mutants.table import MUTANTS, Mutant


def chosen(
    table: Sequence[Mutant], only: Sequence[str] = (), sample: int | None = None, seed: int = 0, part: str = "1/1"
) -> list[Mutant]:
    """Those whose name, file or study matches a pattern; of these a sample, and of that a part."""
    found = [
        mutant
        for mutant in table
        if not only
        or any(fnmatch.fnmatch(word, pattern) for pattern in only for word in (mutant.name, mutant.file, mutant.study))
    ]
    if sample is not None and sample < len(found):
        found = random.Random(seed).sample(found, sample)
    found.sort(key=lambda mutant: (mutant.backends, mutant.study))  # those of one study follow each other
    k, m = map(int, part.split("/"))
    return found[len(found) * (k - 1) // m : len(found) * k // m]


def main(words: Sequence[str] | None = None, table: Sequence[Mutant] = MUTANTS) -> int:
    """Prove what is asked for; 1 where a row of the table is at fault or a wrong cause was named."""
    parser = argparse.ArgumentParser(
        prog="python -m support.mutants", description=(mutants.__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("-j", "--jobs", type=int, default=1, help="how many at the same time")
    parser.add_argument("--only", action="append", default=[], help="a pattern of names, files or studies", metavar="P")
    parser.add_argument("--sample", type=int, help="so many, drawn at random", metavar="N")
    parser.add_argument("--seed", type=int, help="of the sample; drawn and printed unless given")
    parser.add_argument("--part", default="1/1", help="the K-th of M equal parts of all these: 1/8", metavar="K/M")
    parser.add_argument("--json", type=Path, help="where the results go, beside the table that is printed")
    parser.add_argument("--list", action="store_true", help="print the table and prove nothing")
    asked = parser.parse_args(words)
    seed = random.SystemRandom().randrange(2**32) if asked.seed is None else asked.seed
    taken = chosen(table, asked.only, asked.sample, seed, asked.part)
    if asked.list:
        for mutant in taken:
            print(f"{mutant.name:<36} {mutant.file:<26} {mutant.study:<12} {mutant.what}")
        return 0
    print(f"{len(taken)} of {len(table)} mutants" + (f", seed {seed}" if asked.sample else ""), flush=True)
    with tempfile.TemporaryDirectory(prefix="lockstep-mutants-") as temporary:
        results = Runner(Path(temporary)).run(taken, asked.jobs, lambda result: print(result.line, flush=True))
    print(totals(results))
    if asked.json:
        rows = [dataclasses.asdict(result) for result in results]
        asked.json.write_text(json.dumps({"seed": seed, "counts": counts(results), "results": rows}, indent=1))
    return int(any(result.is_wrong for result in results))


if __name__ == "__main__":
    sys.exit(main())
