"""What comes in from outside and goes out again: people's own models."""
