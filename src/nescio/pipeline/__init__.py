"""A run: its recipe, its stages, and how they are skipped and resumed."""
