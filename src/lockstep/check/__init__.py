"""Whether this machine, these files and this hand-in are what they say."""
