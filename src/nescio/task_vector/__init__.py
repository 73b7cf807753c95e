"""Task vectors: subtract a fine-tune from its base, row by row."""
