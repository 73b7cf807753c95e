"""The audit: what a model gives away about people, attack by attack, and whether it remembers or guesses."""
