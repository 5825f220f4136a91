"""Whether backends take the same steps, and why not."""
