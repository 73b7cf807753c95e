"""Drop-ins for other people's programs."""
