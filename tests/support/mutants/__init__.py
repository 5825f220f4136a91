"""Small faults, put into the source one at a time: `python -m support.mutants` says which of them a proof sees.

Every row of the table (`table`, and the files *.toml beside it) is a slip as a person makes it: a text of one file,
replaced by another. A copy of the package gets it, and `lockstep prove` of that copy proves a small study, as a user's
would (`runner`): nothing of what judges is taken from elsewhere, so a fault in what all share, the plan or the NumPy
backend, is in the judge too. Of each is told:

    missed      the verdict was EQUAL
    unseen      the verdict was INCONCLUSIVE: not found, but nothing was claimed either
    found       DIVERGED; and of these
      placed    the first place named is where the fault is, and no innocent backend is named
      cause     right: one that is true of this fault; none: unexplained; WRONG: one that is not
    broken      the program or the backend ended with an error: a fault of the table
    stale       the text is not in its file exactly once: a fault of the table
    not clean   the same study, proven with the clean source, was not EQUAL: nothing was shown
"""
