"""How the report draws: plots, pictures, networks, and the settings that make the same bytes everywhere."""
