"""What frameworks do unasked: measured on those that are installed."""
