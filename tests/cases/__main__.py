"""`python -m cases [-v] [NAME …]`: every case compared, as a table; the exit code is 1 where a cause was named wrongly.

-v prints what the command says of each case too.
"""

from __future__ import annotations

import sys
import traceback

from cases import Judged, cases
from cases.processes import kept
from lockstep.errors import LockstepError
from lockstep.language import say
from lockstep.store import prose


def main(names: list[str]) -> int:
    is_told = "-v" in names
    chosen = cases([name for name in names if name != "-v"])
    judged: list[Judged] = []
    print("case | source | verdict | causes | placed | named | wrong")
    with kept():
        for case in chosen:
            try:
                found = case.found()
            except Exception as error:  # a row of the table, whatever it is
                if not isinstance(error, LockstepError):
                    traceback.print_exc()
                print(f"{case.name} | {case.right['source']} | ERROR | {error} | – | – | –", flush=True)
                continue
            judged.append(case.judged(found))
            print(judged[-1].row(), flush=True)
            if is_told:
                print(*(f"    {say(line)}" for line in prose.lines(found)), sep="\n", flush=True)
    counts = [
        sum(map(bool, each))
        for each in ([j.is_placed for j in judged], [j.is_named for j in judged], [j.wrong for j in judged])
    ]
    print("{} cases: {} placed, {} named, {} with a wrong name".format(len(chosen), *counts))
    return 1 if counts[-1] or len(judged) < len(chosen) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
