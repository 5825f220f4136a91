"""Commands that have a file of their own; `lockstep.cli` has the others and registers these.

As there: parse, call one function, print. Slow imports stand in the command that needs them.
"""

from lockstep.cli.commands.clean import clean
from lockstep.cli.commands.init import init
from lockstep.cli.commands.schema import schema

__all__ = ["clean", "init", "schema"]
