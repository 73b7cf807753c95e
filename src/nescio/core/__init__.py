"""What every package stands on: files, text, prompts, guidance, models and adapters."""
