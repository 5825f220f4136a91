"""Faults put into the source, one at a time: what a proof sees of them. A sample, or all in `make torture`."""

from __future__ import annotations

import random

from lockstep import backends
from support.mutants.__main__ import chosen
from support.mutants.runner import FOUND, NOT_RUN, Runner, counts, totals
from support.mutants.table import MUTANTS

LEAST_FOUND, LEAST_PLACED = 0.95, 0.9  # of the mutants that are not equivalent; of those that are found


def test_a_proof_sees_what_it_says_it_sees(cases, torture, tmp_path):
    """No innocent cause is named, and nothing is missed but what the table says is not observed."""
    # The small sample is always the same: a test that fails now and then is believed by nobody.
    n, seed = cases(4, len(MUTANTS)), random.SystemRandom().randrange(2**32) if torture else 30
    here = [mutant for mutant in MUTANTS if not any(backends.why_missing(name) for name in mutant.backends)]
    taken = chosen(here, sample=n, seed=seed)
    results = Runner(tmp_path).run(taken, 2 if torture else 1, lambda result: print(result.line, flush=True))
    print(f"\nseed {seed}\n{totals(results)}")
    assert not [result.line for result in results if result.is_wrong], f"seed {seed}"
    known = {mutant.name for mutant in taken if mutant.missed or mutant.equivalent}
    missed = [row.line for row in results if row.outcome not in (FOUND, NOT_RUN) and row.name not in known]
    assert not missed, f"seed {seed}: the table has no reason why these are not found"
    if torture:
        counted, found = counts(results), [row.name for row in results if row.outcome == FOUND]
        assert known.isdisjoint(found), "the table says that a proof does not see these"
        assert counted["found"] >= LEAST_FOUND * counted["mutants"]
        assert counted["placed"] >= LEAST_PLACED * counted["found"]
