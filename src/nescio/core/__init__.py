"""What every room stands on: files, text, prompts, guidance, models and adapters."""
