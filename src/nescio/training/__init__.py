"""Training of adapters on pairs and dialogs."""
