"""What several test files share: `from support.forks import …`, and from a shell `cd tests; python -m support.NAME`."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
STUDY_FILES = sorted((ROOT / "studies").glob("*.toml"))
EARLIER = TESTS / "store" / "earlier"  # run folders, proofs and benches of the version before
