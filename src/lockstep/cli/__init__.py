"""The command line: `main`, and the `app` of which the commands are part.

What is asked for is run in `border`, where errors become messages and exit codes; `commands` has a file for each
command. `options` are those that several commands take, alone and in groups that build what they ask for.
"""

from lockstep.cli.border import main
from lockstep.cli.commands import app

__all__ = ["app", "main"]
