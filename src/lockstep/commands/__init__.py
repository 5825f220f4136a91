"""Commands that have a file of their own; `lockstep.cli` has the others and registers these.

As there: parse, call one function, print. Slow imports stand in the command that needs them.
"""

from lockstep.commands.clean import clean
from lockstep.commands.init import init
from lockstep.commands.schema import schema

__all__ = ["clean", "init", "schema"]
