"""The decode loop of the torch engine and what computes its steps."""
