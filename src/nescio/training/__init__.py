"""Training on pairs."""
