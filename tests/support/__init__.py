"""What several test files share: `from support.forks import …`, and from a shell `cd tests; python -m support.NAME`."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
STUDY_FILES = sorted((ROOT / "studies").glob("*.toml"))
EARLIER = TESTS / "store" / "earlier"  # run folders, proofs and benches of the version before
# The files that take longest are begun first, so that no worker is left alone with one of them at the end.
LONGEST = [
    "conformance", "causes", "forged", "killed", "same_steps", "proof", "side_jax", "side_keras", "diff", "cli",
    "docs_commands", "russian_report", "power", "bench", "repeated", "disk", "mutants", "mutation", "report",
    "differences", "resumption", "study", "signals", "scripting", "input", "bad_mirrors", "offline", "notebooks",
]  # fmt: skip
