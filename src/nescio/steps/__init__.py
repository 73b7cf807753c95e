"""The work of each stage of a run, where the rooms are joined."""
