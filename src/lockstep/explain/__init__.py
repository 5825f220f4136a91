"""What `lockstep explain` prints: words of the field, formulas, and what to do about an error."""
