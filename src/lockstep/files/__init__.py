"""What is on a disk: written whole or not at all, read with suspicion, worked on by one at a time."""
