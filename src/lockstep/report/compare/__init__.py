"""What may be compared with what, and what may be said of it."""
