"""From dialogs to pairs."""
