"""The command line: `lockstep`, `python -m lockstep`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run it; Ctrl-C while it is still being imported ends it without a word too."""
    try:
        from lockstep import cli

        cli.main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
