"""What may be ranked: times, with all that they rest on."""
