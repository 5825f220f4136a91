"""One run, from its starting weights to its last metric."""
