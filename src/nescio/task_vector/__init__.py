"""Task vectors: subtracting a fine-tune from its base, row by row. Knows nothing of training."""
