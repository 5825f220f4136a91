"""What the runs say, in sentences and numbers."""
