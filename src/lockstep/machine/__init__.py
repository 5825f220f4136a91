"""The machine that all of this runs on."""
